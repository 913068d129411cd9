//! The simulated host behind its port: units, commands and processes of one node.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{SimNode, SimProcess, World};
use super::{Shared, clock, lock};
use crate::model::observed::DeviceFiles;
use crate::model::observed::UnitState;
use crate::ports::{CommandCall, CommandPhase, Host, NvmlCode, Port, PortError};

/// How long a unit takes to stop or to start.
const UNIT_MS: i64 = 1_000;
/// How long a command's workload takes from its drain to having let go.
const DRAIN_MS: i64 = 2_000;

/// The host of one simulated node.
#[derive(Clone, Debug)]
pub struct SimHost {
    /// Of which world.
    pub world: Shared,
    /// Which node.
    pub node: String,
}

impl SimHost {
    fn node<'a>(&self, world: &'a mut World) -> Port<&'a mut SimNode> {
        let gone = || PortError {
            transient: false,
            code: "not found".to_owned(),
            message: format!("the simulated fleet has no node {}", self.node),
        };
        world.nodes.get_mut(&self.node).ok_or_else(gone)
    }
}

impl Host for SimHost {
    async fn units(&self, names: &BTreeSet<String>) -> Port<BTreeMap<String, UnitState>> {
        let mut world = lock(&self.world);
        let units = self.node(&mut world)?.units.iter();
        let units = units.filter(|(name, unit)| names.contains(*name) || !unit.devices.is_empty());
        let state = |unit: &super::world::SimUnit| UnitState {
            active: unit.active,
            devices: unit.devices.clone(),
            ..UnitState::default()
        };
        Ok(units.map(|(name, unit)| (name.clone(), state(unit))).collect())
    }

    async fn commands(&self) -> Port<BTreeMap<String, Vec<String>>> {
        let mut world = lock(&self.world);
        let commands = &self.node(&mut world)?.commands;
        Ok(commands.iter().map(|(name, command)| (name.clone(), command.devices.clone())).collect())
    }

    async fn stop_unit(&self, unit: &str, _with: &[String]) -> Port<()> {
        let stop_ms = {
            let mut world = lock(&self.world);
            let stop_ms = world.latency_ms("unit", UNIT_MS);
            let Some(there) = self.node(&mut world)?.units.get_mut(unit) else { return Ok(()) };
            if !there.active {
                return Ok(());
            }
            stop_ms
        };
        // It holds its devices until it is inactive.
        clock::pass(&self.world, stop_ms).await;
        let mut world = lock(&self.world);
        if let Some(there) = self.node(&mut world)?.units.get_mut(unit) {
            there.active = false;
            there.devices.clear();
        }
        Ok(())
    }

    /// A simulated host has every unit that somebody starts; the fleet file names those that hold something.
    async fn start_unit(&self, unit: &str, _env: &str, uuids: &[String]) -> Port<()> {
        let start_ms = {
            let mut world = lock(&self.world);
            if let Some(missing) = missing(self.node(&mut world)?, uuids) {
                return Err(PortError {
                    transient: false,
                    code: "org.freedesktop.systemd1.JobFailed".to_owned(),
                    message: format!("{unit} exits when it starts: there is no device {missing}"),
                });
            }
            world.latency_ms("unit", UNIT_MS)
        };
        clock::pass(&self.world, start_ms).await;
        let mut world = lock(&self.world);
        let there = self.node(&mut world)?.units.entry(unit.to_owned()).or_default();
        there.active = true;
        there.devices = uuids.to_vec();
        Ok(())
    }

    async fn run(&self, call: CommandCall<'_>) -> Port<i32> {
        let mut world = lock(&self.world);
        let drained_at_ms = world.clock_ms.saturating_add(world.latency_ms("drain", DRAIN_MS));
        let node = self.node(&mut world)?;
        let missing = missing(node, call.uuids).is_some();
        if let CommandPhase::Pause | CommandPhase::Paused | CommandPhase::Unpause = call.phase {
            return Ok(client(node, call.workload, call.phase, drained_at_ms));
        }
        let command = node.commands.entry(call.workload.to_owned()).or_default();
        let status = match call.phase {
            CommandPhase::Drain => {
                command.drained_at_ms = command.drained_at_ms.or(Some(drained_at_ms));
                0
            }
            CommandPhase::Drained => i32::from(!command.devices.is_empty()),
            CommandPhase::Resume if missing => 1,
            CommandPhase::Resume => {
                command.devices = call.uuids.to_vec();
                command.drained_at_ms = None;
                0
            }
            _ => i32::from(command.devices.is_empty()),
        };
        Ok(status)
    }

    async fn reset_gpu(&self, pci: &str) -> Port<()> {
        lock(&self.world).reset_gpu(&self.node, pci).map_err(|code| PortError {
            transient: code == NvmlCode::InUse,
            code: code.words().to_owned(),
            message: format!("GPU {pci} was not reset"),
        })
    }

    async fn device_files(&self) -> Port<BTreeSet<DeviceFiles>> {
        let mut world = lock(&self.world);
        Ok(self.node(&mut world)?.device_files.keys().copied().collect())
    }

    async fn refresh_devices(&self, files: &[DeviceFiles]) -> Port<()> {
        let mut world = lock(&self.world);
        let node = self.node(&mut world)?;
        let devices: BTreeSet<String> = node.devices().cloned().collect();
        for named in node.device_files.iter_mut().filter(|(kept, _)| files.contains(kept)).map(|(_, named)| named) {
            named.clone_from(&devices);
        }
        Ok(())
    }

    /// A process that is not there has ended already.
    async fn terminate(&self, pid: u32) -> Port<()> {
        let mut world = lock(&self.world);
        for gpu in &mut self.node(&mut world)?.gpus {
            let compute = gpu.instances.iter_mut().flat_map(|gi| &mut gi.compute).map(|ci| &mut ci.processes);
            let all = compute.chain([&mut gpu.processes]);
            all.for_each(|processes: &mut Vec<SimProcess>| processes.retain(|process| process.pid != pid));
        }
        Ok(())
    }
}

/// A client that pauses or is paused stands among the commands, and holds nothing.
fn client(node: &mut SimNode, name: &str, phase: CommandPhase, paused_at_ms: i64) -> i32 {
    match phase {
        CommandPhase::Pause => {
            let client = node.commands.entry(name.to_owned()).or_default();
            client.drained_at_ms = Some(paused_at_ms);
            0
        }
        CommandPhase::Paused => i32::from(node.commands.get(name).is_none_or(|c| c.drained_at_ms.is_some())),
        _ => {
            node.commands.remove(name);
            0
        }
    }
}

/// The first of these that is no device of the node.
fn missing<'a>(node: &SimNode, uuids: &'a [String]) -> Option<&'a String> {
    let there = |uuid: &String| node.gpus.iter().any(|gpu| gpu.uuid == *uuid) || node.devices().any(|ci| ci == uuid);
    uuids.iter().find(|uuid| !there(uuid))
}
