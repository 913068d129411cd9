//! Lays a node's steps in an order that is legal at every prefix.
//!
//! First what disturbs nobody: creations that have room, idle instances that go. Then rounds: in each, as many users
//! move as the budgets and the free places allow; taint, evict, wait until gone, pause the clients, destroy, create,
//! resume, untaint, wait until ready. What a round creates or frees is room for the next (make before break); a user
//! moves only when a place for it is there, or is made by the same round.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::observed::{MigStrategy, Observed, ObservedNode, User};
use crate::model::plan::SlotRef;

use super::movers::{Mover, slot};
use super::single::{self, Progress};
use super::target::GpuTarget;

/// Free instances of the cluster that are not promised yet.
#[derive(Debug, Default)]
pub struct Promises<'a> {
    nodes: BTreeMap<&'a str, Room<'a>>,
    /// The nodes that bear the labels which somebody asked for.
    bearers: BTreeMap<BTreeMap<String, String>, Vec<&'a str>>,
    /// What was promised and withdrawn so far.
    taken: Vec<Taken<'a>>,
}

/// What is free on a node.
#[derive(Debug, Default)]
struct Room<'a> {
    /// By resource.
    free: BTreeMap<&'a str, u32>,
    /// What was promised to pods of other nodes, by resource.
    given: BTreeMap<String, u32>,
    /// Its labels, where they are known.
    labels: Option<&'a BTreeMap<String, String>>,
}

/// So many of a resource that are no longer free on a node, whether given to a pod of another one or just gone.
#[derive(Debug)]
struct Taken<'a> {
    node: &'a str,
    resource: String,
    n: u32,
    given: bool,
}

impl<'a> Promises<'a> {
    /// What the cluster reports as free.
    pub fn new(observed: &'a Observed) -> Self {
        let room = |(name, free): (&'a String, &'a BTreeMap<String, u32>)| {
            let free = free.iter().map(|(resource, n)| (resource.as_str(), *n)).collect();
            let labels = observed.nodes.get(name).and_then(|node| node.labels.known());
            (name.as_str(), Room { free, given: BTreeMap::new(), labels })
        };
        Promises { nodes: observed.cluster.free.iter().map(room).collect(), ..Promises::default() }
    }

    /// How it stands now, for [`Promises::take_back`].
    pub fn mark(&self) -> usize {
        self.taken.len()
    }

    /// Takes back what was promised and withdrawn since then.
    pub fn take_back(&mut self, mark: usize) {
        for Taken { node, resource, n, given } in self.taken.drain(mark.min(self.taken.len())..) {
            let Some(room) = self.nodes.get_mut(node) else { continue };
            if let Some(free) = room.free.get_mut(resource.as_str()) {
                *free += n;
            }
            if let Some(promised) = room.given.get_mut(&resource).filter(|_| given) {
                *promised -= n;
            }
        }
    }

    /// Takes back what a node's own plan destroys, so that nobody counts on it.
    pub fn withdraw(&mut self, node: &str, resource: &str) {
        let Some((&node, room)) = self.nodes.get_key_value(node) else { return };
        if room.free.get(resource).is_some_and(|&free| free > 0) {
            self.take(node, resource, 1, false);
        }
    }

    fn take(&mut self, node: &'a str, resource: &str, n: u32, given: bool) {
        let Some(room) = self.nodes.get_mut(node) else { return };
        if let Some(free) = room.free.get_mut(resource) {
            *free -= n;
        }
        if given {
            *room.given.entry(resource.to_owned()).or_default() += n;
        }
        self.taken.push(Taken { node, resource: resource.to_owned(), n, given });
    }

    /// Whether anything of a node was promised to pods of other nodes.
    pub fn concern(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|room| !room.given.is_empty())
    }

    /// Promises a pod places on one other node that bears the labels and that it may run on; its name.
    fn promise(&mut self, but: &str, mover: &Mover) -> Option<String> {
        let Mover { needs, selector, barred, .. } = mover;
        if !self.bearers.contains_key(selector) {
            let bears = |room: &Room<'_>, key, value| room.labels.and_then(|labels| labels.get(key)) == Some(value);
            let all = self.nodes.iter().filter(|(_, room)| selector.iter().all(|(key, value)| bears(room, key, value)));
            self.bearers.insert(selector.clone(), all.map(|(name, _)| *name).collect());
        }
        let fits = |name: &&&'a str| {
            let free = self.nodes.get(*name).map(|room| &room.free);
            let holds = |(resource, n): (&String, &u32)| free.and_then(|f| f.get(resource.as_str())) >= Some(n);
            let may = **name != but && !barred.contains(**name);
            may && !needs.is_empty() && needs.iter().all(holds)
        };
        let name = *self.bearers.get(selector)?.iter().find(fits)?;
        for (resource, n) in needs {
            self.take(name, resource, *n, true);
        }
        Some(name.to_owned())
    }
}

/// Where a mover goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// To instances of this node.
    Here(Vec<SlotRef>),
    /// To another node.
    Elsewhere(String),
    /// Nowhere: it ends.
    Ends,
}

/// What one round does, as indices into the targets and the movers.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Who moves, and where to.
    pub moves: Vec<(usize, Place)>,
    /// Instances destroyed: GPU and instance.
    pub destroys: Vec<(usize, usize)>,
    /// GPUs whose mode changes.
    pub modes: Vec<usize>,
    /// GPUs whose mode is right, and only pending otherwise: that is taken back, which disturbs nobody.
    pub settles: Vec<usize>,
    /// Instances created: GPU and index into its `create`.
    pub creates: Vec<(usize, usize)>,
}

/// The rounds of a node. Round 0 disturbs nobody.
#[derive(Debug, Default)]
pub struct Laid {
    /// In order.
    pub rounds: Vec<Round>,
    /// Movers for whom no round has a place.
    pub stranded: Vec<usize>,
    /// Movers whom the budgets keep from leaving together with all others, as they would have to.
    pub crowded: Vec<usize>,
    /// Slots that are free at the end and promised to nobody.
    pub free: Vec<SlotRef>,
}

#[derive(Clone)]
struct State<'a> {
    node: &'a ObservedNode,
    targets: &'a [GpuTarget<'a>],
    movers: &'a [Mover],
    /// GPUs that may change at all.
    active: &'a BTreeSet<usize>,
    so_far: Progress,
    gone: BTreeSet<usize>,
    free: Vec<SlotRef>,
}

/// What the rounds must keep to.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Movers that may move now, in order; with none, only round 0 is laid.
    pub movable: &'a [usize],
    /// GPUs that may change at all.
    pub active: &'a BTreeSet<usize>,
    /// Evictions that each disruption budget allows at once.
    pub allowed: &'a BTreeMap<String, u32>,
    /// Pods down at once.
    pub max_pods: Option<u32>,
    /// Whether anybody may need a place: who moves, or is bound and stopped.
    pub places: bool,
}

/// Lays the rounds. Where the clients would not start between them, all is done in one.
pub fn lay<'a>(
    node: &'a ObservedNode,
    targets: &'a [GpuTarget<'a>],
    movers: &'a [Mover],
    terms: &Terms<'a>,
    promises: &mut Promises,
) -> Laid {
    let mut state = State {
        node,
        targets,
        movers,
        active: terms.active,
        so_far: Progress::default(),
        gone: BTreeSet::new(),
        free: if terms.places { free(targets) } else { Vec::new() },
    };
    state.spare(promises);
    let mark = promises.mark();
    state.clone().by_rounds(terms, promises).unwrap_or_else(|| {
        promises.take_back(mark);
        let free = state.free.clone();
        let laid = state.at_once(terms, promises);
        if !laid.rounds.is_empty() {
            return laid;
        }
        promises.take_back(mark);
        Laid { rounds: vec![Round::default()], free, ..laid }
    })
}

/// The first movers in order that the budgets allow at once.
fn within_budgets(movers: &[Mover], left: &[usize], terms: &Terms<'_>) -> Vec<usize> {
    let mut allowed = terms.allowed.clone();
    let mut pods = terms.max_pods.unwrap_or(u32::MAX);
    let mut chosen = Vec::new();
    for &m in left {
        let Some(mover) = movers.get(m) else { continue };
        let is_pod = matches!(mover.user, User::Pod { .. });
        let open = mover.budgets.iter().all(|b| allowed.get(b).is_none_or(|&n| n > 0));
        if !open || (is_pod && pods == 0) {
            continue;
        }
        for budget in &mover.budgets {
            if let Some(n) = allowed.get_mut(budget) {
                *n -= 1;
            }
        }
        pods -= u32::from(is_pod);
        chosen.push(m);
    }
    chosen
}

/// Instances that stay and that nobody uses.
fn free(targets: &[GpuTarget<'_>]) -> Vec<SlotRef> {
    let of = |target: &GpuTarget<'_>| {
        let doomed = |i: &usize| target.chosen.as_ref().is_some_and(|c| c.destroy.contains(i));
        let stays = target.gpu.instances.iter().enumerate().filter(|(i, _)| !doomed(i)).map(|(_, instance)| instance);
        let free = stays.filter(|instance| !instance.in_use() && !instance.compute.is_empty());
        free.map(|instance| slot(&target.gpu.uuid, instance)).collect::<Vec<_>>()
    };
    targets.iter().flat_map(of).collect()
}

impl State<'_> {
    /// First what disturbs nobody, then as many at a time as may move; `None`: the clients would not start in between.
    fn by_rounds(mut self, terms: &Terms<'_>, promises: &mut Promises) -> Option<Laid> {
        let mut laid = Laid { rounds: vec![self.undisruptive()], ..Laid::default() };
        self.starts(laid.rounds.first())?;
        let mut left: Vec<usize> = terms.movable.to_vec();
        while !left.is_empty() {
            let mut chosen = within_budgets(self.movers, &left, terms);
            let round = loop {
                match self.round(&chosen, false, promises) {
                    Ok(round) => break round,
                    // Nobody has a place for this one in this round; perhaps a later one has.
                    Err(at) => {
                        chosen.remove(at);
                    }
                }
            };
            if chosen.is_empty() {
                laid.stranded = left;
                break;
            }
            left.retain(|m| !chosen.contains(m));
            self.commit(&round);
            self.starts(Some(&round))?;
            laid.rounds.push(round);
        }
        laid.free = self.free;
        Some(laid)
    }

    /// Everything in one round, or nothing at all: no rounds then, and who it is for whom there is no place or whom the
    /// budgets keep from leaving together with all others.
    fn at_once(mut self, terms: &Terms<'_>, promises: &mut Promises) -> Laid {
        let mut laid = Laid::default();
        let mut chosen = within_budgets(self.movers, terms.movable, terms);
        laid.crowded = terms.movable.iter().filter(|m| !chosen.contains(m)).copied().collect();
        let stays = |(m, mover): (usize, &Mover)| !mover.gpus.is_disjoint(self.active) && !terms.movable.contains(&m);
        if !laid.crowded.is_empty() || self.movers.iter().enumerate().any(stays) {
            return laid;
        }
        let round = loop {
            match self.round(&chosen, true, promises) {
                Ok(round) => break round,
                Err(at) => laid.stranded.push(chosen.remove(at)),
            }
        };
        self.commit(&round);
        if !laid.stranded.is_empty() || self.starts(Some(&round)).is_none() {
            return laid;
        }
        let settles = self.active.iter().copied().filter(|&g| self.settles(g)).collect();
        // The first round disturbs nobody.
        laid.rounds = match chosen.is_empty() {
            true => vec![Round { settles, ..round }],
            false => vec![Round { settles, ..Round::default() }, round],
        };
        laid.free = self.free;
        laid
    }

    /// `None`: the clients, which are restarted behind the round, would not start with what is there then.
    fn starts(&self, round: Option<&Round>) -> Option<()> {
        let restarts = |r: &Round| [r.moves.len(), r.destroys.len(), r.modes.len(), r.creates.len()] != [0; 4];
        let fails = || single::refusal(self.node, self.targets, &self.so_far).is_some();
        (!round.is_some_and(restarts) || !fails()).then_some(())
    }

    /// Whether a GPU's mode is right, and only pending otherwise.
    fn settles(&self, g: usize) -> bool {
        let settles = |t: &GpuTarget<'_>| {
            let mode = t.gpu.mig;
            t.chosen.as_ref().is_some_and(|c| c.mode == mode.current && mode.pending != mode.current)
        };
        self.targets.get(g).is_some_and(settles)
    }

    /// A GPU's mode by now.
    fn mode(&self, g: usize) -> bool {
        self.targets.get(g).is_some_and(|target| match &target.chosen {
            Some(chosen) if self.so_far.switched.contains(&g) => chosen.mode,
            _ => target.gpu.mig.current,
        })
    }

    /// Leaves free what was promised to pods of other nodes.
    fn spare(&mut self, promises: &Promises) {
        let Some(mut given) = promises.nodes.get(self.node.name.as_str()).map(|room| room.given.clone()) else {
            return;
        };
        if given.is_empty() {
            return;
        }
        let resource = |slot: &SlotRef| self.node.strategy().resource(slot.profile);
        self.free.retain(|slot| match resource(slot).and_then(|resource| given.get_mut(&resource)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        });
    }

    /// Whether nobody who must move is left on the instance once `leaving` are gone.
    fn vacated(&self, at: (usize, usize), leaving: &[usize]) -> bool {
        let on_it = |m: &usize| self.movers.get(*m).is_some_and(|mover| mover.loses.contains(&at));
        (0..self.movers.len()).filter(on_it).all(|m| self.gone.contains(&m) || leaving.contains(&m))
    }

    /// Whether nobody uses the GPU as a whole once `leaving` are gone.
    fn gpu_idle(&self, g: usize, leaving: &[usize]) -> bool {
        let on_it = |m: &usize| self.movers.get(*m).is_some_and(|mover| mover.gpus.contains(&g));
        (0..self.movers.len()).filter(on_it).all(|m| self.gone.contains(&m) || leaving.contains(&m))
    }

    /// Whether somebody who is not gone uses the GPU as a whole, or nobody knows.
    fn whole_gpu_used(&self, g: usize) -> bool {
        let gone = |user: &User| self.gone.iter().filter_map(|&m| self.movers.get(m)).any(|mover| mover.user == *user);
        let users = self.targets.get(g).and_then(|t| t.gpu.users.known());
        users.is_none_or(|users| !users.iter().all(gone))
    }

    fn doomed(&self, g: usize) -> Vec<(usize, usize)> {
        let chosen = self.targets.get(g).and_then(|t| t.chosen.as_ref());
        let all = chosen.map(|c| c.destroy.as_slice()).unwrap_or_default();
        all.iter().map(|&i| (g, i)).filter(|at| !self.so_far.destroyed.contains(at)).collect()
    }

    /// Creations of a GPU that fit once `removed` are gone, its mode being `mode`.
    fn creatable(&self, g: usize, removed: &BTreeSet<(usize, usize)>, mode: bool) -> Vec<(usize, usize)> {
        let Some(target) = self.targets.get(g) else { return Vec::new() };
        let (Some(chosen), Some(geometry)) = (&target.chosen, &target.gpu.geometry) else { return Vec::new() };
        // On most GPUs of a fleet nothing is created.
        if !mode || chosen.create.is_empty() {
            return Vec::new();
        }
        let index = |profile| geometry.profiles.iter().position(|p| p.name == profile);
        let Some(mut occupancy) = target.empty.clone() else { return Vec::new() };
        for (i, instance) in target.gpu.instances.iter().enumerate() {
            if !self.so_far.destroyed.contains(&(g, i)) && !removed.contains(&(g, i)) {
                // What the geometry does not know still occupies its slices, so nothing is created on such a GPU.
                let Some(profile) = index(instance.profile) else { return Vec::new() };
                occupancy.put(profile, instance.placement.start);
            }
        }
        let place = |new: &super::target::New| Some((index(new.slot.profile)?, new.slot.placement.start));
        for (c, new) in chosen.create.iter().enumerate() {
            if let (true, Some((profile, start))) = (self.so_far.made.contains(&(g, c)), place(new)) {
                occupancy.put(profile, start);
            }
        }
        let mut fit = Vec::new();
        for (c, new) in chosen.create.iter().enumerate() {
            let Some((profile, start)) = place(new) else { continue };
            if !self.so_far.made.contains(&(g, c)) && occupancy.admits(profile, start) {
                occupancy.put(profile, start);
                fit.push((g, c));
            }
        }
        fit
    }

    /// Whether a GPU's mode must change, and may as far as its instances and users are concerned.
    fn mode_due(&self, g: usize, removed: &BTreeSet<(usize, usize)>, leaving: &[usize]) -> bool {
        let Some(target) = self.targets.get(g) else { return false };
        let Some(chosen) = &target.chosen else { return false };
        let goes = |i| self.so_far.destroyed.contains(&(g, i)) || removed.contains(&(g, i));
        self.mode(g) != chosen.mode && (0..target.gpu.instances.len()).all(goes) && self.gpu_idle(g, leaving)
    }

    /// Round 0: what disturbs nobody. On a GPU where somebody must still move, an idle instance goes now only where
    /// that makes room for a wanted one.
    fn undisruptive(&mut self) -> Round {
        let mut round = Round::default();
        for &g in self.active {
            let idle: BTreeSet<_> = self.doomed(g).into_iter().filter(|&at| self.vacated(at, &[])).collect();
            let mode = self.mode(g);
            let crowded = !self.gpu_idle(g, &[]);
            // The first instance of a GPU can't be made beside somebody who uses the whole of it.
            let first = self.targets.get(g).and_then(|t| t.chosen.as_ref()).is_some_and(|c| c.makes_first());
            let barred = first && self.whole_gpu_used(g);
            let (mut removed, mut creates) = (idle, None);
            if crowded {
                let none = BTreeSet::new();
                let (beside, instead) = match barred {
                    true => (Vec::new(), Vec::new()),
                    false => (self.creatable(g, &none, mode), self.creatable(g, &removed, mode)),
                };
                let gains = instead.len() > beside.len();
                creates = Some(if gains { instead } else { beside });
                removed = if gains { removed } else { none };
            }
            let switch = self.mode_due(g, &removed, &[]);
            let then =
                if switch { self.targets.get(g).and_then(|t| t.chosen.as_ref()).is_some_and(|c| c.mode) } else { mode };
            if !barred {
                let creates = creates.filter(|_| then == mode);
                round.creates.extend(creates.unwrap_or_else(|| self.creatable(g, &removed, then)));
            }
            round.destroys.extend(removed);
            if switch {
                round.modes.push(g);
            }
            if self.settles(g) {
                round.settles.push(g);
            }
        }
        self.commit(&round);
        round
    }

    /// A round in which `chosen` move (on all GPUs, or only where somebody moves), or the position in `chosen` of one for whom there is no place.
    fn round(&self, chosen: &[usize], all: bool, promises: &mut Promises) -> Result<Round, usize> {
        let (node, strategy) = (self.node.name.as_str(), self.node.strategy());
        let mut round = Round::default();
        for &g in self.active {
            let removed: BTreeSet<_> = self.doomed(g).into_iter().filter(|&at| self.vacated(at, chosen)).collect();
            let touched = chosen.iter().any(|&m| self.movers.get(m).is_some_and(|mover| mover.gpus.contains(&g)));
            if !touched && !all {
                continue;
            }
            let switch = self.mode_due(g, &removed, chosen);
            let mode = self.targets.get(g).and_then(|t| t.chosen.as_ref()).is_some_and(|c| c.mode);
            let then = if switch { mode } else { self.mode(g) };
            round.creates.extend(self.creatable(g, &removed, then));
            round.destroys.extend(removed);
            if switch {
                round.modes.push(g);
            }
        }
        // Places that are there before anybody moves come first, so that a failed creation disturbs nobody.
        let mut before = self.free.clone();
        let mut after: Vec<SlotRef> = round.creates.iter().filter_map(|&at| self.new_slot(at)).collect();
        let kept = |m: &usize| self.movers.get(*m).map(|mover| mover.frees.clone()).unwrap_or_default();
        for (g, i) in chosen.iter().flat_map(kept) {
            let target = self.targets.get(g);
            if let Some((target, instance)) = target.and_then(|t| Some((t, t.gpu.instances.get(i)?))) {
                after.push(slot(&target.gpu.uuid, instance));
            }
        }
        let mark = promises.mark();
        for (at, &m) in chosen.iter().enumerate() {
            let Some(mover) = self.movers.get(m) else { return Err(at) };
            let here = !mover.barred.contains(node);
            let place = if mover.needs.is_empty() {
                Place::Ends
            } else if let Some(slots) =
                here.then(|| pick(&mut before, &mut Vec::new(), &mover.needs, mover.strategy)).flatten()
            {
                for resource in slots.iter().filter_map(|slot| strategy.resource(slot.profile)) {
                    promises.withdraw(node, &resource);
                }
                Place::Here(slots)
            } else if let Some(name) = (!mover.stays).then(|| promises.promise(node, mover)).flatten() {
                Place::Elsewhere(name)
            } else if let Some(slots) =
                here.then(|| pick(&mut before, &mut after, &mover.needs, mover.strategy)).flatten()
            {
                Place::Here(slots)
            } else {
                promises.take_back(mark);
                return Err(at);
            };
            round.moves.push((m, place));
        }
        Ok(round)
    }

    fn new_slot(&self, (g, c): (usize, usize)) -> Option<SlotRef> {
        let new = self.targets.get(g)?.chosen.as_ref()?.create.get(c)?;
        (!new.compute.is_empty()).then(|| new.slot.clone())
    }

    fn commit(&mut self, round: &Round) {
        for (m, place) in &round.moves {
            self.gone.insert(*m);
            let frees = self.movers.get(*m).map(|mover| mover.frees.clone()).unwrap_or_default();
            for (g, i) in frees {
                if let Some(target) = self.targets.get(g)
                    && let Some(instance) = target.gpu.instances.get(i)
                {
                    self.free.push(slot(&target.gpu.uuid, instance));
                }
            }
            if let Place::Here(slots) = place {
                self.free.retain(|free| !slots.contains(free));
            }
        }
        let taken: Vec<&SlotRef> = round
            .moves
            .iter()
            .filter_map(|(_, place)| if let Place::Here(slots) = place { Some(slots) } else { None })
            .flatten()
            .collect();
        self.so_far.destroyed.extend(&round.destroys);
        self.so_far.switched.extend(&round.modes);
        for &at in &round.creates {
            self.so_far.made.insert(at);
            if let Some(new) = self.new_slot(at).filter(|new| !taken.contains(&new)) {
                self.free.push(new);
            }
        }
        self.free.sort();
    }
}

/// Takes slots for all needs, those of `first` before those of `second`; nothing is taken where not all are there.
pub fn pick(
    first: &mut Vec<SlotRef>,
    second: &mut Vec<SlotRef>,
    needs: &BTreeMap<String, u32>,
    strategy: MigStrategy,
) -> Option<Vec<SlotRef>> {
    let (mut one, mut two) = (first.clone(), second.clone());
    let mut taken = Vec::new();
    for (resource, &n) in needs {
        for _ in 0..n {
            let fits = |s: &SlotRef| strategy.resource(s.profile).as_deref() == Some(resource);
            if let Some(at) = one.iter().position(fits) {
                taken.push(one.remove(at));
            } else {
                taken.push(two.remove(two.iter().position(fits)?));
            }
        }
    }
    (*first, *second) = (one, two);
    Some(taken)
}
