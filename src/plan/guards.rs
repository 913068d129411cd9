//! What is held back whatever its steps are: a tree that suddenly loses most of itself, entries that may mean other
//! GPUs than they did, and nodes that somebody suspended.

use std::collections::BTreeSet;

use crate::model::memory::{self, TakenUp};
use crate::model::observed::Scope;
use crate::model::plan::{Block, BlockCode, Step};
use crate::model::{Allowed, Desired, DesiredNode, ObservedNode, Target};

use super::movers::Mover;
use super::target::GpuTarget;

/// Fewer bindings than this are too few to speak of most of them.
const FEW: usize = 2;

/// Why a tree is held back, if it is: it lost all its layouts, or more than half of its bindings, since one was last
/// taken up. That is how a wrong folder, a half-written checkout or a slip of a generator looks.
pub fn removal(before: &TakenUp, now: &TakenUp) -> Option<Block> {
    let lost: Vec<&str> = before.bindings.difference(&now.bindings).map(String::as_str).collect();
    let (had, gone) = (before.bindings.len(), lost.len());
    let message = if before.layouts > 0 && now.layouts == 0 {
        let layouts = match before.layouts {
            1 => "the only layout".to_owned(),
            many => format!("all {many} layouts"),
        };
        format!("it has lost {layouts} that it had when it was last applied")
    } else if had >= FEW && gone * 2 > had {
        let (names, more) = lost.split_at(gone.min(3));
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        let which = format!("{}{more}", names.join(", "));
        format!("it has lost {gone} of the {had} bindings that it had when it was last applied: {which}")
    } else {
        return None;
    };
    Some(Block {
        code: BlockCode::MassRemoval,
        message,
        object: "the tree".to_owned(),
        hint: "see whether it is the right tree and whole; `sectile apply --accept-removal` if that is meant"
            .to_owned(),
    })
}

/// Holds back every step of every node and what belongs to no node.
pub fn hold_tree(desired: &mut Desired, block: &Block) {
    for node in desired.nodes.values_mut() {
        node.blocked.push(block.clone());
    }
    desired.blocked.push(block.clone());
}

/// Holds back every node of which the tree names units or commands that it does not allow: what the node may not touch it
/// must not find out half way. Bindings that can't be are none there.
pub fn permit(desired: &mut Desired, allowed: &Allowed) {
    for node in desired.nodes.values_mut() {
        let mut blocks = BTreeSet::new();
        let mut refuse = |what: &str, of: String, key: &str, object: String| {
            blocks.insert(Block {
                code: BlockCode::NotAllowed,
                message: format!("the tree {what} {of}, which this node does not allow"),
                object,
                hint: format!("list it in {key} of [host] in {} on the node, or take it out of the tree", allowed.file),
            });
        };
        node.bindings.retain(|binding| {
            let object = || binding.source.to_string();
            match &binding.target {
                Target::Kubernetes { .. } => true,
                Target::Systemd { unit, .. } if allowed.unit(unit) => true,
                Target::Systemd { unit, .. } => {
                    refuse("binds", unit.clone(), "`units`", object());
                    false
                }
                Target::Command { drain, drained, resume, ready } => {
                    let all = [drain, drained, resume, ready];
                    let refused = all.into_iter().filter(|argv| !allowed.command(argv)).flat_map(|argv| argv.first());
                    let refused: BTreeSet<&String> = refused.collect();
                    refused.iter().for_each(|program| refuse("runs", (*program).clone(), "`commands`", object()));
                    refused.is_empty()
                }
            }
        });
        let clients = node.policy.as_ref().map(|policy| &policy.clients);
        for unit in clients.iter().flat_map(|clients| &clients.systemd).filter(|unit| !allowed.unit(unit)) {
            refuse("pauses", unit.clone(), "`units`", format!("unit {unit}"));
        }
        for client in clients.iter().flat_map(|clients| clients.names()) {
            let command = clients.and_then(|clients| clients.command(&client));
            let all = command.iter().flat_map(|c| [&c.pause, &c.paused, &c.resume]).filter(|argv| !argv.is_empty());
            for program in all.filter(|argv| !allowed.command(argv)).flat_map(|argv| argv.first()) {
                refuse("runs", program.clone(), "`commands`", client.to_string());
            }
        }
        node.blocked.extend(blocks);
    }
}

/// Clients that can't be paused, where they would be: systemd would stop others with them, which nobody resumes.
pub(super) fn company(
    desired: &DesiredNode,
    node: &ObservedNode,
    targets: &[GpuTarget<'_>],
    movers: &[Mover],
) -> Vec<Block> {
    let clients = || desired.policy.iter().flat_map(|policy| &policy.clients.systemd);
    let changes = |target: &GpuTarget<'_>| {
        target.chosen.as_ref().is_some_and(|c| !c.destroy.is_empty() || c.mode != target.gpu.mig.current)
    };
    if movers.is_empty() && !targets.iter().any(changes) {
        return Vec::new();
    }
    let blocks = clients().filter_map(|unit| {
        let takes = node.units.get(unit).into_iter().flat_map(|state| &state.takes);
        // Whoever does not run is not paused, nor resumed.
        let paused = |unit: &String| clients().any(|c| c == unit) && node.units.get(unit).is_some_and(|s| s.active);
        let others: Vec<&str> = takes.filter(|other| !paused(other)).map(String::as_str).collect();
        (!others.is_empty()).then(|| Block {
            code: BlockCode::StopsOthers,
            message: format!("it would be paused, and systemd would stop {} with it", others.join(", ")),
            object: format!("unit {unit}"),
            hint: "list those in clients.systemd, too, or let them say Wants= in the place of Requires=".to_owned(),
        })
    });
    blocks.collect()
}

/// Leaves the GPUs of held entries alone: what such an entry wants of them is not known. Where none is held, a GPU that is
/// lost is told all the same, as long as nobody accepted that: nobody knows what is on it.
pub(super) fn hold_entries(
    desired: &DesiredNode,
    node: &ObservedNode,
    targets: &mut [GpuTarget<'_>],
    blocks: &mut Vec<Block>,
) {
    if desired.held.is_empty() {
        let lost = desired.layout.is_some() && !node.lost.is_empty();
        let how = lost.then(|| memory::difference(node)).flatten();
        blocks.extend(how.map(|how| memory::changed(&node.name, &how, &[])));
        return;
    }
    for target in targets {
        if let Some(block) = target.source.and_then(|source| desired.held.get(source)) {
            target.chosen = None;
            target.blocks = vec![block.clone()];
        }
    }
    // What was refused so far are entries with `count`, and those are held themselves.
    blocks.clear();
    blocks.extend(desired.held.values().cloned());
}

/// Lets every step of a suspended node wait; whether it is one.
pub(super) fn suspend(node: &ObservedNode, steps: &mut [Step], waiting: &mut Vec<Block>) -> bool {
    let Some(suspended) = &node.suspended else { return false };
    if !steps.is_empty() {
        waiting.push(Block {
            code: BlockCode::Suspended,
            message: "no step is begun while the node is suspended".to_owned(),
            object: node.name.clone(),
            hint: match suspended.scope {
                Scope::Here | Scope::Node => format!("`sectile resume --node {}` lets it go on", node.name),
                Scope::Fleet => "`sectile resume --fleet` lets all nodes go on".to_owned(),
                Scope::Operator => "it goes on by itself once the operator has upgraded the driver".to_owned(),
            },
        });
    }
    for step in steps {
        step.waits = Some(BlockCode::Suspended);
    }
    true
}
