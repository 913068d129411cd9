//! Who holds a device, and the ledger of calls that took one from somebody.

use std::collections::BTreeSet;

use crate::model::User;
use crate::model::observed::PodPhase;
use crate::ports::Nvml;
use crate::sim::world::{LedgerEntry, SimProcess, World};

impl World {
    /// Who holds a device of a node, by its UUID (a MIG device's or a GPU's): pods that were given it and have not
    /// ended, active units, commands that are not drained, processes. Ascending, without repeats.
    pub fn holders(&self, node: &str, uuid: &str) -> Vec<User> {
        let mut holders = BTreeSet::new();
        for (id, pod) in &self.pods {
            let here = pod.node.as_deref() == Some(node) && pod.phase != PodPhase::Ended;
            if here && pod.devices.contains(uuid) {
                let (namespace, name) = id.split_once('/').unwrap_or(("", id));
                holders.insert(User::Pod { namespace: namespace.to_owned(), name: name.to_owned() });
            }
        }
        let Some(there) = self.nodes.get(node) else { return holders.into_iter().collect() };
        let has = |devices: &[String]| devices.iter().any(|device| device == uuid);
        let units = there.units.iter().filter(|(_, unit)| unit.active && has(&unit.devices));
        holders.extend(units.map(|(name, _)| User::Unit(name.clone())));
        let clock = self.clock_ms;
        let commands = there.commands.iter().filter(|(_, command)| {
            let drained = command.drained_at_ms.is_some_and(|then| then <= clock);
            has(&command.devices) && !drained
        });
        holders.extend(commands.map(|(name, _)| User::Command(name.clone())));
        for gpu in &there.gpus {
            if gpu.uuid == uuid {
                holders.extend(gpu.processes.iter().map(process));
            }
            let devices = gpu.instances.iter().flat_map(|gi| &gi.compute).filter(|ci| ci.uuid == uuid);
            holders.extend(devices.flat_map(|ci| &ci.processes).map(process));
        }
        holders.into_iter().collect()
    }

    /// Writes a call to the ledger if anybody holds any of the devices that it takes.
    pub(crate) fn record(&mut self, node: &str, gpu: usize, call: &str, uuids: &[String]) -> Nvml<()> {
        let holders: BTreeSet<User> = uuids.iter().flat_map(|uuid| self.holders(node, uuid)).collect();
        if holders.is_empty() {
            return Ok(());
        }
        let entry = LedgerEntry {
            at_ms: self.clock_ms,
            node: node.to_owned(),
            gpu: self.sim_gpu(node, gpu)?.uuid.clone(),
            call: call.to_owned(),
            holders: holders.into_iter().collect(),
        };
        self.ledger.push(entry);
        Ok(())
    }
}

fn process(process: &SimProcess) -> User {
    User::Process { pid: process.pid, name: process.name.clone() }
}
