//! `sectile suspend` and `sectile resume`: nodes on which no step is begun, and why.

use std::cell::RefCell;
use std::collections::BTreeMap;

use globset::GlobBuilder;

use crate::execute::carry;
use crate::model::observed::Suspension;
use crate::model::plan::FORMAT_VERSION;

use super::args::{Global, Output, Resume, Suspend};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::{self, Fleet, Purpose, on};
use super::output;
use super::outside::Outside;
use super::trouble;

/// Stops reconciling nodes. One that is suspended already gets the new reason.
pub(super) fn suspend(args: &Suspend, global: &Global) -> Result<Exit, Error> {
    let by = who();
    set(args.fleet, global, |now| {
        let (reason, since, by) = (args.reason.clone(), now.to_string(), by.clone());
        Some(Suspension { reason, since, by })
    })
}

/// Starts reconciling nodes again; one that is not suspended stays as it is. What failed for good is tried again.
pub(super) fn resume(args: &Resume, global: &Global) -> Result<Exit, Error> {
    set(args.fleet, global, |_| None)
}

fn set(all: bool, global: &Global, becomes: impl Fn(jiff::Timestamp) -> Option<Suspension>) -> Result<Exit, Error> {
    if all && global.node.is_some() {
        return Err(Error::usage("--fleet means every node, and --node some of them: say one of the two"));
    }
    on!(fleet::open(&Global { node: None, ..global.clone() }, Purpose::Remember)?, fleet => set_on(&fleet, global, becomes))
}

fn set_on<O: Outside>(
    fleet: &Fleet<O>,
    global: &Global,
    becomes: impl Fn(jiff::Timestamp) -> Option<Suspension>,
) -> Result<Exit, Error> {
    let names = chosen(fleet, global.node.as_deref())?;
    let now = becomes(fleet.time());
    let before = fleet.memory();
    let mut failed = BTreeMap::new();
    for name in names.iter().filter(|_| now.is_none()) {
        let Some(failure) = trouble::story(fleet, name)?.failure else { continue };
        let journal = RefCell::new(trouble::open(fleet, name)?);
        let forgiven = fleet.again(async || carry::forgive(&mut *journal.borrow_mut(), name, fleet.time()));
        forgiven.context(|| "the journal can't be written".to_owned())?;
        failed.insert(name, failure.why);
    }
    fleet.remember(|memory| {
        for name in &names {
            memory.nodes.entry(name.clone()).or_default().suspended.clone_from(&now);
        }
    });
    fleet.save()?;
    if global.output == Output::Json {
        let nodes: BTreeMap<&String, &Option<Suspension>> = names.iter().map(|name| (name, &now)).collect();
        let nodes: Vec<_> =
            nodes.iter().map(|(name, now)| serde_json::json!({ "name": name, "suspended": now })).collect();
        let document = serde_json::json!({ "format_version": FORMAT_VERSION, "nodes": nodes });
        let text = serde_json::to_string_pretty(&document).context(|| "the nodes can't be written".to_owned())?;
        output::print(&format!("{text}\n"));
        return Ok(Exit::Done);
    }
    for name in &names {
        let before = before.nodes.get(name).and_then(|node| node.suspended.as_ref());
        output::print(&match (&now, before) {
            (Some(now), None) => format!("{name} is suspended: {}\n", now.reason),
            (Some(now), Some(before)) => format!("{name} is suspended: {} (before: {})\n", now.reason, before.reason),
            (None, Some(before)) => format!("{name} is resumed (it was suspended: {})\n", before.reason),
            (None, None) if failed.contains_key(name) => String::new(),
            (None, None) => format!("{name} was not suspended\n"),
        });
        if let Some(why) = failed.get(name) {
            output::print(&format!("{name} is tried again (it failed: {why})\n"));
        }
    }
    Ok(Exit::Done)
}

/// The nodes that a name or glob means; without one, all.
fn chosen<O: Outside>(fleet: &Fleet<O>, glob: Option<&str>) -> Result<Vec<String>, Error> {
    let all = fleet.nodes.keys();
    let Some(text) = glob else { return Ok(all.cloned().collect()) };
    let glob = GlobBuilder::new(text).backslash_escape(false).build();
    let glob = glob.map_err(|error| Error::usage(format!("--node {text} is no glob")).caused_by(error))?;
    let matcher = glob.compile_matcher();
    let chosen: Vec<String> = all.filter(|name| matcher.is_match(name)).cloned().collect();
    if chosen.is_empty() {
        let known: Vec<&str> = fleet.nodes.keys().map(String::as_str).collect();
        return Err(Error::usage(format!("no node matches {text}")).hint(format!("there are {}", known.join(", "))));
    }
    Ok(chosen)
}

/// Who asks, as far as the environment tells: for people to read, not for anybody to rely on.
#[expect(clippy::disallowed_methods, reason = "who somebody is is the environment's word, and no setting of ours")]
fn who() -> Option<String> {
    ["SUDO_USER", "USER"].into_iter().find_map(|key| std::env::var(key).ok().filter(|name| !name.is_empty()))
}
