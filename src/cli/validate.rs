//! `sectile validate`: the whole tree, every error at once.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::{self, Loaded, Tree, diagnostic};
use crate::model::plan::FORMAT_VERSION;

use super::args::{Global, Output, Validate};
use super::context::{self, Picture};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::{self, Opened, on};
use super::output;

/// Checks what the tree says, and with nodes that are there also whether it fits what they have.
pub(super) fn run(args: &Validate, global: &Global) -> Result<Exit, Error> {
    let path = args.tree.path(global);
    let alone = global.sim.is_none() && global.gpus.is_none();
    if global.output == Output::Json {
        return json(&path, global, alone);
    }
    let (tree, units, loaded) = context::load(&path, global)?;
    let files = format!("{} layout and {} policy files", tree.layouts.len(), tree.policies.len());
    if alone {
        output::print(&format!("The tree is sound: {files}, {}.\n", tree.revision));
        output::print("Not checked: whether the layouts fit the nodes' GPUs, and whether the bound workloads exist. ");
        output::print("`--sim [FLEET.toml]` checks against simulated nodes, `--gpus nvml` against this one.\n");
        return Ok(Exit::Done);
    }
    let (plan, simulated) = against(&tree, &units, &loaded, global)?;
    let shared = &plan.cluster.blocked;
    let own = plan.nodes.iter().flat_map(|node| &node.blocked).filter(|block| !shared.contains(block));
    let blocks = own.chain(shared);
    let mut text = String::new();
    for block in blocks {
        text.push_str(&format!("{}: {}: {}\n  hint: {}\n", block.code, block.object, block.message, block.hint));
    }
    if text.is_empty() {
        let nodes = if simulated { format!("{} simulated nodes", plan.nodes.len()) } else { "this node".to_owned() };
        output::print(&format!("The tree is sound, and fits {nodes}: {files}, {}.\n", tree.revision));
        return Ok(Exit::Done);
    }
    output::print(&text);
    Ok(Exit::Blocked)
}

/// The plan of the nodes that are there, and whether they are simulated.
fn against(
    tree: &Tree,
    units: &BTreeSet<String>,
    loaded: &Loaded,
    global: &Global,
) -> Result<(crate::model::Plan, bool), Error> {
    let opened = fleet::open(global, fleet::Purpose::Look)?;
    let simulated = matches!(opened, Opened::Simulated(_));
    on!(opened, fleet => {
        let Picture { plan, .. } = context::look(tree, units, loaded, &fleet, &|_| {})?;
        fleet.save()?;
        Ok((plan, simulated))
    })
}

/// The same for programs: what the tree alone says, and with simulated nodes what does not fit them (`null`: not asked,
/// or not to be asked of a tree with errors).
fn json(path: &Path, global: &Global, alone: bool) -> Result<Exit, Error> {
    let loaded = config::load(path);
    let findings = diagnostic::findings(&loaded.diagnostics, &loaded.sources);
    let mut exit = Exit::Done;
    let blocked = match &loaded.tree {
        None => {
            exit = Exit::Error;
            None
        }
        Some(_) if alone => None,
        Some(tree) => {
            let (plan, _) = against(tree, &tree.units(), &loaded, global)?;
            let nodes = plan.nodes.into_iter().flat_map(|node| node.blocked);
            let blocked: Vec<_> = nodes.chain(plan.cluster.blocked).collect();
            exit = if blocked.is_empty() { Exit::Done } else { Exit::Blocked };
            Some(blocked)
        }
    };
    let document = serde_json::json!({ "format_version": FORMAT_VERSION, "findings": findings, "blocked": blocked });
    let text = serde_json::to_string_pretty(&document).context(|| "the findings can't be written".to_owned())?;
    output::print(&format!("{text}\n"));
    Ok(exit)
}
