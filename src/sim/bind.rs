//! Bindings in the simulated cluster: what was there before comes back when one is taken back.

use super::world::{SimBound, SimTemplate, SimWorkload, World};
use crate::model::binding::newer;
use crate::model::observed::{PodPhase, WorkloadState};
use crate::model::{Affinity, Bind, Bound, Object};
use crate::ports::{Port, PortError};

fn error(code: &str, message: String) -> PortError {
    PortError { transient: false, code: code.to_owned(), message }
}

impl SimWorkload {
    fn is(&self, object: &Object) -> bool {
        self.kind == object.kind && self.namespace == object.namespace && self.name == object.name
    }

    /// What its pods are made by, as far as a binding sets it.
    fn template(&self) -> SimTemplate {
        let SimWorkload { profile, per_replica, resource, affinity, .. } = self;
        SimTemplate {
            profile: *profile,
            per_replica: *per_replica,
            resource: resource.clone(),
            affinity: affinity.clone(),
        }
    }

    fn with(&self, template: SimTemplate) -> SimWorkload {
        let SimTemplate { profile, per_replica, resource, affinity } = template;
        SimWorkload { profile, per_replica, resource, affinity, ..self.clone() }
    }

    /// Whether a template is another one to the pods.
    fn differs(&self, made: &SimWorkload) -> bool {
        made.requests() != self.requests() || made.affinity != self.affinity
    }
}

impl World {
    /// A workload as its object tells it.
    pub(super) fn state(&self, workload: &SimWorkload) -> WorkloadState {
        let requests = workload.requests();
        let fresh =
            |pod: &super::world::SimPod| pod.phase != PodPhase::Terminating && !workload.outdated(pod, &requests);
        let settled = self.pods_of(workload).filter(|(_, pod)| pod.phase != PodPhase::Ended).all(|(_, pod)| fresh(pod));
        let mut affinity: Affinity = workload.affinity.clone();
        affinity.labels.extend(workload.node_selector.clone());
        let of = |bound: &&SimBound| workload.is(&bound.bind.object);
        WorkloadState {
            kind: workload.kind.clone(),
            namespace: workload.namespace.clone(),
            name: workload.name.clone(),
            replicas: self.wanted(workload),
            ready: self.ready(workload),
            requests,
            claims: Default::default(),
            affinity: Some(affinity),
            fixed: workload.kind == "Job",
            // A Deployment surges by one; the others take one down.
            down: u32::from(matches!(workload.kind.as_str(), "StatefulSet" | "DaemonSet")),
            settled,
            revision: self.bound.iter().find(of).map(|bound| bound.revision.clone()),
        }
    }

    /// Bindings that were carried out.
    pub(super) fn bindings(&self) -> Vec<Bound> {
        let of = |bound: &SimBound| Bound { bind: bound.bind.clone(), revision: bound.revision.clone() };
        self.bound.iter().map(of).collect()
    }

    /// Takes a revision up, or refuses one that is older than the last.
    fn take_up(&mut self, revision: &str, dry_run: bool) -> Port<()> {
        if let Some(newer) = newer(&self.revisions, revision) {
            return Err(error(
                "older revision",
                format!("the cluster has taken up {newer}, which is newer than {revision}"),
            ));
        }
        if !dry_run && !self.revisions.iter().any(|taken_up| taken_up == revision) {
            self.revisions.push(revision.to_owned());
        }
        Ok(())
    }

    pub(super) fn bind(&mut self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        let object = &bind.object;
        let Some(at) = self.workloads.iter().position(|workload| workload.is(object)) else {
            return Err(error("404", format!("the cluster has no {object}")));
        };
        self.take_up(revision, dry_run)?;
        let Some(workload) = self.workloads.get(at) else { return Ok(()) };
        let made = workload.with(SimTemplate {
            profile: Some(bind.profile),
            per_replica: bind.per_replica,
            resource: Some(bind.resource()).filter(|_| !bind.strategy.is_mixed()),
            affinity: bind.affinity.clone(),
        });
        if workload.kind == "Job" && workload.differs(&made) {
            return Err(error("422", format!("the pod template of {object} is immutable")));
        }
        if dry_run {
            return Ok(());
        }
        let before = workload.template();
        let earlier = self.bound.iter().position(|bound| bound.bind.object.is(object)).map(|at| self.bound.remove(at));
        let before = earlier.map_or(before, |bound| bound.before);
        self.bound.push(SimBound { bind: bind.clone(), revision: revision.to_owned(), before });
        if let Some(workload) = self.workloads.get_mut(at) {
            *workload = made;
        }
        self.pass(0);
        Ok(())
    }

    pub(super) fn unbind(&mut self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        self.take_up(revision, dry_run)?;
        let Some(at) = self.bound.iter().position(|bound| bound.bind.object.is(&bind.object)) else { return Ok(()) };
        if dry_run {
            return Ok(());
        }
        let SimBound { before, .. } = self.bound.remove(at);
        // Of one that is gone nothing is left to take back, and a Job keeps what it was made with.
        let changes = |workload: &&mut SimWorkload| workload.is(&bind.object) && workload.kind != "Job";
        if let Some(workload) = self.workloads.iter_mut().find(changes) {
            *workload = workload.with(before);
        }
        self.pass(0);
        Ok(())
    }
}
