//! The rules of the simulated driver, one test each; what real hardware printed is the reference.

use std::collections::BTreeSet;

use sectile::model::{Placement, User, catalogue};
use sectile::ports::{Ci, Device, Driver, Gi, Nvml, NvmlCode};
use sectile::sim::world::{SimCommand, SimProcess, SimUnit};
use sectile::sim::{Shared, lock};

use crate::door::{TestDriver, by_library};
use crate::support::{NODE, hardware, pod_holding, root};

fn one(board: &str) -> (Shared, TestDriver, Device) {
    let world = hardware(&[(board, true)]);
    let driver = root(&world);
    let device = driver.device_by_index(0).unwrap();
    (world, driver, device)
}

/// The hardware id of a profile of a board, by name (without memory: the regular one).
fn id(board: &str, name: &str) -> u32 {
    catalogue::by_id(board).unwrap().geometry().unwrap().resolve(name.parse().unwrap()).unwrap().0.id
}

/// Creates without placements, in order; the start of each, up to the first that fails.
fn automatic(board: &str, names: &str) -> Vec<Nvml<u32>> {
    let (_, driver, device) = one(board);
    let create = |name: &str| {
        let gi = driver.create_gi(device, id(board, name))?;
        Ok(driver.gi_info(gi)?.placement.start)
    };
    names.split(',').map(create).collect()
}

fn starts(board: &str, names: &str) -> Vec<u32> {
    automatic(board, names).into_iter().map(|start| start.expect(names)).collect()
}

fn at(start: u32, size: u32) -> Placement {
    Placement { start, size }
}

/// A GPU instance at a start, with the compute instance that fills it.
fn filled(driver: &TestDriver, device: Device, board: &str, name: &str, start: u32) -> (Gi, Ci) {
    let geometry = catalogue::by_id(board).unwrap().geometry().unwrap();
    let (profile, _) = geometry.resolve(name.parse().unwrap()).unwrap();
    let gi = driver.create_gi_at(device, profile.id, at(start, profile.size)).unwrap();
    let full = catalogue::by_id(board).unwrap().compute(profile.index);
    let full = full.iter().rfind(|c| c.slices == profile.slices).unwrap();
    (gi, driver.create_ci(gi, full.index).unwrap())
}

fn process(world: &Shared, gpu: usize) {
    let process = SimProcess { pid: 4711, name: "python3".to_owned() };
    lock(world).nodes.get_mut(NODE).unwrap().gpus[gpu].processes.push(process);
}

const A100: &str = "a100-40gb";
const H100: &str = "h100-80gb-sxm";
const RTX: &str = "rtx-pro-6000-blackwell";

#[test]
fn automatic_placement_is_as_observed_on_real_hardware() {
    assert_eq!(starts(A100, "1g,1g,1g,1g,1g,1g,1g"), [6, 4, 5, 0, 1, 2, 3]);
    assert_eq!(starts(A100, "1g,2g,4g"), [6, 4, 0]);
    assert_eq!(starts(A100, "3g,1g,2g,1g"), [4, 0, 2, 1]);
    assert_eq!(starts(A100, "2g,1g,1g,1g,1g,1g"), [4, 6, 0, 1, 2, 3]);
    assert_eq!(starts(A100, "3g,3g"), [4, 0]);
    assert_eq!(starts("h100-nvl-94gb", "3g,1g.24gb,1g"), [4, 0, 2]);
    assert_eq!(starts("a100-80gb", "2g,2g,1g"), [4, 0, 6]);
    assert_eq!(starts(A100, "4g,2g,1g"), [0, 4, 6]);
    assert_eq!(starts("h100-80gb-pcie", "1g.20gb"), [6]);
    assert_eq!(starts(RTX, "1g,1g,1g,1g"), [0, 3, 6, 9]);
    assert_eq!(starts(RTX, "2g,1g,1g"), [0, 6, 9]);
    assert_eq!(starts("a30-24gb", "1g"), [0]);
    assert_eq!(starts("gh200-96gb", "1g+me,1g.24gb,1g.24gb,1g.24gb")[1..], [4, 0, 2]);
}

#[test]
fn the_order_of_automatic_placement_matters() {
    let full = Err(NvmlCode::InsufficientResources);
    assert_eq!(automatic(A100, "1g,1g,2g,3g"), [Ok(6), Ok(4), Ok(0), full]);
    assert_eq!(automatic(H100, "1g,1g,2g,3g"), [Ok(6), Ok(4), Ok(0), full]);
}

#[test]
fn remaining_capacity_is_the_free_column_of_a_real_a100() {
    let (_, driver, device) = one(A100);
    let free = || -> Vec<u32> {
        ["1g", "1g+me", "1g.10gb", "2g", "3g", "4g", "7g"]
            .iter()
            .map(|name| driver.gi_remaining_capacity(device, id(A100, name)).unwrap())
            .collect()
    };
    assert_eq!(free(), [7, 1, 4, 3, 2, 1, 1]);
    driver.create_gi(device, id(A100, "4g")).unwrap();
    assert_eq!(free(), [3, 1, 2, 1, 1, 0, 0]);
    driver.create_gi(device, id(A100, "2g")).unwrap();
    assert_eq!(free(), [1, 1, 1, 0, 0, 0, 0]);
    driver.create_gi(device, id(A100, "1g")).unwrap();
    assert_eq!(free(), [0; 7]);
}

#[test]
fn an_empty_gpu_has_room_for_every_profile_up_to_its_maximum() {
    for board in catalogue::all().filter(|board| board.geometry().is_some()) {
        let (_, driver, device) = one(board.id);
        for p in board.geometry().unwrap().profiles {
            assert_eq!(driver.gi_remaining_capacity(device, p.id), Ok(p.max_instances), "{} {}", board.id, p.name);
        }
    }
}

#[test]
fn ids_come_from_the_tree_of_halves() {
    let ids = |board: &str, names: &str, swapped: bool| -> Vec<u32> {
        let (world, driver, device) = one(board);
        lock(&world).nodes.get_mut(NODE).unwrap().gpus[0].half_swapped = swapped;
        let create = |name| driver.gi_info(driver.create_gi(device, id(board, name)).unwrap()).unwrap().id;
        names.split(',').map(create).collect()
    };
    assert_eq!(ids(A100, "3g,3g", false), [2, 1], "the MIG guide");
    assert_eq!(ids(A100, "1g,1g,1g,1g,1g,1g,1g", false), [13, 11, 12, 7, 8, 9, 10]);
    assert_eq!(ids(A100, "1g,1g,1g,1g,1g,1g,1g", true), [9, 7, 8, 11, 12, 13, 14], "rapidsai/dask-cuda#583");
    assert_eq!(ids("a100-80gb", "3g,3g", true), [1, 2]);
    assert_eq!(ids(RTX, "1g,1g,1g,1g", false), [3, 4, 5, 6]);
    assert_eq!(ids(RTX, "2g,1g,1g", false), [1, 5, 6]);
    assert_eq!(ids("a30-24gb", "1g,1g,1g,1g", false).into_iter().collect::<BTreeSet<_>>(), [3, 4, 5, 6].into());
    assert_eq!(ids(A100, "7g", true), [0]);
    assert_eq!(ids("gh200-96gb", "1g+me,1g.24gb,1g.24gb,1g.24gb", false)[1..], [5, 3, 4]);
}

#[test]
fn an_occupied_placement_is_insufficient_resources_and_an_unlisted_one_an_invalid_argument() {
    let (_, driver, device) = one(H100);
    let three = id(H100, "3g");
    driver.create_gi_at(device, three, at(4, 4)).unwrap();
    assert_eq!(driver.create_gi_at(device, three, at(4, 4)), Err(NvmlCode::InsufficientResources));
    assert_eq!(driver.create_gi_at(device, three, at(2, 4)), Err(NvmlCode::InvalidArgument));
    assert_eq!(driver.create_gi_at(device, three, at(0, 3)), Err(NvmlCode::InvalidArgument));
    assert_eq!(driver.create_gi(device, 99), Err(NvmlCode::InvalidArgument));
    let two = id(H100, "2g");
    assert_eq!(driver.create_gi_at(device, two, at(4, 2)), Err(NvmlCode::InsufficientResources));
    driver.create_gi_at(device, two, at(2, 2)).unwrap();
}

#[test]
fn maxima_compute_slices_and_media_engines_limit_too() {
    let (_, driver, device) = one(H100);
    driver.create_gi_at(device, id(H100, "1g+me"), at(0, 1)).unwrap();
    let again = driver.create_gi_at(device, id(H100, "1g+me"), at(1, 1));
    assert_eq!(again, Err(NvmlCode::InsufficientResources), "+me is there once");

    let (_, driver, device) = one(RTX);
    driver.create_gi_at(device, id(RTX, "1g+me.all"), at(0, 3)).unwrap();
    let regular = driver.create_gi_at(device, id(RTX, "1g"), at(3, 3));
    assert_eq!(regular, Err(NvmlCode::InsufficientResources), "all media engines are taken");
    driver.create_gi_at(device, id(RTX, "1g-me"), at(3, 3)).unwrap();
    driver.create_gi_at(device, id(RTX, "2g-me"), at(6, 6)).unwrap();

    let (_, driver, device) = one("a30-24gb");
    driver.create_gi_at(device, id("a30-24gb", "1g+me"), at(0, 1)).unwrap();
    let other = driver.create_gi_at(device, id("a30-24gb", "2g+me"), at(2, 2));
    assert_eq!(other, Err(NvmlCode::InsufficientResources), "1g+me and 2g+me share one JPEG engine");
}

#[test]
fn boards_that_are_known_in_part_can_be_filled() {
    // Engines that no source has must not stand in the way of a full layout.
    assert_eq!(starts("b200-180gb", "4g,2g,1g"), [0, 4, 6]);
    assert_eq!(starts("gb300-278gb", "1g,1g,1g,1g,1g,1g,1g+me").len(), 7);
    assert_eq!(starts("h20-96gb", "4g,3g"), [0, 4]);
}

#[test]
fn a_gpu_instance_with_compute_instances_is_in_use() {
    let (_, driver, device) = one(H100);
    let (gi, ci) = filled(&driver, device, H100, "2g", 0);
    assert_eq!(driver.destroy_gi(gi), Err(NvmlCode::InUse));
    driver.destroy_ci(ci).unwrap();
    driver.destroy_gi(gi).unwrap();
}

#[test]
fn a_compute_instance_with_processes_is_in_use() {
    let (world, driver, device) = one(H100);
    let (gi, ci) = filled(&driver, device, H100, "2g", 0);
    let process = SimProcess { pid: 1, name: "train".to_owned() };
    lock(&world).nodes.get_mut(NODE).unwrap().gpus[0].instances[0].compute[0].processes.push(process);
    assert_eq!(driver.destroy_ci(ci), Err(NvmlCode::InUse));
    assert_eq!(driver.destroy_gi(gi), Err(NvmlCode::InUse));
    // Others come and go meanwhile.
    filled(&driver, device, H100, "1g", 6);
}

#[test]
fn the_first_gpu_instance_needs_an_idle_gpu() {
    let (world, driver, device) = one(H100);
    process(&world, 0);
    assert_eq!(driver.create_gi(device, id(H100, "1g")), Err(NvmlCode::InUse));
    lock(&world).nodes.get_mut(NODE).unwrap().gpus[0].processes.clear();
    driver.create_gi(device, id(H100, "1g")).unwrap();
}

#[test]
fn handles_of_what_was_destroyed_are_invalid() {
    let (_, driver, device) = one(H100);
    let (gi, ci) = filled(&driver, device, H100, "2g", 0);
    let mig = driver.ci_info(ci).unwrap().device;
    driver.destroy_ci(ci).unwrap();
    assert_eq!(driver.destroy_ci(ci), Err(NvmlCode::InvalidArgument));
    assert_eq!(driver.uuid(mig), Err(NvmlCode::InvalidArgument));
    driver.destroy_gi(gi).unwrap();
    assert_eq!(driver.gi_info(gi), Err(NvmlCode::InvalidArgument));
    let (again, _) = filled(&driver, device, H100, "2g", 0);
    assert_ne!(gi, again);
    assert_eq!(driver.destroy_gi(gi), Err(NvmlCode::InvalidArgument), "also when the slot is taken again");
}

#[test]
fn with_mig_mode_off_nothing_is_supported() {
    let world = hardware(&[(A100, false), (H100, false)]);
    let driver = root(&world);
    for index in 0..2 {
        let device = driver.device_by_index(index).unwrap();
        assert_eq!(driver.create_gi(device, 19), Err(NvmlCode::NotSupported));
        assert_eq!(driver.gpu_instances(device, 19), Err(NvmlCode::NotSupported));
        assert_eq!(driver.gi_remaining_capacity(device, 19), Err(NvmlCode::NotSupported));
        assert_eq!(driver.max_mig_device_count(device), Ok(0));
        assert_eq!(driver.gi_possible_placements(device, 19).unwrap().len(), 7, "placements are told all the same");
    }
    let profile = |index| driver.gi_profile(driver.device_by_index(index).unwrap(), 0).map(|info| info.id);
    assert_eq!(profile(0), Err(NvmlCode::NotSupported));
    assert_eq!(profile(1), Ok(19), "this board answers independently of the mode");
}

#[test]
fn what_needs_root_is_refused_to_others() {
    let (world, driver, device) = one(H100);
    let (gi, ci) = filled(&driver, device, H100, "2g", 0);
    let uuid = driver.uuid(driver.ci_info(ci).unwrap().device);
    let user = TestDriver::unprivileged(world.clone(), NODE);
    let no = NvmlCode::NoPermission;
    // Handles are of one process, and another's gets none of an instance without rights.
    let device = user.device_by_index(0).unwrap();
    if !by_library() {
        assert_eq!(user.destroy_gi(gi), Err(no));
        assert_eq!(user.create_ci(gi, 0), Err(no));
        assert_eq!(user.destroy_ci(ci), Err(no));
        assert_eq!(user.compute_instances(gi, 1), Err(no));
    }
    assert_eq!(user.set_mig_mode(device, false), Err(no));
    assert_eq!(user.create_gi(device, 19), Err(no));
    assert_eq!(user.create_gi_at(device, 19, at(6, 1)), Err(no));
    assert_eq!(user.gpu_instances(device, 14), Err(no));
    assert_eq!(user.gi_by_id(device, 3), Err(no));
    assert_eq!(user.gi_possible_placements(device, 19), Err(no));
    assert_eq!(user.gi_remaining_capacity(device, 19), Err(no));
    assert_eq!(user.mig_mode(device), Ok((true, true)));
    assert_eq!(user.uuid(user.mig_device_by_index(device, 0).unwrap()), uuid);
    assert!(lock(&world).ledger.is_empty());
}

#[test]
fn a_lost_gpu_says_so_and_keeps_its_index() {
    let world = hardware(&[(H100, true), (H100, true)]);
    let driver = root(&world);
    let device = driver.device_by_index(0).unwrap();
    let (gi, ci) = filled(&driver, device, H100, "2g", 0);
    lock(&world).nodes.get_mut(NODE).unwrap().gpus[0].lost = true;
    let lost = NvmlCode::GpuIsLost;
    assert_eq!(driver.device_count(), Ok(2));
    assert_eq!(driver.device_by_index(0), Err(lost));
    assert_eq!(driver.device_by_uuid("GPU-0"), Err(lost));
    assert_eq!(driver.device_by_uuid("GPU-1"), Err(lost), "any of them, as nvml.h has it");
    assert_eq!(driver.device_by_pci("00000000:18:00.0"), driver.device_by_index(1));
    assert_eq!(driver.mig_mode(device), Err(lost));
    assert_eq!(driver.gi_info(gi), Err(lost));
    assert_eq!(driver.destroy_ci(ci), Err(lost));
    assert_eq!(driver.index(driver.device_by_index(1).unwrap()), Ok(1));
}

#[test]
fn hopper_switches_at_once_and_forgets_at_reboot() {
    let world = hardware(&[(H100, false)]);
    let driver = root(&world);
    let device = driver.device_by_index(0).unwrap();
    process(&world, 0);
    assert_eq!(driver.set_mig_mode(device, true), Ok(NvmlCode::Success));
    assert_eq!(driver.mig_mode(device), Ok((true, true)));
    lock(&world).reboot(NODE).unwrap();
    assert_eq!(driver.mig_mode(device), Ok((false, false)));
}

#[test]
fn ampere_with_clients_waits_for_a_reset() {
    let world = hardware(&[(A100, false)]);
    let driver = root(&world);
    let device = driver.device_by_index(0).unwrap();
    process(&world, 0);
    assert_eq!(driver.set_mig_mode(device, true), Ok(NvmlCode::InUse), "an activation status, not an error");
    assert_eq!(driver.mig_mode(device), Ok((false, true)));
    assert_eq!(driver.create_gi(device, 19), Err(NvmlCode::NotSupported));
    assert_eq!(lock(&world).reset_gpu(NODE, "00000000:17:00.0"), Err(NvmlCode::InUse), "nor is it reset under them");
    lock(&world).nodes.get_mut(NODE).unwrap().gpus[0].processes.clear();
    lock(&world).reset_gpu(NODE, "00000000:17:00.0").unwrap();
    assert_eq!(driver.mig_mode(device), Ok((true, true)));
}

#[test]
fn ampere_idle_is_reset_by_the_driver_and_remembers_at_reboot() {
    let world = hardware(&[(A100, false), (A100, false)]);
    let driver = root(&world);
    let (first, second) = (driver.device_by_index(0).unwrap(), driver.device_by_index(1).unwrap());
    assert_eq!(driver.set_mig_mode(first, true), Ok(NvmlCode::Success));
    assert_eq!(driver.mig_mode(first), Ok((true, true)));
    process(&world, 1);
    driver.set_mig_mode(second, true).unwrap();
    lock(&world).reboot(NODE).unwrap();
    assert_eq!(driver.mig_mode(first), Ok((true, true)));
    assert_eq!(driver.mig_mode(second), Ok((true, true)), "a pending mode is in force after a reboot");
}

#[test]
fn a_pending_mode_can_be_taken_back() {
    let world = hardware(&[(A100, false)]);
    let driver = root(&world);
    let device = driver.device_by_index(0).unwrap();
    process(&world, 0);
    driver.set_mig_mode(device, true).unwrap();
    assert_eq!(driver.set_mig_mode(device, false), Ok(NvmlCode::Success));
    assert_eq!(driver.mig_mode(device), Ok((false, false)));
}

#[test]
fn disabling_with_instances_is_in_use() {
    for board in [A100, H100] {
        let (_, driver, device) = one(board);
        driver.create_gi(device, id(board, "1g")).unwrap();
        assert_eq!(driver.set_mig_mode(device, false), Err(NvmlCode::InUse), "{board}");
        assert_eq!(driver.mig_mode(device), Ok((true, true)), "{board}");
    }
}

#[test]
fn instances_survive_neither_reboot_nor_reset() {
    for reboot in [true, false] {
        let (world, driver, device) = one(A100);
        let (gi, _) = filled(&driver, device, A100, "3g", 4);
        if reboot {
            lock(&world).reboot(NODE).unwrap();
        } else {
            lock(&world).reset_gpu(NODE, "00000000:17:00.0").unwrap();
        }
        assert_eq!(driver.gpu_instances(device, id(A100, "3g")), Ok(vec![]));
        assert_eq!(driver.gi_info(gi), Err(NvmlCode::InvalidArgument));
    }
}

#[test]
fn a_mig_uuid_belongs_to_the_slot_and_not_to_the_profile() {
    let (world, driver, device) = one(A100);
    let uuid = |ci| driver.uuid(driver.ci_info(ci).unwrap().device).unwrap();
    let (gi, ci) = filled(&driver, device, A100, "3g", 0);
    let before = uuid(ci);
    driver.destroy_ci(ci).unwrap();
    // As in the MIG guide: a 1c.3g.20gb in the same place has the UUID of the 3g.20gb.
    let part = driver.create_ci_at(gi, 0, at(0, 1)).unwrap();
    assert_eq!(uuid(part), before);
    let other = driver.create_ci(gi, 0).unwrap();
    assert_ne!(uuid(other), before);
    lock(&world).reboot(NODE).unwrap();
    let (_, ci) = filled(&driver, device, A100, "4g", 0);
    assert_eq!(uuid(ci), before, "another profile of the same size, after a reboot");
    let (_, ci) = filled(&driver, device, A100, "3g", 4);
    assert_ne!(uuid(ci), before);
    let (head, version) = (before.strip_prefix("MIG-").unwrap(), before.as_bytes()[4 + 14]);
    assert_eq!((head.len(), version), (36, b'5'));
    assert_eq!(driver.device_by_uuid(&before).and_then(|mig| driver.is_mig_device(mig)), Ok(true));
}

#[test]
fn mig_devices_are_counted_to_the_maximum_and_leave_holes() {
    let (_, driver, device) = one(H100);
    assert_eq!(driver.max_mig_device_count(device), Ok(7));
    let (gi, ci) = filled(&driver, device, H100, "2g", 0);
    filled(&driver, device, H100, "3g", 4);
    let there = || -> Vec<u32> { (0..7).filter(|i| driver.mig_device_by_index(device, *i).is_ok()).collect() };
    assert_eq!(there().len(), 2);
    driver.destroy_ci(ci).unwrap();
    driver.destroy_gi(gi).unwrap();
    assert_eq!(driver.mig_device_by_index(device, 0), Err(NvmlCode::NotFound));
    let index = there()[0];
    let mig = driver.mig_device_by_index(device, index).unwrap();
    assert_eq!(driver.index(mig), Ok(index));
    assert_eq!(driver.parent_of_mig_device(mig), Ok(device));
    assert_eq!((driver.gpu_instance_id(mig), driver.compute_instance_id(mig)), (Ok(2), Ok(0)));
    assert_eq!(driver.name(mig).unwrap(), "NVIDIA H100 80GB HBM3 MIG 3g.40gb");
    assert_eq!(driver.mig_device_by_index(device, 7), Err(NvmlCode::InvalidArgument));
}

#[test]
fn compute_instances_have_the_lowest_free_id_and_lie_in_compute_slices() {
    let (_, driver, device) = one(A100);
    let gi = driver.create_gi_at(device, id(A100, "2g"), at(0, 2)).unwrap();
    let first = driver.create_ci(gi, 0).unwrap();
    let second = driver.create_ci(gi, 0).unwrap();
    let seen = |ci| driver.ci_info(ci).map(|info| (info.id, info.placement));
    assert_eq!((seen(first), seen(second)), (Ok((0, at(0, 1))), Ok((1, at(1, 1)))));
    assert_eq!(driver.create_ci(gi, 0), Err(NvmlCode::InsufficientResources));
    driver.destroy_ci(first).unwrap();
    let third = driver.create_ci(gi, 0).unwrap();
    assert_eq!(seen(third), Ok((0, at(0, 1))));
    assert_eq!(driver.create_ci_at(gi, 0, at(2, 1)), Err(NvmlCode::InvalidArgument));
    assert_eq!(driver.create_ci_at(gi, 0, at(1, 1)), Err(NvmlCode::InsufficientResources));
}

#[test]
fn compute_capacity_is_as_a_real_a100_printed_it() {
    let (_, driver, device) = one("a100-80gb");
    let gi = driver.create_gi(device, id("a100-80gb", "4g")).unwrap();
    let free = |ci| driver.ci_remaining_capacity(gi, ci).unwrap();
    assert_eq!([free(0), free(1), free(3)], [4, 2, 1]);
    driver.create_ci(gi, 0).unwrap();
    assert_eq!([free(0), free(1), free(3)], [3, 1, 0]);
    let names: Vec<String> = [0, 1, 3].iter().map(|i| driver.ci_profile(gi, *i).unwrap().name).collect();
    assert_eq!(names, ["MIG 1c.4g.40gb", "MIG 2c.4g.40gb", "MIG 4g.40gb"]);
    assert_eq!(driver.ci_profile(gi, 2), Err(NvmlCode::NotSupported));
    assert_eq!(driver.ci_profile(gi, 9), Err(NvmlCode::InvalidArgument));
}

#[test]
fn compute_instances_of_different_sizes_coexist() {
    let (_, driver, device) = one(A100);
    let gi = driver.create_gi(device, id(A100, "3g")).unwrap();
    driver.create_ci(gi, 0).unwrap();
    driver.create_ci(gi, 1).unwrap();
    let (_, driver, device) = one(A100);
    let gi = driver.create_gi(device, id(A100, "7g")).unwrap();
    for profile in [0, 1, 2] {
        driver.create_ci(gi, profile).unwrap();
    }
}

#[test]
fn hoppers_double_memory_1g_has_its_own_compute_profile() {
    let (world, ..) = one(H100);
    let uuids = lock(&world).place(NODE, 0, "1g.20gb".parse().unwrap(), 6, None).unwrap();
    assert_eq!(uuids.len(), 1);
    assert_eq!(lock(&world).nodes[NODE].gpus[0].instances[0].compute[0].profile_index, 7);
}

#[test]
fn the_enumeration_skips_and_ends() {
    let (_, driver, device) = one(H100);
    assert_eq!(driver.gi_profile(device, 4).unwrap().name, "MIG 7g.80gb");
    assert_eq!(driver.gi_profile(device, 5), Err(NvmlCode::NotSupported));
    assert_eq!(driver.gi_profile(device, 17), Err(NvmlCode::NotSupported));
    assert_eq!(driver.gi_profile(device, 18), Err(NvmlCode::InvalidArgument));
    assert_eq!(driver.gi_profile_by_id(device, 15).unwrap().name, "MIG 1g.20gb");
}

#[test]
fn calls_take_the_measured_time_on_the_virtual_clock() {
    let (world, driver, device) = one(H100);
    let clock = || lock(&world).clock_ms;
    let (gi, ci) = filled(&driver, device, H100, "2g", 0);
    assert_eq!(clock(), 43);
    assert_eq!(driver.destroy_gi(gi), Err(NvmlCode::InUse));
    assert_eq!(clock(), 43, "what fails takes no time");
    driver.destroy_ci(ci).unwrap();
    driver.destroy_gi(gi).unwrap();
    assert_eq!(clock(), 43 + 109);

    let world = hardware(&[(A100, false)]);
    let driver = root(&world);
    driver.set_mig_mode(driver.device_by_index(0).unwrap(), true).unwrap();
    assert_eq!(lock(&world).clock_ms, 4500);
}

#[test]
fn a_pod_without_a_process_stops_nothing_but_is_in_the_ledger() {
    let (world, driver, device) = one(H100);
    let (gi, ci) = filled(&driver, device, H100, "2g", 0);
    let uuid = driver.uuid(driver.ci_info(ci).unwrap().device).unwrap();
    lock(&world).pods.insert("inference/embed-0".to_owned(), pod_holding(&uuid));
    driver.destroy_ci(ci).unwrap();
    driver.destroy_gi(gi).unwrap();
    let world = lock(&world);
    let calls: Vec<(&str, i64)> = world.ledger.iter().map(|entry| (entry.call.as_str(), entry.at_ms)).collect();
    assert_eq!(calls, [("nvmlComputeInstanceDestroy", 43), ("nvmlGpuInstanceDestroy", 43 + 29)]);
    assert_eq!(world.ledger[0].holders, ["pod:inference/embed-0".parse::<User>().unwrap()]);
    assert_eq!((world.ledger[0].node.as_str(), world.ledger[0].gpu.as_str()), (NODE, "GPU-0"));
}

#[test]
fn resets_and_mode_switches_under_somebody_are_in_the_ledger() {
    let (world, driver, device) = one(A100);
    let (_, ci) = filled(&driver, device, A100, "2g", 0);
    let uuid = driver.uuid(driver.ci_info(ci).unwrap().device).unwrap();
    lock(&world).pods.insert("a/b".to_owned(), pod_holding(&uuid));
    lock(&world).reset_gpu(NODE, "00000000:17:00.0").unwrap();
    assert_eq!(lock(&world).ledger.len(), 1);
    lock(&world).pods.insert("a/b".to_owned(), pod_holding("GPU-0"));
    driver.set_mig_mode(device, false).unwrap();
    assert_eq!(lock(&world).ledger[1].call, "nvmlDeviceSetMigMode");
}

#[test]
fn holders_are_pods_units_commands_and_processes() {
    let (world, driver, device) = one(H100);
    let (_, ci) = filled(&driver, device, H100, "2g", 0);
    let uuid = driver.uuid(driver.ci_info(ci).unwrap().device).unwrap();
    let mut world = lock(&world);
    world.pods.insert("a/b".to_owned(), pod_holding(&uuid));
    let ended = sectile::model::observed::PodPhase::Ended;
    world.pods.insert("a/done".to_owned(), sectile::sim::world::SimPod { phase: ended, ..pod_holding(&uuid) });
    let node = world.nodes.get_mut(NODE).unwrap();
    let devices = vec![uuid.clone()];
    node.units.insert("up.service".to_owned(), SimUnit { active: true, devices: devices.clone() });
    node.units.insert("down.service".to_owned(), SimUnit { active: false, devices: devices.clone() });
    node.commands.insert("vm".to_owned(), SimCommand { devices: devices.clone(), drained_at_ms: None });
    node.commands.insert("off".to_owned(), SimCommand { devices, drained_at_ms: Some(0) });
    node.gpus[0].instances[0].compute[0].processes.push(SimProcess { pid: 7, name: "x".to_owned() });
    let holders: Vec<String> = world.holders(NODE, &uuid).iter().map(User::to_string).collect();
    assert_eq!(holders, ["pod:a/b", "unit:up.service", "command:vm", "process:7/x"]);
    assert_eq!(world.holders("elsewhere", &uuid), []);
}

#[test]
fn placing_obeys_the_rules_without_latency_and_leaves_nothing_behind() {
    let (world, ..) = one(H100);
    let mut world = lock(&world);
    let name = |text: &str| text.parse().unwrap();
    world.place(NODE, 0, name("3g.40gb"), 4, None).unwrap();
    let cut = ["1c.2g.20gb".parse().unwrap(), "1c.2g.20gb".parse().unwrap()];
    assert_eq!(world.place(NODE, 0, name("2g"), 0, Some(&cut)).unwrap().len(), 2);
    assert_eq!(world.place(NODE, 0, name("1g"), 6, Some(&[])), Err(NvmlCode::InsufficientResources));
    assert_eq!(world.place(NODE, 0, name("1g"), 2, Some(&[])), Ok(vec![]));
    assert_eq!(world.place(NODE, 0, name("9g"), 0, None), Err(NvmlCode::InvalidArgument));
    let three = ["1c.1g".parse().unwrap(), "1c.1g".parse().unwrap()];
    assert_eq!(world.place(NODE, 0, name("1g"), 3, Some(&three)), Err(NvmlCode::InsufficientResources));
    assert_eq!(world.nodes[NODE].gpus[0].instances.len(), 3);
    assert_eq!(world.clock_ms, 0);
}

#[test]
fn processes_are_told_for_the_instance_and_for_the_gpu_only_to_root() {
    let (world, driver, device) = one(H100);
    let (_, ci) = filled(&driver, device, H100, "2g", 0);
    let mig = driver.ci_info(ci).unwrap().device;
    let process = SimProcess { pid: 7, name: "x".to_owned() };
    lock(&world).nodes.get_mut(NODE).unwrap().gpus[0].instances[0].compute[0].processes.push(process);
    let seen = driver.compute_processes(mig).unwrap();
    assert_eq!((seen[0].pid, seen[0].gpu_instance_id, seen[0].compute_instance_id), (7, Some(3), Some(0)));
    assert_eq!(driver.compute_processes(device), Ok(seen));
    assert_eq!(driver.process_name(7).as_deref(), Ok("x"));
    assert_eq!(driver.process_name(8), Err(NvmlCode::NotFound));
    let user = TestDriver::unprivileged(world, NODE);
    assert_eq!(user.compute_processes(user.device_by_index(0).unwrap()), Ok(vec![]));
}

proptest::proptest! {
    /// Whatever is created and destroyed, capacity and creation agree, and nothing overlaps.
    #[test]
    fn capacity_and_creation_agree_in_any_state(
        board in proptest::sample::select(vec![A100, H100, RTX, "a30-24gb", "b200-180gb"]),
        steps in proptest::collection::vec((0usize..16, proptest::bool::weighted(0.7)), 1..24),
    ) {
        let (_, driver, device) = one(board);
        let profiles = catalogue::by_id(board).unwrap().geometry().unwrap().profiles;
        let mut there: Vec<Gi> = Vec::new();
        for (which, create) in steps {
            if create || there.is_empty() {
                let profile = &profiles[which % profiles.len()];
                let free = driver.gi_remaining_capacity(device, profile.id).unwrap();
                let made = driver.create_gi(device, profile.id);
                proptest::prop_assert_eq!(free > 0, made.is_ok());
                there.extend(made);
            } else {
                driver.destroy_gi(there.swap_remove(which % there.len())).unwrap();
            }
            let infos: Vec<_> = there.iter().map(|gi| driver.gi_info(*gi).unwrap()).collect();
            let ids: BTreeSet<u32> = infos.iter().map(|info| info.id).collect();
            proptest::prop_assert_eq!(ids.len(), infos.len());
            for (i, a) in infos.iter().enumerate() {
                proptest::prop_assert!(infos[..i].iter().all(|b| !a.placement.overlaps(b.placement)));
            }
        }
    }
}
