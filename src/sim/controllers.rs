//! The simulated cluster's controllers: each workload has the pods that it wants, of the template that it has now.

use std::collections::BTreeMap;

use super::devices::Counts;
use super::world::{SimNode, SimPod, SimWorkload, World};
use crate::model::Digest;
use crate::model::observed::{Owner, PodPhase};

/// What Kubernetes makes generated names of: no vowels, so no words.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five characters that follow from what is digested.
fn five<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let Digest(text) = Digest::of(parts);
    let letter = |byte: u8| ALPHABET.get(usize::from(byte) % ALPHABET.len()).copied().map_or('x', char::from);
    let hex = text.trim_start_matches("sha256:").as_bytes().chunks(2).take(5);
    hex.map(|pair| letter(pair.iter().fold(0u8, |sum, b| sum.wrapping_mul(31).wrapping_add(*b)))).collect()
}

impl SimWorkload {
    /// GPU resources that its pod template asks for.
    pub fn requests(&self) -> Counts {
        let count = self.per_replica;
        let resource = self.resource.clone().or_else(|| self.profile.map(|profile| profile.resource()));
        resource.filter(|_| count > 0).map(|resource| (resource, count)).into_iter().collect()
    }

    /// Whether a node's labels let its pods run there.
    pub fn selects(&self, name: &str, node: &SimNode) -> bool {
        let admits = self.affinity.admits(name, &node.labels);
        node.in_cluster && admits && self.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
    }

    /// Whether this pod of its may run on that node: a DaemonSet's has one node, which its name follows from.
    pub(super) fn may_run_on(&self, key: &str, name: &str, node: &SimNode) -> bool {
        self.selects(name, node) && (self.kind != "DaemonSet" || key == self.daemon_key(name))
    }

    fn key(&self, pod: &str) -> String {
        format!("{}/{pod}", self.namespace)
    }

    fn daemon_key(&self, node: &str) -> String {
        self.key(&format!("{}-{node}", self.name))
    }

    fn ordinal_key(&self, ordinal: u32) -> String {
        self.key(&format!("{}-{ordinal}", self.name))
    }

    /// Whether a pod is of an older template than the one that requests this. A Job's template never changes; a workload
    /// that asks for nothing leaves its pods what they hold.
    pub(super) fn outdated(&self, pod: &SimPod, requests: &Counts) -> bool {
        let other = pod.requests != *requests || pod.affinity != self.affinity;
        self.kind != "Job" && !requests.is_empty() && other
    }
}

impl World {
    /// The workload that owns a pod.
    pub(super) fn owner_of(&self, key: &str, pod: &SimPod) -> Option<&SimWorkload> {
        let owner = pod.owner.as_ref()?;
        let (namespace, _) = key.split_once('/')?;
        self.workloads.iter().find(|w| w.kind == owner.kind && w.namespace == namespace && w.name == owner.name)
    }

    /// How many pods a workload wants: its replicas; a DaemonSet one for each node that it may run on.
    pub(super) fn wanted(&self, workload: &SimWorkload) -> u32 {
        if workload.kind != "DaemonSet" {
            return workload.replicas;
        }
        u32::try_from(self.nodes.iter().filter(|(name, node)| workload.selects(name, node)).count()).unwrap_or(u32::MAX)
    }

    /// A workload's pods and their names, in order.
    pub(super) fn pods_of<'a>(&'a self, workload: &'a SimWorkload) -> impl Iterator<Item = (&'a String, &'a SimPod)> {
        let prefix = format!("{}/", workload.namespace);
        let there = self.pods.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix));
        there.filter(|(_, pod)| {
            pod.owner.as_ref().is_some_and(|owner| owner.kind == workload.kind && owner.name == workload.name)
        })
    }

    /// One turn of every controller; whether any did something.
    pub(super) fn control(&mut self) -> bool {
        // Controllers change pods only, so the workloads can be lent to them.
        let workloads = std::mem::take(&mut self.workloads);
        let mut changed = false;
        for workload in &workloads {
            changed |= match workload.kind.as_str() {
                "StatefulSet" => self.stateful_set(workload),
                "DaemonSet" => self.daemon_set(workload),
                _ => self.replica_set(workload),
            };
        }
        self.workloads = workloads;
        changed
    }

    fn create(&mut self, workload: &SimWorkload, key: String) {
        let serial = self.serial();
        let uid = uid(&key, serial);
        let owner = Owner { kind: workload.kind.clone(), name: workload.name.clone() };
        self.pods.insert(key, pod(workload, uid, owner));
    }

    /// Removes pods; whether there were any.
    fn terminate_all(&mut self, keys: &[String]) -> bool {
        for key in keys {
            self.terminate(key, None);
        }
        !keys.is_empty()
    }

    /// A Deployment's or a Job's. A new template surges by one, and an old pod goes when a new one runs.
    fn replica_set(&mut self, workload: &SimWorkload) -> bool {
        let live = |pod: &SimPod| matches!(pod.phase, PodPhase::Pending | PodPhase::Running);
        let (mut fresh, mut old) = (Vec::new(), Vec::new());
        let mut idle = Vec::new();
        let mut running = 0;
        let requests = workload.requests();
        for (key, pod) in self.pods_of(workload).filter(|(_, pod)| live(pod)) {
            let outdated = workload.outdated(pod, &requests);
            match pod.phase {
                PodPhase::Pending if outdated => idle.push(key.clone()),
                _ if outdated => old.push(key.clone()),
                _ => fresh.push((pod.phase, key.clone())),
            }
            running += usize::from(pod.phase == PodPhase::Running);
        }
        let wanted = workload.replicas as usize;
        // Old ones that serve nobody yet go first, then as many as others replace.
        let replaced = running.saturating_sub(wanted).min(old.len());
        let kept = old.split_off(replaced);
        let mut changed = self.terminate_all(&idle) | self.terminate_all(&old);
        // Fewer wanted than there are: those that do not run go first, then the last by name.
        fresh.sort_by_key(|(phase, _)| *phase != PodPhase::Running);
        let surplus: Vec<String> = fresh.split_off(wanted.min(fresh.len())).into_iter().map(|(_, key)| key).collect();
        changed |= self.terminate_all(&surplus);
        let surge = usize::from(!kept.is_empty());
        let template = match workload.affinity.is_empty() {
            true => format!("{requests:?}"),
            false => format!("{requests:?} {:?}", workload.affinity),
        };
        for _ in fresh.len()..wanted.min((wanted + surge).saturating_sub(kept.len())) {
            let key = self.free_name(workload, &template);
            self.create(workload, key);
            changed = true;
        }
        changed
    }

    /// A generated name that no pod bears.
    fn free_name(&mut self, workload: &SimWorkload, template: &str) -> String {
        loop {
            let serial = self.serial();
            let tail = five([workload.name.as_bytes(), &serial.to_le_bytes()]);
            let name = match workload.kind.as_str() {
                "Deployment" => format!("{}-{}-{tail}", workload.name, five([template.as_bytes()])),
                _ => format!("{}-{tail}", workload.name),
            };
            let key = workload.key(&name);
            if !self.pods.contains_key(&key) {
                return key;
            }
        }
    }

    /// A StatefulSet's, in the order of their ordinals: the next when those before it run, a new one when the old one
    /// of its name is gone, and a new template from the highest down, one at a time.
    fn stateful_set(&mut self, workload: &SimWorkload) -> bool {
        let mut gone = Vec::new();
        let mut unready = false;
        let mut highest_outdated = None;
        let requests = workload.requests();
        for (key, pod) in self.pods_of(workload) {
            let beyond = self.ordinal(workload, key).is_none_or(|ordinal| ordinal >= workload.replicas);
            match pod.phase {
                PodPhase::Ended => gone.push(key.clone()),
                PodPhase::Terminating => unready = true,
                _ if beyond => gone.push(key.clone()),
                PodPhase::Pending if workload.outdated(pod, &requests) => gone.push(key.clone()),
                PodPhase::Pending => unready = true,
                PodPhase::Running if workload.outdated(pod, &requests) => {
                    highest_outdated = highest_outdated.max(self.ordinal(workload, key));
                }
                PodPhase::Running => {}
            }
        }
        let changed = self.terminate_all(&gone);
        for ordinal in 0..workload.replicas {
            let key = workload.ordinal_key(ordinal);
            match self.pods.get(&key) {
                None => {
                    self.create(workload, key);
                    return true;
                }
                Some(pod) if pod.phase != PodPhase::Running => return changed,
                Some(_) => {}
            }
        }
        if let Some(ordinal) = highest_outdated.filter(|_| !unready && !changed) {
            self.terminate(&workload.ordinal_key(ordinal), None);
            return true;
        }
        changed
    }

    fn ordinal(&self, workload: &SimWorkload, key: &str) -> Option<u32> {
        key.strip_prefix(&workload.key(&workload.name))?.strip_prefix('-')?.parse().ok()
    }

    /// A DaemonSet's: one on each node that it may run on, a new one when the old one is gone, and a new template one
    /// node at a time. It tolerates no taint of ours.
    fn daemon_set(&mut self, workload: &SimWorkload) -> bool {
        let mut gone = Vec::new();
        let mut outdated = None;
        let mut unready = false;
        let mut served = BTreeMap::new();
        let requests = workload.requests();
        for (key, pod) in self.pods_of(workload) {
            let node = pod.node.as_ref().and_then(|name| self.nodes.get_key_value(name));
            match pod.phase {
                PodPhase::Ended => gone.push(key.clone()),
                // The node's labels have changed.
                PodPhase::Pending | PodPhase::Running
                    if node.is_some_and(|(name, node)| !workload.selects(name, node)) =>
                {
                    gone.push(key.clone());
                }
                PodPhase::Pending if workload.outdated(pod, &requests) => gone.push(key.clone()),
                PodPhase::Running if workload.outdated(pod, &requests) => outdated = outdated.or(Some(key.clone())),
                PodPhase::Running => {}
                PodPhase::Pending | PodPhase::Terminating => unready = true,
            }
            if let Some(node) = &pod.node {
                served.insert(node.clone(), ());
            }
        }
        let mut changed = self.terminate_all(&gone);
        let free = |(name, node): &(&String, &SimNode)| {
            workload.selects(name, node) && !node.tainted && !served.contains_key(*name)
        };
        let missing: Vec<String> = self.nodes.iter().filter(free).map(|(name, _)| workload.daemon_key(name)).collect();
        for key in missing {
            if !self.pods.contains_key(&key) {
                self.create(workload, key);
                changed = true;
            }
        }
        if let Some(key) = outdated.filter(|_| !unready && !changed) {
            self.terminate(&key, None);
            changed = true;
        }
        changed
    }
}

/// A pod's UID: of the form of a UUID, another one for each serial number.
pub(super) fn uid(key: &str, serial: u64) -> String {
    uuid([b"pod".as_slice(), key.as_bytes(), &serial.to_le_bytes()])
}

/// A UUID that follows from what is digested.
pub(super) fn uuid<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let Digest(text) = Digest::of(parts);
    let mut hex = text.trim_start_matches("sha256:");
    let mut uuid = String::with_capacity(36);
    for length in [8, 4, 4, 4, 12] {
        let (group, rest) = hex.split_at_checked(length).unwrap_or((hex, ""));
        hex = rest;
        if !uuid.is_empty() {
            uuid.push('-');
        }
        uuid.push_str(group);
    }
    uuid
}

/// A new pod of a workload's template.
pub(super) fn pod(workload: &SimWorkload, uid: String, owner: Owner) -> SimPod {
    SimPod {
        uid,
        owner: Some(owner),
        labels: workload.labels.clone(),
        annotations: BTreeMap::new(),
        requests: workload.requests(),
        affinity: workload.affinity.clone(),
        node: None,
        devices: Default::default(),
        phase: PodPhase::Pending,
        until_ms: None,
        grace_period_s: workload.grace_period_s,
        empty_dir: false,
        mirror: false,
    }
}
