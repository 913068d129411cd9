//! What each GPU of a node becomes, and why not where not.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use crate::model::desired::{DesiredNode, Goal, SharedGoal, Wanted};
use crate::model::geometry::{Geometry, Placement};
use crate::model::identity::Source;
use crate::model::observed::{GpuInstance, ObservedGpu, ObservedNode};
use crate::model::plan::{Block, BlockCode, SlotRef};
use crate::model::profile::{ComputeName, ProfileName};

use super::assignment::{self, Assigned, Class, Offer};
use super::cost;
use super::crowd::{Crowd, Load};
use super::drain::Court;
use super::misfit;
use super::placement::{self, Best, Have, Occupancy, Scene, Score, Want};

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
    /// The GPU with nothing on it; `None`: nothing is put on it.
    pub empty: Option<Occupancy>,
}

/// What is known of how good the choice is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// No choice that spares as many of those who may not be moved disturbs fewer.
    pub least: u64,
    /// Whether it is proved that no choice is better.
    pub proved: bool,
}

/// What an entry makes of a GPU.
#[derive(Debug)]
struct Aim<'a> {
    gpu: &'a ObservedGpu,
    /// The GPU's position on the node.
    at: usize,
    /// The class of an entry with `count`; `None`: an entry that claims this GPU.
    class: Option<usize>,
    goal: &'a Goal,
    /// The instances that it wants, and their compute instances in the order of the tree.
    wants: Vec<(Want, Vec<ComputeName>)>,
    warnings: Vec<String>,
    /// The best ways to it; at least one.
    ways: Vec<Best>,
    /// The GPU with nothing on it.
    empty: Option<Occupancy>,
}

/// Chooses for every GPU of the node, ascending by index.
pub fn choose<'a>(
    desired: &'a DesiredNode,
    node: &'a ObservedNode,
    court: &Court<'_>,
) -> (Vec<GpuTarget<'a>>, Vec<Block>, Bound) {
    let crowd = LazyCell::new(|| Crowd::of(desired, node, court));
    let mut classes = assignment::classes(&desired.shared);
    let mut misfits: BTreeMap<usize, Block> = BTreeMap::new();
    let mut targets: Vec<GpuTarget<'a>> = Vec::new();
    let mut aims: Vec<Vec<Aim<'a>>> = Vec::new();
    for (at, gpu) in node.gpus.iter().enumerate() {
        let mut target = GpuTarget { gpu, source: None, shadows: &[], chosen: None, blocks: Vec::new(), empty: None };
        let empty = LazyCell::new(|| gpu.geometry.as_deref().map(Occupancy::new));
        let mut fitting = Vec::new();
        let aim = |class, goal| Aim::at(gpu, at, class, goal, node.cluster.is_some(), &crowd, (*empty).clone());
        match desired.gpus.get(&gpu.uuid) {
            Some(own) if own.goal == Goal::HandsOff => {}
            Some(own) => {
                (target.source, target.shadows) = (Some(&own.source), &own.shadows);
                target.chosen = as_it_is(gpu, &own.goal);
                match target.chosen.is_none().then(|| aim(None, &own.goal)) {
                    Some(Ok(aim)) => fitting.push(aim),
                    Some(Err(block)) => target.blocks.push(*block),
                    None => {}
                }
            }
            None => {
                for (at, class) in classes.iter().enumerate().filter(|(_, c)| c.like.eligible.contains(&gpu.uuid)) {
                    match aim(Some(at), &class.like.goal) {
                        Ok(aim) => fitting.push(aim),
                        Err(block) => {
                            misfits.entry(at).or_insert(*block);
                        }
                    }
                }
            }
        }
        if !fitting.is_empty() {
            target.empty.clone_from(&empty);
        }
        targets.push(target);
        aims.push(fitting);
    }
    // On most nodes of a fleet there is nothing to choose.
    if classes.is_empty() && aims.iter().all(Vec::is_empty) {
        return (targets, Vec::new(), Bound { least: 0, proved: true });
    }
    let mut blocks = Vec::new();
    let mut assigned = assignment::assign(&classes, &menus(&aims), &crowd);
    if assigned.is_none() {
        // Then the GPUs that are left stay as they are.
        blocks = shortages(&desired.shared, &classes, &misfits);
        aims.iter_mut().for_each(|aims| aims.retain(|aim| aim.class.is_none()));
        classes.clear();
        assigned = assignment::assign(&classes, &menus(&aims), &crowd);
    }
    let Some(assigned) = assigned else { return (targets, blocks, Bound::default()) };
    for ((target, pick), aims) in targets.iter_mut().zip(&assigned.picks).zip(&aims) {
        let Some(pick) = pick else { continue };
        if let Some(entry) = pick.entry.and_then(|at| desired.shared.get(at)).filter(|e| e.goal != Goal::HandsOff) {
            target.source = Some(&entry.source);
        }
        let mut ways = aims.iter().flat_map(|aim| aim.ways.iter().map(move |way| (aim, way)));
        target.chosen = ways.nth(pick.offer).filter(|_| target.source.is_some()).map(|(aim, way)| aim.cut(way));
    }
    let bound = bound(&classes, aims, &assigned, &crowd);
    (targets, blocks, bound)
}

/// What a GPU becomes that is as an entry wants it: all stays. What differs in anything is looked at more closely.
fn as_it_is(gpu: &ObservedGpu, goal: &Goal) -> Option<Chosen> {
    let (mode, wanted) = match goal {
        Goal::HandsOff => return None,
        Goal::MigOff => (false, &[][..]),
        Goal::Instances(wanted) => (true, wanted.as_slice()),
    };
    let geometry = gpu.geometry.as_deref();
    if gpu.mig.current != mode || gpu.instances.len() != wanted.len() || (mode && geometry.is_none()) {
        return None;
    }
    let mut open: Vec<&Wanted> = wanted.iter().collect();
    for instance in &gpu.instances {
        let start = instance.placement.start;
        let meets = |want: &&Wanted| {
            let exact = geometry.and_then(|g| g.resolve(want.profile)).filter(|(_, bent)| !bent);
            want.compute.is_none()
                && want.start.is_none_or(|fixed| fixed == start)
                && exact.is_some_and(|(p, _)| p.name == instance.profile && p.starts.contains(&start))
        };
        open.swap_remove(open.iter().position(meets)?);
        match instance.compute.as_slice() {
            [only] if only.profile == ComputeName::filling(instance.profile) => {}
            _ => return None,
        }
    }
    let keep = (0..gpu.instances.len()).collect();
    Some(Chosen { mode, keep, destroy: Vec::new(), create: Vec::new(), warnings: Vec::new() })
}

fn menus(aims: &[Vec<Aim<'_>>]) -> Vec<Vec<Offer>> {
    let offers = |aim: &Aim<'_>| {
        let of = |way: &Best| Offer { class: aim.class, score: way.score, groups: way.groups };
        aim.ways.iter().map(of).collect::<Vec<_>>()
    };
    aims.iter().map(|aims| aims.iter().flat_map(offers).collect()).collect()
}

/// How good a choice is. What keeps most weight need not disturb fewest users where one holds several things: then it
/// is looked at again, with weight for those alone who may not be moved.
fn bound(classes: &[Class<'_>], mut aims: Vec<Vec<Aim<'_>>>, assigned: &Assigned, crowd: &Crowd) -> Bound {
    let disturbed = assigned.score.disturbed;
    if assigned.exact && !crowd.is_grouped() {
        return Bound { least: disturbed, proved: true };
    }
    let crowd = crowd.protected_only();
    aims.iter_mut().flatten().for_each(|aim| aim.ways = aim.find(&crowd));
    let menus = menus(&aims);
    let least = match assignment::assign(classes, &menus, &crowd) {
        Some(least) if least.exact => least.score.disturbed,
        // Those on several GPUs may be disturbed by any, and entries with `count` may take what is idle.
        _ => {
            let claimed = menus.iter().filter(|menu| menu.iter().any(|offer| offer.class.is_none()));
            let alone = claimed.filter_map(|menu| menu.iter().map(|offer| offer.score.disturbed).min());
            crowd.forced + if crowd.blurred { 0 } else { alone.sum() }
        }
    };
    Bound { least, proved: assigned.exact && least == disturbed }
}

impl<'a> Aim<'a> {
    /// What a goal means on a GPU, and the best ways to it.
    fn at(
        gpu: &'a ObservedGpu,
        at: usize,
        class: Option<usize>,
        goal: &'a Goal,
        in_cluster: bool,
        crowd: &Crowd,
        empty: Option<Occupancy>,
    ) -> Result<Self, Box<Block>> {
        let mut aim = Aim { gpu, at, class, goal, wants: Vec::new(), warnings: Vec::new(), ways: Vec::new(), empty };
        let Goal::Instances(wanted) = goal else {
            aim.ways = aim.find(crowd);
            return Ok(aim);
        };
        let geometry = geometry(gpu)?;
        aim.wants = wants(gpu, geometry, wanted, in_cluster, &mut aim.warnings)?;
        aim.ways = aim.find(crowd);
        if aim.ways.is_empty() {
            let plain: Vec<Want> = aim.wants.iter().map(|(want, _)| want.clone()).collect();
            let misfit = misfit::explain(geometry, &plain);
            let (message, hint) = misfit.sentences(&gpu.model, wanted);
            return Err(block(gpu, BlockCode::DoesNotFit, message, hint));
        }
        Ok(aim)
    }

    /// The best ways to the goal.
    fn find(&self, crowd: &Crowd) -> Vec<Best> {
        let Aim { gpu, at, goal, wants, .. } = self;
        let whole = crowd.whole(*at);
        let switched = gpu.mig.current != matches!(goal, Goal::Instances(_));
        let mode = Score { created: if switched { cost::MODE_CHANGE } else { 0 }, ..Score::default() };
        let mut ways = match goal {
            Goal::HandsOff => return vec![Best::default()],
            Goal::MigOff => {
                let instances = (0..gpu.instances.len()).map(|i| crowd.instance(*at, i));
                vec![placement::nothing(instances.chain(switched.then_some(whole)), crowd)]
            }
            Goal::Instances(_) => {
                let Some((geometry, empty)) = gpu.geometry.as_ref().zip(self.empty.as_ref()) else { return Vec::new() };
                let plain: Vec<Want> = wants.iter().map(|(want, _)| want.clone()).collect();
                let instances = gpu.instances.iter().enumerate();
                let haves: Vec<Have> = instances.map(|(i, x)| have(geometry, x, crowd.instance(*at, i))).collect();
                let recorded: Vec<(usize, u32)> =
                    gpu.recorded.iter().filter_map(|r| Some((index(geometry, r.profile)?, r.start))).collect();
                let scene = Scene { empty, haves: &haves, recorded: &recorded, whole, switched, crowd };
                placement::options(geometry, &plain, &scene)
            }
        };
        ways.iter_mut().for_each(|way| way.score = way.score + mode);
        ways
    }

    /// What a GPU becomes that way.
    fn cut(&self, way: &Best) -> Chosen {
        let gpu = self.gpu;
        let geometry = gpu.geometry.as_ref();
        let destroy = (0..gpu.instances.len()).filter(|i| !way.kept.contains(i)).collect();
        let stays = |slot: &SlotRef| {
            let mut kept = way.kept.iter().filter_map(|&k| gpu.instances.get(k));
            kept.any(|i| (i.profile, i.placement) == (slot.profile, slot.placement))
        };
        let new = |((want, compute), &start): (&(Want, Vec<ComputeName>), &u32)| {
            let profile = geometry?.profiles.get(want.profile)?;
            let placement = Placement { start, size: profile.size };
            let slot = SlotRef { gpu: gpu.uuid.clone(), profile: profile.name, placement };
            (!stays(&slot)).then(|| New { slot, compute: compute.clone() })
        };
        let mut create: Vec<New> = self.wants.iter().zip(&way.starts).filter_map(new).collect();
        create.sort_by_key(|new| new.slot.placement);
        let mode = matches!(self.goal, Goal::Instances(_));
        Chosen { mode, keep: way.kept.clone(), destroy, create, warnings: self.warnings.clone() }
    }
}

fn block(gpu: &ObservedGpu, code: BlockCode, message: String, hint: String) -> Box<Block> {
    Box::new(Block { code, message, object: name(gpu), hint })
}

fn geometry(gpu: &ObservedGpu) -> Result<&Geometry, Box<Block>> {
    if !gpu.mig.capable {
        let message = format!("{} has no MIG", gpu.model);
        return Err(block(gpu, BlockCode::NotCapable, message, "take this GPU out of the layout".to_owned()));
    }
    gpu.geometry.as_deref().ok_or_else(|| {
        let message = format!("neither the driver nor the catalogue tells what {} can be cut into", gpu.model);
        let hint = "the driver tells once MIG mode is on: `nvidia-smi -i INDEX -mig 1`".to_owned();
        block(gpu, BlockCode::UnknownGeometry, message, hint)
    })
}

/// The index of the profile that a name means on a board.
fn index(geometry: &Geometry, name: ProfileName) -> Option<usize> {
    let (profile, _) = geometry.resolve(name)?;
    geometry.profiles.iter().position(|p| p.id == profile.id)
}

fn have(geometry: &Geometry, instance: &GpuInstance, load: Load) -> Have {
    // An instance whose profile the geometry lacks matches no want, so it is never kept.
    let profile = geometry.profiles.iter().position(|p| p.name == instance.profile).unwrap_or(usize::MAX);
    let mut compute: Vec<ComputeName> = instance.compute.iter().map(|c| c.profile).collect();
    compute.sort();
    Have { profile, start: instance.placement.start, compute, load }
}

/// Resolves names against what the board offers.
fn wants(
    gpu: &ObservedGpu,
    geometry: &Geometry,
    wanted: &[Wanted],
    in_cluster: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<(Want, Vec<ComputeName>)>, Box<Block>> {
    let mut all = Vec::new();
    for want in wanted {
        let block = |code, message, hint| block(gpu, code, message, hint);
        let Some((profile, bent)) = geometry.resolve(want.profile) else {
            let offers: Vec<String> = geometry.offers().iter().map(ToString::to_string).collect();
            let message = format!("{} offers no {}", gpu.model, want.profile);
            return Err(block(BlockCode::UnknownProfile, message, format!("it offers {}", offers.join(", "))));
        };
        if bent {
            warnings.push(format!("{}: this driver calls {} {}", name(gpu), want.profile, profile.name));
        }
        if let Some(start) = want.start.filter(|start| !profile.starts.contains(start)) {
            let starts: Vec<String> = profile.starts.iter().map(ToString::to_string).collect();
            let message = format!("{} can't start at {start} on {}", profile.name, gpu.model);
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

/// Why entries can't have as many GPUs as they want: what does not fit where it could lie, else too few GPUs for all.
fn shortages(shared: &[SharedGoal], classes: &[Class<'_>], misfits: &BTreeMap<usize, Block>) -> Vec<Block> {
    let misfit = |entry: &SharedGoal| {
        let class = classes.iter().position(|c| c.like.goal == entry.goal && c.like.eligible == entry.eligible);
        class.and_then(|at| misfits.get(&at)).cloned()
    };
    let too_few = |entry: &SharedGoal| Block {
        code: BlockCode::TooFewGpus,
        message: format!("it wants {}, and too few GPUs are left for all entries with `count`", entry.count),
        object: entry.source.to_string(),
        hint: "lower its count, or take GPUs out of other entries".to_owned(),
    };
    let mut blocks: Vec<Block> = shared.iter().filter_map(misfit).collect();
    if blocks.is_empty() {
        blocks = shared.iter().map(too_few).collect();
    }
    // Equal entries don't fit for one reason.
    blocks.dedup();
    blocks
}

/// How messages name a GPU.
pub fn name(gpu: &ObservedGpu) -> String {
    format!("GPU {} {}", gpu.index, gpu.uuid)
}
