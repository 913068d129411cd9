//! Changing a GPU: creating, destroying and recutting instances, switching MIG mode.
//!
//! Each call says what shall be there, not what to do, so that it can be made again after a crash; what failed halfway
//! is undone, and an undo that failed is told.

use super::find::{FoundCompute, Place, describe};
use super::profiles::with_slices;
use super::{Gpus, failed};
use crate::model::ComputeName;
use crate::model::plan::SlotRef;
use crate::ports::{Ci, Driver, Gi, Nvml, NvmlCode, Port, PortError};

/// What became of a mode switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The mode is in force.
    Active,
    /// It waits for a reset or a reboot, for the reason that the code gives.
    Pending(NvmlCode),
}

impl<D: Driver> Gpus<D> {
    /// Creates an instance at its placement and its compute instances, in that order; their UUIDs.
    ///
    /// Where the very same instance is there already nothing is done, and compute instances that it lacks (an
    /// earlier call was interrupted) are added. With other compute instances in it, it is an error.
    pub fn create(&self, slot: &SlotRef, compute: &[ComputeName]) -> Port<Vec<String>> {
        if let Some((place, found)) = self.find(slot)? {
            let Some(lacking) = lacking(&found.compute, compute) else {
                let what = format!("creating {}: it is there, cut into other compute instances", describe(slot));
                return Err(failed(NvmlCode::InvalidState, what));
            };
            self.cut(&place, slot, found.gi, &lacking).map_err(|(error, _)| error)?;
            return self.uuids(slot);
        }
        let place = self.place(slot)?;
        let gi = self.driver.create_gi_at(place.device, place.profile.id, slot.placement);
        let gi = gi.map_err(|code| failed(code, format!("creating {}", describe(slot))))?;
        match self.cut(&place, slot, gi, compute) {
            Ok(made) => self.uuids_of(slot, &made),
            Err((mut error, clean)) => {
                let undone = if clean { self.driver.destroy_gi(gi) } else { Err(NvmlCode::InUse) };
                if let Err(code) = undone {
                    error.message.push_str(&format!(", and the GPU instance could not be destroyed again ({code})"));
                }
                Err(error)
            }
        }
    }

    /// Destroys an instance, its compute instances first; nothing where it is gone.
    pub fn destroy(&self, slot: &SlotRef) -> Port<()> {
        let Some((gi, compute)) = self.handles(slot)? else { return Ok(()) };
        self.destroy_compute(slot, &compute)?;
        match self.driver.destroy_gi(gi) {
            Ok(()) | Err(NvmlCode::NotFound) => Ok(()),
            // The handle is invalid where somebody else was faster.
            Err(NvmlCode::InvalidArgument) if self.find(slot)?.is_none() => Ok(()),
            Err(code) => Err(failed(code, format!("destroying {}", describe(slot)))),
        }
    }

    /// Switches MIG mode. The driver's activation status decides, and then what is really in force.
    pub fn set_mode(&self, uuid: &str, on: bool) -> Port<Mode> {
        let now = self.mode(uuid)?;
        if now.current == on && now.pending == on {
            return Ok(Mode::Active);
        }
        let device = self.device(uuid)?;
        let words = if on { "on" } else { "off" };
        let status = match self.driver.set_mig_mode(device, on) {
            Ok(status) => status,
            Err(code) => {
                let mut error = failed(code, format!("switching MIG mode {words} on {uuid}"));
                // What failed may be pending all the same, and would strike at the next reboot.
                if self.mode(uuid).is_ok_and(|then| then.pending == on && then.current != on) {
                    // What it says of that does not matter: the mode tells.
                    let _ = self.driver.set_mig_mode(device, !on);
                    let back = self.mode(uuid).is_ok_and(|then| then.current != on && then.pending != on);
                    let what = if back { "and was set back" } else { "and could not be set back" };
                    error.message.push_str(&format!(", which was left pending {what}"));
                }
                return Err(error);
            }
        };
        if status != NvmlCode::Success {
            return Ok(Mode::Pending(status));
        }
        // The driver may have reset the GPU, so it is looked up again.
        let then = self.mode(uuid)?;
        let active = then.current == on && then.pending == on;
        Ok(if active { Mode::Active } else { Mode::Pending(NvmlCode::ResetRequired) })
    }

    /// Destroys compute instances; those that are gone by now are fine.
    fn destroy_compute(&self, slot: &SlotRef, compute: &[Ci]) -> Port<()> {
        for ci in compute {
            match self.driver.destroy_ci(*ci) {
                // An invalid handle: somebody else was faster. If not, the GPU instance will say that it is in use.
                Ok(()) | Err(NvmlCode::NotFound | NvmlCode::InvalidArgument) => {}
                Err(code) => {
                    return Err(failed(code, format!("destroying a compute instance of {}", describe(slot))));
                }
            }
        }
        Ok(())
    }

    /// Creates compute instances in a GPU instance: them. A failure takes back those that were made, and tells whether all
    /// of them could be.
    fn cut(
        &self,
        place: &Place,
        slot: &SlotRef,
        gi: Gi,
        compute: &[ComputeName],
    ) -> Result<Vec<Ci>, (PortError, bool)> {
        let fail = |code, what: String| failed(code, format!("{what} in {}", describe(slot)));
        if compute.is_empty() {
            return Ok(Vec::new());
        }
        let profiles = self.compute_profiles(gi, &slot.gpu, &place.profile);
        let profiles = profiles.map_err(|code| (fail(code, "asking the compute profiles".to_owned()), true))?;
        let mut made: Vec<Ci> = Vec::new();
        for name in compute {
            let profile = with_slices(&profiles, name.slices, &place.profile).ok_or(NvmlCode::NotSupported);
            match profile.and_then(|profile| self.driver.create_ci(gi, profile.id)) {
                Ok(ci) => made.push(ci),
                Err(code) => {
                    let undone: Vec<Nvml<()>> = made.iter().rev().map(|ci| self.driver.destroy_ci(*ci)).collect();
                    let clean = undone.iter().all(Result::is_ok);
                    return Err((fail(code, format!("creating compute instance {name}")), clean));
                }
            }
        }
        Ok(made)
    }
}

/// What is lacking of the wanted compute instances, in order; `None` where there is one that is not wanted. Compared
/// by slices, since names drift.
fn lacking(there: &[FoundCompute], wanted: &[ComputeName]) -> Option<Vec<ComputeName>> {
    let mut lacking = wanted.to_vec();
    for compute in there {
        let at = lacking.iter().position(|name| name.slices == compute.profile.slice_count)?;
        lacking.remove(at);
    }
    Some(lacking)
}
