//! `sectile boot`: what an apply does with the layout of the last convergence, on GPUs that have lost theirs and before
//! anybody is given an instance.

use std::collections::BTreeMap;

use serde_json::json;

use crate::config::{self, write};
use crate::model::plan::FORMAT_VERSION;
use crate::model::{Digest, NodeState, ObservedNode, Revision};
use crate::plan::export;
use crate::render;

use super::super::args::{Global, Output};
use super::super::context::{self, Picture};
use super::super::error::Error;
use super::super::exit::Exit;
use super::super::fleet::{self, Accepted, Fleet, Opened, Purpose};
use super::super::output;
use super::super::outside::Outside;
use super::super::plan::blocked;
use super::super::trouble;
use super::{Loaded, Work, watch_signals};

/// What the plan calls the layout.
const NAME: &str = "as it was";
/// Where the plan says that it comes from.
const FILE: &str = "layouts/as-it-was.toml";

/// Puts the last layout of this node back.
pub(in crate::cli) fn run(global: &Global) -> Result<Exit, Error> {
    match fleet::open(global, Purpose::Boot)? {
        Opened::Simulated(_) => {
            let error = Error::usage("a simulated fleet does not boot: its nodes are where they were left");
            Err(error.hint("`sectile apply --sim` does what there is to do"))
        }
        Opened::Here(fleet) => boot(global, *fleet),
        Opened::Joined(fleet) => boot(global, *fleet),
    }
}

fn boot<O: Outside>(global: &Global, mut fleet: Fleet<O>) -> Result<Exit, Error> {
    let observed = fleet.observe(&Default::default())?;
    let [node] = &observed.nodes.values().collect::<Vec<_>>()[..] else {
        return Err(Error::failed("a node boots alone"));
    };
    if let Some(why) = nothing(&fleet, node)? {
        output::print(&match global.output {
            Output::Json => format!("{}\n", json!({ "format_version": FORMAT_VERSION, "nothing": why })),
            Output::Text | Output::Wide => format!("Nothing is put back: {why}.\n"),
        });
        return Ok(Exit::Done);
    }
    let text = write::again(&node.name, &export::as_it_was(node));
    let revision = Revision { name: Some(NAME.to_owned()), digest: Digest::of([text.as_bytes()]) };
    let (tree, diagnostics) = config::assemble(revision.clone(), [(FILE, text.as_str())]);
    let sources = BTreeMap::from([(FILE.to_owned(), text.clone())]);
    let loaded = Loaded { revision, tree: tree.clone(), diagnostics, sources };
    let tree = tree.ok_or_else(|| {
        let error = Error::failed("what is remembered of the layout is no layout");
        loaded.diagnostics.iter().fold(error, |error, found| error.hint(&found.message))
    })?;
    // It is no tree that anybody takes up, and its GPUs are meant by their UUIDs.
    fleet.accepted = Accepted { removal: true, inventory: false };
    let interrupted = watch_signals(|| {}, fleet.outside.last_words())?;
    let mut work = Work::new(global, (tree, Default::default(), loaded), fleet, &[], interrupted);
    let picture = work.look()?;
    if global.output != Output::Json {
        output::print(&render::text::plan(&picture.plan, context::style(global)));
    }
    let began = work.fleet.time();
    work.begun = !work.idle(&picture.plan);
    let passed = if work.begun { work.pass(&picture) } else { Ok(()) };
    work.fleet.save()?;
    passed?;
    let picture = work.look()?;
    work.report(&picture, work.fleet.time().duration_since(began).as_secs_f64())?;
    Ok(exit(&work, &picture))
}

fn exit<O: Outside>(work: &Work<'_, O>, picture: &Picture) -> Exit {
    let mut exit = blocked(&picture.plan);
    let whole = |state| matches!(state, NodeState::Converged | NodeState::Suspended);
    if !work.failures.is_empty() || !picture.plan.nodes.iter().all(|node| whole(node.state)) {
        exit = exit.and(Exit::Error);
    }
    if work.stopped() { exit.and(Exit::Interrupted) } else { exit }
}

/// Why there is nothing to put back, where there is not.
fn nothing<O: Outside>(fleet: &Fleet<O>, node: &ObservedNode) -> Result<Option<String>, Error> {
    let memory = fleet.memory();
    let name = &node.name;
    if !memory.nodes.contains_key(name) {
        let others: Vec<&str> = memory.nodes.keys().map(String::as_str).collect();
        let others = match others.is_empty() {
            true => String::new(),
            false => format!("; what is remembered is of {}, which --node or sectile.toml names", others.join(", ")),
        };
        return Ok(Some(format!("{name} has never converged{others}")));
    }
    if let Some(suspension) = &node.suspended {
        return Ok(Some(format!("{name} is suspended {suspension}")));
    }
    let story = trouble::story(fleet, name)?;
    if !story.over || !story.owed.is_empty() {
        return Ok(Some(
            "an earlier run was cut short, and what it left is taken back by `sectile run` first".to_owned(),
        ));
    }
    Ok(export::as_it_was(node).is_empty().then(|| "no GPU has lost the instances that it had".to_owned()))
}
