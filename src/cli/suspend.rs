//! `sectile suspend` and `sectile resume`: nodes on which no step is begun, and why.

mod afar;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use globset::GlobBuilder;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::execute::carry;
use crate::model::observed::{Scope, Suspension};
use crate::model::plan::FORMAT_VERSION;

use super::args::{Global, Output, Resume, Suspend};
use super::ask;
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::{self, Fleet, Purpose, is_real_cluster, on};
use super::output;
use super::outside::Outside;
use super::this_node::names_itself;
use super::trouble;

/// A step of a service may take so long.
const PATIENCE: Duration = Duration::from_secs(360);

/// Stops reconciling nodes. One that is suspended already gets the new reason.
pub(super) fn suspend(args: &Suspend, global: &Global) -> Result<Exit, Error> {
    let Suspend { reason, fleet, span, release } = args;
    let exit = set(*fleet, global, &Change::Suspend { reason, by: who(), span: *span, release: *release })?;
    // From afar each agent does it in its own time.
    let here = !fleet && global.node.is_none() && !fleet::is_simulated(global);
    if *release && here { released(global).map(|()| exit) } else { Ok(exit) }
}

/// Starts reconciling nodes again; one that is not suspended stays as it is. What failed for good is tried again.
pub(super) fn resume(args: &Resume, global: &Global) -> Result<Exit, Error> {
    set(args.fleet, global, &Change::Resume { reason: args.reason.as_deref(), by: who() })
}

/// Waits until the node's service has let go of the driver, if one runs here. It does so once the step in hand is done.
fn released(global: &Global) -> Result<(), Error> {
    let mut told = false;
    for _ in 0..PATIENCE.as_secs() {
        // Nobody listens there: there is no service that has it open.
        let Ok(metrics) = ask::ask("/metrics", global) else { return Ok(()) };
        if metrics.lines().any(|line| line == "sectile_driver_open 0") {
            output::tell("The service has let go of the driver.\n");
            return Ok(());
        }
        if !std::mem::replace(&mut told, true) {
            output::tell("Waiting for the service to let go of the driver…\n");
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let error = Error::failed("the node is suspended, and its service still has the driver open");
    Err(error.hint("`systemctl status sectile` tells what it does; `systemctl stop sectile` ends it"))
}

/// What is asked for, with why and by whom.
enum Change<'a> {
    Suspend { reason: &'a str, by: Option<String>, span: Option<SignedDuration>, release: bool },
    Resume { reason: Option<&'a str>, by: Option<String> },
}

impl Change<'_> {
    /// What a suspension becomes.
    fn becomes(&self, now: Timestamp, scope: Scope) -> Option<Suspension> {
        match self {
            Change::Suspend { reason, by, span, release } => Some(Suspension {
                reason: (*reason).to_owned(),
                since: now.to_string(),
                by: by.clone(),
                scope,
                until: span.map(|span| now.saturating_add(span).unwrap_or(Timestamp::MAX).to_string()),
                release: *release,
            }),
            Change::Resume { .. } => None,
        }
    }
}

fn set(all: bool, global: &Global, change: &Change<'_>) -> Result<Exit, Error> {
    if all && global.node.is_some() {
        return Err(Error::usage("--fleet means every node, and --node some of them: say one of the two"));
    }
    if (all || global.node.is_some()) && is_real_cluster(global) && names_itself(global) {
        return afar::set(global, change);
    }
    on!(fleet::open(&Global { node: None, ..global.clone() }, Purpose::Remember)?, fleet => set_on(&fleet, global, change))
}

fn set_on<O: Outside>(fleet: &Fleet<O>, global: &Global, change: &Change<'_>) -> Result<Exit, Error> {
    let names = chosen(fleet.nodes.keys(), global.node.as_deref())?;
    let (now, before) = (change.becomes(fleet.time(), Scope::Here), fleet.memory());
    let failed = remember(fleet, &names, now.as_ref())?;
    let told = |name: &String| {
        let before = before.nodes.get(name).and_then(|node| node.suspended.clone());
        Told { name: name.clone(), before, now: now.clone(), failed: failed.get(name).cloned() }
    };
    tell(names.iter().map(told).collect(), global)
}

/// Changes what is remembered of nodes; those that failed and are tried again, with why.
fn remember<O: Outside>(
    fleet: &Fleet<O>,
    names: &[String],
    now: Option<&Suspension>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut failed = BTreeMap::new();
    for name in names.iter().filter(|_| now.is_none()) {
        let Some(failure) = trouble::story(fleet, name)?.failure else { continue };
        let journal = RefCell::new(trouble::open(fleet, name)?);
        let forgiven = fleet.again(async || carry::forgive(&mut *journal.borrow_mut(), name, fleet.time()));
        forgiven.context(|| "the journal can't be written".to_owned())?;
        failed.insert(name.clone(), failure.why);
    }
    fleet.remember(|memory| {
        for name in names {
            memory.nodes.entry(name.clone()).or_default().suspended = now.cloned();
        }
    });
    fleet.save()?;
    Ok(failed)
}

/// What became of a node.
struct Told {
    name: String,
    before: Option<Suspension>,
    now: Option<Suspension>,
    /// Why it failed, where it is tried again.
    failed: Option<String>,
}

fn tell(all: Vec<Told>, global: &Global) -> Result<Exit, Error> {
    if global.output == Output::Json {
        let node = |told: &Told| json!({ "name": told.name, "suspended": told.now });
        let nodes: Vec<_> = all.iter().map(node).collect();
        return document(&json!({ "format_version": FORMAT_VERSION, "nodes": nodes }));
    }
    for Told { name, before, now, failed } in all {
        output::print(&match (now, before) {
            (Some(now), None) => format!("{name} is suspended: {}\n", now.reason),
            (Some(now), Some(before)) => format!("{name} is suspended: {} (before: {})\n", now.reason, before.reason),
            (None, Some(before)) => format!("{name} is resumed (it was suspended: {})\n", before.reason),
            (None, None) if failed.is_some() => String::new(),
            (None, None) => format!("{name} was not suspended\n"),
        });
        if let Some(why) = failed {
            output::print(&format!("{name} is tried again (it failed: {why})\n"));
        }
    }
    Ok(Exit::Done)
}

fn document(document: &serde_json::Value) -> Result<Exit, Error> {
    let text = serde_json::to_string_pretty(document).context(|| "the nodes can't be written".to_owned())?;
    output::print(&format!("{text}\n"));
    Ok(Exit::Done)
}

/// The nodes that a name or glob means; without one, all.
fn chosen<'a>(all: impl Iterator<Item = &'a String> + Clone, glob: Option<&str>) -> Result<Vec<String>, Error> {
    let Some(text) = glob else { return Ok(all.cloned().collect()) };
    let glob = GlobBuilder::new(text).backslash_escape(false).build();
    let glob = glob.map_err(|error| Error::usage(format!("--node {text} is no glob")).caused_by(error))?;
    let matcher = glob.compile_matcher();
    let chosen: Vec<String> = all.clone().filter(|name| matcher.is_match(name)).cloned().collect();
    if chosen.is_empty() {
        let known: Vec<&str> = all.map(String::as_str).collect();
        return Err(Error::usage(format!("no node matches {text}")).hint(format!("there are {}", known.join(", "))));
    }
    Ok(chosen)
}

/// Who asks, as far as the environment tells: for people to read, not for anybody to rely on.
#[expect(clippy::disallowed_methods, reason = "who somebody is is the environment's word, and no setting of ours")]
fn who() -> Option<String> {
    ["SUDO_USER", "USER"].into_iter().find_map(|key| std::env::var(key).ok().filter(|name| !name.is_empty()))
}
