//! MIG mode in the world: switching, resets, reboots.

use super::rules::mig_uuid;
use crate::ports::{Nvml, NvmlCode};
use crate::sim::world::World;

impl World {
    /// Switches MIG mode; the activation status. Nothing of a mode change takes time here.
    pub(crate) fn set_mode(&mut self, node: &str, gpu: usize, on: bool) -> Nvml<NvmlCode> {
        let there = self.sim_gpu(node, gpu)?;
        let resetless = there.sim_board()?.resetless;
        let (mode, busy, instances) = (there.mode, there.busy(), !there.instances.is_empty());
        if mode == on {
            self.sim_gpu_mut(node, gpu)?.pending = on;
            return Ok(NvmlCode::Success);
        }
        // Only a mode that is on has instances, so this is a switch to off; nvidia-smi says "Unable to disable MIG
        // Mode … In use by another client", and nothing is pending then.
        if instances {
            return Err(NvmlCode::InUse);
        }
        if !resetless && busy {
            self.sim_gpu_mut(node, gpu)?.pending = on;
            return Ok(NvmlCode::InUse);
        }
        self.record(node, gpu, "nvmlDeviceSetMigMode", &self.devices(node, gpu)?)?;
        let there = self.sim_gpu_mut(node, gpu)?;
        there.mode = on;
        there.pending = on;
        there.changed();
        Ok(NvmlCode::Success)
    }

    /// Resets a GPU, given by its PCI bus id: its instances are gone and a pending mode is in force. Refused while
    /// processes run on it.
    pub fn reset_gpu(&mut self, node: &str, pci: &str) -> Result<(), NvmlCode> {
        let gpus = &self.nodes.get(node).ok_or(NvmlCode::DriverNotLoaded)?.gpus;
        let gpu = gpus.iter().position(|gpu| gpu.pci.eq_ignore_ascii_case(pci)).ok_or(NvmlCode::NotFound)?;
        let busy = self.sim_gpu(node, gpu)?.busy();
        self.record(node, gpu, "reset", &self.devices(node, gpu)?)?;
        if busy {
            return Err(NvmlCode::InUse);
        }
        let there = self.sim_gpu_mut(node, gpu)?;
        there.instances.clear();
        there.mode = there.pending;
        there.changed();
        Ok(())
    }

    /// Reboots a node, as far as its GPUs go: no instance and no process survives. Where the mode survives (Ampere)
    /// a pending one is in force; elsewhere MIG mode is off. What the cluster and the host make of it is theirs.
    pub fn reboot(&mut self, node: &str) -> Result<(), NvmlCode> {
        for gpu in &mut self.nodes.get_mut(node).ok_or(NvmlCode::NotFound)?.gpus {
            let resetless = gpu.sim_board()?.resetless;
            gpu.instances.clear();
            gpu.processes.clear();
            gpu.pending = gpu.pending && !resetless;
            gpu.mode = gpu.pending;
        }
        Ok(())
    }

    /// UUIDs of a GPU and of every MIG device that its instances can hold.
    fn devices(&self, node: &str, gpu: usize) -> Nvml<Vec<String>> {
        let there = self.sim_gpu(node, gpu)?;
        let board = there.sim_board()?;
        let mut uuids = vec![there.uuid.clone()];
        for gi in &there.instances {
            let slices = gi.profile(board)?.slices;
            uuids.extend((0..slices).map(|slice| mig_uuid(&there.uuid, gi.id, slice)));
        }
        Ok(uuids)
    }
}
