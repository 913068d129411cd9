//! Finding an instance anew by what it is: GPU, profile and placement.

use super::profiles::Profiles;
use super::users::{Seen, pick};
use super::{Gpus, failed, gap, locked};
use crate::model::plan::SlotRef;
use crate::model::{ComputeInstance, ComputeName, Gap, GpuInstance, GpuProfile, Known, Placement, User, catalogue};
use crate::ports::{Ci, CiInfo, CiProfileInfo, Device, Driver, Gi, GiInfo, Nvml, NvmlCode, Port, PortError};

/// Slices of a compute instance that may take one more than it has.
const HALF: u32 = 3;

/// An instance that is there, with the handles of the moment.
pub(super) struct Found {
    pub(super) gi: Gi,
    pub(super) info: GiInfo,
    /// Its compute instances, ascending by id.
    pub(super) compute: Vec<FoundCompute>,
}

/// A compute instance that is there.
pub(super) struct FoundCompute {
    pub(super) ci: Ci,
    pub(super) info: CiInfo,
    pub(super) profile: CiProfileInfo,
}

/// An instance that was looked at, and by which handles.
#[derive(Debug)]
pub(super) struct Looked {
    slot: SlotRef,
    gi: Gi,
    info: GiInfo,
    compute: Vec<Ci>,
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
        let mut profiles = self.remembered(&slot.gpu);
        if profiles.is_none() {
            let (mode, _) = self.driver.mig_mode(device).map_err(|code| fail(code, "asking the MIG mode of"))?;
            let name = self.driver.name(device).map_err(|code| fail(code, "asking the name of"))?;
            let asked = self.profiles(device, &slot.gpu, mode, catalogue::by_name(&name));
            profiles = asked.map_err(|code| fail(code, "asking the profiles of"))?;
        }
        let profile = profiles.as_ref().and_then(|Profiles { geometry, .. }| geometry.resolve(slot.profile));
        let Some((profile, _)) = profile else {
            return Err(fail(NvmlCode::NotSupported, &format!("finding profile {} of", slot.profile)));
        };
        Ok(Place { device, profile: profile.clone() })
    }

    /// The handle of a GPU: the one by which it was last found, if it is still that GPU, or else among all. NVML looks
    /// for a UUID only last, since it finds none while any GPU of the node is lost.
    pub(super) fn device(&self, uuid: &str) -> Port<Device> {
        let is_it = |device: &Device| self.driver.uuid(*device).is_ok_and(|there| there == uuid);
        let last = locked(&self.devices).get(uuid).copied();
        if let Some(device) = last.filter(is_it) {
            return Ok(device);
        }
        let count = self.driver.device_count().unwrap_or(0);
        let mut all = (0..count).filter_map(|index| self.driver.device_by_index(index).ok());
        let found = all.find(is_it).map_or_else(|| self.driver.device_by_uuid(uuid), Ok);
        let device = found.map_err(|code| failed(code, format!("finding GPU {uuid}")))?;
        locked(&self.devices).insert(uuid.to_owned(), device);
        Ok(device)
    }

    /// The instance of a slot; `None` where there is none, with MIG mode off too.
    pub(super) fn find(&self, slot: &SlotRef) -> Port<Option<(Place, Found)>> {
        // What a GPU can be cut into is remembered from when MIG mode was on; else that must be seen first.
        if self.remembered(&slot.gpu).is_none() && !self.mode(&slot.gpu)?.current {
            return Ok(None);
        }
        let place = self.place(slot)?;
        let found = match self.instances_of(place.device, &slot.gpu, &place.profile, |at| at == slot.placement) {
            Err(NvmlCode::NotSupported) if !self.mode(&slot.gpu)?.current => return Ok(None),
            found => found.map_err(|code| failed(code, format!("looking for {}", describe(slot))))?,
        };
        Ok(found.into_iter().next().map(|(found, _)| (place, found)))
    }

    /// The GPU instances of a profile, at placements that a rule accepts.
    pub(super) fn instances_of(
        &self,
        device: Device,
        uuid: &str,
        profile: &GpuProfile,
        rule: impl Fn(Placement) -> bool,
    ) -> Nvml<Vec<(Found, Placement)>> {
        let mut found = Vec::new();
        for gi in self.driver.gpu_instances(device, profile.id)? {
            let info = self.driver.gi_info(gi)?;
            if rule(info.placement) {
                let compute = self.compute_of(gi, uuid, profile)?;
                found.push((Found { gi, info, compute }, info.placement));
            }
        }
        Ok(found)
    }

    /// The compute instances of a GPU instance, ascending by id. The largest are looked for first, and once they fill
    /// the GPU instance there are no others. Where they do not, what is missing must be free: one that is not seen,
    /// because a profile was not told, has its users nevertheless.
    fn compute_of(&self, gi: Gi, uuid: &str, of: &GpuProfile) -> Nvml<Vec<FoundCompute>> {
        let (mut found, mut slices) = (Vec::new(), 0);
        let profiles = self.compute_profiles(gi, uuid, of)?;
        for profile in profiles.iter() {
            if slices >= of.slices {
                break;
            }
            for ci in self.driver.compute_instances(gi, profile.id)? {
                let info = self.driver.ci_info(ci)?;
                slices += profile.slice_count;
                found.push(FoundCompute { ci, info, profile: profile.clone() });
            }
        }
        let missing = of.slices.saturating_sub(slices);
        if missing > 0 && !self.is_free(gi, missing, &profiles, &found)? {
            return Err(NvmlCode::Unknown);
        }
        found.sort_by_key(|compute| compute.info.id);
        Ok(found)
    }

    /// Whether so many slices of a GPU instance are free: the driver has room for one that fills it, or for each slice.
    /// On Hopper and later three slices may take the half of a GPU, which has four; where the driver has no room for
    /// anything, that many are nobody's.
    fn is_free(&self, gi: Gi, slices: u32, profiles: &[CiProfileInfo], found: &[FoundCompute]) -> Nvml<bool> {
        let room = |profile: &CiProfileInfo| self.driver.ci_remaining_capacity(gi, profile.id);
        let (piece, pieces) = match found {
            [] => (profiles.first(), 1),
            _ => (profiles.iter().find(|profile| profile.slice_count == 1), slices),
        };
        if piece.map(room).transpose()?.unwrap_or(0) >= pieces {
            return Ok(true);
        }
        let stranded: u32 = found.iter().map(|compute| u32::from(compute.profile.slice_count == HALF)).sum();
        if stranded < slices {
            return Ok(false);
        }
        let rooms: Nvml<Vec<u32>> = profiles.iter().map(room).collect();
        Ok(rooms?.iter().all(|room| *room == 0))
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
        let gi_id = found.info.id;
        let users = pick(on_gpu, |(_, gi, ci)| *gi == Some(gi_id) && !ci.is_some_and(known));
        Ok(GpuInstance { profile: slot.profile, placement: slot.placement, gi_id, compute, users })
    }

    /// The instance of a slot as it is right now, with who uses it; `None`: there is no such instance.
    pub fn at(&self, slot: &SlotRef) -> Port<Option<GpuInstance>> {
        let Some((place, found)) = self.find(slot)? else { return Ok(None) };
        let mut gaps = Vec::new();
        // Where compute instances fill it, whoever is on it is on one of them, and the whole GPU need not be asked.
        let slices: u32 = found.compute.iter().map(|compute| compute.profile.slice_count).sum();
        let on_gpu = match slices >= place.profile.slices {
            true => Known::Known(Vec::new()),
            false => self.processes_or_gap(place.device, &slot.gpu, &mut gaps),
        };
        let instance = self.instance(slot, &found, &on_gpu, &mut gaps);
        let instance = instance.map_err(|code| failed(code, format!("asking who uses {}", describe(slot))))?;
        let Found { gi, info, compute } = found;
        let compute = compute.iter().map(|compute| compute.ci).collect();
        *locked(&self.looked) = Some(Looked { slot: slot.clone(), gi, info, compute });
        Ok(Some(instance))
    }

    /// The handles of an instance that is about to go: those by which it was just looked at, once, if they still stand
    /// for it; else it is found anew.
    pub(super) fn handles(&self, slot: &SlotRef) -> Port<Option<(Gi, Vec<Ci>)>> {
        let looked = locked(&self.looked).take().filter(|looked| looked.slot == *slot);
        if let Some(Looked { gi, info, compute, .. }) = looked
            && self.driver.gi_info(gi) == Ok(info)
        {
            return Ok(Some((gi, compute)));
        }
        let found = self.find(slot)?.map(|(_, found)| found);
        Ok(found.map(|found| (found.gi, found.compute.iter().map(|compute| compute.ci).collect())))
    }

    /// Who uses the instance of a slot right now; `None`: there is no such instance.
    pub fn users(&self, slot: &SlotRef) -> Port<Option<Known<Vec<User>>>> {
        Ok(self.at(slot)?.map(|instance| instance.all_users()))
    }

    /// UUIDs of the MIG devices of a slot, ascending by compute instance; an error where there is no such instance.
    pub fn uuids(&self, slot: &SlotRef) -> Port<Vec<String>> {
        let (_, found) = self.find(slot)?.ok_or_else(|| missing(slot))?;
        let uuids: Nvml<Vec<String>> = found.compute.iter().map(|c| self.driver.uuid(c.info.device)).collect();
        uuids.map_err(|code| failed(code, format!("asking the UUIDs of {}", describe(slot))))
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

    /// UUIDs of compute instances, by their own devices: to walk all MIG devices of a GPU takes seconds under load.
    pub(super) fn uuids_of(&self, slot: &SlotRef, compute: &[Ci]) -> Port<Vec<String>> {
        let uuid = |ci: &Ci| self.driver.uuid(self.driver.ci_info(*ci)?.device);
        let uuids: Nvml<Vec<String>> = compute.iter().map(uuid).collect();
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
