//! The simulated driver: NVML's rules over the simulated world, with its return codes, privileges and latencies.
//!
//! Handles are tokens: a GPU's is its place in PCI order, all others are serial numbers that nothing else ever gets,
//! combined with a number of the world's where other programs call, so that the handle of something destroyed, or of
//! another world, stays invalid.

mod asked;
mod board;
mod calls;
mod holders;
mod instances;
mod mode;
mod rules;

use std::sync::MutexGuard;

use self::board::SimBoard;
use crate::ports::{Device, Nvml, NvmlCode};
use crate::sim::world::{SimCi, SimGi, SimGpu, World};
use crate::sim::{Shared, lock};

/// Set in the handles of GPUs; neither serial numbers nor a world's own number get that far.
const GPU_HANDLE: u64 = 1 << 63;

/// What successful calls take, in milliseconds of the virtual clock. Failing ones take none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Creating a GPU instance.
    pub create_gi_ms: i64,
    /// Creating a compute instance.
    pub create_ci_ms: i64,
    /// Destroying a GPU instance.
    pub destroy_gi_ms: i64,
    /// Destroying a compute instance.
    pub destroy_ci_ms: i64,
    /// Switching MIG mode where it takes a reset.
    pub mode_reset_ms: i64,
    /// Switching MIG mode where it takes none.
    pub mode_resetless_ms: i64,
}

impl Default for Latency {
    /// As measured: an A100 creates an instance in 43 ms and destroys it in 109 ms (Jormungandr, SYSTOR'24), a GPU
    /// instance and its compute instance together; how they share it is not known, and guessed at here. An A100's
    /// mode switch takes 4 to 5 s. No source times a switch without a reset, so it takes none.
    fn default() -> Self {
        Latency {
            create_gi_ms: 30,
            create_ci_ms: 13,
            destroy_gi_ms: 80,
            destroy_ci_ms: 29,
            mode_reset_ms: 4500,
            mode_resetless_ms: 0,
        }
    }
}

/// The driver of one simulated node.
#[derive(Clone, Debug)]
pub struct SimDriver {
    /// The world that it works on.
    pub world: Shared,
    /// The node.
    pub node: String,
    /// Whether the caller is root; otherwise calls that need it fail with `NoPermission`.
    pub privileged: bool,
    /// What calls take.
    pub latency: Latency,
}

/// What a device handle stands for.
enum Target<'a> {
    Gpu(usize, &'a SimGpu),
    Mig(usize, &'a SimGpu, &'a SimGi, &'a SimCi),
}

impl SimDriver {
    /// The driver of that node, called by root.
    pub fn new(world: Shared, node: impl Into<String>) -> Self {
        SimDriver { world, node: node.into(), privileged: true, latency: Latency::default() }
    }

    /// The same, called by somebody without rights.
    pub fn unprivileged(world: Shared, node: impl Into<String>) -> Self {
        SimDriver { privileged: false, ..SimDriver::new(world, node) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn root(&self) -> Nvml<()> {
        if self.privileged { Ok(()) } else { Err(NvmlCode::NoPermission) }
    }

    /// What a handle stands for.
    fn target<'a>(&self, world: &'a World, device: Device) -> Nvml<Target<'a>> {
        if device.0 & GPU_HANDLE != 0 {
            let at = usize::try_from(device.0 & !GPU_HANDLE).map_err(|_| NvmlCode::InvalidArgument)?;
            return Ok(Target::Gpu(at, world.sim_gpu(&self.node, at)?));
        }
        let (at, gi, ci) = world.sim_ci(&self.node, device.0)?;
        Ok(Target::Mig(at, world.sim_gpu(&self.node, at)?, gi, ci))
    }

    /// What the handle of a GPU stands for; a MIG device's is an invalid argument.
    fn gpu<'a>(&self, world: &'a World, device: Device) -> Nvml<(usize, &'a SimGpu, &'static SimBoard)> {
        match self.target(world, device)? {
            Target::Gpu(at, gpu) => Ok((at, gpu, gpu.sim_board()?)),
            Target::Mig(..) => Err(NvmlCode::InvalidArgument),
        }
    }

    /// The same, with MIG mode on.
    fn mig_gpu<'a>(&self, world: &'a World, device: Device) -> Nvml<(usize, &'a SimGpu, &'static SimBoard)> {
        let (at, gpu, board) = self.gpu(world, device)?;
        if gpu.mode { Ok((at, gpu, board)) } else { Err(NvmlCode::NotSupported) }
    }
}

/// The handle of the GPU at that place.
fn gpu_handle(at: usize) -> Device {
    Device(at as u64 | GPU_HANDLE)
}

/// The index of a MIG device among those of its GPU: its first compute slice on the GPU, so that it stays the same
/// while others come and go, and leaves holes.
fn mig_index(board: &SimBoard, gi: &SimGi, ci: &SimCi) -> u32 {
    let smallest = board.profiles.iter().map(|p| p.size).min().unwrap_or(1);
    gi.placement.start.checked_div(smallest).unwrap_or(0) + ci.placement.start
}
