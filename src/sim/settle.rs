//! The cluster's own life: what happens by itself while the virtual clock runs.
//!
//! Between two events nothing changes, and settling twice is settling once; so one jump of the clock and many small
//! ones end in the same world.

use super::devices;
use super::world::{SimPod, World};
use crate::model::observed::PodPhase;

impl World {
    /// Runs the virtual clock up to that time (never backwards), event by event, the earliest first.
    pub fn advance(&mut self, to_ms: i64) {
        let to_ms = to_ms.max(self.clock_ms);
        self.settle();
        while let Some(at) = self.next_event().filter(|&at| at <= to_ms) {
            self.clock_ms = self.clock_ms.max(at);
            self.fire();
            self.settle();
        }
        self.clock_ms = to_ms;
    }

    /// Runs the virtual clock on by that much.
    pub fn pass(&mut self, ms: i64) {
        self.advance(self.clock_ms.saturating_add(ms.max(0)));
    }

    /// When something happens next by itself.
    pub fn next_event(&self) -> Option<i64> {
        let pods = self.pods.values().filter_map(|pod| pod.until_ms);
        let commands = self.nodes.values().flat_map(|node| node.commands.values());
        pods.chain(commands.filter_map(|command| command.drained_at_ms)).min()
    }

    /// Everything that is due happens: starting pods run, terminating ones are gone, drained commands let go.
    fn fire(&mut self) {
        let now = self.clock_ms;
        self.pods.retain(|_, pod| {
            if pod.until_ms.is_some_and(|at| at <= now) {
                pod.until_ms = None;
                if pod.phase == PodPhase::Pending {
                    pod.phase = PodPhase::Running;
                }
                return pod.phase != PodPhase::Terminating;
            }
            true
        });
        for command in self.nodes.values_mut().flat_map(|node| node.commands.values_mut()) {
            if command.drained_at_ms.is_some_and(|at| at <= now) {
                command.drained_at_ms = None;
                command.devices.clear();
            }
        }
    }

    /// Controllers and scheduler, until they have nothing more to do now. Every change is one that they do not undo,
    /// so it ends.
    fn settle(&mut self) {
        while self.control() | self.schedule() {}
    }

    /// Binds pending pods, in the order of their names, to the first node by name that has room; the kubelet gives
    /// them their devices at once.
    fn schedule(&mut self) -> bool {
        let waiting = |(_, pod): &(&String, &SimPod)| pod.phase == PodPhase::Pending && pod.node.is_none();
        let waiting: Vec<String> = self.pods.iter().filter(waiting).map(|(key, _)| key.clone()).collect();
        if waiting.is_empty() {
            return false;
        }
        let (mut free, mut idle) = (self.free(), self.idle());
        let mut changed = false;
        for key in waiting {
            let Some(pod) = self.pods.get(&key) else { continue };
            let workload = self.owner_of(&key, pod);
            let mut place = None;
            for (name, free) in &mut free {
                let allowed = self.nodes.get(name).is_some_and(|node| {
                    !node.tainted && workload.is_none_or(|workload| workload.may_run_on(&key, name, node))
                });
                if !allowed || !devices::fits(free, &pod.requests) {
                    continue;
                }
                if let Some(given) = idle.get_mut(name).and_then(|idle| devices::give(idle, &pod.requests)) {
                    devices::take(free, &pod.requests);
                    place = Some((name.clone(), given));
                    break;
                }
            }
            let Some((name, given)) = place else { continue };
            let start_ms = workload.map_or(0, |workload| ms(workload.start_s));
            let until_ms = self.clock_ms.saturating_add(start_ms);
            if let Some(pod) = self.pods.get_mut(&key) {
                pod.node = Some(name);
                pod.devices = given;
                pod.until_ms = Some(until_ms);
                changed = true;
            }
        }
        changed
    }

    /// Begins to remove a pod. One that does not run yet, or no longer, has nothing to wind up and goes at once.
    pub(super) fn terminate(&mut self, key: &str, grace_period_s: Option<u64>) {
        let now = self.clock_ms;
        let Some(pod) = self.pods.get_mut(key) else { return };
        let grace_ms = ms(grace_period_s.unwrap_or(pod.grace_period_s));
        let until_ms = now.saturating_add(grace_ms);
        match pod.phase {
            PodPhase::Running => {
                pod.phase = PodPhase::Terminating;
                pod.until_ms = Some(until_ms);
            }
            // A second removal can only shorten the grace.
            PodPhase::Terminating => pod.until_ms = Some(pod.until_ms.map_or(until_ms, |at| at.min(until_ms))),
            PodPhase::Pending | PodPhase::Ended => drop(self.pods.remove(key)),
        }
    }
}

/// Seconds as the virtual clock counts.
pub(super) fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000)
}
