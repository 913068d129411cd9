//! What each GPU of a node becomes, and why not where not.

use std::collections::BTreeMap;

use crate::model::desired::{DesiredNode, Goal, Wanted};
use crate::model::geometry::Geometry;
use crate::model::identity::Source;
use crate::model::observed::{GpuInstance, Known, ObservedGpu, ObservedNode};
use crate::model::plan::{Block, BlockCode, SlotRef};
use crate::model::profile::ComputeName;

use super::assignment;
use super::cost;
use super::drain::{Court, Ruling};
use super::placement::{self, Have, Score, Want};

/// A mode change weighs as many creations: of two equal GPUs, the one whose mode is right is cut.
const MODE_CHANGE: u64 = 10;

/// An instance to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Where.
    pub slot: SlotRef,
    /// Its compute instances, in the order of the tree.
    pub compute: Vec<ComputeName>,
}

/// What a GPU becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// MIG mode then.
    pub mode: bool,
    /// Instances that stay, as indices into the GPU's.
    pub keep: Vec<usize>,
    /// Instances that go, likewise.
    pub destroy: Vec<usize>,
    /// Instances that come, ascending by start.
    pub create: Vec<New>,
    /// What it costs.
    pub score: Score,
    /// Names that were bent to the driver's.
    pub warnings: Vec<String>,
}

impl Chosen {
    /// Whether the first instance is made on a GPU that has none then: nobody may use the whole of it.
    pub fn makes_first(&self) -> bool {
        !self.create.is_empty() && self.keep.is_empty()
    }
}

/// A GPU and what is to become of it.
#[derive(Debug)]
pub struct GpuTarget<'a> {
    /// The GPU.
    pub gpu: &'a ObservedGpu,
    /// The entry that won; `None`: unmanaged.
    pub source: Option<&'a Source>,
    /// Less specific entries.
    pub shadows: &'a [Source],
    /// What it becomes; `None`: unmanaged, or blocked before a target could be chosen.
    pub chosen: Option<Chosen>,
    /// What can't be done until somebody acts.
    pub blocks: Vec<Block>,
}

/// Chooses for every GPU of the node, ascending by index.
pub fn choose<'a>(
    desired: &'a DesiredNode,
    node: &'a ObservedNode,
    court: &Court<'_>,
) -> (Vec<GpuTarget<'a>>, Vec<Block>) {
    let in_cluster = node.cluster.is_some();
    let mut blocks = Vec::new();
    let (shared, refused) =
        assignment::assign(desired, node, |gpu, goal| aim(gpu, goal, court, in_cluster).map(|chosen| chosen.score));
    blocks.extend(refused);
    let targets = node.gpus.iter().map(|gpu| {
        let goal = desired.gpus.get(&gpu.uuid).map(|g| (&g.goal, &g.source, g.shadows.as_slice()));
        let goal = goal.or_else(|| {
            let entry = shared.get(&gpu.uuid).and_then(|&at| desired.shared.get(at))?;
            Some((&entry.goal, &entry.source, [].as_slice()))
        });
        let Some((goal, source, shadows)) = goal.filter(|(goal, ..)| **goal != Goal::HandsOff) else {
            return GpuTarget { gpu, source: None, shadows: &[], chosen: None, blocks: Vec::new() };
        };
        let (chosen, blocks) = match aim(gpu, goal, court, in_cluster) {
            Ok(chosen) => (Some(chosen), Vec::new()),
            Err(block) => (None, vec![*block]),
        };
        GpuTarget { gpu, source: Some(source), shadows, chosen, blocks }
    });
    (targets.collect(), blocks)
}

/// The best target of one GPU for one goal.
fn aim(gpu: &ObservedGpu, goal: &Goal, court: &Court<'_>, in_cluster: bool) -> Result<Chosen, Box<Block>> {
    let block = |code, message: String, hint: String| Box::new(Block { code, message, object: name(gpu), hint });
    let wanted = match goal {
        Goal::Instances(wanted) => wanted,
        Goal::MigOff | Goal::HandsOff => {
            let all: Vec<usize> = (0..gpu.instances.len()).collect();
            let lost = gpu.instances.iter().map(|i| weight(i, court)).sum();
            let created = if gpu.mig.current { MODE_CHANGE } else { 0 };
            let score = Score { lost, created, ..Score::default() };
            let chosen = Chosen { mode: false, keep: vec![], destroy: all, create: vec![], score, warnings: vec![] };
            return Ok(chosen);
        }
    };
    if !gpu.mig.capable {
        let message = format!("a {} has no MIG", gpu.model);
        return Err(block(BlockCode::NotCapable, message, "take this GPU out of the layout".to_owned()));
    }
    let Some(geometry) = &gpu.geometry else {
        let message = format!("neither the driver nor the catalogue tells what a {} can be cut into", gpu.model);
        let hint = "the driver tells once MIG mode is on: `nvidia-smi -i INDEX -mig 1`".to_owned();
        return Err(block(BlockCode::UnknownGeometry, message, hint));
    };
    let mut warnings = Vec::new();
    let wants = wants(gpu, geometry, wanted, in_cluster, &mut warnings)?;
    let haves: Vec<Have> = gpu.instances.iter().map(|i| have(i, geometry, court)).collect();
    let plain: Vec<Want> = wants.iter().map(|(want, _)| want.clone()).collect();
    let Some(best) = placement::best(geometry, &plain, &haves) else {
        let (message, hint) = misfit(gpu, geometry, wanted, &plain);
        return Err(block(BlockCode::DoesNotFit, message, hint));
    };
    let destroy: Vec<usize> = (0..haves.len()).filter(|h| !best.kept.contains(h)).collect();
    let is_kept = |want: &Want, start: u32| {
        let kept = best.kept.iter().filter_map(|&k| haves.get(k));
        kept.into_iter().any(|h| h.profile == want.profile && h.start == start)
    };
    let mut create: Vec<New> = wants
        .into_iter()
        .zip(&best.starts)
        .filter(|((want, _), start)| !is_kept(want, **start))
        .filter_map(|((want, compute), &start)| {
            let profile = geometry.profiles.get(want.profile)?;
            let placement = crate::model::Placement { start, size: profile.size };
            let slot = SlotRef { gpu: gpu.uuid.clone(), profile: profile.name, placement };
            Some(New { slot, compute })
        })
        .collect();
    create.sort_by_key(|new| new.slot.placement);
    let mut score = best.score;
    if !gpu.mig.current {
        score.created += MODE_CHANGE;
    }
    Ok(Chosen { mode: true, keep: best.kept, destroy, create, score, warnings })
}

/// What losing an instance costs.
fn weight(instance: &GpuInstance, court: &Court<'_>) -> u64 {
    match instance.all_users() {
        Known::Unknown => cost::REFUSED,
        Known::Known(users) => {
            let of = |user| match court.judge(user, &[]) {
                Ruling::Move(_) => cost::USER,
                Ruling::No(_) => cost::REFUSED,
            };
            cost::IDLE + users.iter().map(of).sum::<u64>()
        }
    }
}

fn have(instance: &GpuInstance, geometry: &Geometry, court: &Court<'_>) -> Have {
    // An instance whose profile the geometry lacks matches no want, so it is never kept.
    let profile = geometry.profiles.iter().position(|p| p.name == instance.profile).unwrap_or(usize::MAX);
    let mut compute: Vec<ComputeName> = instance.compute.iter().map(|c| c.profile).collect();
    compute.sort();
    let users = instance.all_users().known().map_or(1, Vec::len);
    Have {
        profile,
        start: instance.placement.start,
        compute,
        weight: weight(instance, court),
        users: u32::try_from(users).unwrap_or(u32::MAX),
    }
}

type Wants = Vec<(Want, Vec<ComputeName>)>;

/// Resolves names against what the board offers.
fn wants(
    gpu: &ObservedGpu,
    geometry: &Geometry,
    wanted: &[Wanted],
    in_cluster: bool,
    warnings: &mut Vec<String>,
) -> Result<Wants, Box<Block>> {
    let mut all = Vec::new();
    for want in wanted {
        let block = |code, message: String, hint: String| Box::new(Block { code, message, object: name(gpu), hint });
        let Some((profile, bent)) = geometry.resolve(want.profile) else {
            let offers: Vec<String> = geometry.offers().iter().map(ToString::to_string).collect();
            let message = format!("a {} offers no {}", gpu.model, want.profile);
            return Err(block(BlockCode::UnknownProfile, message, format!("it offers {}", offers.join(", "))));
        };
        if bent {
            warnings.push(format!("{}: this driver calls {} {}", name(gpu), want.profile, profile.name));
        }
        if let Some(start) = want.start.filter(|start| !profile.starts.contains(start)) {
            let starts: Vec<String> = profile.starts.iter().map(ToString::to_string).collect();
            let message = format!("{} can't start at {start} on a {}", profile.name, gpu.model);
            return Err(block(BlockCode::DoesNotFit, message, format!("it can start at {}", starts.join(", "))));
        }
        let filling = || vec![ComputeName::filling(profile.name)];
        let compute = want.compute.clone().map_or_else(filling, |list| {
            list.into_iter().map(|c| ComputeName { slices: c.slices, of: profile.name }).collect()
        });
        let slices: u32 = compute.iter().map(|c| c.slices).sum();
        if slices > profile.slices {
            let message = format!("compute instances of {slices} slices don't fit into {}", profile.name);
            return Err(block(BlockCode::DoesNotFit, message, format!("it has {} compute slices", profile.slices)));
        }
        if in_cluster && compute != filling() {
            let message =
                format!("the device plugin can't hand out a {} that is cut into compute instances", profile.name);
            let hint = "leave `compute` out, or take the node out of the cluster".to_owned();
            return Err(block(BlockCode::ComputeSplit, message, hint));
        }
        let index = geometry.profiles.iter().position(|p| p.id == profile.id).unwrap_or(usize::MAX);
        let mut sorted = compute.clone();
        sorted.sort();
        all.push((Want { profile: index, start: want.start, compute: sorted }, compute));
    }
    Ok(all)
}

/// Why a set can't lie on the GPU, and the closest that can: the first largest subset that fits.
fn misfit(gpu: &ObservedGpu, geometry: &Geometry, wanted: &[Wanted], wants: &[Want]) -> (String, String) {
    let list = |wanted: &[Wanted]| {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for want in wanted {
            let at = want.start.map(|s| format!(" at {s}")).unwrap_or_default();
            *counts.entry(format!("{}{at}", want.profile)).or_default() += 1;
        }
        let parts: Vec<String> = counts.iter().map(|(p, n)| format!("{n} × {p}")).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    };
    let message = format!("{} can't lie on a {} together", list(wanted), gpu.model);
    // Wants are few (a board holds at most 8 instances), but a tree may ask for any number: look no further than this.
    let few = wants.len().min(12);
    let mut masks: Vec<u32> = (0..1u32 << few).collect();
    masks.sort_by_key(|m| std::cmp::Reverse(m.count_ones()));
    let subset = |mask: u32| (0..few).filter(move |i| mask >> i & 1 == 1);
    let fits = masks.into_iter().find(|&mask| {
        let part: Vec<Want> = subset(mask).filter_map(|i| wants.get(i).cloned()).collect();
        placement::best(geometry, &part, &[]).is_some()
    });
    let part: Vec<Wanted> = subset(fits.unwrap_or(0)).filter_map(|i| wanted.get(i).cloned()).collect();
    (message, format!("the closest that fits: {}", list(&part)))
}

/// How messages name a GPU.
pub fn name(gpu: &ObservedGpu) -> String {
    format!("GPU {} {}", gpu.index, gpu.uuid)
}
