//! What the device plugin makes of a node where its strategy is not `mixed`.
//!
//! With `single` all MIG devices of a node are one resource. The plugin then fails to start on a GPU in MIG mode that has
//! no device, on GPUs of which only some are in MIG mode, and on devices of several profiles (k8s-device-plugin,
//! device_map.go). With `none` it hands out no MIG device.

use std::collections::BTreeSet;

use crate::model::desired::{DesiredNode, Goal};
use crate::model::observed::{MigStrategy, ObservedNode};
use crate::model::plan::{Block, BlockCode};
use crate::model::profile::ProfileName;

use super::target::GpuTarget;

/// How far the GPUs of a node are on the way to their targets, by GPU and instance.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Instances that are gone.
    pub destroyed: BTreeSet<(usize, usize)>,
    /// Instances that were made, as indices into what a target creates.
    pub made: BTreeSet<(usize, usize)>,
    /// GPUs whose mode was changed.
    pub switched: BTreeSet<usize>,
}

impl Progress {
    /// All the way.
    fn whole(targets: &[GpuTarget<'_>]) -> Progress {
        let mut all = Progress::default();
        for (g, chosen) in targets.iter().enumerate().filter_map(|(g, target)| Some((g, target.chosen.as_ref()?))) {
            all.switched.insert(g);
            all.destroyed.extend(chosen.destroy.iter().map(|&i| (g, i)));
            all.made.extend((0..chosen.create.len()).map(|c| (g, c)));
        }
        all
    }
}

/// Why a node's clients would not start with what is there by then; `None`: they would.
pub fn refusal(node: &ObservedNode, targets: &[GpuTarget<'_>], so_far: &Progress) -> Option<String> {
    if node.strategy() != MigStrategy::Single {
        return None;
    }
    let there = targets.iter().enumerate().filter(|(_, target)| !node.lost.contains(&target.gpu.index));
    let (mut on, mut off, mut empty) = (None, None, None);
    let mut profiles: BTreeSet<ProfileName> = BTreeSet::new();
    for (g, GpuTarget { gpu, chosen, .. }) in there {
        let mode = match chosen {
            Some(chosen) if so_far.switched.contains(&g) => chosen.mode,
            _ => gpu.mig.current,
        };
        if !mode {
            off.get_or_insert(gpu.index);
            continue;
        }
        on.get_or_insert(gpu.index);
        let stays = |i: &usize| !so_far.destroyed.contains(&(g, *i));
        let kept = gpu.instances.iter().enumerate().filter(|(i, _)| stays(i)).map(|(_, instance)| instance);
        let kept = kept.filter(|instance| !instance.compute.is_empty()).map(|instance| instance.profile);
        let all = chosen.iter().flat_map(|chosen| &chosen.create).enumerate();
        let new = all.filter(|(c, new)| so_far.made.contains(&(g, *c)) && !new.compute.is_empty());
        let devices: BTreeSet<ProfileName> = kept.chain(new.map(|(_, new)| new.slot.profile)).collect();
        if devices.is_empty() {
            empty.get_or_insert(gpu.index);
        }
        profiles.extend(devices);
    }
    match (on, off, empty) {
        (Some(on), Some(off), _) => Some(format!("GPU {on} would be in MIG mode and GPU {off} would not")),
        (_, _, Some(empty)) => Some(format!("GPU {empty} would be in MIG mode without an instance")),
        _ if profiles.len() > 1 => {
            let profiles: Vec<String> = profiles.iter().map(ToString::to_string).collect();
            Some(format!("its GPUs would have instances of several profiles: {}", profiles.join(", ")))
        }
        _ => None,
    }
}

/// Why nobody could be handed what the tree wants of a node.
pub fn block(desired: &DesiredNode, node: &ObservedNode, targets: &[GpuTarget<'_>]) -> Option<Block> {
    let block = |code, message, hint: &str| Block { code, message, object: node.name.clone(), hint: hint.to_owned() };
    match node.strategy() {
        MigStrategy::Mixed => None,
        MigStrategy::Single => {
            // What can't become what is wanted is told, and stays.
            if targets.iter().any(|target| target.source.is_some() && target.chosen.is_none()) {
                return None;
            }
            let why = refusal(node, targets, &Progress::whole(targets))?;
            let message = format!("{why}; the device plugin's strategy is single, and it would not start");
            let hint = "give all its GPUs instances of one profile, or set the plugin's mig.strategy to mixed";
            Some(block(BlockCode::StrategySingle, message, hint))
        }
        MigStrategy::None => {
            let own = desired.gpus.values().map(|own| &own.goal);
            let mut goals = own.chain(desired.shared.iter().map(|shared| &shared.goal));
            let message = "the device plugin's strategy is none: it hands out no MIG devices, and the layout has some";
            let hint = "set the plugin's mig.strategy to mixed or single, or take the node out of the layouts";
            let cuts = goals.any(|goal| matches!(goal, Goal::Instances(_)));
            cuts.then(|| block(BlockCode::StrategyNone, message.to_owned(), hint))
        }
    }
}
