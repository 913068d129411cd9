//! What is measured of a service, in the OpenMetrics text format. The names are listed in the manual.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::agenda::Cause;
use crate::model::{NodePlan, NodeState, ObservedNode};

/// Seconds that a look takes: milliseconds where nothing is done, minutes where pods move.
const BUCKETS: [f64; 10] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 300.0, 1800.0];

type Labels = Vec<(&'static str, String)>;

/// The metrics of a service.
pub struct Metrics {
    registry: Registry,
    wakes: Family<Labels, Counter>,
    looks: Family<Labels, Counter>,
    took: Histogram,
    steps: Family<Labels, Counter>,
    valid: Gauge,
    last: Gauge,
    open: Family<Labels, Gauge>,
    leads: Family<Labels, Gauge>,
    revision: Family<Labels, Gauge>,
    state: Family<Labels, Gauge>,
    blocked: Family<Labels, Gauge>,
    due: Family<Labels, Gauge>,
    instances: Family<Labels, Gauge>,
    /// Held while several are changed that belong together, and while they are told.
    whole: Mutex<()>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sectile");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program that runs", version);
        let (wakes, looks, steps) =
            <(Family<Labels, Counter>, Family<Labels, Counter>, Family<Labels, Counter>)>::default();
        registry.register("wakes", "What made the service look, by cause", wakes.clone());
        registry.register("looks", "Looks at the node, and what was done then, by how they ended", looks.clone());
        let took = Histogram::new(BUCKETS);
        registry.register("look_duration_seconds", "How long a look and what was done then took", took.clone());
        registry.register("steps", "Steps that were begun, by kind and by how they ended", steps.clone());
        let (valid, last) = <(Gauge, Gauge)>::default();
        registry.register("tree_valid", "Whether the tree on the disk is without errors", valid.clone());
        registry.register(
            "last_look_timestamp_seconds",
            "When the last look ended that went well, in Unix time",
            last.clone(),
        );
        let mut family = |name: &str, help: &str| {
            let family = Family::<Labels, Gauge>::default();
            registry.register(name, help, family.clone());
            family
        };
        let open = family("driver_open", "Whether the node's service has the GPUs' driver open");
        let leads = family("controller_leads", "Whether this replica of the controller is the one that acts");
        let revision = family("tree_revision", "The tree that holds: 1, with its revision");
        let state = family("node_state", "How the node stands: 1 for its state, 0 for the others");
        let blocked = family("blocks", "What keeps the node from going on, by code; `waits` goes by itself");
        let due = family("plan_steps", "Steps of the node's plan that are still to be done");
        let instances = family("gpu_instances", "GPU instances that there are, by GPU and profile");
        let whole = Mutex::default();
        Metrics {
            registry,
            wakes,
            looks,
            took,
            steps,
            valid,
            last,
            open,
            leads,
            revision,
            state,
            blocked,
            due,
            instances,
            whole,
        }
    }
}

impl Metrics {
    /// Something has woken the service.
    pub fn woke(&self, cause: Cause) {
        self.wakes.get_or_create(&vec![("cause", cause.word().to_owned())]).inc();
    }

    /// A look is over. `at`: now, in seconds of Unix time.
    pub fn looked(&self, well: bool, took: Duration, at: i64) {
        let result = if well { "done" } else { "failed" };
        self.looks.get_or_create(&vec![("result", result.to_owned())]).inc();
        self.took.observe(took.as_secs_f64());
        if well {
            self.last.set(at);
        }
    }

    /// Whether the driver is open.
    pub fn open(&self, open: bool) {
        self.open.get_or_create(&Vec::new()).set(i64::from(open));
    }

    /// Whether this replica of the controller acts.
    pub fn leads(&self, leads: bool) {
        self.leads.get_or_create(&Vec::new()).set(i64::from(leads));
    }

    /// A step is over.
    pub fn stepped(&self, kind: &str, result: &str) {
        self.steps.get_or_create(&vec![("kind", kind.to_owned()), ("result", result.to_owned())]).inc();
    }

    /// Which tree holds, and whether the one on the disk is without errors.
    pub fn tree(&self, revision: Option<&str>, valid: bool) {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        self.valid.set(i64::from(valid));
        self.revision.clear();
        if let Some(revision) = revision {
            self.revision.get_or_create(&vec![("revision", revision.to_owned())]).set(1);
        }
    }

    /// How nodes stand.
    pub fn stands<'a>(&self, nodes: impl Iterator<Item = (&'a NodePlan, NodeState, &'a ObservedNode)>) {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        [&self.state, &self.blocked, &self.due, &self.instances].into_iter().for_each(Family::clear);
        for (plan, stands, seen) in nodes {
            let name = || ("node", plan.name.clone());
            for state in NodeState::ALL {
                let labels = vec![name(), ("state", state.word().to_owned())];
                self.state.get_or_create(&labels).set(i64::from(*state == stands));
            }
            for (waits, blocks) in [("false", &plan.blocked), ("true", &plan.waiting)] {
                for block in blocks {
                    let labels = vec![name(), ("code", block.code.word().to_owned()), ("waits", waits.to_owned())];
                    self.blocked.get_or_create(&labels).inc();
                }
            }
            self.due.get_or_create(&vec![name()]).set(i64::try_from(plan.steps.len()).unwrap_or(i64::MAX));
            for gpu in &seen.gpus {
                for instance in &gpu.instances {
                    let profile = ("profile", instance.profile.to_string());
                    self.instances.get_or_create(&vec![name(), ("gpu", gpu.uuid.clone()), profile]).inc();
                }
            }
        }
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}
