//! What several test modules need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sectile::model::Digest;
use sectile::model::observed::PodPhase;
use sectile::sim::Shared;
use sectile::sim::world::{SimGpu, SimNode, SimPod, World};

use crate::door::TestDriver;

/// The node of [`hardware`].
pub(crate) const NODE: &str = "n1";

/// One node with a GPU of each board, in the given MIG mode; `GPU-0`, `GPU-1`…
pub(crate) fn hardware(boards: &[(&str, bool)]) -> Shared {
    let gpus = boards.iter().enumerate().map(|(i, (board, mode))| {
        let mut gpu = SimGpu::new(&format!("GPU-{i}"), &format!("00000000:{:02X}:00.0", 0x17 + i), board, false);
        gpu.mode = *mode;
        gpu.pending = *mode;
        gpu
    });
    let node = SimNode {
        strategy: Default::default(),
        writers: Default::default(),
        labels: BTreeMap::new(),
        in_cluster: true,
        tainted: false,
        clients_paused: false,
        advertised: BTreeMap::new(),
        device_files: BTreeMap::new(),
        gpus: gpus.collect(),
        units: BTreeMap::new(),
        commands: BTreeMap::new(),
        shown: None,
    };
    let world = World {
        latency: BTreeMap::new(),
        memory: sectile::model::Memory::default(),
        faults: Vec::new(),
        places: Default::default(),
        places_version: 0,
        events: Vec::new(),
        bound: Vec::new(),
        revisions: Vec::new(),
        fleet: Digest::of([]),
        clock_ms: 0,
        next_serial: 1,
        nodes: BTreeMap::from([(NODE.to_owned(), node)]),
        pods: BTreeMap::new(),
        workloads: Vec::new(),
        budgets: Vec::new(),
        ledger: Vec::new(),
        salt: 0,
        sleepers: None,
    };
    Arc::new(Mutex::new(world))
}

/// The node's driver, called by root.
pub(crate) fn root(world: &Shared) -> TestDriver {
    TestDriver::new(world.clone(), NODE)
}

/// A pod on the node that holds a device.
pub(crate) fn pod_holding(uuid: &str) -> SimPod {
    SimPod {
        uid: "u1".to_owned(),
        owner: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        requests: BTreeMap::new(),
        affinity: Default::default(),
        node: Some(NODE.to_owned()),
        devices: [uuid.to_owned()].into(),
        phase: PodPhase::Running,
        until_ms: None,
        grace_period_s: 30,
        empty_dir: false,
        mirror: false,
    }
}
