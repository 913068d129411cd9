//! The library and the in-process simulator are one model: the same calls have the same results and leave the same state.

use proptest::prelude::*;
use sectile::model::Placement;
use sectile::ports::{Ci, Device, Driver, Gi, GiProfileInfo, Nvml, NvmlCode};
use sectile::sim::driver::SimDriver;
use sectile::sim::world::World;
use sectile::sim::{fleet, lock, state};

use super::client::{Client, Room, SUCCESS};

const FLEET: &str = r#"
[[node]]
name = "n1"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  half_swapped = true
  [[node.gpu]]
  model = "a100-80gb"
  mig = true
  instances = [{ profile = "3g.40gb", start = 4, users = ["process:4711/train"] }, { profile = "1g.10gb", start = 0 }]
  [[node.gpu]]
  model = "a30-24gb"
  [[node.gpu]]
  model = "rtx-pro-6000-blackwell"
  mig = true
"#;

/// A call: which, on what, with which numbers.
#[derive(Clone, Debug)]
struct Op {
    call: &'static str,
    on: usize,
    a: u32,
    at: Placement,
    version: u32,
}

/// By the port's names.
const CALLS: &[&str] = &[
    "device_by_index",
    "device_by_uuid",
    "uuid",
    "name",
    "index",
    "minor_number",
    "pci_bus_id",
    "memory_total",
    "field_value",
    "mig_mode",
    "set_mig_mode",
    "max_mig_device_count",
    "mig_device_by_index",
    "is_mig_device",
    "parent_of_mig_device",
    "gpu_instance_id",
    "compute_instance_id",
    "gi_profile",
    "gi_profile_by_id",
    "gi_possible_placements",
    "gi_remaining_capacity",
    "create_gi",
    "create_gi_at",
    "destroy_gi",
    "gpu_instances",
    "gi_by_id",
    "gi_info",
    "ci_profile",
    "ci_possible_placements",
    "ci_remaining_capacity",
    "create_ci",
    "create_ci_at",
    "destroy_ci",
    "compute_instances",
    "ci_by_id",
    "ci_info",
    "compute_processes",
    "process_name",
];

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let number = prop_oneof![8 => 0..10u32, 8 => 0..68u32, 1 => any::<u32>()];
    let placement =
        (prop_oneof![9 => 0..12u32, 1 => any::<u32>()], prop::sample::select(vec![1, 2, 3, 4, 6, 8, 12, 0, 9]));
    // Instances are made as often as all else together, so that there are some.
    let call = prop_oneof![
        prop::sample::select(CALLS.to_vec()),
        prop::sample::select(vec!["create_gi", "create_gi_at", "create_ci", "create_ci", "mig_device_by_index"]),
    ];
    let op = (call, 0..12usize, number, placement, 1..4u32).prop_map(|(call, on, a, (start, size), version)| Op {
        call,
        on,
        a,
        at: Placement { start, size },
        version,
    });
    prop::collection::vec(op, 1..80)
}

/// Handles in the order in which they were first seen, so that both sides' can be compared.
struct Seen<D, G, C> {
    devices: Vec<D>,
    gis: Vec<G>,
    cis: Vec<C>,
}

fn seen<T: PartialEq>(list: &mut Vec<T>, handle: T) -> u64 {
    let at = list.iter().position(|known| *known == handle);
    at.unwrap_or_else(|| {
        list.push(handle);
        list.len() - 1
    }) as u64
}

fn pick<T: Copy>(list: &[T], on: usize, none: T) -> T {
    // One more than there are: a handle that is none.
    list.get(on % (list.len() + 1)).copied().unwrap_or(none)
}

fn letters(text: &str) -> Vec<u64> {
    text.bytes().map(u64::from).collect()
}

fn flat(placements: &[Placement]) -> Vec<u64> {
    placements.iter().flat_map(|p| [p.start.into(), p.size.into()]).collect()
}

type Told = Result<Vec<u64>, u32>;

fn gi_profile(info: &GiProfileInfo, version: u32) -> Vec<u64> {
    let counts = [info.slice_count, info.instance_count, info.multiprocessor_count, info.copy_engine_count];
    let more = [info.decoder_count, info.encoder_count, info.jpeg_count, info.ofa_count];
    let mut all: Vec<u64> = [info.id].iter().chain(&counts).chain(&more).map(|n| u64::from(*n)).collect();
    all.push(info.memory_size_mib);
    match version {
        1 => {}
        2 => all.extend(letters(&info.name)),
        _ => all.extend(letters(&info.name).into_iter().chain([info.capabilities.into()])),
    }
    all
}

/// The call on the in-process simulator.
fn inside(driver: &SimDriver, known: &mut Seen<Device, Gi, Ci>, op: &Op) -> Nvml<Vec<u64>> {
    let Op { call, on, a, at, version } = op.clone();
    let device = pick(&known.devices, on, Device(0));
    let (gi, ci) = (pick(&known.gis, on, Gi(0)), pick(&known.cis, on, Ci(0)));
    let one = |n: u32| vec![u64::from(n)];
    Ok(match call {
        "device_by_index" => vec![seen(&mut known.devices, driver.device_by_index(a)?)],
        "device_by_uuid" => vec![seen(&mut known.devices, driver.device_by_uuid(&driver.uuid(device)?)?)],
        "uuid" => letters(&driver.uuid(device)?),
        "name" => letters(&driver.name(device)?),
        "index" => one(driver.index(device)?),
        "minor_number" => one(driver.minor_number(device)?),
        "pci_bus_id" => letters(&driver.pci_bus_id(device)?),
        "memory_total" => vec![driver.memory_total(device)?],
        "field_value" => {
            driver.uuid(device)?;
            let field = [184, 199, a][a as usize % 3];
            let read = driver.field_value(device, field);
            vec![read.err().map_or(0, |code| code as u64), read.unwrap_or(0)]
        }
        "mig_mode" => driver.mig_mode(device).map(|(now, then)| vec![now.into(), then.into()])?,
        "set_mig_mode" if a > 1 => return Err(NvmlCode::InvalidArgument),
        "set_mig_mode" => vec![driver.set_mig_mode(device, a == 1)? as u64],
        "max_mig_device_count" => one(driver.max_mig_device_count(device)?),
        "mig_device_by_index" => vec![seen(&mut known.devices, driver.mig_device_by_index(device, a)?)],
        "is_mig_device" => vec![driver.is_mig_device(device)?.into()],
        "parent_of_mig_device" => vec![seen(&mut known.devices, driver.parent_of_mig_device(device)?)],
        "gpu_instance_id" => one(driver.gpu_instance_id(device)?),
        "compute_instance_id" => one(driver.compute_instance_id(device)?),
        "gi_profile" => gi_profile(&driver.gi_profile(device, a)?, version),
        "gi_profile_by_id" => gi_profile(&driver.gi_profile_by_id(device, a)?, version.max(2)),
        "gi_possible_placements" => flat(&driver.gi_possible_placements(device, a)?),
        "gi_remaining_capacity" => one(driver.gi_remaining_capacity(device, a)?),
        "create_gi" => vec![seen(&mut known.gis, driver.create_gi(device, a)?)],
        "create_gi_at" => vec![seen(&mut known.gis, driver.create_gi_at(device, a, at)?)],
        "destroy_gi" => driver.destroy_gi(gi).map(|()| vec![])?,
        "gpu_instances" => driver.gpu_instances(device, a)?.into_iter().map(|gi| seen(&mut known.gis, gi)).collect(),
        "gi_by_id" => vec![seen(&mut known.gis, driver.gi_by_id(device, a)?)],
        "gi_info" => {
            let info = driver.gi_info(gi)?;
            let ids = [info.id, info.profile_id, info.placement.start, info.placement.size].map(u64::from);
            [&[seen(&mut known.devices, info.device)], &ids[..]].concat()
        }
        "ci_profile" => {
            let info = driver.ci_profile(gi, a)?;
            let counts = [info.id, info.slice_count, info.instance_count, info.multiprocessor_count];
            let shared = [info.shared_copy_engine_count, info.shared_decoder_count, info.shared_encoder_count];
            let more = [info.shared_jpeg_count, info.shared_ofa_count];
            let mut all: Vec<u64> = counts.iter().chain(&shared).chain(&more).map(|n| u64::from(*n)).collect();
            all.extend(if version > 1 { letters(&info.name) } else { vec![] });
            all.extend((version > 2).then_some(u64::from(info.capabilities)));
            all
        }
        "ci_possible_placements" => flat(&driver.ci_possible_placements(gi, a)?),
        "ci_remaining_capacity" => one(driver.ci_remaining_capacity(gi, a)?),
        "create_ci" => vec![seen(&mut known.cis, driver.create_ci(gi, a)?)],
        "create_ci_at" => vec![seen(&mut known.cis, driver.create_ci_at(gi, a, at)?)],
        "destroy_ci" => driver.destroy_ci(ci).map(|()| vec![])?,
        "compute_instances" => {
            driver.compute_instances(gi, a)?.into_iter().map(|ci| seen(&mut known.cis, ci)).collect()
        }
        "ci_by_id" => vec![seen(&mut known.cis, driver.ci_by_id(gi, a)?)],
        "ci_info" => {
            let info = driver.ci_info(ci)?;
            let ids = [info.id, info.profile_id, info.placement.start, info.placement.size].map(u64::from);
            let (device, gi) = (seen(&mut known.devices, info.device), seen(&mut known.gis, info.gpu_instance));
            [&[device, gi], &ids[..]].concat()
        }
        "compute_processes" => {
            let ids = |id: Option<u32>| id.map_or(u64::from(u32::MAX), u64::from);
            let found = driver.compute_processes(device)?.into_iter();
            found.flat_map(|p| [p.pid.into(), u64::MAX, ids(p.gpu_instance_id), ids(p.compute_instance_id)]).collect()
        }
        "process_name" => letters(&driver.process_name(4710 + a % 3)?),
        other => panic!("{other}"),
    })
}

/// Calls it in C, and takes so many words of what it writes.
fn written(client: &Client, name: &str, args: &[usize], mut room: Room, bytes: usize) -> Result<Room, u32> {
    let pointer = room.pointer();
    match client.call(name, &[args, &[pointer]].concat()) {
        SUCCESS => {
            room.words(bytes);
            Ok(room)
        }
        code => Err(code),
    }
}

fn text(client: &Client, name: &str, of: usize) -> Result<String, u32> {
    let mut room = Room::new();
    match client.call(name, &[of, room.pointer(), 96]) {
        SUCCESS => Ok(room.text(0)),
        code => Err(code),
    }
}

/// Calls a function that lists handles or placements, and writes how many there are last.
fn listed(client: &Client, name: &str, args: &[usize]) -> Result<Vec<u64>, u32> {
    let mut room = [0u64; 64];
    let count: u32 = client.get(name, &[args, &[room.as_mut_ptr() as usize]].concat())?;
    Ok(room[..count as usize].to_vec())
}

/// A profile of any version: what stands where nvml.h says.
fn profile(client: &Client, name: &str, args: &[usize], version: u32, sizes: [u32; 3], gi: bool) -> Told {
    let size = sizes[version as usize - 1];
    let (name, room) = match version {
        1 => (name.to_owned(), Room::new()),
        _ => (format!("{}V", name.trim_end_matches('V')), Room::version(size | version << 24)),
    };
    let room = written(client, &name, args, room, size as usize)?;
    let words = room.words(size as usize);
    // The version stands before all, and in versions 1 and 2 of a GPU instance's whether P2P is there behind the id.
    let first = usize::from(version > 1);
    let p2p = gi && version < 3;
    assert!(!p2p || words[first + 1] == 0);
    let counts = &words[first + 1 + usize::from(p2p)..];
    let (counts, rest) = counts.split_at(8);
    let mut all: Vec<u64> = [words[first]].iter().chain(counts).map(|n| u64::from(*n)).collect();
    let mut at = size as usize / 4 - rest.len();
    if gi {
        at = at.next_multiple_of(2);
        all.push(room.handle(at) as u64);
        at += 2;
    }
    all.extend(if version > 1 { letters(&room.text(at)) } else { vec![] });
    all.extend((version > 2).then(|| u64::from(words[at + 24])));
    Ok(all)
}

/// The same call on the library.
fn outside(client: &Client, known: &mut Seen<usize, usize, usize>, op: &Op) -> Told {
    let Op { call, on, a, at, version } = op.clone();
    // What is no token: one that was never given.
    let none = 0xdead_0000;
    let device = pick(&known.devices, on, none);
    let (gi, ci) = (pick(&known.gis, on, none), pick(&known.cis, on, none));
    let word = a as usize;
    let place = [at.start, at.size];
    let place = place.as_ptr() as usize;
    let number = |name: &str, of: usize| client.get::<u32>(name, &[of]).map(|n| vec![u64::from(n)]);
    let handle = |name: &str, args: &[usize]| client.get::<usize>(name, args);
    let gi_sizes = [48, 152, 152];
    let ci_sizes = [36, 136, 140];
    Ok(match call {
        "device_by_index" => vec![seen(&mut known.devices, handle("nvmlDeviceGetHandleByIndex_v2", &[word])?)],
        "device_by_uuid" => {
            let uuid = text(client, "nvmlDeviceGetUUID", device)? + "\0";
            vec![seen(&mut known.devices, handle("nvmlDeviceGetHandleByUUID", &[uuid.as_ptr() as usize])?)]
        }
        "uuid" => letters(&text(client, "nvmlDeviceGetUUID", device)?),
        "name" => letters(&text(client, "nvmlDeviceGetName", device)?),
        "index" => number("nvmlDeviceGetIndex", device)?,
        "minor_number" => number("nvmlDeviceGetMinorNumber", device)?,
        "pci_bus_id" => letters(&written(client, "nvmlDeviceGetPciInfo_v3", &[device], Room::new(), 68)?.text(9)),
        "memory_total" => {
            let room = written(client, "nvmlDeviceGetMemoryInfo", &[device], Room::new(), 24)?;
            assert_eq!((room.handle(0), room.handle(4)), (room.handle(2), 0));
            vec![room.handle(0) as u64]
        }
        "field_value" => {
            let mut room = Room::new();
            let pointer = room.pointer();
            // SAFETY: the first word of the room.
            unsafe { (pointer as *mut u32).write([184, 199, a][word % 3]) };
            match client.call("nvmlDeviceGetFieldValues", &[device, 1, pointer]) {
                SUCCESS => vec![room.words(40)[7].into(), room.handle(8) as u64],
                code => return Err(code),
            }
        }
        "mig_mode" => {
            let mut now = 7u32;
            let then: u32 = client.get("nvmlDeviceGetMigMode", &[device, &raw mut now as usize])?;
            vec![now.into(), then.into()]
        }
        "set_mig_mode" => vec![u64::from(client.get::<u32>("nvmlDeviceSetMigMode", &[device, word])?)],
        "max_mig_device_count" => number("nvmlDeviceGetMaxMigDeviceCount", device)?,
        "mig_device_by_index" => {
            vec![seen(&mut known.devices, handle("nvmlDeviceGetMigDeviceHandleByIndex", &[device, word])?)]
        }
        "is_mig_device" => number("nvmlDeviceIsMigDeviceHandle", device)?,
        "parent_of_mig_device" => {
            vec![seen(&mut known.devices, handle("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", &[device])?)]
        }
        "gpu_instance_id" => number("nvmlDeviceGetGpuInstanceId", device)?,
        "compute_instance_id" => number("nvmlDeviceGetComputeInstanceId", device)?,
        "gi_profile" => {
            let name = "nvmlDeviceGetGpuInstanceProfileInfo";
            profile(client, name, &[device, word], version, gi_sizes, true)?
        }
        "gi_profile_by_id" => {
            let name = "nvmlDeviceGetGpuInstanceProfileInfoByIdV";
            profile(client, name, &[device, word], version.max(2), gi_sizes, true)?
        }
        "gi_possible_placements" => {
            let found = listed(client, "nvmlDeviceGetGpuInstancePossiblePlacements_v2", &[device, word])?;
            found.into_iter().flat_map(|p| [p & 0xffff_ffff, p >> 32]).collect()
        }
        "gi_remaining_capacity" => {
            vec![client.get::<u32>("nvmlDeviceGetGpuInstanceRemainingCapacity", &[device, word])?.into()]
        }
        "create_gi" => vec![seen(&mut known.gis, client.create(device, word)?)],
        "create_gi_at" => {
            let name = "nvmlDeviceCreateGpuInstanceWithPlacement";
            vec![seen(&mut known.gis, handle(name, &[device, word, place])?)]
        }
        "destroy_gi" => match client.call("nvmlGpuInstanceDestroy", &[gi]) {
            SUCCESS => vec![],
            code => return Err(code),
        },
        "gpu_instances" => {
            let found = listed(client, "nvmlDeviceGetGpuInstances", &[device, word])?;
            found.into_iter().map(|gi| seen(&mut known.gis, gi as usize)).collect()
        }
        "gi_by_id" => vec![seen(&mut known.gis, handle("nvmlDeviceGetGpuInstanceById", &[device, word])?)],
        "gi_info" => {
            let room = written(client, "nvmlGpuInstanceGetInfo", &[gi], Room::new(), 24)?;
            let ids: Vec<u64> = room.words(24)[2..].iter().map(|n| u64::from(*n)).collect();
            [vec![seen(&mut known.devices, room.handle(0))], ids].concat()
        }
        "ci_profile" => {
            let name = "nvmlGpuInstanceGetComputeInstanceProfileInfo";
            profile(client, name, &[gi, word, 0], version, ci_sizes, false)?
        }
        "ci_possible_placements" => {
            let found = listed(client, "nvmlGpuInstanceGetComputeInstancePossiblePlacements", &[gi, word])?;
            found.into_iter().flat_map(|p| [p & 0xffff_ffff, p >> 32]).collect()
        }
        "ci_remaining_capacity" => {
            vec![client.get::<u32>("nvmlGpuInstanceGetComputeInstanceRemainingCapacity", &[gi, word])?.into()]
        }
        "create_ci" => vec![seen(&mut known.cis, handle("nvmlGpuInstanceCreateComputeInstance", &[gi, word])?)],
        "create_ci_at" => {
            let name = "nvmlGpuInstanceCreateComputeInstanceWithPlacement";
            vec![seen(&mut known.cis, handle(name, &[gi, word, place])?)]
        }
        "destroy_ci" => match client.call("nvmlComputeInstanceDestroy", &[ci]) {
            SUCCESS => vec![],
            code => return Err(code),
        },
        "compute_instances" => {
            let found = listed(client, "nvmlGpuInstanceGetComputeInstances", &[gi, word])?;
            found.into_iter().map(|ci| seen(&mut known.cis, ci as usize)).collect()
        }
        "ci_by_id" => vec![seen(&mut known.cis, handle("nvmlGpuInstanceGetComputeInstanceById", &[gi, word])?)],
        "ci_info" => {
            let room = written(client, "nvmlComputeInstanceGetInfo_v2", &[ci], Room::new(), 32)?;
            let ids: Vec<u64> = room.words(32)[4..].iter().map(|n| u64::from(*n)).collect();
            let (device, gi) = (seen(&mut known.devices, room.handle(0)), seen(&mut known.gis, room.handle(2)));
            [vec![device, gi], ids].concat()
        }
        "compute_processes" => {
            let (mut count, mut room) = (8u32, [0u64; 24]);
            let (count_at, room_at) = (&raw mut count as usize, room.as_mut_ptr() as usize);
            match client.call("nvmlDeviceGetComputeRunningProcesses_v3", &[device, count_at, room_at]) {
                SUCCESS => {}
                code => return Err(code),
            }
            let each = room[..3 * count as usize].chunks(3);
            each.flat_map(|p| [p[0] & 0xffff_ffff, p[1], p[2] & 0xffff_ffff, p[2] >> 32]).collect()
        }
        "process_name" => letters(&text(client, "nvmlSystemGetProcessName", 4710 + word % 3)?),
        other => panic!("{other}"),
    })
}

type Both = (Client, sectile::sim::Shared, SimDriver, Seen<Device, Gi, Ci>, Seen<usize, usize, usize>);

/// Both, with their GPUs seen.
fn both() -> Both {
    let client = Client::new(FLEET);
    let world: World = fleet::parse("fleet.toml", FLEET).unwrap();
    let world = std::sync::Arc::new(std::sync::Mutex::new(world));
    let driver = SimDriver::new(world.clone(), "n1");
    let mut known = Seen { devices: vec![], gis: vec![], cis: vec![] };
    let mut tokens = Seen { devices: vec![], gis: vec![], cis: vec![] };
    for gpu in 0..4 {
        seen(&mut known.devices, driver.device_by_index(gpu).unwrap());
        seen(&mut tokens.devices, client.gpu(gpu as usize));
    }
    (client, world, driver, known, tokens)
}

#[test]
fn every_profile_is_told_alike_in_every_version() {
    let (client, world, driver, mut known, mut tokens) = both();
    lock(&world).nodes.get_mut("n1").unwrap().gpus[1].instances.clear();
    std::fs::remove_file(client.state()).unwrap();
    let file = state::StateFile::open(&client.state(), FLEET, "fleet.toml", true, true).unwrap();
    lock(&file.shared()).clone_from(&lock(&world));
    file.save().unwrap();
    drop(file);
    let mut told = 0;
    let mut alike = |call: &'static str, on: usize, a: u32, version: u32| {
        let op = Op { call, on, a, at: Placement { start: 0, size: 0 }, version };
        let wanted = inside(&driver, &mut known, &op).map_err(|code| code as u32);
        assert_eq!(outside(&client, &mut tokens, &op), wanted, "{op:?}");
        told += usize::from(wanted.is_ok());
        wanted
    };
    for gpu in [0, 1, 3] {
        for (index, version) in (0..20).flat_map(|index| [(index, 1), (index, 2), (index, 3)]) {
            let Ok(info) = alike("gi_profile", gpu, index, version) else { continue };
            let id = info[0] as u32;
            alike("gi_profile_by_id", gpu, id, version).unwrap();
            let gi = alike("create_gi", gpu, id, 0).unwrap()[0] as usize;
            for (index, version) in (0..10).flat_map(|index| [(index, 1), (index, 2), (index, 3)]) {
                let _ = alike("ci_profile", gi, index, version);
            }
            alike("destroy_gi", gi, 0, 0).unwrap();
        }
    }
    assert!(told > 500, "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_same_calls_have_the_same_results_and_leave_the_same_state(ops in ops()) {
        let (client, world, driver, mut known, mut tokens) = both();
        for op in ops {
            let wanted = inside(&driver, &mut known, &op).map_err(|code| code as u32);
            prop_assert_eq!(outside(&client, &mut tokens, &op), wanted, "{:?}", op);
        }
        prop_assert_eq!(&client.world(), &*lock(&world));
    }
}
