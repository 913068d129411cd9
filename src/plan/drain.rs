//! Verdicts on everybody who would be disturbed, all of them before the first is: in kubectl drain's words, each with
//! the policy key that overrides it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::desired::{Binding, DesiredNode, Target};
use crate::model::observed::{ObservedCluster, ObservedNode, Pod, PodPhase, User};
use crate::model::plan::{Block, BlockCode};
use crate::model::policy::{Allocation, DO_NOT_DISRUPT, DaemonSets, PodSelector, Policy, Processes};
use crate::model::{Bind, text};

/// What is said of disturbing somebody, before budgets and room are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It may be moved, and why that is so.
    Move(String),
    /// It may not, until somebody acts or (for codes that wait) until it ends by itself.
    No(Block),
}

/// Everything that verdicts depend on.
#[derive(Debug)]
pub struct Court<'a> {
    policy: Option<&'a Policy>,
    bindings: &'a [Arc<Binding>],
    pods: &'a Pods<'a>,
    cluster: &'a ObservedCluster,
    node: &'a ObservedNode,
}

/// Pods by namespace and name.
pub type Pods<'a> = BTreeMap<(&'a str, &'a str), &'a Pod>;

/// Pods by namespace and name, for all courts of a plan.
pub fn index(cluster: &ObservedCluster) -> Pods<'_> {
    cluster.pods.iter().map(|pod| ((pod.namespace.as_str(), pod.name.as_str()), pod)).collect()
}

impl<'a> Court<'a> {
    /// A court for one node.
    pub fn new(
        desired: &'a DesiredNode,
        node: &'a ObservedNode,
        cluster: &'a ObservedCluster,
        pods: &'a Pods<'a>,
    ) -> Self {
        Court { policy: desired.policy.as_deref(), bindings: &desired.bindings, pods, cluster, node }
    }

    /// The pod of that name, if it is the node's: a new pod may bear the name of one that its kubelet still knows.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&'a Pod> {
        self.pods.get(&(namespace, name)).copied().filter(|pod| pod.node.as_deref() == Some(self.node.name.as_str()))
    }

    /// What whoever takes the place of a pod will ask for. Without a controller nobody makes it anew, so what it leaves is
    /// all that it takes.
    pub fn successor(&self, pod: &Pod) -> BTreeMap<String, u32> {
        match self.managed(pod) {
            _ if pod.owner.is_none() => BTreeMap::new(),
            Some((_, wanted, true)) => wanted,
            _ => self.cluster.successor(pod).clone(),
        }
    }

    /// The binding by which a pod's workload is still to ask for something else than it does, and for what.
    pub fn rebinds(&self, pod: &Pod) -> Option<(&'a Binding, BTreeMap<String, u32>)> {
        let (binding, wanted, claimed) = self.managed(pod)?;
        (!claimed && *self.cluster.successor(pod) != wanted).then_some((binding, wanted))
    }

    /// The binding that sets a pod's workload, what that is to ask for, and whether it claims that already.
    fn managed(&self, pod: &Pod) -> Option<(&'a Binding, BTreeMap<String, u32>, bool)> {
        let owner = pod.owner.as_ref()?;
        let of = |binding: &Binding| match &binding.target {
            Target::Kubernetes { object: o, container } => {
                let is = o.kind == owner.kind && o.namespace == pod.namespace && o.name == owner.name;
                (binding.manage && is).then(|| (o.clone(), container.clone()))
            }
            Target::Systemd { .. } | Target::Command { .. } => None,
        };
        let (binding, (object, container)) = self.bindings.iter().find_map(|b| Some((b.as_ref(), of(b)?)))?;
        let profile = self.node.meant(binding.profile);
        let wanted = BTreeMap::from([(self.node.strategy().resource(profile)?, binding.per_replica)]);
        let claim = Bind {
            binding: binding.name.clone(),
            object,
            container,
            profile,
            per_replica: binding.per_replica,
            strategy: self.node.strategy(),
            allocation: Allocation::Dra,
            affinity: binding.affinity.clone(),
        };
        let workload = self.cluster.workload(&owner.kind, &pod.namespace, &owner.name);
        let claimed = claim.claim_template().zip(workload).is_some_and(|(template, w)| w.claims.contains(&template));
        Some((binding, wanted, claimed))
    }

    /// The binding of a unit.
    pub fn unit(&self, unit: &str) -> Option<&'a Binding> {
        self.bindings
            .iter()
            .map(Arc::as_ref)
            .find(|b| matches!(&b.target, Target::Systemd { unit: u, .. } if u == unit))
    }

    /// The binding of a workload that commands drain.
    pub fn command(&self, name: &str) -> Option<&'a Binding> {
        self.bindings.iter().map(Arc::as_ref).find(|b| b.name == name && matches!(b.target, Target::Command { .. }))
    }

    /// Judges one user, whose disruption budgets these are.
    pub fn judge(&self, user: &User, budgets: &[String]) -> Ruling {
        if budgets.len() > 1 {
            // The eviction API answers 500 then (kubernetes.io, api-eviction).
            return no(
                BlockCode::TwoBudgets,
                user,
                &format!("{} cover it, and the API server evicts no pod of several budgets", budgets.join(" and ")),
                "leave it one PodDisruptionBudget",
            );
        }
        match user {
            User::Pod { namespace, name } => match self.pod(namespace, name) {
                Some(pod) => judge_pod(self.policy.unwrap_or(&Policy::default()), pod),
                None => no(
                    BlockCode::UnknownUsers,
                    user,
                    "the kubelet says that this pod holds it, and the API server does not know the pod",
                    "wait until they agree, or look at the node with `kubectl describe node`",
                ),
            },
            User::Unit(unit) => match self.unit(unit) {
                Some(_) if self.node.units.get(unit).is_some_and(|state| !state.takes.is_empty()) => {
                    let takes = self.node.units.get(unit).into_iter().flat_map(|state| &state.takes);
                    let takes: Vec<&str> = takes.map(String::as_str).collect();
                    no(
                        BlockCode::StopsOthers,
                        user,
                        &format!("it would be stopped, and systemd would stop {} with it", takes.join(", ")),
                        "let those say Wants= in the place of Requires=, BindsTo= or PartOf=, or stop them",
                    )
                }
                Some(binding) => Ruling::Move(format!("bound by {}", binding.source)),
                None => no(
                    BlockCode::UnboundUser,
                    user,
                    "no [[workload]] binds this unit, so nobody said how to move it",
                    "bind the unit, or stop it",
                ),
            },
            User::Command(name) => match self.command(name) {
                Some(binding) => Ruling::Move(format!("bound by {}", binding.source)),
                None => no(
                    BlockCode::UnboundUser,
                    user,
                    "no [[workload]] of that name binds it, so nobody said how to move it",
                    "bind it with [workload.command], or end it",
                ),
            },
            User::Process { .. } => self.judge_process(user),
        }
    }

    fn judge_process(&self, user: &User) -> Ruling {
        let rule = self.policy.map_or(Processes::Refuse, |p| p.protect.processes);
        match rule {
            Processes::Terminate => Ruling::Move("protect.processes = \"terminate\"".to_owned()),
            Processes::Wait => no(
                BlockCode::ProcessWait,
                user,
                "it still runs, and protect.processes = \"wait\"",
                "it ends by itself, or end it",
            ),
            Processes::Refuse => no(
                BlockCode::Process,
                user,
                "a process that no binding explains uses the GPU",
                "end it, bind it, or set protect.processes = \"wait\" or \"terminate\"",
            ),
        }
    }
}

/// Judges a pod by a policy.
pub fn judge_pod(policy: &Policy, pod: &Pod) -> Ruling {
    if pod.phase == PodPhase::Terminating {
        return Ruling::Move("it terminates already".to_owned());
    }
    let refuse = |code, message: String, hint: &str| {
        Ruling::No(Block { code, message, object: format!("pod {}", pod.id()), hint: hint.to_owned() })
    };
    if pod.mirror {
        let message = "a static pod of the node's own; the API server can't evict it".to_owned();
        return refuse(BlockCode::MirrorPod, message, "take its manifest off the node");
    }
    if !pod.shared_claims.is_empty() {
        let claims = pod.shared_claims.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
        return refuse(
            BlockCode::SharedClaim,
            format!("other pods hold ResourceClaim {claims}, too, and it keeps its instance while any of them does"),
            "end the pods that share it, or give each a claim of its own",
        );
    }
    if let Some(selector) = policy.protect.pods.iter().find(|s| selects(s, pod)) {
        let message = format!("protected by {}", selector.source);
        return refuse(
            BlockCode::Protected,
            message,
            "take it out of protect.pods, or leave its instance in the layout",
        );
    }
    let asked = DO_NOT_DISRUPT.iter().find(|(key, value)| pod.annotations.get(*key).is_some_and(|v| v == value));
    if let Some((key, value)) = asked.filter(|_| policy.protect.annotations) {
        let message = format!("it is annotated {key}={value}");
        return refuse(BlockCode::Annotated, message, "take the annotation off, or set protect.annotations = false");
    }
    match &pod.owner {
        None if !policy.drain.force => {
            let message = "it has no controller that would make it anew".to_owned();
            refuse(BlockCode::UnmanagedPod, message, "set drain.force = true to delete it for good, or delete it")
        }
        Some(owner) if owner.kind == "DaemonSet" && policy.drain.daemonsets == DaemonSets::Refuse => {
            let message = format!("DaemonSet {} manages it", owner.name);
            refuse(BlockCode::DaemonSetPod, message, "set drain.daemonsets = \"delete\"")
        }
        _ if pod.empty_dir && !policy.drain.delete_emptydir_data => {
            let message = "its emptyDir data would be lost".to_owned();
            refuse(BlockCode::EmptyDir, message, "set drain.delete_emptydir_data = true")
        }
        Some(owner) => Ruling::Move(format!("{} {} makes it anew", owner.kind, owner.name)),
        None => Ruling::Move("drain.force = true: it is deleted for good".to_owned()),
    }
}

fn no(code: BlockCode, user: &User, message: &str, hint: &str) -> Ruling {
    Ruling::No(Block { code, message: message.to_owned(), object: user_name(user), hint: hint.to_owned() })
}

/// How messages name a user.
pub fn user_name(user: &User) -> String {
    match user {
        User::Pod { namespace, name } => format!("pod {namespace}/{name}"),
        User::Unit(unit) => format!("unit {unit}"),
        User::Command(name) => format!("workload {name}"),
        User::Process { pid, name } => format!("process {pid} {name}").trim_end().to_owned(),
    }
}

/// Whether a selector of `protect.pods` means the pod.
fn selects(selector: &PodSelector, pod: &Pod) -> bool {
    selector.namespace.as_deref().is_none_or(|glob| text::glob_matches(glob, &pod.namespace))
        && selector.labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}
