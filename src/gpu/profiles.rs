//! What a GPU can be cut into, by the driver's own enumeration.

use std::sync::Arc;

use super::{Gpus, locked};
use crate::model::catalogue::Board;
use crate::model::{Engines, Gap, Geometry, GpuProfile};
use crate::ports::{CiProfileInfo, Device, Driver, Gi, GiProfileInfo, Nvml, NvmlCode};

/// Where an enumeration ends though no `InvalidArgument` came: NVML 13.5 knows 18 profiles.
const MOST_PROFILES: u32 = 64;

/// A GPU's profiles.
#[derive(Clone, Debug)]
pub(super) struct Profiles {
    pub(super) geometry: Arc<Geometry>,
    /// Ids of profiles whose names this version does not understand. Their instances take room that nothing here
    /// accounts for, so a GPU that has one is not understood either.
    pub(super) strange: Vec<u32>,
    pub(super) gaps: Vec<Gap>,
}

/// Walks an enumeration: `NotSupported` skips, `InvalidArgument` ends it.
fn enumerate<T>(mut ask: impl FnMut(u32) -> Nvml<T>) -> Nvml<Vec<(u32, T)>> {
    let mut found = Vec::new();
    for index in 0..MOST_PROFILES {
        match ask(index) {
            Ok(info) => found.push((index, info)),
            Err(NvmlCode::NotSupported) => {}
            Err(NvmlCode::InvalidArgument) => break,
            Err(code) => return Err(code),
        }
    }
    Ok(found)
}

/// What counts is never 0: a driver that says 0 does not know.
fn counted<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

impl<D: Driver> Gpus<D> {
    /// What a GPU can be cut into: remembered, else the driver's word, else (while MIG mode is off and the driver
    /// does not tell) the catalogue's. `None`: nobody knows.
    pub(super) fn profiles(
        &self,
        device: Device,
        uuid: &str,
        mode: bool,
        board: Option<&Board>,
    ) -> Nvml<Option<Profiles>> {
        if let Some(profiles) = self.remembered(uuid) {
            return Ok(Some(profiles));
        }
        let told = self.enumerate_profiles(device, uuid, board);
        match told {
            Ok(Some(profiles)) => {
                locked(&self.profiles).insert(uuid.to_owned(), profiles.clone());
                Ok(Some(profiles))
            }
            // Placements are for the privileged only; with MIG mode off nothing depends on the driver's own.
            Ok(None) | Err(NvmlCode::NoPermission | NvmlCode::FunctionNotFound) if !mode => {
                let geometry = board.and_then(Board::shared_geometry);
                Ok(geometry.map(|geometry| Profiles { geometry, strange: Vec::new(), gaps: Vec::new() }))
            }
            told => told,
        }
    }

    /// What the driver once told of a GPU.
    pub(super) fn remembered(&self, uuid: &str) -> Option<Profiles> {
        locked(&self.profiles).get(uuid).cloned()
    }

    fn enumerate_profiles(&self, device: Device, uuid: &str, board: Option<&Board>) -> Nvml<Option<Profiles>> {
        let found = enumerate(|index| self.driver.gi_profile(device, index))?;
        let (mut profiles, mut strange, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        for (index, info) in found {
            match self.profile(device, index, &info)? {
                Some(profile) => profiles.push(profile),
                None => {
                    strange.push(info.id);
                    let message = format!("Its profile {} ({:?}) is not understood.", info.id, info.name);
                    gaps.push(Gap { object: format!("profiles of {uuid}"), message });
                }
            }
        }
        let any = !profiles.is_empty() || !strange.is_empty();
        let geometry = Geometry::new(profiles);
        // GPUs of one board share it.
        let remembered: Vec<_> = locked(&self.profiles).values().map(|told| Arc::clone(&told.geometry)).collect();
        let mut known = board.and_then(Board::shared_geometry).into_iter().chain(remembered);
        let geometry = known.find(|known| **known == geometry).unwrap_or_else(|| Arc::new(geometry));
        Ok(any.then_some(Profiles { geometry, strange, gaps }))
    }

    /// A profile as the model has it; `None` where its name or its placements are not understood.
    fn profile(&self, device: Device, index: u32, info: &GiProfileInfo) -> Nvml<Option<GpuProfile>> {
        let placements = self.driver.gi_possible_placements(device, info.id)?;
        let Ok(name) = info.name.parse() else { return Ok(None) };
        let Some(size) = placements.first().map(|p| p.size) else { return Ok(None) };
        if placements.iter().any(|p| p.size != size) {
            return Ok(None);
        }
        let mut starts: Vec<u32> = placements.iter().map(|p| p.start).collect();
        starts.sort_unstable();
        let engines = Engines {
            copy: Some(info.copy_engine_count),
            decoder: Some(info.decoder_count),
            encoder: Some(info.encoder_count),
            jpeg: Some(info.jpeg_count),
            ofa: Some(info.ofa_count),
        };
        Ok(Some(GpuProfile {
            name,
            index,
            id: info.id,
            slices: info.slice_count,
            size,
            starts,
            max_instances: info.instance_count,
            memory_mib: counted(info.memory_size_mib),
            multiprocessors: counted(info.multiprocessor_count),
            engines,
        }))
    }

    /// Profiles of the compute instances of a GPU instance, those with the most slices and multiprocessors first. One
    /// fills it, or the enumeration was cut short by a wrong answer: what is of a profile that is missing would not be
    /// seen, nor who uses it.
    pub(super) fn compute_profiles(&self, gi: Gi, uuid: &str, of: &GpuProfile) -> Nvml<Arc<[CiProfileInfo]>> {
        let key = (uuid.to_owned(), of.id);
        if let Some(profiles) = locked(&self.compute).get(&key) {
            return Ok(Arc::clone(profiles));
        }
        let found = enumerate(|index| self.driver.ci_profile(gi, index))?;
        let mut profiles: Vec<_> = found.into_iter().map(|(_, info)| info).collect();
        profiles.sort_by_key(|info| std::cmp::Reverse((info.slice_count, info.multiprocessor_count)));
        if profiles.first().is_none_or(|largest| largest.slice_count < of.slices) {
            return Err(NvmlCode::Unknown);
        }
        let profiles: Arc<[CiProfileInfo]> = profiles.into();
        locked(&self.compute).insert(key, Arc::clone(&profiles));
        Ok(profiles)
    }
}

/// The profile with so many slices. Of those that fill the GPU instance it is the one with all its multiprocessors:
/// Hopper's double-memory 1g has two with one slice, and only one of them is whole.
pub(super) fn with_slices(profiles: &[CiProfileInfo], slices: u32, of: &GpuProfile) -> Option<CiProfileInfo> {
    let alike = || profiles.iter().filter(move |p| p.slice_count == slices);
    let whole = alike().find(|p| slices == of.slices && Some(p.multiprocessor_count) == of.multiprocessors);
    whole.or_else(|| alike().next()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(id: u32, slice_count: u32, multiprocessor_count: u32) -> CiProfileInfo {
        CiProfileInfo {
            id,
            slice_count,
            instance_count: 1,
            multiprocessor_count,
            shared_copy_engine_count: 1,
            shared_decoder_count: 1,
            shared_encoder_count: 0,
            shared_jpeg_count: 1,
            shared_ofa_count: 0,
            name: "MIG 1g.20gb".to_owned(),
            capabilities: 0,
        }
    }

    #[test]
    fn the_full_size_compute_instance_has_all_multiprocessors() {
        let geometry = crate::model::catalogue::by_id("h100-80gb-sxm").unwrap().geometry().unwrap();
        let double = geometry.named("1g.20gb".parse().unwrap()).unwrap();
        let profiles = [compute(0, 1, 16), compute(7, 1, 26)];
        assert_eq!(with_slices(&profiles, 1, double).unwrap().id, 7);
        let three = geometry.named("3g.40gb".parse().unwrap()).unwrap();
        assert_eq!(with_slices(&profiles, 1, three).unwrap().id, 0, "a part of it is the regular one");
        assert_eq!(with_slices(&profiles, 3, three), None);
    }

    #[test]
    fn an_enumeration_skips_and_ends_as_nvml_says() {
        let answers = [Ok('a'), Err(NvmlCode::NotSupported), Ok('c'), Err(NvmlCode::InvalidArgument), Ok('e')];
        let found = enumerate(|index| answers[index as usize]).unwrap();
        assert_eq!(found, [(0, 'a'), (2, 'c')]);
        assert!(enumerate(|_| Err::<(), _>(NvmlCode::NotSupported)).unwrap().is_empty(), "and ends without that, too");
        assert_eq!(enumerate(|_| Err::<(), _>(NvmlCode::GpuIsLost)), Err(NvmlCode::GpuIsLost));
    }
}
