//! Three agents and two places, in every order of what they and the network can do: the rules by which places are taken,
//! as the program has them, around a model of everything else.
//!
//! Of time only two things matter: whether a renewal is fresh for its holder, and whether a watcher has seen the whole lease
//! pass. Either happens at any moment, but no watcher sees the lease pass while the renewal is fresh: that is all that the
//! protocol asks of clocks. A write bears the version that was read before, so that of writes from one reading only the
//! first is made. A process can stop between any two actions, also between a check and what it checks for, for as long as
//! it likes; whoever is cut off from the cluster is no other than one who stops.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sectile::model::desired::DesiredNode;
use sectile::model::observed::{NodeInCluster, Peer};
use sectile::model::policy::{Amount, NodeBudget, Shared};
use sectile::model::{
    Desired, Digest, Known, Observed, ObservedCluster, Place, PlaceState, Places, Policy, Reserved, Revision, Source,
};
use sectile::plan::places::{self, Asked, Nodes, Watch};

const AGENTS: usize = 3;
const LIMIT: u32 = 2;
const LEASE_S: u64 = 60;

/// What of the protocol is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mutant {
    None,
    /// A place is fresh for ever.
    NoHalfLease,
    /// A write is made whatever was changed since the reading.
    NoVersion,
    /// A place whose lease is over does not count, also where its node is tainted.
    NoTaint,
    /// Nobody is checked again behind the taint.
    NoCheck,
    /// A renewal that comes late is one all the same.
    LateRenewal,
}

/// Where a renewal goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Back {
    Holds,
    Tainted,
}

impl Back {
    fn at(self) -> At {
        match self {
            Back::Holds => At::Holds,
            Back::Tainted => At::Tainted,
        }
    }
}

/// Where an agent is in its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// It wants a place.
    Wants,
    /// It has read the places, and looks at nodes.
    Looks,
    /// It may go; it has still to write.
    Takes,
    /// It has a place.
    Holds,
    /// It has checked that the place is fresh, and taints next.
    Taints,
    /// Its node is tainted.
    Tainted,
    /// It has checked behind the taint: what disturbs somebody comes next.
    Checked,
    /// It disturbs.
    Disturbs,
    /// It has read, to renew its place.
    Renews(Back),
    /// It has checked behind the reading that it is in time, and writes.
    Rewrites(Back),
    /// It takes the taint off; whether it is through.
    Untaints(bool),
    /// It gives the place back.
    Gives(bool),
    /// It is converged.
    Done,
    /// It is dead.
    Dead,
}

/// One agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Agent {
    at: At,
    tainted: bool,
    /// Whether somebody is disturbed, which ends with the taint.
    disturbs: bool,
    /// Whether its last renewal that it knows of is fresh.
    fresh: bool,
    /// Whether what it read is still the last version.
    current: bool,
    has_place: bool,
    /// So many may still die, this one or another.
    deaths: u8,
}

type State = [Agent; AGENTS];

fn name(n: usize) -> String {
    format!("n{n}")
}

/// The tree: two of all nodes may change at once.
fn desired() -> Desired {
    let source = Source { file: "policies/p.toml".into(), line: 1 };
    let max_nodes = Some(Shared { limit: Amount::Count(LIMIT), over: source.clone() });
    let budget = NodeBudget { max_nodes, ..NodeBudget::default() };
    let policy = Arc::new(Policy { sources: vec![source.clone()], budget, ..Policy::default() });
    let node = |n| DesiredNode {
        node: name(n),
        layout: Some(source.clone()),
        shadows: vec![],
        gpus: BTreeMap::new(),
        shared: vec![],
        bindings: vec![],
        policy: Some(policy.clone()),
        held: BTreeMap::new(),
        blocked: vec![],
    };
    let nodes: BTreeMap<String, DesiredNode> = (0..AGENTS).map(|n| (name(n), node(n))).collect();
    let revision = Revision { name: None, digest: Digest::of([]) };
    Desired { revision, nodes: BTreeMap::new(), bindings: vec![], peers: nodes, blocked: vec![] }
}

fn place() -> Place {
    Place {
        run: "r".to_owned(),
        renewals: 0,
        lease_s: LEASE_S,
        state: PlaceState::Held,
        over: ["policies/p.toml".to_owned()].into(),
        nodes: 1,
        pods: 0,
        reserved: Reserved::new(),
        revision: String::new(),
        since: String::new(),
    }
}

/// Own number; of the others the places (whether their leases are over), and the taints.
type Question = (usize, [Option<bool>; AGENTS], [bool; AGENTS], Mutant);

/// The rules of the program; what was asked before is remembered.
struct Rules {
    desired: [Desired; AGENTS],
    asked: HashMap<Question, bool>,
}

impl Rules {
    fn new() -> Self {
        let all = desired();
        let of = |n: usize| {
            let mut desired = all.clone();
            let own = desired.peers.remove(&name(n)).unwrap();
            desired.nodes.insert(name(n), own);
            desired
        };
        Rules { desired: std::array::from_fn(of), asked: HashMap::new() }
    }

    /// Whether an agent that sees this may write its place.
    fn may(&mut self, question: Question) -> bool {
        let desired = &self.desired[question.0];
        *self.asked.entry(question).or_insert_with(|| {
            let (own, over, tainted, mutant) = question;
            let now = Duration::from_secs(1000);
            let mut watch = Watch::default();
            let mut all = Places::new();
            for (n, over) in over.iter().enumerate().filter_map(|(n, over)| Some((n, (*over)?))) {
                all.insert(name(n), Known::Known(place()));
                watch.see(&all, if over { now - Duration::from_secs(LEASE_S) } else { now });
            }
            // Watches of nodes may tell late: here they never tell of a taint.
            let peers = (0..AGENTS).map(|n| (name(n), Peer::default())).collect();
            let seen = ObservedCluster { peers, ..ObservedCluster::default() };
            let number = |holder: &str| holder[1..].parse::<usize>().unwrap();
            let look = |holder: &str| (holder.to_owned(), Some(tainted[number(holder)] && mutant != Mutant::NoTaint));
            let nodes: Nodes = places::doubtful(&name(own), &all, &seen, &watch, now).map(look).collect();
            let cluster = ObservedCluster { places: Known::Known(all), ..seen };
            let observed = Observed { nodes: [(name(own), node(own))].into(), cluster };
            let (node, reserved) = (name(own), Reserved::new());
            let asked =
                Asked { node: &node, desired, pods: 0, reserved: &reserved, going: false, begun: false, rolls: None };
            places::why_not(&asked, &observed, &watch, now, &nodes).is_none()
        })
    }
}

fn node(n: usize) -> sectile::model::ObservedNode {
    sectile::model::ObservedNode {
        name: name(n),
        labels: Known::Unknown,
        gpus: vec![],
        lost: Default::default(),
        units: BTreeMap::new(),
        cluster: Some(NodeInCluster::default()),
        device_files: Default::default(),
        gaps: vec![],
        inventory: vec![],
        suspended: None,
    }
}

fn first(deaths: u8) -> State {
    let agent = Agent {
        at: At::Wants,
        tainted: false,
        disturbs: false,
        fresh: false,
        current: false,
        has_place: false,
        deaths,
    };
    [agent; AGENTS]
}

/// An agent writes its place, or takes it out; whether nobody was faster.
fn write(state: &mut State, n: usize, place: bool, mutant: Mutant) -> bool {
    if !state[n].current && mutant != Mutant::NoVersion {
        return false;
    }
    state.iter_mut().for_each(|agent| agent.current = false);
    state[n].has_place = place;
    true
}

/// Everything that an agent, its clock and its misfortune can do next; `healthy`: without the misfortune.
fn next(before: &State, n: usize, rules: &mut Rules, mutant: Mutant, healthy: bool, all: &mut Vec<State>) {
    let agent = before[n];
    let fresh = agent.fresh || mutant == Mutant::NoHalfLease;
    let mut push = |with: &dyn Fn(&mut State)| {
        let mut state = *before;
        with(&mut state);
        all.push(state);
    };
    let go = |state: &mut State, at| state[n].at = at;
    match agent.at {
        At::Wants => push(&|state| {
            state[n].current = true;
            go(state, At::Looks);
        }),
        // A lease may be over once its holder has let it grow old.
        At::Looks => (0..1 << AGENTS).for_each(|over: u8| {
            let places = std::array::from_fn(|other| {
                let is_over = over & 1 << other != 0;
                (other != n && before[other].has_place).then_some(is_over && !before[other].fresh)
            });
            let may = rules.may((n, places, before.map(|agent| agent.tainted), mutant));
            push(&|state| {
                state[n].current &= may;
                let no = if agent.tainted { At::Untaints(false) } else { At::Wants };
                go(state, if may { At::Takes } else { no });
            });
        }),
        At::Takes => {
            let at = if agent.tainted { At::Tainted } else { At::Holds };
            // Its answer may get lost, and then it does not know.
            for lost in [false, true].into_iter().filter(|lost| !lost || !healthy) {
                push(&|state| {
                    let took = write(state, n, true, mutant) && !lost;
                    (state[n].fresh, state[n].current) = (took, false);
                    go(state, if took { at } else { At::Wants });
                });
            }
        }
        At::Holds => push(&|state| go(state, if fresh { At::Taints } else { At::Wants })),
        At::Taints => push(&|state| {
            state[n].tainted = true;
            go(state, At::Tainted);
        }),
        At::Tainted => {
            let on = fresh || mutant == Mutant::NoCheck;
            push(&|state| go(state, if on { At::Checked } else { At::Wants }));
        }
        At::Checked => push(&|state| {
            state[n].disturbs = true;
            go(state, At::Disturbs);
        }),
        At::Disturbs => {
            push(&|state| go(state, At::Untaints(true)));
            // There is another round.
            push(&|state| go(state, At::Tainted));
        }
        At::Renews(back) => {
            let in_time = fresh || mutant == Mutant::LateRenewal;
            push(&|state| {
                state[n].current &= in_time;
                go(state, if in_time { At::Rewrites(back) } else { back.at() });
            });
        }
        At::Rewrites(back) => {
            for lost in [false, true].into_iter().filter(|lost| !lost || !healthy) {
                push(&|state| {
                    state[n].fresh |= write(state, n, true, mutant) && !lost;
                    state[n].current = false;
                    go(state, back.at());
                });
            }
        }
        At::Untaints(done) => push(&|state| {
            (state[n].tainted, state[n].disturbs) = (false, false);
            go(state, At::Gives(done));
        }),
        At::Gives(done) => push(&|state| {
            state[n].current = true;
            write(state, n, false, mutant);
            state[n].fresh = false;
            go(state, if done { At::Done } else { At::Wants });
        }),
        At::Done => {}
        // Another run takes back what the journal tells of, and begins anew; its watch, too.
        At::Dead => push(&|state| {
            go(state, if agent.tainted { At::Untaints(false) } else { At::Wants });
        }),
    }
    let back = match agent.at {
        At::Holds => Some(Back::Holds),
        At::Tainted => Some(Back::Tainted),
        _ => None,
    };
    if let Some(back) = back.filter(|_| agent.has_place) {
        push(&|state| {
            state[n].current = true;
            go(state, At::Renews(back));
        });
    }
    if agent.fresh {
        push(&|state| state[n].fresh = false);
    }
    if !healthy && agent.deaths > 0 && !matches!(agent.at, At::Done | At::Dead) {
        push(&|state| {
            // One dies in all: there are states enough.
            state.iter_mut().for_each(|agent| agent.deaths -= 1);
            let agent = &mut state[n];
            (agent.at, agent.fresh, agent.current) = (At::Dead, false, false);
        });
    }
}

/// What a search found.
struct Found {
    all: Vec<State>,
    /// The way to a state in which more disturb somebody than may.
    broken: Option<Vec<State>>,
}

fn search(mutant: Mutant, deaths: u8) -> Found {
    let mut rules = Rules::new();
    let mut known: HashMap<State, u32> = HashMap::from([(first(deaths), 0)]);
    let (mut all, mut from) = (vec![first(deaths)], vec![0usize]);
    let mut at = 0;
    while let Some(state) = all.get(at).copied() {
        if state.iter().filter(|agent| agent.disturbs).count() > LIMIT as usize {
            let mut way = vec![state];
            while at != 0 {
                at = from[at];
                way.insert(0, all[at]);
            }
            return Found { all, broken: Some(way) };
        }
        let mut after = Vec::new();
        (0..AGENTS).for_each(|n| next(&state, n, &mut rules, mutant, false, &mut after));
        for state in after {
            let state = canonical(state);
            known.entry(state).or_insert_with(|| {
                all.push(state);
                from.push(at);
                u32::try_from(all.len() - 1).unwrap()
            });
        }
        at += 1;
    }
    Found { all, broken: None }
}

/// Agents differ in nothing but their names, which no rule asks here: of states that are one another's mirror images one
/// is enough.
fn canonical(state: State) -> State {
    let mut state = state;
    state.sort_by_key(|a| (code(a.at), a.tainted, a.disturbs, a.fresh, a.current, a.has_place, a.deaths));
    state
}

fn code(at: At) -> u8 {
    match at {
        At::Wants => 0,
        At::Looks => 1,
        At::Takes => 2,
        At::Holds => 3,
        At::Taints => 4,
        At::Tainted => 5,
        At::Checked => 6,
        At::Disturbs => 7,
        At::Renews(back) => 8 + back as u8,
        At::Rewrites(back) => 12 + back as u8,
        At::Untaints(done) => 16 + u8::from(done),
        At::Gives(done) => 18 + u8::from(done),
        At::Done => 20,
        At::Dead => 21,
    }
}

#[test]
fn never_do_more_disturb_somebody_than_may_and_all_get_on_when_they_are_healthy() {
    let Found { all, broken } = search(Mutant::None, 1);
    println!("{} states", all.len());
    assert!(broken.is_none(), "{broken:#?}");
    assert!(all.len() > 10_000, "the search is no search: {} states", all.len());
    // Backwards from where all are converged, by what needs no misfortune.
    let number: HashMap<State, usize> = all.iter().enumerate().map(|(n, state)| (*state, n)).collect();
    let mut rules = Rules::new();
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); all.len()];
    for (at, state) in all.iter().enumerate() {
        let mut after = Vec::new();
        (0..AGENTS).for_each(|n| next(state, n, &mut rules, Mutant::None, true, &mut after));
        for next in after {
            before[number[&canonical(next)]].push(u32::try_from(at).unwrap());
        }
    }
    let mut good = vec![false; all.len()];
    let done = |state: &State| state.iter().all(|agent| agent.at == At::Done);
    let mut queue: Vec<usize> = (0..all.len()).filter(|at| done(&all[*at])).collect();
    while let Some(at) = queue.pop() {
        if !std::mem::replace(&mut good[at], true) {
            queue.extend(before[at].iter().map(|at| *at as usize));
        }
    }
    let stuck = good.iter().position(|good| !good).map(|at| all[at]);
    assert!(stuck.is_none(), "nobody gets on any more: {stuck:#?}");
}

#[test]
fn the_search_catches_every_rule_that_is_left_out() {
    use Mutant::{LateRenewal, NoCheck, NoHalfLease, NoTaint, NoVersion};
    for mutant in [NoHalfLease, NoVersion, NoTaint, NoCheck, LateRenewal] {
        let Found { all, broken } = search(mutant, 1);
        println!("{mutant:?}: {} states, {} steps", all.len(), broken.as_ref().map_or(0, Vec::len));
        assert!(broken.is_some(), "{mutant:?} is not caught in {} states", all.len());
    }
}
