//! Observing every GPU of the driver.

use std::collections::BTreeSet;

use super::find::unseen;
use super::users::pick;
use super::{Gpus, failed, gap, locked};
use crate::model::plan::SlotRef;
use crate::model::{Gap, GpuInstance, Known, MigMode, ObservedGpu, catalogue};
use crate::ports::{Device, Driver, FIELD_RESETLESS_MIG, Nvml, NvmlCode, Port};

impl<D: Driver> Gpus<D> {
    /// Every GPU, ascending by index, what could not be seen, and the indices of those that are lost.
    ///
    /// A GPU that does not tell what is on it (it is lost, it has a profile that is not understood) is there with no
    /// geometry and unknown users, so that nothing can be planned for it; one that does not even tell its name is
    /// only a gap, unless this adapter saw it before.
    ///
    /// # Errors
    ///
    /// What may pass by itself, since a GPU that only just does not tell must not count as lost. Listing instances takes
    /// rights, and without them nothing is known.
    pub fn observe(&self) -> Port<(Vec<ObservedGpu>, Vec<Gap>, BTreeSet<u32>)> {
        let count = self.driver.device_count().map_err(|code| failed(code, "counting the GPUs"))?;
        let (mut gpus, mut gaps, mut lost) = (Vec::new(), Vec::new(), BTreeSet::new());
        for index in 0..count {
            let (gpu, code) = match self.identity(index) {
                Ok((device, gpu)) => {
                    let mut seen = gpu.clone();
                    let before = gaps.len();
                    match self.look(device, &mut seen, &mut gaps) {
                        Ok(()) => {
                            gpus.push(seen);
                            continue;
                        }
                        Err(code) => {
                            gaps.truncate(before);
                            (Some(gpu), code)
                        }
                    }
                }
                Err(code) => (locked(&self.seen).get(&index).cloned(), code),
            };
            if code.passes() || code == NvmlCode::NoPermission {
                return Err(failed(code, format!("listing the instances of GPU {index}")));
            }
            // One whose profiles are not understood is there, and known.
            if gpu.is_none() || code != NvmlCode::NotSupported {
                lost.insert(index);
            }
            match gpu {
                Some(gpu) => {
                    gaps.push(unseen(&gpu.uuid, code));
                    gpus.push(gpu);
                }
                None => gaps.push(gap(format!("GPU {index}"), "The driver does not tell which GPU it is", code)),
            }
        }
        Ok((gpus, gaps, lost))
    }

    /// The MIG mode of a GPU.
    pub fn mode(&self, uuid: &str) -> Port<MigMode> {
        let device = self.device(uuid)?;
        let mode = self.mode_of(device);
        mode.map_err(|code| failed(code, format!("asking the MIG mode of {uuid}")))
    }

    pub(super) fn mode_of(&self, device: Device) -> Nvml<MigMode> {
        let (current, pending) = match self.driver.mig_mode(device) {
            Ok(mode) => mode,
            Err(NvmlCode::NotSupported) => {
                return Ok(MigMode { capable: false, current: false, pending: false, resetless: false });
            }
            Err(code) => return Err(code),
        };
        let resetless = match self.driver.field_value(device, FIELD_RESETLESS_MIG) {
            Ok(value) => value != 0,
            Err(code @ NvmlCode::GpuIsLost) => return Err(code),
            // Drivers that are older than the field: the catalogue knows, and what it does not know needs a reset.
            Err(_) => {
                let board = catalogue::by_name(&self.driver.name(device)?);
                board.and_then(|board| board.mode_needs_reset) == Some(false)
            }
        };
        Ok(MigMode { capable: true, current, pending, resetless })
    }

    /// Who a GPU is, with nothing known of what is on it; remembered.
    fn identity(&self, index: u32) -> Nvml<(Device, ObservedGpu)> {
        let device = self.driver.device_by_index(index)?;
        let name = self.driver.name(device)?;
        let gpu = ObservedGpu {
            uuid: self.driver.uuid(device)?,
            index,
            pci: self.driver.pci_bus_id(device)?,
            model: name.strip_prefix("NVIDIA ").unwrap_or(&name).to_owned(),
            board: catalogue::by_name(&name).map(|board| board.id.to_owned()),
            mig: self.mode_of(device)?,
            geometry: None,
            instances: Vec::new(),
            recorded: Vec::new(),
            users: Known::Unknown,
        };
        locked(&self.seen).insert(index, gpu.clone());
        locked(&self.devices).insert(gpu.uuid.clone(), device);
        Ok((device, gpu))
    }

    /// Looks at what is on a GPU.
    fn look(&self, device: Device, gpu: &mut ObservedGpu, gaps: &mut Vec<Gap>) -> Nvml<()> {
        let on_gpu = self.processes_or_gap(device, &gpu.uuid, gaps);
        gpu.users = pick(&on_gpu, |(_, gi, _)| gi.is_none());
        if !gpu.mig.capable {
            return Ok(());
        }
        let board = gpu.board.as_deref().and_then(catalogue::by_id);
        let Some(profiles) = self.profiles(device, &gpu.uuid, gpu.mig.current, board)? else {
            let object = format!("profiles of {}", gpu.uuid);
            // With MIG mode on there may be instances that are not seen, with users.
            if gpu.mig.current {
                gpu.users = Known::Unknown;
            }
            gaps.push(Gap { object, message: "Neither the driver nor the catalogue tells them.".to_owned() });
            return Ok(());
        };
        gaps.extend(profiles.gaps.iter().cloned());
        if gpu.mig.current {
            for id in &profiles.strange {
                if !self.driver.gpu_instances(device, *id)?.is_empty() {
                    return Err(NvmlCode::NotSupported);
                }
            }
            for profile in &profiles.geometry.profiles {
                for (found, placement) in self.instances_of(device, &gpu.uuid, profile, |_| true)? {
                    let slot = SlotRef { gpu: gpu.uuid.clone(), profile: profile.name, placement };
                    let instance: GpuInstance = self.instance(&slot, &found, &on_gpu, gaps)?;
                    gpu.instances.push(instance);
                }
            }
            gpu.instances.sort_by_key(|instance| instance.placement);
        }
        gpu.geometry = Some(profiles.geometry);
        Ok(())
    }
}
