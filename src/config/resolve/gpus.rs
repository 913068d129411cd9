//! Which entry of a layout holds for each GPU of a node.

use std::collections::{BTreeMap, BTreeSet};

use super::Ties;
use crate::config::facts::{GpuFacts, NodeFacts};
use crate::config::precedence::{self, GpuRank};
use crate::config::schema::selector::Pattern;
use crate::config::schema::{GpuEntry, GpuKey, LayoutFile, PciAddress};
use crate::model::plan::BlockCode;
use crate::model::{Block, Goal, GpuGoal, SharedGoal, Source, memory};

/// What a layout wants of a node's GPUs.
#[derive(Default)]
pub(super) struct Goals {
    pub(super) gpus: BTreeMap<String, GpuGoal>,
    pub(super) shared: Vec<SharedGoal>,
    pub(super) blocked: Vec<Block>,
    pub(super) held: BTreeMap<Source, Block>,
}

pub(super) fn goals(file: &LayoutFile, node: &NodeFacts, ties: &mut Ties) -> Goals {
    let mut goals = Goals::default();
    let mut left: Vec<&GpuFacts> = Vec::new();
    for gpu in &node.gpus {
        match winner(file, gpu) {
            Winner::None => left.push(gpu),
            Winner::Entry(goal) => drop(goals.gpus.insert(gpu.uuid.clone(), goal)),
            Winner::Tie(one, other) => {
                let sides = [(file.path.as_str(), &one.at.span), (file.path.as_str(), &other.at.span)];
                let help = "name the GPU in one of the two by uuid, pci or index, or remove one";
                let who = format!("GPU {} of {}", gpu.index, node.name);
                ties.add("two entries are equally specific".to_owned(), sides, help.to_owned(), who);
            }
        }
    }
    goals.held = held(file, node);
    goals.blocked = missing(file, node);
    for entry in &file.gpus {
        let Some(count) = &entry.count else { continue };
        let eligible = left.iter().filter(|gpu| precedence::gpu(&entry.select, gpu).is_some());
        goals.shared.push(SharedGoal {
            goal: entry.goal.clone(),
            count: count.value,
            eligible: eligible.map(|gpu| gpu.uuid.clone()).collect(),
            source: source(file, entry),
        });
    }
    // What a held entry lacks is told by what it is held for.
    if goals.held.is_empty() {
        goals.blocked.extend(too_few(&goals.shared, node));
    }
    goals
}

/// Where the node's GPUs are not those that were accepted: the entries that may mean another GPU than they did. What
/// an index meant is not known then, and what `count`, a model or no selector at all share may be somebody else's;
/// UUIDs and PCI addresses mean what they meant, unless an index may take GPUs out of their hands.
fn held(file: &LayoutFile, node: &NodeFacts) -> BTreeMap<Source, Block> {
    let Some(changed) = &node.changed else { return BTreeMap::new() };
    let adrift = |entry: &GpuEntry| entry.goal == Goal::HandsOff && matches!(entry.select.key, GpuKey::Index(_));
    let any_adrift = file.gpus.iter().any(adrift);
    let steady = |entry: &GpuEntry| match entry.select.key {
        GpuKey::Uuid(_) | GpuKey::Pci(_) => !any_adrift,
        GpuKey::Index(_) | GpuKey::Any => false,
    };
    let loose = file.gpus.iter().filter(|entry| entry.goal != Goal::HandsOff && !steady(entry));
    let entries: BTreeSet<Source> = loose.map(|entry| source(file, entry)).collect();
    let names: Vec<String> = entries.iter().map(Source::to_string).collect();
    let block = memory::changed(&node.name, changed, &names);
    entries.into_iter().map(|entry| (entry, block.clone())).collect()
}

enum Winner<'f> {
    None,
    Entry(GpuGoal),
    Tie(&'f GpuEntry, &'f GpuEntry),
}

/// The entry that holds for a GPU, of those without `count`.
fn winner<'f>(file: &'f LayoutFile, gpu: &GpuFacts) -> Winner<'f> {
    // `managed = false` holds whatever else matches, so it ranks above all; that is what the flag is for.
    let ranked = |entry: &'f GpuEntry| -> Option<((bool, GpuRank), &'f GpuEntry)> {
        Some(((entry.goal == Goal::HandsOff, precedence::gpu(&entry.select, gpu)?), entry))
    };
    let mut matching: Vec<_> = file.gpus.iter().filter(|entry| entry.count.is_none()).filter_map(ranked).collect();
    matching.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    match &matching[..] {
        [] => Winner::None,
        // Two that both say hands off don't contradict each other.
        [((false, first), one), ((false, second), other), ..] if first == second => Winner::Tie(one, other),
        [(_, entry), rest @ ..] => Winner::Entry(GpuGoal {
            goal: entry.goal.clone(),
            source: source(file, entry),
            shadows: rest.iter().map(|(_, entry)| source(file, entry)).collect(),
        }),
    }
}

fn source(file: &LayoutFile, entry: &GpuEntry) -> Source {
    entry.at.source(&file.path)
}

/// GPUs that the layout names and that the node hasn't got. A layout of several nodes may list the UUIDs and PCI
/// addresses of all of them, so those are missed only where it is about this node alone.
fn missing(file: &LayoutFile, node: &NodeFacts) -> Vec<Block> {
    let patterns = file.selector.nodes.as_deref().unwrap_or_default();
    let alone = matches!(patterns, [only] if matches!(only.value, Pattern::Literal(_)));
    let mut blocked = Vec::new();
    for entry in &file.gpus {
        let lost: Vec<String> = match &entry.select.key {
            GpuKey::Any => Vec::new(),
            // Told by what the entry is held for.
            GpuKey::Index(_) if node.changed.is_some() => Vec::new(),
            GpuKey::Index(items) => {
                let known: BTreeSet<u32> = node.gpus.iter().map(|gpu| gpu.index).collect();
                let lost = items.iter().filter(|item| !known.contains(&item.value));
                lost.map(|item| format!("GPU {}", item.value)).collect()
            }
            GpuKey::Pci(items) if alone => {
                let known: BTreeSet<PciAddress> = node.gpus.iter().filter_map(|gpu| gpu.pci.parse().ok()).collect();
                let lost = items.iter().filter(|item| !known.contains(&item.value));
                lost.map(|item| format!("a GPU at {}", item.value)).collect()
            }
            GpuKey::Uuid(items) if alone => {
                let lost = items.iter().filter(|item| !node.gpus.iter().any(|gpu| item.value.matches(&gpu.uuid)));
                lost.map(|item| item.value.0.clone()).collect()
            }
            GpuKey::Pci(_) | GpuKey::Uuid(_) => Vec::new(),
        };
        let source = source(file, entry);
        blocked.extend(lost.into_iter().map(|gpu| Block {
            code: BlockCode::NoSuchGpu,
            message: format!("{source} names {gpu}, which {} hasn't got", node.name),
            object: gpu,
            hint: "correct the entry, or see why the GPU is gone".to_owned(),
        }));
    }
    blocked
}

/// Entries for which too few GPUs are left: together, since a GPU goes to one of them only.
fn too_few(shared: &[SharedGoal], node: &NodeFacts) -> Vec<Block> {
    let mut owner: BTreeMap<&str, usize> = BTreeMap::new();
    let mut blocked = Vec::new();
    for (at, goal) in shared.iter().enumerate() {
        let got = (0..goal.count).take_while(|_| place(shared, at, &mut owner, &mut BTreeSet::new())).count();
        if u32::try_from(got).is_ok_and(|got| got == goal.count) {
            continue;
        }
        let others = if shared.len() > 1 { " beside the other entries with `count`" } else { "" };
        blocked.push(Block {
            code: BlockCode::TooFewGpus,
            message: format!(
                "{} wants {} of the GPUs that are left on {}, and {got} can be had{others}",
                goal.source, goal.count, node.name
            ),
            object: goal.source.to_string(),
            hint: "lower `count`, widen `model`, or let the other entries claim fewer GPUs".to_owned(),
        });
    }
    blocked
}

/// Gives entry `at` one more GPU, moving others along where that helps (an augmenting path).
fn place<'s>(
    shared: &'s [SharedGoal],
    at: usize,
    owner: &mut BTreeMap<&'s str, usize>,
    seen: &mut BTreeSet<&'s str>,
) -> bool {
    let Some(goal) = shared.get(at) else { return false };
    for gpu in &goal.eligible {
        if !seen.insert(gpu) {
            continue;
        }
        let holder = owner.get(gpu.as_str()).copied();
        if holder == Some(at) {
            continue;
        }
        if holder.is_none_or(|holder| place(shared, holder, owner, seen)) {
            owner.insert(gpu, at);
            return true;
        }
    }
    false
}
