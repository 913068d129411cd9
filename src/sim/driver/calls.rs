//! The calls of the driver, one by one.

use super::board::{SimCompute, SimProfile};
use super::{SimDriver, Target, gpu_handle, mig_index};
use crate::model::Placement;
use crate::ports::{
    Ci, CiInfo, CiProfileInfo, Device, Driver, FIELD_MODE_INDEPENDENT_QUERY, FIELD_RESETLESS_MIG, Gi, GiInfo,
    GiProfileInfo, Nvml, NvmlCode, ProcessInfo,
};
use crate::sim::world::{SimGi, SimProcess, World};

/// At least what every board needs for MIG.
const VERSION: &str = "595.58.03";
/// `NVML_GPU_INSTANCE_PROFILE_COUNT` of nvml.h 13.5.
const GI_PROFILES: u32 = 18;
/// `NVML_COMPUTE_INSTANCE_PROFILE_COUNT` of nvml.h 13.5.
const CI_PROFILES: u32 = 9;
const MIB: u64 = 1 << 20;

fn on_gpu(process: &SimProcess) -> ProcessInfo {
    ProcessInfo { pid: process.pid, used_memory: None, gpu_instance_id: None, compute_instance_id: None }
}

impl SimDriver {
    /// Makes a call on the world and lets the clock run.
    fn timed<T>(&self, ms: i64, call: impl FnOnce(&mut World) -> Nvml<T>) -> Nvml<T> {
        let mut world = self.world();
        let done = call(&mut world)?;
        world.clock_ms = world.clock_ms.saturating_add(ms);
        Ok(done)
    }

    fn gi_create(&self, device: Device, profile_id: u32, at: Option<Placement>) -> Nvml<Gi> {
        let (gpu, ..) = self.gpu(&self.world(), device)?;
        self.root()?;
        self.timed(self.latency.create_gi_ms, |world| world.create_gi(&self.node, gpu, profile_id, at)).map(Gi)
    }

    fn ci_create(&self, gi: Gi, profile_id: u32, at: Option<Placement>) -> Nvml<Ci> {
        self.root()?;
        self.timed(self.latency.create_ci_ms, |world| world.create_ci(&self.node, gi.0, profile_id, at)).map(Ci)
    }

    /// Asks a GPU instance about a profile of its compute instances.
    fn within<T>(&self, gi: Gi, profile_id: u32, ask: impl FnOnce(&SimGi, &SimProfile, &SimCompute) -> T) -> Nvml<T> {
        self.root()?;
        let world = self.world();
        let (at, there) = world.sim_gi(&self.node, gi.0)?;
        let of = there.profile(world.sim_gpu(&self.node, at)?.sim_board()?)?;
        let profile = of.compute(profile_id).ok_or(NvmlCode::NotSupported)?;
        Ok(ask(there, of, profile))
    }
}

impl Driver for SimDriver {
    fn driver_version(&self) -> Nvml<String> {
        Ok(VERSION.to_owned())
    }

    fn device_count(&self) -> Nvml<u32> {
        let world = self.world();
        let node = world.nodes.get(&self.node).ok_or(NvmlCode::DriverNotLoaded)?;
        Ok(node.gpus.len() as u32)
    }

    fn device_by_index(&self, index: u32) -> Nvml<Device> {
        self.world().sim_gpu(&self.node, index as usize)?;
        Ok(gpu_handle(index as usize))
    }

    fn device_by_uuid(&self, uuid: &str) -> Nvml<Device> {
        let world = self.world();
        let node = world.nodes.get(&self.node).ok_or(NvmlCode::DriverNotLoaded)?;
        // nvml.h: "if any GPU has fallen off the bus", since each is asked.
        if node.gpus.iter().any(|gpu| gpu.lost) {
            return Err(NvmlCode::GpuIsLost);
        }
        for (at, gpu) in node.gpus.iter().enumerate() {
            let mut migs = gpu.instances.iter().flat_map(|gi| &gi.compute);
            if gpu.uuid == uuid {
                return Ok(gpu_handle(at));
            }
            if let Some(ci) = migs.find(|ci| ci.uuid == uuid) {
                return Ok(Device(world.handle(ci.serial)));
            }
        }
        Err(NvmlCode::NotFound)
    }

    fn device_by_pci(&self, bus_id: &str) -> Nvml<Device> {
        let world = self.world();
        let node = world.nodes.get(&self.node).ok_or(NvmlCode::DriverNotLoaded)?;
        let at = node.gpus.iter().position(|gpu| gpu.pci.eq_ignore_ascii_case(bus_id)).ok_or(NvmlCode::NotFound)?;
        world.sim_gpu(&self.node, at)?;
        Ok(gpu_handle(at))
    }

    fn uuid(&self, device: Device) -> Nvml<String> {
        match self.target(&self.world(), device)? {
            Target::Gpu(_, gpu) => Ok(gpu.uuid.clone()),
            Target::Mig(.., ci) => Ok(ci.uuid.clone()),
        }
    }

    fn name(&self, device: Device) -> Nvml<String> {
        match self.target(&self.world(), device)? {
            Target::Gpu(_, gpu) => Ok(gpu.sim_board()?.name.clone()),
            Target::Mig(_, gpu, gi, ci) => {
                let board = gpu.sim_board()?;
                let profile = gi.profile(board)?.compute(ci.profile_index).ok_or(NvmlCode::Unknown)?;
                Ok(format!("{} MIG {}", board.name, profile.name))
            }
        }
    }

    fn index(&self, device: Device) -> Nvml<u32> {
        match self.target(&self.world(), device)? {
            Target::Gpu(at, _) => Ok(at as u32),
            Target::Mig(_, gpu, gi, ci) => Ok(mig_index(gpu.sim_board()?, gi, ci)),
        }
    }

    fn minor_number(&self, device: Device) -> Nvml<u32> {
        Ok(self.gpu(&self.world(), device)?.0 as u32)
    }

    fn pci_bus_id(&self, device: Device) -> Nvml<String> {
        Ok(self.gpu(&self.world(), device)?.1.pci.clone())
    }

    fn memory_total(&self, device: Device) -> Nvml<u64> {
        let mib = match self.target(&self.world(), device)? {
            Target::Gpu(_, gpu) => gpu.sim_board()?.memory_mib,
            Target::Mig(_, gpu, gi, _) => gi.profile(gpu.sim_board()?)?.memory_mib,
        };
        Ok(mib.saturating_mul(MIB))
    }

    fn field_value(&self, device: Device, field: u32) -> Nvml<u64> {
        let (.., board) = self.gpu(&self.world(), device)?;
        match field {
            // Which boards answer with MIG mode off is not known; both kinds must be there to be tried.
            FIELD_RESETLESS_MIG | FIELD_MODE_INDEPENDENT_QUERY => Ok(u64::from(board.resetless)),
            _ => Err(NvmlCode::NotSupported),
        }
    }

    fn mig_mode(&self, device: Device) -> Nvml<(bool, bool)> {
        let world = self.world();
        let (_, gpu, _) = self.gpu(&world, device)?;
        Ok((gpu.mode, gpu.pending))
    }

    fn set_mig_mode(&self, device: Device, enabled: bool) -> Nvml<NvmlCode> {
        let mut world = self.world();
        let (at, gpu, board) = self.gpu(&world, device)?;
        let (before, resetless) = (gpu.mode, board.resetless);
        self.root()?;
        let status = world.set_mode(&self.node, at, enabled)?;
        if status == NvmlCode::Success && before != enabled {
            let ms = if resetless { self.latency.mode_resetless_ms } else { self.latency.mode_reset_ms };
            world.clock_ms = world.clock_ms.saturating_add(ms);
        }
        Ok(status)
    }

    fn max_mig_device_count(&self, device: Device) -> Nvml<u32> {
        let world = self.world();
        let (_, gpu, board) = self.gpu(&world, device)?;
        Ok(if gpu.mode { board.slices } else { 0 })
    }

    fn mig_device_by_index(&self, device: Device, index: u32) -> Nvml<Device> {
        let world = self.world();
        let (_, gpu, board) = self.mig_gpu(&world, device)?;
        if index >= board.slices {
            return Err(NvmlCode::InvalidArgument);
        }
        let mut all = gpu.instances.iter().flat_map(|gi| gi.compute.iter().map(move |ci| (gi, ci)));
        let found = all.find(|(gi, ci)| mig_index(board, gi, ci) == index);
        found.map(|(_, ci)| Device(world.handle(ci.serial))).ok_or(NvmlCode::NotFound)
    }

    fn is_mig_device(&self, device: Device) -> Nvml<bool> {
        Ok(matches!(self.target(&self.world(), device)?, Target::Mig(..)))
    }

    fn parent_of_mig_device(&self, mig: Device) -> Nvml<Device> {
        match self.target(&self.world(), mig)? {
            Target::Mig(at, ..) => Ok(gpu_handle(at)),
            Target::Gpu(..) => Err(NvmlCode::InvalidArgument),
        }
    }

    fn gpu_instance_id(&self, mig: Device) -> Nvml<u32> {
        match self.target(&self.world(), mig)? {
            Target::Mig(_, _, gi, _) => Ok(gi.id),
            Target::Gpu(..) => Err(NvmlCode::InvalidArgument),
        }
    }

    fn compute_instance_id(&self, mig: Device) -> Nvml<u32> {
        match self.target(&self.world(), mig)? {
            Target::Mig(.., ci) => Ok(ci.id),
            Target::Gpu(..) => Err(NvmlCode::InvalidArgument),
        }
    }

    fn gi_profile(&self, device: Device, index: u32) -> Nvml<GiProfileInfo> {
        let world = self.world();
        let (_, gpu, board) = self.gpu(&world, device)?;
        if index >= GI_PROFILES {
            return Err(NvmlCode::InvalidArgument);
        }
        if !gpu.mode && !board.resetless {
            return Err(NvmlCode::NotSupported);
        }
        board.profile(index).map(SimProfile::info).ok_or(NvmlCode::NotSupported)
    }

    fn gi_profile_by_id(&self, device: Device, profile_id: u32) -> Nvml<GiProfileInfo> {
        let world = self.world();
        let (_, gpu, board) = self.gpu(&world, device)?;
        if !gpu.mode && !board.resetless {
            return Err(NvmlCode::NotSupported);
        }
        board.profile_by_id(profile_id).map(SimProfile::info).ok_or(NvmlCode::NotSupported)
    }

    fn gi_possible_placements(&self, device: Device, profile_id: u32) -> Nvml<Vec<Placement>> {
        let (.., board) = self.gpu(&self.world(), device)?;
        self.root()?;
        let profile = board.profile_by_id(profile_id).ok_or(NvmlCode::NotSupported)?;
        Ok(profile.placements().collect())
    }

    fn gi_remaining_capacity(&self, device: Device, profile_id: u32) -> Nvml<u32> {
        self.root()?;
        let world = self.world();
        let (_, gpu, board) = self.mig_gpu(&world, device)?;
        let profile = board.profile_by_id(profile_id).ok_or(NvmlCode::NotSupported)?;
        Ok(board.capacity(&gpu.taken(), profile))
    }

    fn create_gi(&self, device: Device, profile_id: u32) -> Nvml<Gi> {
        self.gi_create(device, profile_id, None)
    }

    fn create_gi_at(&self, device: Device, profile_id: u32, placement: Placement) -> Nvml<Gi> {
        self.gi_create(device, profile_id, Some(placement))
    }

    fn destroy_gi(&self, gi: Gi) -> Nvml<()> {
        self.root()?;
        self.timed(self.latency.destroy_gi_ms, |world| world.destroy_gi(&self.node, gi.0))
    }

    fn gpu_instances(&self, device: Device, profile_id: u32) -> Nvml<Vec<Gi>> {
        self.root()?;
        let world = self.world();
        let (_, gpu, board) = self.mig_gpu(&world, device)?;
        let profile = board.profile_by_id(profile_id).ok_or(NvmlCode::NotSupported)?;
        let mut found: Vec<_> = gpu.instances.iter().filter(|gi| gi.profile_index == profile.index).collect();
        found.sort_by_key(|gi| gi.id);
        Ok(found.into_iter().map(|gi| Gi(world.handle(gi.serial))).collect())
    }

    fn gi_by_id(&self, device: Device, id: u32) -> Nvml<Gi> {
        self.root()?;
        let world = self.world();
        let (_, gpu, _) = self.mig_gpu(&world, device)?;
        gpu.instances.iter().find(|gi| gi.id == id).map(|gi| Gi(world.handle(gi.serial))).ok_or(NvmlCode::NotFound)
    }

    fn gi_info(&self, gi: Gi) -> Nvml<GiInfo> {
        let world = self.world();
        let (at, there) = world.sim_gi(&self.node, gi.0)?;
        let profile_id = there.profile(world.sim_gpu(&self.node, at)?.sim_board()?)?.id;
        Ok(GiInfo { device: gpu_handle(at), id: there.id, profile_id, placement: there.placement })
    }

    fn ci_profile(&self, gi: Gi, index: u32) -> Nvml<CiProfileInfo> {
        let world = self.world();
        let (at, there) = world.sim_gi(&self.node, gi.0)?;
        let of = there.profile(world.sim_gpu(&self.node, at)?.sim_board()?)?;
        if index >= CI_PROFILES {
            return Err(NvmlCode::InvalidArgument);
        }
        of.compute(index).map(|profile| profile.info(of)).ok_or(NvmlCode::NotSupported)
    }

    fn ci_possible_placements(&self, gi: Gi, profile_id: u32) -> Nvml<Vec<Placement>> {
        self.within(gi, profile_id, |_, of, profile| profile.placements(of))
    }

    fn ci_remaining_capacity(&self, gi: Gi, profile_id: u32) -> Nvml<u32> {
        self.within(gi, profile_id, |there, of, profile| of.compute_capacity(&there.taken(), profile))
    }

    fn create_ci(&self, gi: Gi, profile_id: u32) -> Nvml<Ci> {
        self.ci_create(gi, profile_id, None)
    }

    fn create_ci_at(&self, gi: Gi, profile_id: u32, placement: Placement) -> Nvml<Ci> {
        self.ci_create(gi, profile_id, Some(placement))
    }

    fn destroy_ci(&self, ci: Ci) -> Nvml<()> {
        self.root()?;
        self.timed(self.latency.destroy_ci_ms, |world| world.destroy_ci(&self.node, ci.0))
    }

    fn compute_instances(&self, gi: Gi, profile_id: u32) -> Nvml<Vec<Ci>> {
        let serials: Vec<u64> = self.within(gi, profile_id, |there, _, profile| {
            let mut found: Vec<_> = there.compute.iter().filter(|ci| ci.profile_index == profile.index).collect();
            found.sort_by_key(|ci| ci.id);
            found.into_iter().map(|ci| ci.serial).collect()
        })?;
        let world = self.world();
        Ok(serials.into_iter().map(|serial| Ci(world.handle(serial))).collect())
    }

    fn ci_by_id(&self, gi: Gi, id: u32) -> Nvml<Ci> {
        self.root()?;
        let world = self.world();
        let (_, there) = world.sim_gi(&self.node, gi.0)?;
        there.compute.iter().find(|ci| ci.id == id).map(|ci| Ci(world.handle(ci.serial))).ok_or(NvmlCode::NotFound)
    }

    fn ci_info(&self, ci: Ci) -> Nvml<CiInfo> {
        let world = self.world();
        let (_, gi, there) = world.sim_ci(&self.node, ci.0)?;
        Ok(CiInfo {
            device: Device(world.handle(there.serial)),
            gpu_instance: Gi(world.handle(gi.serial)),
            id: there.id,
            profile_id: there.profile_index,
            placement: there.placement,
        })
    }

    fn compute_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>> {
        let on_mig = |gi: u32, ci: u32, process: &SimProcess| ProcessInfo {
            gpu_instance_id: Some(gi),
            compute_instance_id: Some(ci),
            ..on_gpu(process)
        };
        match self.target(&self.world(), device)? {
            Target::Mig(_, _, gi, ci) => Ok(ci.processes.iter().map(|p| on_mig(gi.id, ci.id, p)).collect()),
            Target::Gpu(_, gpu) => {
                let mut all: Vec<ProcessInfo> = gpu.processes.iter().map(on_gpu).collect();
                // Only the privileged see what runs on the instances when they ask the whole GPU.
                if self.privileged {
                    for gi in &gpu.instances {
                        let inner = gi.compute.iter().flat_map(|ci| ci.processes.iter().map(move |p| (ci.id, p)));
                        all.extend(inner.map(|(ci, p)| on_mig(gi.id, ci, p)));
                    }
                }
                Ok(all)
            }
        }
    }

    fn graphics_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>> {
        self.target(&self.world(), device).map(|_| Vec::new())
    }

    fn mps_processes(&self, device: Device) -> Nvml<Vec<ProcessInfo>> {
        self.target(&self.world(), device).map(|_| Vec::new())
    }

    fn process_name(&self, pid: u32) -> Nvml<String> {
        let world = self.world();
        let node = world.nodes.get(&self.node).ok_or(NvmlCode::DriverNotLoaded)?;
        let on_gpus = node.gpus.iter().flat_map(|gpu| &gpu.processes);
        let instances = node.gpus.iter().flat_map(|gpu| &gpu.instances).flat_map(|gi| &gi.compute);
        let mut all = on_gpus.chain(instances.flat_map(|ci| &ci.processes));
        all.find(|process| process.pid == pid).map(|process| process.name.clone()).ok_or(NvmlCode::NotFound)
    }
}
