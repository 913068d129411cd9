//! `sectile validate`: the whole tree, every error at once.

use crate::config::{self, diagnostic};

use super::args::{Global, Output, Validate};
use super::context::{self, Picture};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::Fleet;
use super::output;

/// Checks what the tree says, and with simulated nodes also whether it fits what they have.
pub(super) fn run(args: &Validate, global: &Global) -> Result<Exit, Error> {
    let path = args.tree.path();
    if global.output == Output::Json {
        let loaded = config::load(&path);
        let findings = diagnostic::findings(&loaded.diagnostics, &loaded.sources);
        let json = serde_json::to_string_pretty(&findings).context(|| "the findings can't be written".to_owned())?;
        output::print(&format!("{json}\n"));
        let errors = loaded.diagnostics.iter().any(config::Diagnostic::is_error);
        return Ok(if errors { Exit::Error } else { Exit::Done });
    }
    let (tree, units, loaded) = context::load(&path, global)?;
    let files = format!("{} layout and {} policy files", tree.layouts.len(), tree.policies.len());
    if global.sim.is_none() && global.gpus.is_none() {
        output::print(&format!("The tree is sound: {files}, {}.\n", tree.revision));
        output::print("Not checked: whether the layouts fit the nodes' GPUs, and whether the bound workloads exist. ");
        output::print("`--sim [FLEET.toml]` checks against simulated nodes.\n");
        return Ok(Exit::Done);
    }
    let fleet = Fleet::open(global)?;
    let Picture { plan, .. } = context::look(&tree, &units, &loaded, &fleet, &|_| {})?;
    fleet.save()?;
    let blocks = plan.nodes.iter().flat_map(|node| &node.blocked).chain(&plan.cluster.blocked);
    let mut text = String::new();
    for block in blocks {
        text.push_str(&format!("{}: {}: {}\n  hint: {}\n", block.code, block.object, block.message, block.hint));
    }
    let nodes = plan.nodes.len();
    if text.is_empty() {
        output::print(&format!("The tree is sound, and fits {nodes} simulated nodes: {files}, {}.\n", tree.revision));
        return Ok(Exit::Done);
    }
    output::print(&text);
    Ok(Exit::Blocked)
}
