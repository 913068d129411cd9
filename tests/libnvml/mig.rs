//! The MIG functions.

use sectile::ports::{CiInfo, CiProfileInfo, Device, Driver as _, GiInfo as Gi, GiProfileInfo, Nvml, NvmlCode};
use sectile::{model, sim};

use super::handles::{CiToken, DeviceToken, GiToken};
use super::library::Library;
use super::nvml;
use super::place::{Out, Versioned, fixed, version_of};
use super::structs::{
    CiInfo1, CiInfo2, CiProfile1, CiProfile2, CiProfile3, GiInfo, GiProfile1, GiProfile2, GiProfile3, Placement,
};

/// `NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED`, the only one.
const SHARED: u32 = 0;
/// `NVML_GPU_INSTANCE_PROFILE_CAPS_P2P`.
const P2P: u32 = 1;

fn gi_counts(info: &GiProfileInfo) -> [u32; 6] {
    [
        info.multiprocessor_count,
        info.copy_engine_count,
        info.decoder_count,
        info.encoder_count,
        info.jpeg_count,
        info.ofa_count,
    ]
}

fn ci_counts(info: &CiProfileInfo) -> [u32; 6] {
    [
        info.multiprocessor_count,
        info.shared_copy_engine_count,
        info.shared_decoder_count,
        info.shared_encoder_count,
        info.shared_jpeg_count,
        info.shared_ofa_count,
    ]
}

fn gi_profile1(info: &GiProfileInfo) -> GiProfile1 {
    GiProfile1 {
        id: info.id,
        p2p: info.capabilities & P2P,
        slices: info.slice_count,
        instances: info.instance_count,
        counts: gi_counts(info),
        memory_mib: info.memory_size_mib,
    }
}

/// Of version 2 or 3, as the caller asks.
fn gi_profile(place: &Versioned, ask: impl FnOnce() -> Nvml<GiProfileInfo>) -> Nvml<()> {
    if let Some(place) = place.is(2)? {
        let info = ask()?;
        let GiProfile1 { id, p2p, slices, instances, counts, memory_mib } = gi_profile1(&info);
        let (version, name) = (version_of::<GiProfile2>(2), fixed(&info.name));
        place.set(GiProfile2 { version, id, p2p, slices, instances, counts, memory_mib, name });
    } else if let Some(place) = place.is(3)? {
        let info = ask()?;
        let GiProfile1 { id, p2p: _, slices, instances, counts, memory_mib } = gi_profile1(&info);
        let (version, name, capabilities) = (version_of::<GiProfile3>(3), fixed(&info.name), info.capabilities);
        place.set(GiProfile3 { version, id, slices, instances, counts, memory_mib, name, capabilities });
    } else {
        return Err(NvmlCode::InvalidArgument);
    }
    Ok(())
}

fn ci_profile1(info: &CiProfileInfo) -> CiProfile1 {
    CiProfile1 { id: info.id, slices: info.slice_count, instances: info.instance_count, counts: ci_counts(info) }
}

/// Of version 2 or 3, as the caller asks.
fn ci_profile(place: &Versioned, ask: impl FnOnce() -> Nvml<CiProfileInfo>) -> Nvml<()> {
    if let Some(place) = place.is(2)? {
        let info = ask()?;
        let CiProfile1 { id, slices, instances, counts } = ci_profile1(&info);
        let (version, name) = (version_of::<CiProfile2>(2), fixed(&info.name));
        place.set(CiProfile2 { version, id, slices, instances, counts, name });
    } else if let Some(place) = place.is(3)? {
        let info = ask()?;
        let CiProfile1 { id, slices, instances, counts } = ci_profile1(&info);
        let (version, name, capabilities) = (version_of::<CiProfile3>(3), fixed(&info.name), info.capabilities);
        place.set(CiProfile3 { version, id, slices, instances, counts, name, capabilities });
    } else {
        return Err(NvmlCode::InvalidArgument);
    }
    Ok(())
}

/// Asks for a profile of a GPU instance's compute instances.
fn of_ci(it: &Library, gi: GiToken, index: u32, engines: u32) -> Nvml<CiProfileInfo> {
    let gi = gi.real()?;
    if engines != SHARED {
        return Err(NvmlCode::InvalidArgument);
    }
    it.call("ci_profile", |driver| driver.ci_profile(gi, index))
}

/// So many, and which where there is a place for them.
fn list<T: Copy>(found: Nvml<Vec<T>>, places: Out<T>, count: Out<u32>) -> Nvml<()> {
    let (count, found) = (count.place()?, found?);
    count.set(found.len() as u32);
    if !places.is_null() {
        places.place()?.fill(found);
    }
    Ok(())
}

fn placements(found: Nvml<Vec<model::Placement>>) -> Nvml<Vec<Placement>> {
    Ok(found?.into_iter().map(Placement::from).collect())
}

fn possible(it: &Library, device: DeviceToken, id: u32, places: Out<Placement>, count: Out<u32>) -> Nvml<()> {
    let device = device.real()?;
    let ask = |driver: &sim::driver::SimDriver| driver.gi_possible_placements(device, id);
    list(placements(it.call("gi_possible_placements", ask)), places, count)
}

fn gi_info(it: &Library, gi: GiToken) -> Nvml<GiInfo> {
    let gi = gi.real()?;
    let Gi { device, id, profile_id, placement } = it.call("gi_info", |driver| driver.gi_info(gi))?;
    Ok(GiInfo { device: DeviceToken::of(device), id, profile_id, placement: placement.into() })
}

fn ci_info(it: &Library, ci: CiToken) -> Nvml<CiInfo2> {
    let ci = ci.real()?;
    let CiInfo { device, gpu_instance, id, profile_id, placement } = it.call("ci_info", |driver| driver.ci_info(ci))?;
    let (device, gpu_instance) = (DeviceToken::of(device), GiToken::of(gpu_instance));
    Ok(CiInfo2 { device, gpu_instance, id, profile_id, placement: placement.into() })
}

fn set_mode(it: &Library, device: Device, mode: u32) -> Nvml<u32> {
    let on = match mode {
        0 => false,
        1 => true,
        _ => return Err(NvmlCode::InvalidArgument),
    };
    it.call("set_mig_mode", |driver| driver.set_mig_mode(device, on)).map(|status| status as u32)
}

nvml! {
    fn nvmlDeviceSetMigMode(device: DeviceToken, mode: u32, status: Out<u32>) = |it| {
        let device = device.real()?;
        status.take(|| set_mode(it, device, mode))
    };
    fn nvmlDeviceGetMigMode(device: DeviceToken, current: Out<u32>, pending: Out<u32>) = |it| {
        let (device, current, pending) = (device.real()?, current.place()?, pending.place()?);
        let mode = it.call("mig_mode", |driver| driver.mig_mode(device))?;
        current.set(mode.0.into());
        pending.set(mode.1.into());
        Ok(())
    };
    fn nvmlDeviceGetGpuInstanceProfileInfo(device: DeviceToken, index: u32, info: Out<GiProfile1>) = |it| {
        let device = device.real()?;
        info.take(|| it.call("gi_profile", |driver| driver.gi_profile(device, index)).map(|info| gi_profile1(&info)))
    };
    fn nvmlDeviceGetGpuInstanceProfileInfoV(device: DeviceToken, index: u32, info: Versioned) = |it| {
        let device = device.real()?;
        gi_profile(&info, || it.call("gi_profile", |driver| driver.gi_profile(device, index)))
    };
    fn nvmlDeviceGetGpuInstanceProfileInfoByIdV(device: DeviceToken, id: u32, info: Versioned) = |it| {
        let device = device.real()?;
        gi_profile(&info, || it.call("gi_profile_by_id", |driver| driver.gi_profile_by_id(device, id)))
    };
    fn nvmlDeviceGetGpuInstancePossiblePlacements(
        device: DeviceToken, id: u32, places: Out<Placement>, count: Out<u32>,
    ) = |it| possible(it, device, id, places, count);
    fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
        device: DeviceToken, id: u32, places: Out<Placement>, count: Out<u32>,
    ) = |it| possible(it, device, id, places, count);
    fn nvmlDeviceGetGpuInstanceRemainingCapacity(device: DeviceToken, id: u32, count: Out<u32>) = |it| {
        let device = device.real()?;
        count.take(|| it.call("gi_remaining_capacity", |driver| driver.gi_remaining_capacity(device, id)))
    };
    fn nvmlDeviceCreateGpuInstance(device: DeviceToken, id: u32, gi: Out<GiToken>) = |it| {
        let device = device.real()?;
        gi.take(|| it.call("create_gi", |driver| driver.create_gi(device, id)).map(GiToken::of))
    };
    fn nvmlDeviceCreateGpuInstanceWithPlacement(
        device: DeviceToken, id: u32, at: Out<Placement>, gi: Out<GiToken>,
    ) = |it| {
        let (device, at) = (device.real()?, at.place()?.get().into());
        gi.take(|| it.call("create_gi_at", |driver| driver.create_gi_at(device, id, at)).map(GiToken::of))
    };
    fn nvmlGpuInstanceDestroy(gi: GiToken) = |it| {
        let gi = gi.real()?;
        it.call("destroy_gi", |driver| driver.destroy_gi(gi))
    };
    fn nvmlDeviceGetGpuInstances(device: DeviceToken, id: u32, gis: Out<GiToken>, count: Out<u32>) = |it| {
        let (device, gis, count) = (device.real()?, gis.place()?, count.place()?);
        let found = it.call("gpu_instances", |driver| driver.gpu_instances(device, id))?;
        count.set(found.len() as u32);
        gis.fill(found.into_iter().map(GiToken::of));
        Ok(())
    };
    fn nvmlDeviceGetGpuInstanceById(device: DeviceToken, id: u32, gi: Out<GiToken>) = |it| {
        let device = device.real()?;
        gi.take(|| it.call("gi_by_id", |driver| driver.gi_by_id(device, id)).map(GiToken::of))
    };
    fn nvmlGpuInstanceGetInfo(gi: GiToken, info: Out<GiInfo>) = |it| info.take(|| gi_info(it, gi));

    fn nvmlGpuInstanceGetComputeInstanceProfileInfo(gi: GiToken, index: u32, engines: u32, info: Out<CiProfile1>) = |it| {
        info.take(|| of_ci(it, gi, index, engines).map(|info| ci_profile1(&info)))
    };
    fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(gi: GiToken, index: u32, engines: u32, info: Versioned) = |it| {
        ci_profile(&info, || of_ci(it, gi, index, engines))
    };
    fn nvmlGpuInstanceGetComputeInstanceRemainingCapacity(gi: GiToken, id: u32, count: Out<u32>) = |it| {
        let gi = gi.real()?;
        count.take(|| it.call("ci_remaining_capacity", |driver| driver.ci_remaining_capacity(gi, id)))
    };
    fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(
        gi: GiToken, id: u32, places: Out<Placement>, count: Out<u32>,
    ) = |it| {
        let gi = gi.real()?;
        let found = it.call("ci_possible_placements", |driver| driver.ci_possible_placements(gi, id));
        list(placements(found), places, count)
    };
    fn nvmlGpuInstanceCreateComputeInstance(gi: GiToken, id: u32, ci: Out<CiToken>) = |it| {
        let gi = gi.real()?;
        ci.take(|| it.call("create_ci", |driver| driver.create_ci(gi, id)).map(CiToken::of))
    };
    fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
        gi: GiToken, id: u32, at: Out<Placement>, ci: Out<CiToken>,
    ) = |it| {
        let (gi, at) = (gi.real()?, at.place()?.get().into());
        ci.take(|| it.call("create_ci_at", |driver| driver.create_ci_at(gi, id, at)).map(CiToken::of))
    };
    fn nvmlComputeInstanceDestroy(ci: CiToken) = |it| {
        let ci = ci.real()?;
        it.call("destroy_ci", |driver| driver.destroy_ci(ci))
    };
    fn nvmlGpuInstanceGetComputeInstances(gi: GiToken, id: u32, cis: Out<CiToken>, count: Out<u32>) = |it| {
        let (gi, cis, count) = (gi.real()?, cis.place()?, count.place()?);
        let found = it.call("compute_instances", |driver| driver.compute_instances(gi, id))?;
        count.set(found.len() as u32);
        cis.fill(found.into_iter().map(CiToken::of));
        Ok(())
    };
    fn nvmlGpuInstanceGetComputeInstanceById(gi: GiToken, id: u32, ci: Out<CiToken>) = |it| {
        let gi = gi.real()?;
        ci.take(|| it.call("ci_by_id", |driver| driver.ci_by_id(gi, id)).map(CiToken::of))
    };
    fn nvmlComputeInstanceGetInfo(ci: CiToken, info: Out<CiInfo1>) = |it| info.take(|| {
        let CiInfo2 { device, gpu_instance, id, profile_id, placement: _ } = ci_info(it, ci)?;
        Ok(CiInfo1 { device, gpu_instance, id, profile_id })
    });
    fn nvmlComputeInstanceGetInfo_v2(ci: CiToken, info: Out<CiInfo2>) = |it| info.take(|| ci_info(it, ci));

    fn nvmlDeviceIsMigDeviceHandle(device: DeviceToken, is: Out<u32>) = |it| {
        let device = device.real()?;
        is.take(|| it.call("is_mig_device", |driver| driver.is_mig_device(device)).map(u32::from))
    };
    fn nvmlDeviceGetGpuInstanceId(mig: DeviceToken, id: Out<u32>) = |it| {
        let mig = mig.real()?;
        id.take(|| it.call("gpu_instance_id", |driver| driver.gpu_instance_id(mig)))
    };
    fn nvmlDeviceGetComputeInstanceId(mig: DeviceToken, id: Out<u32>) = |it| {
        let mig = mig.real()?;
        id.take(|| it.call("compute_instance_id", |driver| driver.compute_instance_id(mig)))
    };
    fn nvmlDeviceGetMaxMigDeviceCount(device: DeviceToken, count: Out<u32>) = |it| {
        let device = device.real()?;
        count.take(|| it.call("max_mig_device_count", |driver| driver.max_mig_device_count(device)))
    };
    fn nvmlDeviceGetMigDeviceHandleByIndex(device: DeviceToken, index: u32, mig: Out<DeviceToken>) = |it| {
        let device = device.real()?;
        mig.take(|| it.call("mig_device_by_index", |driver| driver.mig_device_by_index(device, index)).map(DeviceToken::of))
    };
    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig: DeviceToken, device: Out<DeviceToken>) = |it| {
        let mig = mig.real()?;
        device.take(|| it.call("parent_of_mig_device", |driver| driver.parent_of_mig_device(mig)).map(DeviceToken::of))
    };
}
