//! Plans and status for programs. The forms are versioned: additions keep `format_version`, changes raise it.

use serde::Serialize;

use crate::model::desired::DesiredNode;
use crate::model::observed::{ObservedCluster, ObservedNode};
use crate::model::plan::{FORMAT_VERSION, NodeState};
use crate::model::{Block, Desired, Observed, Plan, Revision};

/// A plan as JSON: what `plan --out` saves and `apply` reads.
pub fn plan(plan: &Plan) -> String {
    pretty(plan)
}

/// What is there now beside what is wanted, as JSON: what `plan --observed DIR` reads.
pub fn status(desired: &Desired, observed: &Observed, plan: &Plan) -> String {
    let nodes = plan.nodes.iter().map(|node| NodeStatus {
        name: &node.name,
        state: node.state,
        observed_at: &node.observed_at,
        observed: observed.nodes.get(&node.name),
        desired: desired.nodes.get(&node.name),
        waiting: &node.waiting,
        blocked: &node.blocked,
        warnings: &node.warnings,
    });
    pretty(&Status {
        format_version: FORMAT_VERSION,
        desired: &plan.desired,
        cluster: &observed.cluster,
        nodes: nodes.collect(),
    })
}

/// The status document.
#[derive(Serialize)]
struct Status<'a> {
    format_version: &'a str,
    desired: &'a Revision,
    cluster: &'a ObservedCluster,
    nodes: Vec<NodeStatus<'a>>,
}

/// A node in it; `null` where it could not be observed, or where the tree does not speak of it.
#[derive(Serialize)]
struct NodeStatus<'a> {
    name: &'a str,
    state: NodeState,
    observed_at: &'a str,
    observed: Option<&'a ObservedNode>,
    desired: Option<&'a DesiredNode>,
    waiting: &'a [Block],
    blocked: &'a [Block],
    warnings: &'a [String],
}

#[expect(clippy::expect_used, reason = "the model's types have no maps but with text keys, so writing them can't fail")]
fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("the model is representable in JSON");
    text.push('\n');
    text
}
