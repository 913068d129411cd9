//! The whole key by brute force, written from the manual: every layout of every GPU, every assignment, no pruning, and
//! nothing of the planner's.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use sectile::model::{ComputeName, Geometry, GpuProfile, ProfileName};

/// An instance: profile, start, compute instances in order.
pub(crate) type Instance = (ProfileName, u32, Vec<ComputeName>);

/// Who is on something; `None`: nobody could see.
pub(crate) type Users = Option<BTreeSet<String>>;

/// A wanted instance: profile as the board names it, a fixed start, compute instances in order.
pub(crate) type Wish = (ProfileName, Option<u32>, Vec<ComputeName>);

/// What an entry makes of a GPU.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Aim {
    Off,
    Cut(Vec<Wish>),
}

/// A GPU as it is, and what may be made of it.
#[derive(Clone, Debug)]
pub(crate) struct Gpu {
    pub(crate) geometry: Geometry,
    pub(crate) mode: bool,
    pub(crate) there: Vec<(Instance, Users)>,
    pub(crate) whole: Users,
    pub(crate) recorded: BTreeSet<(ProfileName, u32)>,
    /// What the entry that claims it says; `None`: none does, or hands off.
    pub(crate) own: Option<Aim>,
    /// What each entry with `count` makes of it, for which it is eligible.
    pub(crate) shared: BTreeMap<usize, Aim>,
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) gpus: Vec<Gpu>,
    /// How many GPUs each entry with `count` wants.
    pub(crate) counts: Vec<usize>,
    /// Who may not be moved.
    pub(crate) refused: BTreeSet<String>,
    /// Who is moved whatever becomes of the GPUs.
    pub(crate) forced: BTreeSet<String>,
}

/// Smaller is better: lost weight, disturbed, created, back where recorded, room, ranks, places.
pub(crate) type Key = (u64, usize, u64, Reverse<usize>, Reverse<u32>, Vec<usize>, Vec<Vec<(Reverse<u32>, usize, u32)>>);

/// By GPU, what it becomes: the entry, the MIG mode, the instances.
pub(crate) type Given = Vec<Option<(Option<usize>, bool, Vec<Instance>)>>;

/// The best choice.
#[derive(Clone, Debug)]
pub(crate) struct Best {
    pub(crate) key: Key,
    /// By GPU: the entry with `count`, and the layout; `None`: left as it is.
    pub(crate) gpus: Given,
    /// The fewest that any choice disturbs which spares as many who may not be moved.
    pub(crate) fewest: usize,
}

/// Whether a set lies on a board.
pub(crate) fn legal(geometry: &Geometry, set: &[(&GpuProfile, u32)]) -> bool {
    let mut slices = vec![0; 64];
    for (p, start) in set {
        if !p.starts.contains(start) {
            return false;
        }
        (*start..start + p.size).for_each(|slice| slices[slice as usize] += 1);
    }
    let media = (0..4).all(|kind| {
        let used: u32 = set.iter().map(|(p, _)| p.engines.media()[kind].unwrap_or(0)).sum();
        geometry.media[kind].is_none_or(|total| used <= total)
    });
    let few = |p: &GpuProfile| set.iter().filter(|(q, _)| q.id == p.id).count() <= p.max_instances as usize;
    slices.iter().all(|n| *n < 2)
        && set.iter().map(|(p, _)| p.slices).sum::<u32>() <= geometry.slices
        && media
        && set.iter().all(|(p, _)| few(p))
}

/// The sum over the profiles of how many more fit, each alone: the free column of `nvidia-smi mig -lgip`.
pub(crate) fn room(geometry: &Geometry, set: &[(&GpuProfile, u32)]) -> u32 {
    let free = geometry.profiles.iter().map(|p| {
        let mut grown = set.to_vec();
        for &start in &p.starts {
            grown.push((p, start));
            if !legal(geometry, &grown) {
                grown.pop();
            }
        }
        (grown.len() - set.len()) as u32
    });
    free.sum()
}

/// Every layout of a list of wishes: a start for each.
fn layouts(geometry: &Geometry, wishes: &[Wish]) -> Vec<Vec<u32>> {
    fn grow<'g>(geometry: &'g Geometry, rest: &[Wish], set: &mut Vec<(&'g GpuProfile, u32)>, all: &mut Vec<Vec<u32>>) {
        let Some(((name, fixed, _), rest)) = rest.split_first() else {
            all.push(set.iter().map(|(_, start)| *start).collect());
            return;
        };
        let p = geometry.named(*name).unwrap();
        for &start in p.starts.iter().filter(|start| fixed.is_none_or(|fixed| fixed == **start)) {
            set.push((p, start));
            if legal(geometry, set) {
                grow(geometry, rest, set, all);
            }
            set.pop();
        }
    }
    let mut all = Vec::new();
    grow(geometry, wishes, &mut Vec::new(), &mut all);
    all
}

/// What one GPU adds to a key, and who is disturbed.
#[derive(Clone, Debug)]
struct Way {
    disturbed: BTreeSet<String>,
    lost: u64,
    refused: u64,
    created: u64,
    returned: usize,
    room: u32,
    places: Vec<(Reverse<u32>, usize, u32)>,
    then: (bool, Vec<Instance>),
}

impl Node {
    fn weight(&self, user: &str) -> u64 {
        match (self.forced.contains(user), self.refused.contains(user)) {
            (true, _) => 0,
            (false, true) => 100_000_000,
            (false, false) => 10_000,
        }
    }

    /// Everything that a GPU can become for an entry.
    fn ways(&self, at: usize, aim: &Aim) -> Vec<Way> {
        let gpu = &self.gpus[at];
        let wishes = match aim {
            Aim::Off => return vec![self.way(at, false, Vec::new())],
            Aim::Cut(wishes) => wishes,
        };
        let of = |starts: Vec<u32>| {
            let then = wishes.iter().zip(starts).map(|((name, _, compute), start)| (*name, start, compute.clone()));
            self.way(at, true, then.collect())
        };
        layouts(&gpu.geometry, wishes).into_iter().map(of).collect()
    }

    fn way(&self, at: usize, mode: bool, mut then: Vec<Instance>) -> Way {
        let gpu = &self.gpus[at];
        then.sort();
        let (mut lost, mut refused, mut disturbed) = (0, 0, BTreeSet::new());
        let mut lose = |users: &Users, name: String| match users {
            None => {
                lost += 100_000_000;
                refused += 1;
                disturbed.insert(name);
            }
            Some(users) => {
                lost += users.iter().map(|user| self.weight(user)).sum::<u64>();
                refused += users.iter().filter(|user| self.weight(user) > 10_000).count() as u64;
                disturbed.extend(users.iter().cloned());
            }
        };
        let mut gone = 0;
        for (instance, users) in gpu.there.iter().filter(|(instance, _)| !then.contains(instance)) {
            lose(users, format!("somebody on {at} at {}", instance.1));
            gone += 1;
        }
        let kept = gpu.there.len() - gone;
        if mode != gpu.mode || kept == 0 && !then.is_empty() {
            lose(&gpu.whole, format!("somebody on {at}"));
        }
        lost += gone as u64;
        let new = |i: &&Instance| !gpu.there.iter().any(|(there, _)| there == *i);
        let index = |name: ProfileName| gpu.geometry.profiles.iter().position(|p| p.name == name).unwrap();
        let set: Vec<_> = then.iter().map(|(name, start, _)| (gpu.geometry.named(*name).unwrap(), *start)).collect();
        // The places of the largest first; of one profile in the order of compute instances, then of starts.
        let mut order: Vec<&Instance> = then.iter().collect();
        order.sort_by_key(|(name, start, compute)| {
            (Reverse(gpu.geometry.named(*name).unwrap().size), index(*name), compute.clone(), *start)
        });
        let place = |i: &&Instance| (Reverse(gpu.geometry.named(i.0).unwrap().size), index(i.0), i.1);
        Way {
            disturbed,
            lost,
            refused,
            created: (then.len() - kept) as u64 + if mode == gpu.mode { 0 } else { 10 },
            returned: then
                .iter()
                .filter(new)
                .filter(|(name, start, _)| gpu.recorded.contains(&(*name, *start)))
                .count(),
            room: if mode { room(&gpu.geometry, &set) } else { 0 },
            places: order.iter().map(place).collect(),
            then: (mode, then),
        }
    }

    /// The best choice of all; `None`: the entries with `count` can't be met.
    pub(crate) fn best(&self) -> Option<Best> {
        let mut search =
            Search { node: self, counts: self.counts.clone(), chosen: Vec::new(), best: None, fewest: None };
        let mut menus: Vec<Vec<(Option<usize>, Way)>> = Vec::new();
        for (at, gpu) in self.gpus.iter().enumerate() {
            let own = gpu.own.iter().map(|aim| (None, aim));
            let shared = gpu.shared.iter().map(|(entry, aim)| (Some(*entry), aim));
            let all = own.chain(shared).flat_map(|(entry, aim)| {
                // Of the ways that disturb the same users for the same entry, no worse one than the best alone can win.
                let mut best: BTreeMap<BTreeSet<String>, Way> = BTreeMap::new();
                for way in self.ways(at, aim) {
                    let key = |w: &Way| (w.lost, w.created, Reverse(w.returned), Reverse(w.room), w.places.clone());
                    if best.get(&way.disturbed).is_none_or(|other| key(&way) < key(other)) {
                        best.insert(way.disturbed.clone(), way);
                    }
                }
                best.into_values().map(move |way| (entry, way)).collect::<Vec<_>>()
            });
            menus.push(all.collect());
        }
        search.descend(&menus);
        let fewest = search.fewest?.1;
        search.best.map(|(key, gpus)| Best { key, gpus, fewest })
    }
}

struct Search<'a> {
    node: &'a Node,
    counts: Vec<usize>,
    chosen: Vec<Option<(Option<usize>, &'a Way)>>,
    best: Option<(Key, Given)>,
    fewest: Option<(u64, usize)>,
}

impl<'a> Search<'a> {
    fn descend(&mut self, menus: &'a [Vec<(Option<usize>, Way)>]) {
        let Some(menu) = menus.get(self.chosen.len()) else { return self.score() };
        for (entry, way) in menu {
            if let Some(entry) = entry {
                if self.counts[*entry] == 0 {
                    continue;
                }
                self.counts[*entry] -= 1;
            }
            self.chosen.push(Some((*entry, way)));
            self.descend(menus);
            self.chosen.pop();
            if let Some(entry) = entry {
                self.counts[*entry] += 1;
            }
        }
        // A GPU that an entry claims becomes what it says, if it can.
        if menu.iter().all(|(entry, _)| entry.is_some()) {
            self.chosen.push(None);
            self.descend(menus);
            self.chosen.pop();
        }
    }

    fn score(&mut self) {
        if self.counts.iter().any(|n| *n > 0) {
            return;
        }
        let ways = || self.chosen.iter().flatten().map(|(_, way)| *way);
        let mut disturbed = self.node.forced.clone();
        ways().for_each(|way| disturbed.extend(way.disturbed.iter().cloned()));
        let rank = |way: &Option<(Option<usize>, &Way)>| way.map_or(usize::MAX, |(entry, _)| entry.unwrap_or(0));
        let key: Key = (
            ways().map(|w| w.lost).sum(),
            disturbed.len(),
            ways().map(|w| w.created).sum(),
            Reverse(ways().map(|w| w.returned).sum()),
            Reverse(ways().map(|w| w.room).sum()),
            self.chosen.iter().map(rank).collect(),
            self.chosen.iter().map(|way| way.map(|(_, w)| w.places.clone()).unwrap_or_default()).collect(),
        );
        let spared = (ways().map(|w| w.refused).sum(), disturbed.len());
        if self.fewest.is_none_or(|fewest| spared < fewest) {
            self.fewest = Some(spared);
        }
        if self.best.as_ref().is_none_or(|(best, _)| key < *best) {
            let given = self.chosen.iter().map(|way| way.map(|(entry, w)| (entry, w.then.0, w.then.1.clone())));
            self.best = Some((key, given.collect()));
        }
    }
}
