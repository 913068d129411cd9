//! Plans and status for programs. The forms are versioned: additions keep `format_version`, changes raise it.

use serde::Serialize;

use super::fit::Set;
use super::fleet::{Controller, Stands, Whole};
use super::tale::Tale;
use crate::model::Places;
use crate::model::catalogue::Board;
use crate::model::desired::DesiredNode;
use crate::model::observed::{ObservedCluster, ObservedGpu, ObservedNode, Suspension};
use crate::model::plan::{BindingReport, FORMAT_VERSION, NodeState};
use crate::model::{Block, Desired, Geometry, Observed, Placement, Plan, ProfileName, Revision};
use crate::plan::fit;
use crate::plan::misfit::Misfit;
use crate::plan::placement::Want;

/// A plan as JSON: what `plan --out` saves and [`super::saved`] reads.
pub fn plan(plan: &Plan) -> String {
    pretty(plan)
}

/// What is there now beside what is wanted, as JSON: what `plan --observed DIR` reads; and what became of earlier runs.
pub fn status(desired: &Desired, observed: &Observed, plan: &Plan, tales: &[Tale]) -> String {
    fleet_status(desired, observed, plan, tales, None)
}

/// The same of a fleet: with how its nodes say that they stand, its bindings, and who controls it.
pub fn fleet_status(
    desired: &Desired,
    observed: &Observed,
    plan: &Plan,
    tales: &[Tale],
    fleet: Option<&Whole<'_>>,
) -> String {
    let nodes = plan.nodes.iter().map(|node| NodeStatus {
        name: &node.name,
        state: node.state,
        suspended: node.suspended.as_ref(),
        observed_at: &node.observed_at,
        observed: observed.nodes.get(&node.name),
        desired: desired.nodes.get(&node.name),
        waiting: &node.waiting,
        blocked: &node.blocked,
        warnings: &node.warnings,
        earlier_run: tales.iter().find(|tale| tale.node == node.name),
        published: fleet.and_then(|fleet| fleet.nodes.get(node.name.as_str())),
    });
    pretty(&Status {
        format_version: FORMAT_VERSION,
        desired: &plan.desired,
        cluster: &observed.cluster,
        nodes: nodes.collect(),
        bindings: fleet.map(|_| plan.cluster.bindings.as_slice()),
        controller: fleet.and_then(|fleet| fleet.controller.as_ref()),
        places: fleet.and_then(|fleet| fleet.places),
    })
}

/// The status document.
#[derive(Serialize)]
struct Status<'a> {
    format_version: &'a str,
    desired: &'a Revision,
    cluster: &'a ObservedCluster,
    nodes: Vec<NodeStatus<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bindings: Option<&'a [BindingReport]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<&'a Controller>,
    #[serde(skip_serializing_if = "Option::is_none")]
    places: Option<&'a Places>,
}

/// A node in it; `null` where it could not be observed, or where the tree does not speak of it.
#[derive(Serialize)]
struct NodeStatus<'a> {
    name: &'a str,
    state: NodeState,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended: Option<&'a Suspension>,
    observed_at: &'a str,
    observed: Option<&'a ObservedNode>,
    desired: Option<&'a DesiredNode>,
    waiting: &'a [Block],
    blocked: &'a [Block],
    warnings: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    earlier_run: Option<&'a Tale>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<&'a Stands>,
}

/// Boards of the catalogue with every figure and where it comes from, as JSON.
pub fn boards(boards: &[&Board]) -> String {
    pretty(&Boards { format_version: FORMAT_VERSION, boards })
}

/// What the drivers tell of each GPU of these nodes, as JSON.
pub fn gpus<'a>(nodes: impl IntoIterator<Item = (&'a str, Vec<&'a ObservedGpu>)>) -> String {
    let gpu = |gpu: &'a ObservedGpu| {
        let ObservedGpu { uuid, index, pci: _, model, board, mig: _, geometry, instances: _, recorded: _, users: _ } =
            gpu;
        Offer { uuid, index: *index, model, board: board.as_deref(), geometry: geometry.as_deref() }
    };
    let nodes = nodes.into_iter().map(|(name, gpus)| Offers { name, gpus: gpus.into_iter().map(gpu).collect() });
    pretty(&Nodes { format_version: FORMAT_VERSION, nodes: nodes.collect() })
}

#[derive(Serialize)]
struct Boards<'a> {
    format_version: &'a str,
    boards: &'a [&'a Board],
}

#[derive(Serialize)]
struct Nodes<'a> {
    format_version: &'a str,
    nodes: Vec<Offers<'a>>,
}

#[derive(Serialize)]
struct Offers<'a> {
    name: &'a str,
    gpus: Vec<Offer<'a>>,
}

/// A GPU; no geometry where neither the driver nor the catalogue tells.
#[derive(Serialize)]
struct Offer<'a> {
    uuid: &'a str,
    index: u32,
    model: &'a str,
    board: Option<&'a str>,
    geometry: Option<&'a Geometry>,
}

/// Whether and where a set fits, as JSON: its layouts and the one that Sectile makes on an empty GPU, or the misfit.
pub fn fit(model: &str, set: Set<'_>, answer: Result<(&[Vec<u32>], &[u32]), &Misfit>) -> String {
    let Set { geometry, wants } = set;
    let name = |profile: usize| geometry.profiles.get(profile).map(|p| p.name);
    let piece = |want: &Want| Some(Piece { profile: name(want.profile)?, start: want.start, size: None });
    let part = |of: &[usize]| of.iter().filter_map(|&i| piece(wants.get(i)?)).collect();
    let layout = |starts: &[u32]| {
        let places = fit::places(geometry, wants, starts).into_iter();
        let piece = |(Placement { start, size }, profile)| {
            Some(Piece { profile: name(profile)?, start: Some(start), size: Some(size) })
        };
        places.filter_map(piece).collect()
    };
    let misfit = answer.err().map(|misfit| {
        let impossible = part(&misfit.impossible);
        Nearest { impossible, reason: set.reason(misfit), closest: part(&misfit.closest) }
    });
    pretty(&Fit {
        format_version: FORMAT_VERSION,
        model,
        wanted: wants.iter().filter_map(piece).collect(),
        chosen: answer.ok().map(|(_, chosen)| layout(chosen)),
        layouts: answer.ok().map(|(all, _)| all.iter().map(|starts| layout(starts)).collect()).unwrap_or_default(),
        misfit,
    })
}

#[derive(Serialize)]
struct Fit<'a> {
    format_version: &'a str,
    model: &'a str,
    wanted: Vec<Piece>,
    chosen: Option<Vec<Piece>>,
    layouts: Vec<Vec<Piece>>,
    misfit: Option<Nearest>,
}

#[derive(Serialize)]
struct Nearest {
    impossible: Vec<Piece>,
    reason: String,
    closest: Vec<Piece>,
}

#[derive(Serialize)]
struct Piece {
    profile: ProfileName,
    start: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
}

#[expect(clippy::expect_used, reason = "the model's types have no maps but with text keys, so writing them can't fail")]
fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("the model is representable in JSON");
    text.push('\n');
    text
}
