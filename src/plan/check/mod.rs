//! Derives the invariants of any plan again, from what is desired and observed, without the planner's code.
//!
//! It runs on every plan before the plan is shown or carried out. `walk` carries the steps out on paper and looks at
//! every prefix; `goal` looks at where they lead, and `key` whether less would have done.

mod bindings;
mod closure;
mod devices;
mod goal;
mod guards;
mod key;
mod offered;
mod rules;
mod turns;
mod walk;

use std::collections::BTreeSet;
use std::fmt;

use crate::model::parallel;
use crate::model::plan::{BlockCode, Step, Summary};
use crate::model::policy::ApplyMode;
use crate::model::{Desired, DesiredNode, NodePlan, Observed, ObservedNode, Plan};

crate::model::closed::closed_list! {
    /// What a plan must never break.
    Invariant {
        /// Ids ascend, and a step comes only after steps before it.
        Order = "order",
        /// A step that comes after one that waits waits too.
        Waits = "waits",
        /// What is held back is not touched: a tree, a node, a GPU whose entry may mean another.
        Held = "held",
        /// Waves hold every step once, behind what it comes after.
        Waves = "waves",
        /// Steps name GPUs, pods, units and bindings of this node alone, and are of its scope.
        Foreign = "foreign",
        /// What nobody manages is not touched.
        HandsOff = "hands-off",
        /// Every instance that is created is legal at that moment, and every one destroyed is there.
        Legal = "legal",
        /// Nobody uses what is destroyed, switched or reset; unknown means in use.
        Vacated = "vacated",
        /// Destroying happens between taint and untaint, pause and resume, and nothing is left half done.
        Bracket = "bracket",
        /// What advertises starts with what is there, as its strategy wants it.
        Offered = "offered",
        /// Steps bear the guards that they need.
        Guards = "guards",
        /// Nobody is disturbed who may not be, or who need not be.
        Verdicts = "verdicts",
        /// Between two waits for readiness no more is evicted than the budgets allow, and no more nodes change at once.
        Budgets = "budgets",
        /// The steps lead where the tree says, and the lists of each GPU say the same.
        Target = "target",
        /// No legal layout of what is wanted keeps more, or puts more back where it was.
        KeptMost = "kept-most",
        /// Nothing is done only to be undone.
        Needless = "needless",
        /// The counts and the bound add up.
        Sums = "sums",
    }
}

/// An invariant that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// On which node; empty for what belongs to none.
    pub node: String,
    /// At which step.
    pub step: Option<u32>,
    /// How, a sentence.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.map(|id| format!(", step {id}")).unwrap_or_default();
        write!(f, "{}: {}{step}: {}", self.invariant, self.node, self.message)
    }
}

/// Every invariant that the plan breaks; empty for every plan that the planner makes.
pub fn check(desired: &Desired, observed: &Observed, plan: &Plan) -> Vec<Violation> {
    let mut found = Findings::default();
    let names: Vec<&String> = plan.nodes.iter().map(|n| &n.name).collect();
    if names != desired.nodes.keys().collect::<Vec<_>>() {
        found.add(Invariant::Foreign, None, "the plan's nodes are not those that the tree was resolved for");
    }
    order(&plan.cluster.steps, &mut found);
    bindings::check(desired, observed, plan, &mut found);
    guards::cluster(desired, observed, plan, &mut found);
    if plan.summary != sums(plan) {
        found.add(Invariant::Sums, None, "the summary does not count what the nodes list");
    }
    turns::check(desired, observed, plan, &mut found);
    let cluster = rules::Cluster::new(&observed.cluster);
    let of_nodes =
        parallel::map(parallel::threads(plan.nodes.len()), plan.nodes.iter().collect(), |node: &NodePlan| {
            let mut found = Findings { all: Vec::new(), at: node.name.clone() };
            match (desired.nodes.get(&node.name), observed.nodes.get(&node.name)) {
                (Some(wanted), Some(seen)) => check_node(wanted, seen, &cluster, node, &mut found),
                _ if node.steps.is_empty() => {}
                _ => found.add(Invariant::Foreign, None, "it has steps and was not observed"),
            }
            found.all
        });
    found.all.into_iter().chain(of_nodes.into_iter().flatten()).collect()
}

fn check_node(
    wanted: &DesiredNode,
    seen: &ObservedNode,
    cluster: &rules::Cluster<'_>,
    plan: &NodePlan,
    found: &mut Findings,
) {
    order(&plan.steps, found);
    closure::check(seen, &plan.steps, found);
    devices::check(seen, &plan.steps, found);
    offered::check(seen, &plan.steps, found);
    waves(plan, found);
    let end = walk::walk(wanted, seen, cluster, plan, found);
    goal::check(wanted, seen, cluster, plan, &end, found);
    held(wanted, plan, found);
    guards::node(wanted, seen, plan, found);
    if plan.lower_bound > plan.cost || (plan.optimal && plan.lower_bound != plan.cost) {
        found.add(Invariant::Sums, None, "the bound is above the cost, or optimal is said without a proof");
    }
    if plan.waiting.iter().any(|b| !b.code.waits()) || plan.blocked.iter().any(|b| b.code.waits()) {
        found.add(Invariant::Sums, None, "what waits and what is blocked are mixed up");
    }
}

fn order(steps: &[Step], found: &mut Findings) {
    let mut seen: BTreeSet<u32> = BTreeSet::new();
    let mut waiting: BTreeSet<u32> = BTreeSet::new();
    for step in steps {
        if seen.last().is_some_and(|&last| last >= step.id) {
            found.add(Invariant::Order, Some(step.id), "its id does not ascend");
        }
        if !step.after.iter().all(|id| seen.contains(id)) {
            found.add(Invariant::Order, Some(step.id), "it comes after a step that is not before it");
        }
        let behind = step.after.iter().any(|id| waiting.contains(id));
        if behind && step.waits.is_none() {
            found.add(Invariant::Waits, Some(step.id), "it comes after a step that waits, and does not");
        }
        if step.waits.is_some() {
            waiting.insert(step.id);
        }
        if step.waits.is_some_and(|code: BlockCode| !code.waits()) {
            found.add(Invariant::Waits, Some(step.id), "it waits for something that does not open by itself");
        }
        seen.insert(step.id);
    }
}

/// What must wait does, and where something is blocked nobody is disturbed.
fn held(wanted: &DesiredNode, plan: &NodePlan, found: &mut Findings) {
    let policy = wanted.policy.as_ref();
    let shut = || {
        policy.and_then(|p| p.window.as_ref()).is_some_and(|window| {
            let now: Option<jiff::Timestamp> = plan.observed_at.parse().ok();
            now.is_none_or(|now| matches!(super::window::standing(window, now), super::window::Standing::Shut(_)))
        })
    };
    let mode = policy.map(|p| p.mode).unwrap_or_default();
    for step in plan.steps.iter().filter(|step| step.waits.is_none()) {
        let refused = mode == ApplyMode::Manual || (step.disruptive && (mode == ApplyMode::Undisruptive || shut()));
        if refused {
            found.add(Invariant::Waits, Some(step.id), "the policy says that it must wait");
        }
        if step.disruptive && !plan.blocked.is_empty() {
            found.add(
                Invariant::Verdicts,
                Some(step.id),
                "it disturbs somebody while something on the node is blocked",
            );
        }
    }
}

fn waves(plan: &NodePlan, found: &mut Findings) {
    let mut done: BTreeSet<u32> = BTreeSet::new();
    for wave in &plan.waves {
        for id in wave {
            let after = plan.steps.iter().find(|s| s.id == *id).map(|s| &s.after);
            if !after.is_some_and(|after| after.iter().all(|id| done.contains(id))) {
                found.add(Invariant::Waves, Some(*id), "its wave comes too early");
            }
        }
        done.extend(wave);
    }
    let listed = plan.waves.iter().map(Vec::len).sum::<usize>();
    if listed != plan.steps.len() || plan.steps.iter().any(|s| !done.contains(&s.id)) {
        found.add(Invariant::Waves, None, "the waves do not hold every step once");
    }
}

fn sums(plan: &Plan) -> Summary {
    let n = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let gpus = || plan.nodes.iter().flat_map(|node| &node.gpus);
    Summary {
        nodes: n(plan.nodes.len()),
        changed: n(plan.nodes.iter().filter(|node| !node.steps.is_empty()).count()),
        keep: n(gpus().filter(|g| g.managed).map(|g| g.keep.len()).sum()),
        destroy: n(gpus().map(|g| g.destroy.len()).sum()),
        create: n(gpus().map(|g| g.create.len()).sum()),
        disrupt: n(plan.nodes.iter().map(|node| node.disruptions.len()).sum()),
        blocked: n(plan.cluster.blocked.len() + plan.nodes.iter().map(|node| node.blocked.len()).sum::<usize>()),
    }
}

/// What was found so far, and on which node one looks.
#[derive(Debug, Default)]
struct Findings {
    all: Vec<Violation>,
    at: String,
}

impl Findings {
    fn add(&mut self, invariant: Invariant, step: Option<u32>, message: impl Into<String>) {
        self.all.push(Violation { invariant, node: self.at.clone(), step, message: message.into() });
    }
}
