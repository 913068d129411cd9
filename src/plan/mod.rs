//! The planner: pure, synchronous, total and deterministic. It knows no world beyond its arguments.
//!
//! [`target`] chooses what each GPU becomes, [`drain`] judges everybody who would be disturbed, [`order`] lays the
//! steps in an order that is legal at every prefix, [`node`] puts a node's plan together, and [`check`] derives the
//! invariants of any plan again without their code.

pub mod assignment;
pub mod bindings;
pub mod check;
pub mod cost;
pub mod crowd;
pub mod drain;
pub mod export;
pub mod fingerprint;
pub mod fit;
pub mod guards;
pub mod misfit;
pub mod movers;
pub mod node;
pub mod occupancy;
pub mod order;
pub mod placement;
pub mod places;
pub mod report;
pub mod single;
pub mod steps;
pub mod target;
pub mod turns;
pub mod window;
pub mod writers;

use std::collections::BTreeSet;
use std::num::NonZero;

use jiff::Timestamp;

use crate::model::parallel;
use crate::model::plan::{BlockCode, ClusterPlan, FORMAT_VERSION, Summary};
use crate::model::{Desired, DesiredNode, NodePlan, NodeState, Observed, Plan};

/// Plans every node that the tree was resolved for, and what belongs to no node.
///
/// Free instances of the cluster are promised once: the plans of two nodes never count on the same one.
pub fn plan(desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    plan_on(parallel::threads(desired.nodes.len()), desired, observed, now)
}

/// The same on so many threads; the plan does not depend on their number.
pub fn plan_on(threads: NonZero<usize>, desired: &Desired, observed: &Observed, now: Timestamp) -> Plan {
    let pods = drain::index(&observed.cluster);
    let mut promises = order::Promises::new(observed);
    let prepare = |wanted, node| node::prepare(wanted, node, &observed.cluster, &pods);
    // Who moves nobody is planned beside the others, while what was looked at is at hand.
    let begun = parallel::map(threads, desired.nodes.values().collect(), |wanted: &DesiredNode| {
        let Some(node) = observed.nodes.get(&wanted.node) else {
            return (Vec::new(), Begun::Done(Box::new(node::unobserved(wanted, now))));
        };
        let prepared = prepare(wanted, node);
        let leaves = prepared.leaves();
        let begun = match prepared.moves() {
            true => Begun::Waits(Box::new(prepared)),
            false => Begun::Done(Box::new(node::plan(prepared, observed, &mut order::Promises::default(), now))),
        };
        (leaves, begun)
    });
    // What any node destroys is nobody's place, also where that node is planned later.
    for (wanted, (leaves, _)) in desired.nodes.values().zip(&begun) {
        leaves.iter().for_each(|resource| promises.withdraw(&wanted.node, resource));
    }
    // Promises are made in the order of the nodes; who meets any by then is planned anew.
    let mut nodes: Vec<NodePlan> = Vec::with_capacity(begun.len());
    for (wanted, (_, begun)) in desired.nodes.values().zip(begun) {
        let met = observed.nodes.get(&wanted.node).filter(|node| promises.concern(&node.name));
        nodes.push(match (begun, met) {
            (Begun::Waits(prepared), _) => node::plan(*prepared, observed, &mut promises, now),
            (Begun::Done(_), Some(node)) => node::plan(prepare(wanted, node), observed, &mut promises, now),
            (Begun::Done(plan), None) => *plan,
        });
    }
    turns::hold(desired, observed, &mut nodes, now);
    let cluster = bindings::plan(desired, observed, &nodes, now);
    let summary = summary(&cluster, &nodes);
    Plan { format_version: FORMAT_VERSION.to_owned(), desired: desired.revision.clone(), cluster, nodes, summary }
}

/// A node's plan, or what it will be made from.
enum Begun<'a> {
    Done(Box<NodePlan>),
    Waits(Box<node::Prepared<'a>>),
}

/// The same plan for some of its nodes; what belongs to no node is left out, since it is about all of them.
pub fn narrow(plan: Plan, names: &BTreeSet<String>) -> Plan {
    let Plan { format_version, desired, cluster: _, mut nodes, summary: _ } = plan;
    nodes.retain(|node| names.contains(&node.name));
    let cluster = ClusterPlan::default();
    let summary = summary(&cluster, &nodes);
    Plan { format_version, desired, cluster, nodes, summary }
}

fn summary(cluster: &ClusterPlan, nodes: &[NodePlan]) -> Summary {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut sum = Summary { nodes: count(nodes.len()), blocked: count(cluster.blocked.len()), ..Summary::default() };
    for node in nodes {
        sum.changed += u32::from(!node.steps.is_empty());
        sum.disrupt += count(node.disruptions.len());
        sum.blocked += count(node.blocked.len());
        for gpu in &node.gpus {
            // What nobody manages is left alone, not kept.
            sum.keep += if gpu.managed { count(gpu.keep.len()) } else { 0 };
            sum.destroy += count(gpu.destroy.len());
            sum.create += count(gpu.create.len());
        }
    }
    sum
}

/// Whether anything differs from what is desired: also what waits, not what is blocked for good.
pub fn has_changes(plan: &Plan) -> bool {
    let differs =
        |node: &NodePlan| !node.steps.is_empty() || !node.waiting.is_empty() || node.state == NodeState::Waiting;
    !plan.cluster.steps.is_empty() || plan.nodes.iter().any(differs)
}

/// Whether something is not done until somebody acts: it is blocked, or waits for a suspended node.
pub fn has_blocks(plan: &Plan) -> bool {
    let mut steps = plan.nodes.iter().flat_map(|node| &node.steps).chain(&plan.cluster.steps);
    steps.any(|step| step.waits == Some(BlockCode::Suspended))
        || !plan.cluster.blocked.is_empty()
        || plan.nodes.iter().any(|node| !node.blocked.is_empty())
}
