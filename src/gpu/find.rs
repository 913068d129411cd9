//! Finding an instance anew by what it is: GPU, profile and placement.

use super::profiles::Profiles;
use super::users::{Seen, pick};
use super::{Gpus, failed, gap};
use crate::model::plan::SlotRef;
use crate::model::{ComputeInstance, ComputeName, Gap, GpuInstance, GpuProfile, Known, Placement, User, catalogue};
use crate::ports::{Ci, CiInfo, CiProfileInfo, Device, Driver, Gi, Nvml, NvmlCode, Port, PortError};

/// An instance that is there, with the handles of the moment.
pub(super) struct Found {
    pub(super) gi: Gi,
    pub(super) gi_id: u32,
    /// Its compute instances, ascending by id.
    pub(super) compute: Vec<FoundCompute>,
}

/// A compute instance that is there.
pub(super) struct FoundCompute {
    pub(super) ci: Ci,
    pub(super) info: CiInfo,
    pub(super) profile: CiProfileInfo,
}

/// A GPU that is there.
pub(super) struct Place {
    pub(super) device: Device,
    pub(super) profile: GpuProfile,
}

impl<D: Driver> Gpus<D> {
    /// The GPU of a slot and the profile that the slot means on it.
    pub(super) fn place(&self, slot: &SlotRef) -> Port<Place> {
        let fail = |code, what: &str| failed(code, format!("{what} {}", slot.gpu));
        let device = self.device(&slot.gpu)?;
        let (mode, _) = self.driver.mig_mode(device).map_err(|code| fail(code, "asking the MIG mode of"))?;
        let name = self.driver.name(device).map_err(|code| fail(code, "asking the name of"))?;
        let profiles = self.profiles(device, &slot.gpu, mode, catalogue::by_name(&name));
        let profiles = profiles.map_err(|code| fail(code, "asking the profiles of"))?;
        let profile = profiles.as_ref().and_then(|Profiles { geometry, .. }| geometry.resolve(slot.profile));
        let Some((profile, _)) = profile else {
            return Err(fail(NvmlCode::NotSupported, &format!("finding profile {} of", slot.profile)));
        };
        Ok(Place { device, profile: profile.clone() })
    }

    pub(super) fn device(&self, uuid: &str) -> Port<Device> {
        self.driver.device_by_uuid(uuid).map_err(|code| failed(code, format!("finding GPU {uuid}")))
    }

    /// The instance of a slot; `None` where there is none, with MIG mode off too.
    pub(super) fn find(&self, slot: &SlotRef) -> Port<Option<(Place, Found)>> {
        let device = self.device(&slot.gpu)?;
        let mode = self.driver.mig_mode(device);
        let mode = mode.map_err(|code| failed(code, format!("asking the MIG mode of {}", slot.gpu)))?;
        if !mode.0 {
            return Ok(None);
        }
        let place = self.place(slot)?;
        let found = self.instances_of(place.device, place.profile.id, |at| at == slot.placement);
        let found = found.map_err(|code| failed(code, format!("looking for {}", describe(slot))))?;
        Ok(found.into_iter().next().map(|(found, _)| (place, found)))
    }

    /// The GPU instances of a profile, at placements that a rule accepts.
    pub(super) fn instances_of(
        &self,
        device: Device,
        profile_id: u32,
        rule: impl Fn(Placement) -> bool,
    ) -> Nvml<Vec<(Found, Placement)>> {
        let mut found = Vec::new();
        for gi in self.driver.gpu_instances(device, profile_id)? {
            let info = self.driver.gi_info(gi)?;
            if rule(info.placement) {
                let compute = self.compute_of(gi)?;
                found.push((Found { gi, gi_id: info.id, compute }, info.placement));
            }
        }
        Ok(found)
    }

    /// The compute instances of a GPU instance, ascending by id.
    pub(super) fn compute_of(&self, gi: Gi) -> Nvml<Vec<FoundCompute>> {
        let mut found = Vec::new();
        for profile in self.compute_profiles(gi)? {
            for ci in self.driver.compute_instances(gi, profile.id)? {
                let info = self.driver.ci_info(ci)?;
                found.push(FoundCompute { ci, info, profile: profile.clone() });
            }
        }
        found.sort_by_key(|compute| compute.info.id);
        Ok(found)
    }

    /// An instance as the model has it. `on_gpu` is what was seen on the GPU as a whole.
    pub(super) fn instance(
        &self,
        slot: &SlotRef,
        found: &Found,
        on_gpu: &Known<Vec<Seen>>,
        gaps: &mut Vec<Gap>,
    ) -> Nvml<GpuInstance> {
        let mut compute = Vec::with_capacity(found.compute.len());
        for FoundCompute { info, profile, .. } in &found.compute {
            // Named after its slices and its GPU instance, as the driver does, but for the memory, which may drift.
            let slices = profile.slice_count;
            let profile = ComputeName { slices, of: slot.profile };
            let uuid = self.driver.uuid(info.device)?;
            let seen = self.processes_or_gap(info.device, &format!("{} ({uuid})", describe(slot)), gaps);
            compute.push(ComputeInstance { profile, ci_id: info.id, uuid, users: pick(&seen, |_| true) });
        }
        let known = |ci: u32| found.compute.iter().any(|compute| compute.info.id == ci);
        let users = pick(on_gpu, |(_, gi, ci)| *gi == Some(found.gi_id) && !ci.is_some_and(known));
        Ok(GpuInstance { profile: slot.profile, placement: slot.placement, gi_id: found.gi_id, compute, users })
    }

    /// Who uses the instance of a slot right now; `None`: there is no such instance.
    pub fn users(&self, slot: &SlotRef) -> Port<Option<Known<Vec<User>>>> {
        let Some((place, found)) = self.find(slot)? else { return Ok(None) };
        let mut gaps = Vec::new();
        let on_gpu = self.processes_or_gap(place.device, &slot.gpu, &mut gaps);
        let instance = self.instance(slot, &found, &on_gpu, &mut gaps);
        let instance = instance.map_err(|code| failed(code, format!("asking who uses {}", describe(slot))))?;
        Ok(Some(instance.all_users()))
    }

    /// UUIDs of the MIG devices of a slot, ascending by compute instance; an error where there is no such instance.
    pub fn uuids(&self, slot: &SlotRef) -> Port<Vec<String>> {
        let (_, found) = self.find(slot)?.ok_or_else(|| missing(slot))?;
        self.uuids_of(slot, &found.compute)
    }

    /// Processes on a GPU as a whole.
    pub fn gpu_users(&self, uuid: &str) -> Port<Known<Vec<User>>> {
        let seen = self.processes_or_gap(self.device(uuid)?, uuid, &mut Vec::new());
        Ok(pick(&seen, |(_, gi, _)| gi.is_none()))
    }

    /// The PCI bus id of a GPU.
    pub fn pci(&self, uuid: &str) -> Port<String> {
        let id = self.driver.pci_bus_id(self.device(uuid)?);
        id.map_err(|code| failed(code, format!("asking the PCI bus id of {uuid}")))
    }

    pub(super) fn uuids_of(&self, slot: &SlotRef, compute: &[FoundCompute]) -> Port<Vec<String>> {
        let uuids: Nvml<Vec<String>> = compute.iter().map(|compute| self.driver.uuid(compute.info.device)).collect();
        uuids.map_err(|code| failed(code, format!("asking the UUIDs of {}", describe(slot))))
    }
}

/// The slot in words: `GPU-1b3c… 2g.20gb at 0`.
pub(super) fn describe(slot: &SlotRef) -> String {
    format!("{} {} at {}", slot.gpu, slot.profile, slot.placement.start)
}

/// There is no instance where one was expected.
pub(super) fn missing(slot: &SlotRef) -> PortError {
    failed(NvmlCode::NotFound, format!("looking for {}", describe(slot)))
}

/// Why a GPU could not be observed.
pub(super) fn unseen(uuid: &str, code: NvmlCode) -> Gap {
    gap(uuid, "The driver does not tell what is on it", code)
}
