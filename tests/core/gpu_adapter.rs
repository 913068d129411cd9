//! The adapter from a driver to the model, on the simulated driver.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use sectile::gpu::{Gpus, Mode};
use sectile::model::plan::SlotRef;
use sectile::model::{ComputeName, Known, Placement, User, catalogue};
use sectile::ports::{Driver, NvmlCode};
use sectile::sim::fault::{Fate, Meddler};
use sectile::sim::world::{SimGpu, SimProcess};
use sectile::sim::{Shared, lock};

use crate::door::TestDriver;
use crate::faulty::Faulty;
use crate::support::{NODE, hardware, root};

const A100: &str = "a100-40gb";
const H100: &str = "h100-80gb-sxm";

fn one(board: &str, mode: bool) -> (Shared, Gpus<Faulty>) {
    let world = hardware(&[(board, mode)]);
    let gpus = Gpus::new(Faulty::new(root(&world)));
    (world, gpus)
}

fn slot(profile: &str, start: u32, size: u32) -> SlotRef {
    let placement = Placement { start, size };
    SlotRef { gpu: "GPU-0".to_owned(), profile: profile.parse().unwrap(), placement }
}

fn compute(names: &str) -> Vec<ComputeName> {
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.parse().unwrap()).collect()
}

fn change(world: &Shared, change: impl FnOnce(&mut SimGpu)) {
    change(&mut lock(world).nodes.get_mut(NODE).unwrap().gpus[0]);
}

fn process(pid: u32) -> SimProcess {
    SimProcess { pid, name: "python3".to_owned() }
}

fn users(texts: &[&str]) -> Known<Vec<User>> {
    Known::Known(texts.iter().map(|text| text.parse().unwrap()).collect())
}

#[test]
fn what_is_observed_is_what_is_there() {
    let (world, gpus) = one(H100, true);
    let placed = lock(&world).place(NODE, 0, "3g.40gb".parse().unwrap(), 4, None).unwrap();
    lock(&world).place(NODE, 0, "2g.20gb".parse().unwrap(), 0, Some(&compute("1c.2g.20gb,1c.2g.20gb"))).unwrap();
    lock(&world).place(NODE, 0, "1g.20gb".parse().unwrap(), 2, Some(&[])).unwrap();
    change(&world, |gpu| gpu.instances[0].compute[0].processes.push(process(7)));
    let (seen, gaps, _) = gpus.observe().unwrap();
    assert_eq!((seen.len(), gaps), (1, vec![]));
    let gpu = &seen[0];
    assert_eq!((gpu.uuid.as_str(), gpu.index, gpu.pci.as_str()), ("GPU-0", 0, "00000000:17:00.0"));
    assert_eq!((gpu.model.as_str(), gpu.board.as_deref()), ("H100 80GB HBM3", Some(H100)));
    assert!(gpu.mig.capable && gpu.mig.current && gpu.mig.pending && gpu.mig.resetless);
    assert_eq!(gpu.users, users(&[]), "what runs on an instance is no user of the whole GPU");
    let lie: Vec<(String, u32, u32, u32)> =
        gpu.instances.iter().map(|i| (i.profile.to_string(), i.placement.start, i.placement.size, i.gi_id)).collect();
    let expected = [("2g.20gb", 0, 2, 3), ("1g.20gb", 2, 2, 4), ("3g.40gb", 4, 4, 2)];
    assert_eq!(lie, expected.map(|(name, start, size, id)| (name.to_owned(), start, size, id)));
    let [two, double, three] = &gpu.instances[..] else { panic!() };
    assert_eq!(two.compute.iter().map(|c| c.profile.to_string()).collect::<Vec<_>>(), ["1c.2g.20gb"; 2]);
    assert_eq!(two.compute.iter().map(|c| c.ci_id).collect::<Vec<_>>(), [0, 1]);
    assert!(double.compute.is_empty());
    assert_eq!(three.compute[0].uuid, placed[0]);
    assert_eq!(three.all_users(), users(&["process:7/python3"]));
    assert_eq!(three.users, users(&[]), "a compute instance explains it");
    assert!(!two.in_use() && three.in_use());
}

#[test]
fn the_drivers_geometry_is_the_catalogues_where_both_know() {
    for board in catalogue::all().filter(|board| board.geometry().is_some()) {
        let (_, gpus) = one(board.id, true);
        let (seen, ..) = gpus.observe().unwrap();
        let (told, known) = (seen[0].geometry.clone().unwrap(), board.geometry().unwrap());
        assert_eq!(seen[0].board.as_deref(), Some(board.id));
        assert_eq!((told.units, told.slices), (known.units, known.slices), "{}", board.id);
        for (told, known) in told.profiles.iter().zip(&known.profiles) {
            let what = |p: &sectile::model::GpuProfile| {
                (p.name, p.index, p.id, p.slices, p.size, p.starts.clone(), p.max_instances)
            };
            assert_eq!(what(told), what(known), "{}", board.id);
            assert!(known.memory_mib.is_none_or(|mib| told.memory_mib == Some(mib)), "{} {}", board.id, known.name);
        }
    }
}

#[test]
fn with_mig_mode_off_the_catalogue_helps_out() {
    let (world, gpus) = one(A100, false);
    change(&world, |gpu| gpu.processes.push(process(7)));
    let (seen, gaps, _) = gpus.observe().unwrap();
    assert_eq!(seen[0].geometry, catalogue::by_id(A100).unwrap().shared_geometry());
    assert_eq!((seen[0].instances.len(), gaps.len()), (0, 0));
    assert_eq!(seen[0].users, users(&["process:7/python3"]));
    assert!(!seen[0].mig.resetless);
    // Hopper's driver answers by itself, but placements take root.
    let world = hardware(&[(H100, false)]);
    let unprivileged = Gpus::new(TestDriver::unprivileged(world, NODE));
    assert_eq!(unprivileged.observe().unwrap().0[0].geometry, catalogue::by_id(H100).unwrap().shared_geometry());
}

#[test]
fn a_board_that_nobody_knows_has_no_geometry_and_a_gap() {
    let (_, gpus) = one("rtx-pro-5000-blackwell-48gb", false);
    let (seen, gaps, _) = gpus.observe().unwrap();
    assert_eq!((seen[0].geometry.clone(), seen[0].users.clone()), (None, users(&[])));
    assert_eq!(gaps[0].object, "profiles of GPU-0");
}

#[test]
fn without_rights_observing_instances_is_an_error_and_not_an_empty_list() {
    let world = hardware(&[(H100, true)]);
    let error = Gpus::new(TestDriver::unprivileged(world, NODE)).observe().unwrap_err();
    assert_eq!((error.transient, error.code.as_str()), (false, "Insufficient Permissions"));
}

#[test]
fn processes_that_are_not_told_are_unknown_users_and_a_gap() {
    let (world, gpus) = one(H100, true);
    lock(&world).place(NODE, 0, "3g.40gb".parse().unwrap(), 4, None).unwrap();
    for call in ["compute_processes", "mps_processes"] {
        // The GPU is asked first, and then the instance.
        gpus.driver().fail(call, 1, 1, NvmlCode::Unknown);
        let (seen, gaps, _) = gpus.observe().unwrap();
        assert_eq!(seen[0].users, users(&[]));
        assert_eq!(seen[0].instances[0].compute[0].users, Known::Unknown);
        assert!(seen[0].instances[0].in_use(), "unknown means in use");
        assert!(gaps[0].object.starts_with("users of GPU-0 3g.40gb at 4"), "{gaps:?}");
        gpus.driver().fail(call, 0, 1, NvmlCode::Unknown);
        let (seen, gaps, _) = gpus.observe().unwrap();
        assert_eq!((&seen[0].users, &seen[0].instances[0].users), (&Known::Unknown, &Known::Unknown));
        assert_eq!(gaps[0].object, "users of GPU-0");
    }
    gpus.driver().fail("graphics_processes", 0, 9, NvmlCode::NotSupported);
    assert_eq!(gpus.observe().unwrap().1, [], "a device without graphics has no graphics processes");
}

#[test]
fn a_lost_gpu_is_a_gap_and_nothing_can_be_planned_for_it() {
    let world = hardware(&[(H100, true), (H100, true)]);
    let gpus = Gpus::new(root(&world));
    lock(&world).place(NODE, 0, "3g.40gb".parse().unwrap(), 4, None).unwrap();
    assert_eq!(gpus.observe().unwrap().1, []);
    change(&world, |gpu| gpu.lost = true);
    let (seen, gaps, _) = gpus.observe().unwrap();
    assert_eq!(seen.iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((&seen[0].geometry, &seen[0].users, seen[0].instances.len()), (&None, &Known::Unknown, 0));
    assert!(seen[1].geometry.is_some());
    assert_eq!(gaps[0].object, "GPU-0");
    assert!(gaps[0].message.contains("GPU is lost"), "{gaps:?}");
    assert_eq!(gpus.observe().unwrap().2, BTreeSet::from([0]));
    // An adapter that never saw it does not know which GPU it was.
    let (seen, gaps, _) = Gpus::new(root(&world)).observe().unwrap();
    assert_eq!((seen.len(), gaps[0].object.as_str()), (1, "GPU 0"));
    let error = gpus.destroy(&slot("3g.40gb", 4, 4)).unwrap_err();
    assert_eq!((error.transient, error.code.as_str()), (false, "GPU is lost"));
}

#[test]
fn a_gpu_that_is_lost_while_it_is_looked_at_is_a_gap() {
    let (world, gpus) = one(H100, true);
    lock(&world).place(NODE, 0, "3g.40gb".parse().unwrap(), 4, None).unwrap();
    gpus.driver().fail("gi_info", 0, 1, NvmlCode::GpuIsLost);
    let (seen, gaps, _) = gpus.observe().unwrap();
    assert_eq!((&seen[0].geometry, &seen[0].users, gaps.len()), (&None, &Known::Unknown, 1));
}

/// NVML finds no UUID while any GPU of the node is lost.
#[test]
fn one_lost_gpu_stopped_every_change_on_the_others() {
    let world = hardware(&[(H100, true), (H100, true), (A100, false)]);
    let two = SlotRef { gpu: "GPU-1".to_owned(), ..slot("2g.20gb", 0, 2) };
    let seen = Gpus::new(root(&world));
    seen.observe().unwrap();
    change(&world, |gpu| gpu.lost = true);
    // An adapter that saw the GPUs before, and one that did not.
    for gpus in [seen, Gpus::new(root(&world))] {
        assert_eq!(gpus.driver().device_by_uuid("GPU-1"), Err(NvmlCode::GpuIsLost));
        assert_eq!(gpus.create(&two, &compute("2g.20gb")).unwrap().len(), 1);
        assert_eq!(gpus.users(&two), Ok(Some(users(&[]))));
        gpus.destroy(&two).unwrap();
        assert_eq!(gpus.users(&two), Ok(None));
        assert_eq!(gpus.set_mode("GPU-2", true), Ok(Mode::Active));
        assert_eq!(gpus.set_mode("GPU-2", false), Ok(Mode::Active));
        assert_eq!(gpus.pci("GPU-2").unwrap(), "00000000:19:00.0");
        assert_eq!(gpus.mode("GPU-0").unwrap_err().code, "GPU is lost");
    }
}

#[test]
fn a_gpu_in_the_place_of_another_is_not_taken_for_it() {
    let world = hardware(&[(H100, true), (H100, false)]);
    let gpus = Gpus::new(root(&world));
    gpus.observe().unwrap();
    lock(&world).nodes.get_mut(NODE).unwrap().gpus.swap(0, 1);
    assert!(gpus.mode("GPU-0").unwrap().current && !gpus.mode("GPU-1").unwrap().current);
    lock(&world).nodes.get_mut(NODE).unwrap().gpus.remove(1);
    assert_eq!(gpus.mode("GPU-0").unwrap_err().code, "Not Found");
}

/// Between the look who uses it and its destruction somebody else may be faster.
#[test]
fn an_instance_made_in_the_place_of_one_that_was_looked_at_is_spared() {
    let (world, gpus) = one(H100, true);
    let three = slot("3g.40gb", 0, 4);
    gpus.create(&three, &compute("3g.40gb")).unwrap();
    gpus.at(&three).unwrap().unwrap();
    change(&world, |gpu| gpu.instances.clear());
    lock(&world).place(NODE, 0, "4g.40gb".parse().unwrap(), 0, None).unwrap();
    gpus.destroy(&three).unwrap();
    assert_eq!(lock(&world).nodes[NODE].gpus[0].instances.len(), 1);
    // The same again is what shall go, though it is another one.
    let four = slot("4g.40gb", 0, 4);
    gpus.at(&four).unwrap().unwrap();
    change(&world, |gpu| gpu.instances.clear());
    lock(&world).place(NODE, 0, four.profile, 0, None).unwrap();
    gpus.destroy(&four).unwrap();
    assert!(lock(&world).nodes[NODE].gpus[0].instances.is_empty());
}

#[test]
fn a_gpu_that_only_just_did_not_tell_counted_as_gone() {
    let world = hardware(&[(H100, true), (H100, true)]);
    lock(&world).place(NODE, 0, "3g.40gb".parse().unwrap(), 4, None).unwrap();
    for call in ["device_by_index", "name", "uuid", "mig_mode", "gpu_instances", "gi_info", "ci_info"] {
        for code in [NvmlCode::Timeout, NvmlCode::InUse] {
            let gpus = Gpus::new(Faulty::new(root(&world)));
            gpus.driver().fail(call, 0, 1, code);
            let error = gpus.observe().unwrap_err();
            assert_eq!((error.transient, error.code.as_str()), (true, code.words()), "{call}");
            assert_eq!(gpus.observe().unwrap().0.len(), 2, "{call}");
        }
    }
}

/// Three slices of Hopper's may take four: so the seventh is nobody's, and nothing fits any more.
#[test]
fn a_gpu_cut_into_three_and_three_slices_could_never_be_observed() {
    let (world, gpus) = one(H100, true);
    let seven = slot("7g.80gb", 0, 8);
    gpus.create(&seven, &compute("3c.7g.80gb,3c.7g.80gb")).unwrap();
    gpus.driver().full.store(true, Relaxed);
    let (seen, gaps, lost) = gpus.observe().unwrap();
    assert_eq!((gaps, lost.len(), seen[0].instances[0].compute.len()), (vec![], 0, 2));
    // What no three slices can have taken is somebody's who was not told.
    gpus.destroy(&seven).unwrap();
    for cut in ["4c.7g.80gb", "3c.7g.80gb", "2c.7g.80gb,2c.7g.80gb,2c.7g.80gb"] {
        change(&world, |gpu| gpu.instances.clear());
        lock(&world).place(NODE, 0, seven.profile, 0, Some(&compute(cut))).unwrap();
        assert_eq!(gpus.observe().unwrap().2, BTreeSet::from([0]), "{cut}");
    }
}

#[test]
fn creating_places_exactly_and_gives_the_uuids() {
    let (world, gpus) = one(H100, true);
    let uuids = gpus.create(&slot("2g.20gb", 2, 2), &compute("1c.2g.20gb,1c.2g.20gb")).unwrap();
    assert_eq!(uuids.len(), 2);
    assert_eq!(gpus.uuids(&slot("2g.20gb", 2, 2)).unwrap(), uuids);
    let double = gpus.create(&slot("1g.20gb", 6, 2), &compute("1g.20gb")).unwrap();
    assert_eq!(double.len(), 1);
    assert_eq!(lock(&world).nodes[NODE].gpus[0].instances[1].compute[0].profile_index, 7);
    assert_eq!(gpus.create(&slot("3g.40gb", 4, 4), &[]).unwrap_err().code, "Insufficient Resources");
    assert_eq!(gpus.create(&slot("1g.10gb", 0, 1), &[]).unwrap(), Vec::<String>::new());
    assert_eq!(gpus.create(&slot("1g.10gb", 0, 2), &[]).unwrap_err().code, "Invalid Argument");
    assert_eq!(gpus.create(&slot("9g.10gb", 0, 2), &[]).unwrap_err().code, "Not Supported");
}

#[test]
fn creating_what_is_there_does_nothing() {
    let (world, gpus) = one(H100, true);
    let three = slot("3g.40gb", 4, 4);
    let uuids = gpus.create(&three, &compute("3g.40gb")).unwrap();
    let before = lock(&world).clone();
    assert_eq!(gpus.create(&three, &compute("3g.40gb")).unwrap(), uuids);
    assert_eq!(*lock(&world), before);
    let error = gpus.create(&three, &compute("1c.3g.40gb")).unwrap_err();
    assert!(error.message.contains("other compute instances"), "{error}");
    assert_eq!(*lock(&world), before);
}

#[test]
fn creating_again_completes_what_was_interrupted() {
    let (world, gpus) = one(H100, true);
    let three = slot("3g.40gb", 4, 4);
    lock(&world).place(NODE, 0, three.profile, 4, Some(&compute("1c.3g.40gb"))).unwrap();
    assert_eq!(gpus.create(&three, &compute("2c.3g.40gb,1c.3g.40gb")).unwrap().len(), 2);
    assert_eq!(lock(&world).nodes[NODE].gpus[0].instances.len(), 1);
}

#[test]
fn what_failed_halfway_is_undone() {
    let (world, gpus) = one(H100, true);
    let two = slot("2g.20gb", 0, 2);
    gpus.driver().fail("create_ci", 1, 1, NvmlCode::InsufficientResources);
    let error = gpus.create(&two, &compute("1c.2g.20gb,1c.2g.20gb")).unwrap_err();
    assert_eq!((error.transient, error.code.as_str()), (false, "Insufficient Resources"));
    assert!(lock(&world).nodes[NODE].gpus[0].instances.is_empty());
    // An undo that fails is told.
    gpus.driver().fail("create_ci", 0, 1, NvmlCode::Timeout);
    gpus.driver().fail("destroy_gi", 0, 1, NvmlCode::InUse);
    let error = gpus.create(&two, &compute("2g.20gb")).unwrap_err();
    assert!(error.transient && error.message.contains("could not be destroyed again"), "{error}");
    assert_eq!(gpus.uuids(&two).unwrap(), Vec::<String>::new());
    // And the next try goes on from there.
    assert_eq!(gpus.create(&two, &compute("2g.20gb")).unwrap().len(), 1);
}

#[test]
fn destroying_takes_compute_instances_first_and_bears_with_others_being_faster() {
    let (world, gpus) = one(H100, true);
    let two = slot("2g.20gb", 0, 2);
    gpus.create(&two, &compute("1c.2g.20gb,1c.2g.20gb")).unwrap();
    // A first try that got only halfway.
    gpus.driver().fail("destroy_gi", 0, 1, NvmlCode::InUse);
    let error = gpus.destroy(&two).unwrap_err();
    assert_eq!((error.transient, error.code.as_str()), (true, "In use by another client"));
    assert!(lock(&world).nodes[NODE].gpus[0].instances[0].compute.is_empty());
    gpus.destroy(&two).unwrap();
    assert!(lock(&world).nodes[NODE].gpus[0].instances.is_empty());
    gpus.destroy(&two).unwrap();

    gpus.create(&two, &compute("2g.20gb")).unwrap();
    gpus.driver().fail("destroy_ci", 0, 1, NvmlCode::NotFound);
    assert_eq!(gpus.destroy(&two).unwrap_err().code, "In use by another client", "it was there after all");
    gpus.driver().fail("destroy_gi", 0, 1, NvmlCode::NotFound);
    gpus.destroy(&two).unwrap();
}

#[test]
fn destroying_what_runs_a_process_fails_and_may_pass_by_itself() {
    let (world, gpus) = one(H100, true);
    let two = slot("2g.20gb", 0, 2);
    gpus.create(&two, &compute("2g.20gb")).unwrap();
    change(&world, |gpu| gpu.instances[0].compute[0].processes.push(process(7)));
    assert!(gpus.destroy(&two).unwrap_err().transient);
    assert_eq!(gpus.uuids(&two).unwrap().len(), 1);
}

#[test]
fn destroying_spares_another_profile_in_the_same_place() {
    let (world, gpus) = one(H100, true);
    gpus.create(&slot("4g.40gb", 0, 4), &compute("4g.40gb")).unwrap();
    gpus.destroy(&slot("3g.40gb", 0, 4)).unwrap();
    gpus.destroy(&slot("2g.20gb", 0, 2)).unwrap();
    assert_eq!(lock(&world).nodes[NODE].gpus[0].instances.len(), 1);
    assert_eq!(gpus.users(&slot("3g.40gb", 0, 4)), Ok(None));
    assert_eq!(gpus.uuids(&slot("3g.40gb", 0, 4)).unwrap_err().code, "Not Found");
}

#[test]
fn users_are_looked_at_afresh() {
    let (world, gpus) = one(H100, true);
    let two = slot("2g.20gb", 0, 2);
    assert_eq!(gpus.users(&two), Ok(None));
    gpus.create(&two, &compute("1c.2g.20gb,1c.2g.20gb")).unwrap();
    assert_eq!(gpus.users(&two), Ok(Some(users(&[]))));
    change(&world, |gpu| gpu.instances[0].compute[1].processes.push(process(7)));
    assert_eq!(gpus.users(&two), Ok(Some(users(&["process:7/python3"]))));
    gpus.driver().fail("compute_processes", 1, 1, NvmlCode::Timeout);
    assert_eq!(gpus.users(&two), Ok(Some(Known::Unknown)));
    let (_, off) = one(A100, false);
    assert_eq!(off.users(&slot("2g.10gb", 0, 2)), Ok(None), "with MIG mode off there is none");
}

#[test]
fn mode_switches_tell_what_is_in_force() {
    let world = hardware(&[(A100, false), (H100, false)]);
    let gpus = Gpus::new(root(&world));
    assert_eq!(gpus.set_mode("GPU-1", true), Ok(Mode::Active));
    assert!(gpus.mode("GPU-1").unwrap().current);
    change(&world, |gpu| gpu.processes.push(process(7)));
    assert_eq!(gpus.set_mode("GPU-0", true), Ok(Mode::Pending(NvmlCode::InUse)));
    let mode = gpus.mode("GPU-0").unwrap();
    assert_eq!((mode.current, mode.pending, mode.resetless), (false, true, false));
    assert_eq!(gpus.set_mode("GPU-0", false), Ok(Mode::Active), "taken back");
    assert!(!gpus.mode("GPU-0").unwrap().pending);
    change(&world, |gpu| gpu.processes.clear());
    assert_eq!(gpus.set_mode("GPU-0", true), Ok(Mode::Active));
    gpus.create(&slot("1g.5gb", 6, 1), &compute("1g.5gb")).unwrap();
    let error = gpus.set_mode("GPU-0", false).unwrap_err();
    assert_eq!((error.transient, error.code.as_str()), (true, "In use by another client"));
    assert_eq!(gpus.mode("GPU-9").unwrap_err().code, "Not Found");
}

/// Loses the answer to the first switch of a mode.
#[derive(Default)]
struct Loses(Cell<bool>);

impl Meddler for Loses {
    fn fate(&self, call: &'static str) -> Fate {
        let first = call == "set_mig_mode" && !self.0.replace(true);
        if first { Fate::Loses("UNKNOWN".to_owned()) } else { Fate::Passes }
    }
    fn pass(&self, _: i64) {}
}

#[test]
fn a_mode_that_failed_and_is_pending_all_the_same_is_set_back() {
    let world = hardware(&[(A100, false)]);
    change(&world, |gpu| gpu.processes.push(process(7)));
    let gpus = Gpus::new(sectile::sim::fault::Faulty::new(root(&world), Loses::default()));
    let error = gpus.set_mode("GPU-0", true).unwrap_err();
    assert!(error.message.ends_with("which was left pending and was set back"), "{error}");
    assert!(!gpus.mode("GPU-0").unwrap().pending);
}

/// Fails the second switch of a mode, after the first lost its answer.
#[derive(Default)]
struct Sticks(Cell<u32>);

impl Meddler for Sticks {
    fn fate(&self, call: &'static str) -> Fate {
        if call != "set_mig_mode" {
            return Fate::Passes;
        }
        self.0.set(self.0.get() + 1);
        let code = "UNKNOWN".to_owned();
        if self.0.get() == 1 { Fate::Loses(code) } else { Fate::Fails(code) }
    }
    fn pass(&self, _: i64) {}
}

#[test]
fn a_mode_that_stayed_pending_was_said_to_be_set_back() {
    let world = hardware(&[(A100, false)]);
    change(&world, |gpu| gpu.processes.push(process(7)));
    let gpus = Gpus::new(sectile::sim::fault::Faulty::new(root(&world), Sticks::default()));
    let error = gpus.set_mode("GPU-0", true).unwrap_err();
    assert!(error.message.ends_with("which was left pending and could not be set back"), "{error}");
    // A driver that says that it did and did not.
    let gpus = Gpus::new(Faulty::new(root(&world)));
    assert!(gpus.mode("GPU-0").unwrap().pending);
    gpus.driver().idle.store(true, Relaxed);
    assert_eq!(gpus.set_mode("GPU-0", false), Ok(Mode::Pending(NvmlCode::ResetRequired)));
    assert_eq!(gpus.set_mode("GPU-0", true), Ok(Mode::Pending(NvmlCode::ResetRequired)));
    gpus.driver().idle.store(false, Relaxed);
    assert_eq!(gpus.set_mode("GPU-0", false), Ok(Mode::Active));
}

#[test]
fn a_board_without_mig_is_not_capable() {
    let (_, gpus) = one(H100, false);
    gpus.driver().fail("mig_mode", 0, 1, NvmlCode::NotSupported);
    let (seen, gaps, _) = gpus.observe().unwrap();
    assert!(!seen[0].mig.capable && seen[0].geometry.is_none() && gaps.is_empty());
}

#[test]
fn an_old_driver_without_the_field_is_helped_by_the_catalogue() {
    for (board, resetless) in [(H100, true), (A100, false)] {
        let (_, gpus) = one(board, false);
        gpus.driver().fail("field_value", 0, 9, NvmlCode::NotSupported);
        assert_eq!(gpus.mode("GPU-0").unwrap().resetless, resetless, "{board}");
    }
}

#[test]
fn profiles_are_asked_for_once() {
    let (_, gpus) = one(H100, true);
    gpus.observe().unwrap();
    gpus.driver().fail("gi_profile", 0, 99, NvmlCode::Unknown);
    assert!(gpus.observe().unwrap().0[0].geometry.is_some());
    assert_eq!(gpus.driver().driver_version().unwrap(), "595.58.03");
}

#[test]
fn a_profile_that_is_not_understood_is_a_gap_and_its_instances_hide_the_gpu() {
    let world = hardware(&[(H100, true)]);
    let gpus = Gpus::new(Faulty::new(root(&world)).with_odd_profile(1));
    let (seen, gaps, _) = gpus.observe().unwrap();
    assert_eq!(gaps.len(), 1);
    let geometry = seen[0].geometry.as_ref().unwrap();
    assert!(geometry.named("2g.20gb".parse().unwrap()).is_none() && geometry.profiles.len() == 6);
    // It takes room that nothing accounts for, and nobody must plan around it.
    lock(&world).place(NODE, 0, "2g.20gb".parse().unwrap(), 0, None).unwrap();
    let (seen, ..) = gpus.observe().unwrap();
    assert_eq!((&seen[0].geometry, &seen[0].users), (&None, &Known::Unknown));
    assert_eq!(gpus.observe().unwrap().2, BTreeSet::new(), "it is there");
}
