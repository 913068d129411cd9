//! What the cluster is shown of a run, and what its API server is asked beforehand.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::execute::within;
use crate::model::{NodePlan, NodeState, ObservedNode, Plan, StepKind};
use crate::ports::{Clock as _, Cluster as _, ClusterEvent, Eviction, Reason, Removal, Shown};
use crate::render;

use super::context::Picture;
use super::error::Error;
use super::fleet::Fleet;
use super::output;
use super::outside::Outside;

/// After so many seconds nobody waits any more until the cluster shows how a node stands.
const SHOW_S: i64 = 30;

/// Asks the API server about every eviction of a plan and every workload that it changes, and tells what it says; whether it
/// refuses any.
pub(super) fn ask_server<O: Outside>(fleet: &Fleet<O>, plan: &Plan, quiet: bool) -> Result<bool, Error> {
    let Some(cluster) = &fleet.cluster else {
        output::tell("There is no API server to ask: the node is in no cluster.\n");
        return Ok(false);
    };
    let (mut asked, mut refused) = (0, false);
    for step in plan.nodes.iter().flat_map(|node| &node.steps) {
        let StepKind::EvictPod { namespace, pod, uid, grace_period_s, delete } = &step.kind else { continue };
        let how = Removal { grace_period_s: *grace_period_s, delete: *delete, dry_run: true };
        asked += 1;
        let said = match fleet.again(async || cluster.remove_pod(namespace, pod, uid, how).await) {
            Ok(Eviction::Accepted) => "would be evicted".to_owned(),
            Ok(Eviction::Gone) => "is gone already".to_owned(),
            Ok(Eviction::TooMany { .. }) => "would wait for its disruption budget".to_owned(),
            Err(error) => {
                refused = true;
                format!("would not be evicted: {error}")
            }
        };
        output::tell(&format!("API server: pod {namespace}/{pod} {said}\n"));
    }
    let revision = plan.desired.to_string();
    for step in &plan.cluster.steps {
        let (bind, sets) = match &step.kind {
            StepKind::BindWorkload { bind, .. } => (bind, true),
            StepKind::UnbindWorkload { bind, .. } => (bind, false),
            _ => continue,
        };
        asked += 1;
        let said = fleet.again(async || match sets {
            true => cluster.bind(bind, &revision, true).await,
            false => cluster.unbind(bind, &revision, true).await,
        });
        let said = match said {
            Ok(()) => "would be changed".to_owned(),
            Err(error) => {
                refused = true;
                format!("would not be changed: {error}")
            }
        };
        output::tell(&format!("API server: {} {said}\n", bind.object));
    }
    if asked == 0 && !quiet {
        output::tell("API server: there is no eviction to ask about, and no workload.\n");
    }
    Ok(refused)
}

/// Shows that nodes are about to be changed.
pub(super) fn begin<O: Outside>(fleet: &Fleet<O>, picture: &Picture) {
    for (plan, _) in nodes(picture).filter(|(plan, _)| plan.steps.iter().any(|step| step.waits.is_none())) {
        let event = (Reason::Repartitioning, render::text::sum(plan));
        show(fleet, picture, plan, (NodeState::Changing, None), None, Some(event));
    }
}

/// Shows how nodes stand now, and what was seen of them. `begun`: whether anything was done.
pub(super) fn end<O: Outside>(fleet: &Fleet<O>, picture: &Picture, failures: &BTreeMap<String, String>, begun: bool) {
    for (plan, seen) in nodes(picture) {
        let failure = failures.get(&plan.name);
        let state = if failure.is_some() { NodeState::Failed } else { plan.state };
        let event = match (failure, state) {
            (Some(why), _) => Some((Reason::Failed, why.clone())),
            (None, NodeState::Blocked) => {
                let first = plan.blocked.first();
                first.map(|block| (Reason::Blocked, format!("{}: {}: {}", block.code, block.object, block.message)))
            }
            (None, NodeState::Converged) if begun => {
                Some((Reason::Repartitioned, format!("the layout is that of {}", picture.plan.desired)))
            }
            _ => None,
        };
        let block = message(plan);
        let message = failure.or(block.as_ref()).map(String::as_str);
        let view = render::view::write(seen, fleet.time());
        show(fleet, picture, plan, (state, message), Some(&view), event);
    }
}

/// Shows the same once more, as it is seen now: nothing new has happened.
pub(super) fn again<O: Outside>(fleet: &Fleet<O>, picture: &Picture) {
    for (plan, seen) in nodes(picture) {
        let message = message(plan);
        let view = render::view::write(seen, fleet.time());
        show(fleet, picture, plan, (plan.state, message.as_deref()), Some(&view), None);
    }
}

/// Why a node does not go on.
pub(super) fn message(plan: &NodePlan) -> Option<String> {
    let block = plan.blocked.iter().chain(&plan.waiting).next()?;
    Some(format!("{}: {}: {}", block.code, block.object, block.message))
}

/// The planned nodes that are in the cluster.
fn nodes(picture: &Picture) -> impl Iterator<Item = (&NodePlan, &ObservedNode)> {
    let seen = |plan: &NodePlan| picture.observed.nodes.get(&plan.name).filter(|seen| seen.cluster.is_some());
    picture.plan.nodes.iter().filter_map(move |plan| Some((plan, seen(plan)?)))
}

/// What can't be shown is no reason to stop.
fn show<O: Outside>(
    fleet: &Fleet<O>,
    picture: &Picture,
    plan: &NodePlan,
    (state, message): (NodeState, Option<&str>),
    view: Option<&str>,
    event: Option<(Reason, String)>,
) {
    let Some(cluster) = &fleet.cluster else { return };
    let revision = picture.plan.desired.to_string();
    let showing = async {
        let mut shown = cluster.publish(&plan.name, &Shown { state, revision: &revision, message, view }).await;
        if view.is_some() && shown.as_ref().is_err_and(|error| !error.transient) {
            // Annotations may be full; how it stands is worth more than what was seen.
            let _ = cluster.publish(&plan.name, &Shown { state, revision: &revision, message, view: None }).await;
        }
        if let Some((reason, message)) = event {
            let told = cluster.event(&ClusterEvent { node: &plan.name, pod: None, reason, message }).await;
            shown = shown.and(told);
        }
        shown
    };
    let until = fleet.time().saturating_add(SignedDuration::from_secs(SHOW_S)).unwrap_or(Timestamp::MAX);
    match fleet.outside.wait(within(showing, fleet.clock.sleep_until(until))).flatten() {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!("what the cluster shows of {} is old: {error}", plan.name),
        None => tracing::warn!("what the cluster shows of {} is old: it did not answer", plan.name),
    }
}
