//! What only other programs ask a driver, and Sectile doesn't.

use super::{SimDriver, Target};
use crate::model::catalogue::Board;
use crate::ports::{CiProfileInfo, Device, GiProfileInfo, Nvml, NvmlCode};

impl SimDriver {
    /// The board of a GPU, or of a MIG device's GPU.
    pub fn board(&self, device: Device) -> Nvml<&'static Board> {
        match self.target(&self.world(), device)? {
            Target::Gpu(_, gpu) | Target::Mig(_, gpu, ..) => Ok(gpu.sim_board()?.catalogue),
        }
    }

    /// What a MIG device is made of: its GPU instance's profile and its own.
    pub fn mig_profiles(&self, mig: Device) -> Nvml<(GiProfileInfo, CiProfileInfo)> {
        match self.target(&self.world(), mig)? {
            Target::Gpu(..) => Err(NvmlCode::InvalidArgument),
            Target::Mig(_, gpu, gi, ci) => {
                let of = gi.profile(gpu.sim_board()?)?;
                let profile = of.compute(ci.profile_index).ok_or(NvmlCode::Unknown)?;
                Ok((of.info(), profile.info(of)))
            }
        }
    }

    /// How often a GPU's MIG configuration has changed, behind the number of the world in which it has.
    pub fn changes(&self, device: Device) -> Nvml<(u64, u64)> {
        let world = self.world();
        Ok((world.salt, self.gpu(&world, device)?.1.changes))
    }
}
