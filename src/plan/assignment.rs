//! What all GPUs of a node become together: entries with `count` share the GPUs that are left, and who is on several
//! GPUs is disturbed once.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::desired::SharedGoal;

use super::crowd::Crowd;
use super::placement::Score;

/// How many states are looked at beside each other. 14 GPUs for 14 different entries have 3,432; behind this the best
/// of them are followed, and nothing is said to be proved.
const MOST: usize = 1 << 12;

/// Entries that want the same of the same GPUs: which of them a GPU is given to makes no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class<'a> {
    /// One of them.
    pub like: &'a SharedGoal,
    /// Each by its index, and its count.
    members: Vec<(usize, u32)>,
}

/// Puts equal entries together.
pub fn classes(shared: &[SharedGoal]) -> Vec<Class<'_>> {
    let mut classes: Vec<Class<'_>> = Vec::new();
    for (at, entry) in shared.iter().enumerate() {
        let alike = |c: &&mut Class<'_>| c.like.goal == entry.goal && c.like.eligible == entry.eligible;
        match classes.iter_mut().find(alike) {
            Some(class) => class.members.push((at, entry.count)),
            None => classes.push(Class { like: entry, members: vec![(at, entry.count)] }),
        }
    }
    classes
}

impl Class<'_> {
    fn count(&self) -> u32 {
        self.members.iter().map(|(_, count)| count).sum()
    }

    /// The entry whose turn it is when so many GPUs are still to be given: earlier entries get the lower indices.
    fn next(&self, left: u32) -> Option<usize> {
        let mut given = self.count().checked_sub(left).filter(|_| left > 0)?;
        let mut members = self.members.iter();
        members.find_map(|&(at, count)| match given.checked_sub(count) {
            None => Some(at),
            Some(rest) => {
                given = rest;
                None
            }
        })
    }
}

/// One way to cut a GPU as an entry says.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// The class of the entry, or `None`: an entry that claims this GPU, and then it can't be left alone.
    pub class: Option<usize>,
    /// What it costs, those on several GPUs not counted as disturbed.
    pub score: Score,
    /// Those on several GPUs whom it disturbs.
    pub groups: u128,
}

/// What a GPU becomes: an offer by its index, and the entry with `count` that it is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Index into its offers.
    pub offer: usize,
    /// Index of the entry, where it is one with `count`.
    pub entry: Option<usize>,
}

/// The best that there is.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// By GPU; `None`: left alone.
    pub picks: Vec<Option<Pick>>,
    /// What it costs.
    pub score: Score,
    /// Whether everything was looked at.
    pub exact: bool,
}

/// The best way to so many GPUs.
#[derive(Clone, Debug, Default)]
struct Way {
    score: Score,
    /// Of equal costs, earlier entries on lower indices; a GPU that is left alone stands behind every entry.
    ranks: Vec<usize>,
    /// And then the lowest placements: offers of one entry are in their order.
    offers: Vec<Option<usize>>,
}

impl Way {
    fn beats(&self, other: &Way) -> bool {
        (self.score, &self.ranks, &self.offers) < (other.score, &other.ranks, &other.offers)
    }

    fn with(&self, more: Score, rank: usize, offer: Option<usize>) -> Way {
        let mut way = Way { score: self.score + more, ..self.clone() };
        way.ranks.push(rank);
        way.offers.push(offer);
        way
    }
}

/// How many GPUs each class still wants, and which groups of those on later GPUs are disturbed already.
type State = (Vec<u32>, u128);

/// Chooses for all GPUs, in index order; `None`: the entries can't have as many GPUs as they want.
///
/// Dynamic programming over the GPUs. GPUs without offers are left alone.
pub fn assign(classes: &[Class<'_>], menus: &[Vec<Offer>], crowd: &Crowd) -> Option<Assigned> {
    let start = (classes.iter().map(Class::count).collect(), 0);
    let mut states: BTreeMap<State, Way> = BTreeMap::from([(start, Way::default())]);
    let mut exact = !crowd.blurred;
    for (g, menu) in menus.iter().enumerate() {
        let later = menus.get(g + 1..).unwrap_or_default();
        let known = later.iter().flatten().fold(0, |all, offer| all | offer.groups);
        let open = later.iter().filter(|menu| menu.iter().any(|offer| offer.class.is_some())).count();
        let mut next: BTreeMap<State, Way> = BTreeMap::new();
        let mut reach = |left: Vec<u32>, gone: u128, way: Way| {
            if left.iter().map(|&n| n as usize).sum::<usize>() > open {
                return;
            }
            let state = (left, gone & known);
            if next.get(&state).is_none_or(|other| way.beats(other)) {
                next.insert(state, way);
            }
        };
        for ((left, gone), way) in states {
            for (at, offer) in menu.iter().enumerate() {
                let (left, rank) = match offer.class {
                    None => (left.clone(), 0),
                    Some(class) => {
                        let Some(rank) = take(classes, &left, class) else { continue };
                        rank
                    }
                };
                let disturbed = crowd.number(offer.groups & !gone);
                let more = Score { disturbed: offer.score.disturbed + disturbed, ..offer.score };
                reach(left, gone | offer.groups, way.with(more, rank, Some(at)));
            }
            if menu.iter().all(|offer| offer.class.is_some()) {
                reach(left, gone, way.with(Score::default(), usize::MAX, None));
            }
        }
        if next.len() > MOST {
            exact = false;
            next = fewer(next, later);
        }
        states = next;
    }
    let mut ends = states.into_iter().filter(|((left, _), _)| left.iter().all(|&n| n == 0));
    // What is disturbed matters to no later GPU, so that one state is left.
    let (_, way) = ends.next()?;
    let pick = |(rank, offer): (usize, Option<usize>), menu: &Vec<Offer>| {
        let offer = offer?;
        Some(Pick { offer, entry: menu.get(offer).and_then(|o| o.class).map(|_| rank) })
    };
    let picks = way.ranks.iter().copied().zip(way.offers).zip(menus).map(|(chosen, menu)| pick(chosen, menu));
    let score = Score { disturbed: way.score.disturbed + crowd.forced, ..way.score };
    Some(Assigned { picks: picks.collect(), score, exact })
}

/// Gives one GPU to a class: what is left then, and the entry.
fn take(classes: &[Class<'_>], left: &[u32], class: usize) -> Option<(Vec<u32>, usize)> {
    let entry = classes.get(class)?.next(*left.get(class)?)?;
    let mut left = left.to_vec();
    *left.get_mut(class)? -= 1;
    Some((left, entry))
}

/// The best states, of those that lead to an end.
fn fewer(states: BTreeMap<State, Way>, later: &[Vec<Offer>]) -> BTreeMap<State, Way> {
    let mut all: Vec<(State, Way)> = states.into_iter().collect();
    all.sort_by(|(_, a), (_, b)| (a.score, &a.ranks, &a.offers).cmp(&(b.score, &b.ranks, &b.offers)));
    all.into_iter().filter(|((left, _), _)| ends(left, later)).take(MOST).collect()
}

/// Whether the GPUs that are left are enough for what is still wanted (a matching, by augmenting paths).
fn ends(left: &[u32], later: &[Vec<Offer>]) -> bool {
    let mut owner: BTreeMap<usize, usize> = BTreeMap::new();
    let wanted = left.iter().enumerate().flat_map(|(class, &n)| (0..n).map(move |_| class));
    wanted.into_iter().all(|class| place(class, later, &mut owner, &mut BTreeSet::new()))
}

/// Gives a class one more GPU, moving others along where that helps.
fn place(class: usize, later: &[Vec<Offer>], owner: &mut BTreeMap<usize, usize>, seen: &mut BTreeSet<usize>) -> bool {
    for (g, menu) in later.iter().enumerate() {
        if !menu.iter().any(|offer| offer.class == Some(class)) || !seen.insert(g) {
            continue;
        }
        let holder = owner.get(&g).copied();
        if holder.is_none_or(|holder| place(holder, later, owner, seen)) {
            owner.insert(g, class);
            return true;
        }
    }
    false
}
