//! Creating and destroying instances in the world, with NVML's return codes and without privilege or latency.

use super::board::{SimBoard, SimProfile};
use super::rules::{Taken, mig_uuid};
use crate::model::{ComputeName, Placement, ProfileName};
use crate::ports::{Nvml, NvmlCode};
use crate::sim::world::{SimCi, SimGi, SimGpu, World, serial};

impl SimGpu {
    /// A GPU of that board (an id of the catalogue), MIG mode off, nobody on it.
    pub fn new(uuid: &str, pci: &str, board: &str, half_swapped: bool) -> Self {
        SimGpu {
            uuid: uuid.to_owned(),
            pci: pci.to_owned(),
            board: board.to_owned(),
            half_swapped,
            mode: false,
            pending: false,
            instances: Vec::new(),
            processes: Vec::new(),
            lost: false,
            changes: 0,
        }
    }

    pub(crate) fn sim_board(&self) -> Nvml<&'static SimBoard> {
        SimBoard::of(&self.board).ok_or(NvmlCode::NotSupported)
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.instances.iter().map(|gi| (gi.profile_index, gi.placement)).collect()
    }

    /// Whether any process runs on the GPU or on an instance of it.
    pub(crate) fn busy(&self) -> bool {
        let on_instances = self.instances.iter().flat_map(|gi| &gi.compute).any(|ci| !ci.processes.is_empty());
        on_instances || !self.processes.is_empty()
    }

    /// Tells whoever listens that the MIG configuration is another.
    pub(crate) fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    fn create_gi(&mut self, next: &mut u64, id: u32, at: Option<Placement>) -> Nvml<u64> {
        if !self.mode {
            return Err(NvmlCode::NotSupported);
        }
        let board = self.sim_board()?;
        let profile = board.profile_by_id(id).ok_or(NvmlCode::InvalidArgument)?;
        if at.is_some_and(|at| !profile.placements().any(|legal| legal == at)) {
            return Err(NvmlCode::InvalidArgument);
        }
        // The GPU enters MIG at its first instance, and then nobody may be on it; later ones come and go freely.
        if self.instances.is_empty() && self.busy() {
            return Err(NvmlCode::InUse);
        }
        let taken = self.taken();
        let placement = match at {
            Some(at) => board.fits(&taken, profile, at).then_some(at),
            None => board.automatic(&taken, profile),
        };
        let placement = placement.ok_or(NvmlCode::InsufficientResources)?;
        let gi_id = board.gi_id(placement, self.half_swapped);
        let serial = serial(next);
        let created = SimGi { serial, id: gi_id, profile_index: profile.index, placement, compute: Vec::new() };
        // A GPU has few, and a fleet has many GPUs.
        self.instances.reserve_exact(1);
        self.instances.push(created);
        self.changed();
        Ok(serial)
    }

    fn create_ci(&mut self, next: &mut u64, gi: u64, index: u32, at: Option<Placement>) -> Nvml<u64> {
        let board = self.sim_board()?;
        let there = self.instances.iter_mut().find(|there| there.serial == gi).ok_or(NvmlCode::InvalidArgument)?;
        let of = there.profile(board)?;
        let profile = of.compute(index).ok_or(NvmlCode::InvalidArgument)?;
        if at.is_some_and(|at| !profile.placements(of).contains(&at)) {
            return Err(NvmlCode::InvalidArgument);
        }
        let taken = there.taken();
        let placement = match at {
            Some(at) => of.compute_fits(&taken, profile, at).then_some(at),
            None => of.compute_automatic(&taken, profile),
        };
        let placement = placement.ok_or(NvmlCode::InsufficientResources)?;
        let id = (0..).find(|id| there.compute.iter().all(|ci| ci.id != *id)).unwrap_or(0);
        let uuid = mig_uuid(&self.uuid, there.id, placement.start);
        let serial = serial(next);
        let created = SimCi { serial, id, profile_index: index, placement, uuid, processes: Vec::new() };
        there.compute.reserve_exact(1);
        there.compute.push(created);
        self.changed();
        Ok(serial)
    }

    /// Puts an instance where a fleet file says, by the driver's rules but at once: its MIG UUIDs in the order of
    /// `compute` (`None`: one compute instance that fills it). Nothing is left behind where it does not fit.
    pub(crate) fn place(
        &mut self,
        next: &mut u64,
        profile: ProfileName,
        start: u32,
        compute: Option<&[ComputeName]>,
    ) -> Nvml<Vec<String>> {
        let board = self.sim_board()?;
        let geometry = board.catalogue.shared_geometry().ok_or(NvmlCode::NotSupported)?;
        let (resolved, _) = geometry.resolve(profile).ok_or(NvmlCode::InvalidArgument)?;
        let of = board.profile_by_id(resolved.id).ok_or(NvmlCode::InvalidArgument)?;
        let wanted: Option<Vec<u32>> = match compute {
            None => of.filling().map(|filling| vec![filling.index]),
            Some(names) => names.iter().map(|name| Some(of.named_compute(name.slices)?.index)).collect(),
        };
        let wanted = wanted.ok_or(NvmlCode::InvalidArgument)?;
        let gi = self.create_gi(next, of.id, Some(Placement { start, size: of.size }))?;
        let made: Nvml<Vec<u64>> = wanted.iter().map(|index| self.create_ci(next, gi, *index, None)).collect();
        // What was made last stands last.
        match made {
            Ok(_) => {
                Ok(self.instances.last().into_iter().flat_map(|gi| &gi.compute).map(|ci| ci.uuid.clone()).collect())
            }
            Err(code) => {
                self.instances.pop();
                Err(code)
            }
        }
    }
}

impl SimGi {
    pub(crate) fn profile<'a>(&self, board: &'a SimBoard) -> Nvml<&'a SimProfile> {
        board.profile(self.profile_index).ok_or(NvmlCode::Unknown)
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.compute.iter().map(|ci| (ci.profile_index, ci.placement)).collect()
    }
}

impl World {
    /// A GPU by its place in PCI order.
    pub(crate) fn sim_gpu(&self, node: &str, gpu: usize) -> Nvml<&SimGpu> {
        let node = self.nodes.get(node).ok_or(NvmlCode::DriverNotLoaded)?;
        let gpu = node.gpus.get(gpu).ok_or(NvmlCode::InvalidArgument)?;
        if gpu.lost { Err(NvmlCode::GpuIsLost) } else { Ok(gpu) }
    }

    pub(crate) fn sim_gpu_mut(&mut self, node: &str, gpu: usize) -> Nvml<&mut SimGpu> {
        let node = self.nodes.get_mut(node).ok_or(NvmlCode::DriverNotLoaded)?;
        let gpu = node.gpus.get_mut(gpu).ok_or(NvmlCode::InvalidArgument)?;
        if gpu.lost { Err(NvmlCode::GpuIsLost) } else { Ok(gpu) }
    }

    /// The GPU instance with that handle, and its GPU's place. A destroyed one is an invalid argument.
    pub(crate) fn sim_gi(&self, node: &str, handle: u64) -> Nvml<(usize, &SimGi)> {
        let serial = self.handle(handle);
        let gpus = &self.nodes.get(node).ok_or(NvmlCode::DriverNotLoaded)?.gpus;
        let all = gpus.iter().enumerate().flat_map(|(at, gpu)| gpu.instances.iter().map(move |gi| (at, gpu, gi)));
        let (at, gpu, gi) = all.into_iter().find(|(.., gi)| gi.serial == serial).ok_or(NvmlCode::InvalidArgument)?;
        if gpu.lost { Err(NvmlCode::GpuIsLost) } else { Ok((at, gi)) }
    }

    /// The compute instance with that handle, its GPU's place and its GPU instance.
    pub(crate) fn sim_ci(&self, node: &str, handle: u64) -> Nvml<(usize, &SimGi, &SimCi)> {
        let serial = self.handle(handle);
        let gpus = &self.nodes.get(node).ok_or(NvmlCode::DriverNotLoaded)?.gpus;
        for (at, gpu) in gpus.iter().enumerate() {
            for gi in &gpu.instances {
                if let Some(ci) = gi.compute.iter().find(|ci| ci.serial == serial) {
                    return if gpu.lost { Err(NvmlCode::GpuIsLost) } else { Ok((at, gi, ci)) };
                }
            }
        }
        Err(NvmlCode::InvalidArgument)
    }

    /// A GPU and the next serial number, to make something on it.
    fn workbench(&mut self, node: &str, gpu: usize) -> Nvml<(&mut SimGpu, &mut u64)> {
        let node = self.nodes.get_mut(node).ok_or(NvmlCode::DriverNotLoaded)?;
        let gpu = node.gpus.get_mut(gpu).ok_or(NvmlCode::InvalidArgument)?;
        if gpu.lost { Err(NvmlCode::GpuIsLost) } else { Ok((gpu, &mut self.next_serial)) }
    }

    /// Creates a GPU instance; its handle.
    pub(crate) fn create_gi(&mut self, node: &str, gpu: usize, id: u32, at: Option<Placement>) -> Nvml<u64> {
        let (gpu, next) = self.workbench(node, gpu)?;
        let serial = gpu.create_gi(next, id, at)?;
        Ok(self.handle(serial))
    }

    /// Creates a compute instance; its handle.
    pub(crate) fn create_ci(&mut self, node: &str, gi: u64, index: u32, at: Option<Placement>) -> Nvml<u64> {
        let (gpu, of) = self.sim_gi(node, gi)?;
        let of = of.serial;
        let (gpu, next) = self.workbench(node, gpu)?;
        let serial = gpu.create_ci(next, of, index, at)?;
        Ok(self.handle(serial))
    }

    /// Destroys a compute instance, unless processes are on it.
    pub(crate) fn destroy_ci(&mut self, node: &str, handle: u64) -> Nvml<()> {
        let (gpu, gi, ci) = self.sim_ci(node, handle)?;
        let (gi, serial, busy, uuid) = (gi.serial, ci.serial, !ci.processes.is_empty(), ci.uuid.clone());
        self.record(node, gpu, "nvmlComputeInstanceDestroy", &[uuid])?;
        if busy {
            return Err(NvmlCode::InUse);
        }
        let there = self.sim_gpu_mut(node, gpu)?;
        let gi = there.instances.iter_mut().find(|there| there.serial == gi).ok_or(NvmlCode::InvalidArgument)?;
        gi.compute.retain(|ci| ci.serial != serial);
        there.changed();
        Ok(())
    }

    /// Destroys a GPU instance, unless compute instances are in it.
    pub(crate) fn destroy_gi(&mut self, node: &str, handle: u64) -> Nvml<()> {
        let (gpu, gi) = self.sim_gi(node, handle)?;
        let (serial, full) = (gi.serial, !gi.compute.is_empty());
        let on = self.sim_gpu(node, gpu)?;
        // Whoever was given a device of this instance holds it, also when the compute instance is gone by now.
        let slices = gi.profile(on.sim_board()?)?.slices;
        let uuids: Vec<String> = (0..slices).map(|slice| mig_uuid(&on.uuid, gi.id, slice)).collect();
        self.record(node, gpu, "nvmlGpuInstanceDestroy", &uuids)?;
        if full {
            return Err(NvmlCode::InUse);
        }
        let there = self.sim_gpu_mut(node, gpu)?;
        there.instances.retain(|gi| gi.serial != serial);
        there.changed();
        Ok(())
    }

    /// Puts an instance where somebody says: see `SimGpu::place`.
    pub fn place(
        &mut self,
        node: &str,
        gpu: usize,
        profile: ProfileName,
        start: u32,
        compute: Option<&[ComputeName]>,
    ) -> Nvml<Vec<String>> {
        let (gpu, next) = self.workbench(node, gpu)?;
        gpu.place(next, profile, start, compute)
    }
}

impl SimProfile {
    /// The compute instance profile with so many slices.
    fn named_compute(&self, slices: u32) -> Option<&super::board::SimCompute> {
        if slices == self.slices { self.filling() } else { self.compute.iter().find(|c| c.slices == slices) }
    }
}
