//! What every command does first: read the tree, observe, resolve, plan, and check the plan by other code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;

use crate::config::{self, Loaded, NodeFacts, Tree, diagnostic};
use crate::model::memory::TakenUp;
use crate::model::{Desired, DesiredNode, Known, Observed, Plan};
use crate::plan::{self, guards};

use super::args::{Global, Output};
use super::error::Error;
use super::fleet::Fleet;
use super::output::tell;
use super::outside::Outside;

/// What is wanted, what is there, and the plan between them.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) desired: Desired,
    pub(super) observed: Observed,
    pub(super) plan: Plan,
}

/// Reads the tree; warnings go to stderr, errors are told with their places and end the command.
pub(super) fn load(path: &Path, global: &Global) -> Result<(Tree, BTreeSet<String>, Loaded), Error> {
    let loaded = config::load(path);
    let text = diagnostic::render(&loaded.diagnostics, &loaded.sources, true);
    let errors = loaded.diagnostics.iter().filter(|d| d.is_error()).count();
    if errors > 0 || !global.quiet {
        tell(&text);
    }
    if errors > 0 {
        // The last drawing and the sum stand apart.
        tell("\n");
    }
    match loaded.tree.clone().filter(|_| errors == 0) {
        Some(tree) => {
            let units = tree.units();
            Ok((tree, units, loaded))
        }
        None => {
            let errors = if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
            Err(Error::failed(format!("the tree in {} has {errors}", path.display())))
        }
    }
}

/// Observes, resolves, plans and checks.
pub(super) fn look<O: Outside>(
    tree: &Tree,
    units: &BTreeSet<String>,
    loaded: &Loaded,
    fleet: &Fleet<O>,
    adjust: &dyn Fn(&mut Desired),
) -> Result<Picture, Error> {
    let observed = fleet.observe(units)?;
    let facts = observed.nodes.values().map(NodeFacts::of).collect();
    let before = fleet.taken_up();
    let adjust = |desired: &mut Desired| {
        if let Some(allowed) = fleet.outside.allowed() {
            guards::permit(desired, allowed);
        }
        adjust(desired);
    };
    let mut picture = weigh(tree, loaded, observed, facts, before.as_ref(), fleet.time(), &adjust)?;
    super::trouble::hold(&mut picture.plan, &picture.desired, &picture.observed, fleet)?;
    // Narrowed only now: budgets, bindings and free instances elsewhere are the whole fleet's.
    if let Some(names) = &fleet.only {
        picture.plan = plan::narrow(picture.plan, names);
    }
    Ok(picture)
}

/// Resolves, plans and checks what was observed. `facts` are of all nodes that are planned, `before` is the tree that was
/// last taken up.
pub(super) fn weigh(
    tree: &Tree,
    loaded: &Loaded,
    observed: Observed,
    facts: Vec<NodeFacts>,
    before: Option<&TakenUp>,
    now: Timestamp,
    adjust: &dyn Fn(&mut Desired),
) -> Result<Picture, Error> {
    let resolved = config::resolve(tree, &facts);
    if resolved.diagnostics.iter().any(config::Diagnostic::is_error) {
        tell(&diagnostic::render(&resolved.diagnostics, &loaded.sources, true));
        return Err(Error::failed("the tree contradicts itself on these nodes, and nothing was changed"));
    }
    let mut desired = resolved.desired;
    desired.peers = peers(tree, &desired, &observed);
    adjust(&mut desired);
    if let Some(block) = before.and_then(|before| guards::removal(before, &tree.sum())) {
        guards::hold_tree(&mut desired, &block);
    }
    let plan = plan::plan(&desired, &observed, now);
    let broken = plan::check::check(&desired, &observed, &plan);
    if !broken.is_empty() {
        let error = Error::failed("the plan breaks its own invariants, so it is neither shown nor carried out");
        let error = error.hint("this is a defect of sectile: please report it with the tree and this output");
        return Err(broken.iter().fold(error, |error, violation| error.hint(violation.to_string())));
    }
    Ok(Picture { desired, observed, plan })
}

/// What the tree wants of the other nodes of the cluster, of which only names and labels are known: as far as budgets ask.
fn peers(tree: &Tree, desired: &Desired, observed: &Observed) -> BTreeMap<String, DesiredNode> {
    let others = observed.cluster.peers.iter().filter(|(name, _)| !desired.nodes.contains_key(*name));
    let facts = others.map(|(name, peer)| {
        let (name, labels) = (name.clone(), Known::Known(peer.labels.clone()));
        NodeFacts { name, labels, gpus: Vec::new(), changed: None }
    });
    let facts: Vec<NodeFacts> = facts.collect();
    // Where the tree contradicts itself about them they are told so on their own nodes.
    if facts.is_empty() { BTreeMap::new() } else { config::resolve(tree, &facts).desired.nodes }
}

/// How text is styled.
pub(super) fn style(global: &Global) -> crate::render::Style {
    crate::render::Style { wide: global.output == Output::Wide }
}
