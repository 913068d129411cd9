//! The C library under random calls with random arguments from several threads: whatever they are, as long as pointers
//! are NULL or point to room, nothing crashes and the world stays one that a driver could have made.
//!
//! The fuzz target and `tests/foreign/threads.rs` use it alike.
#![allow(clippy::panic, clippy::expect_used, clippy::indexing_slicing, reason = "a panic is how a fuzz target tells")]

use std::collections::BTreeSet;
use std::sync::Mutex;

use sectile::model::catalogue;
use sectile::sim::world::World;

/// How the library is called: by name, with machine words.
pub(crate) type Caller<'a> = &'a (dyn Fn(&str, &[usize]) -> u32 + Sync);

/// Functions, with a letter for each argument: `h` a handle of whatever kind, `n` a number, `o` a place for a result, `c`
/// a place with a count in it, `v` a struct with a version, `t` a text, `l` the length of the place before, `p` a placement.
const FUNCTIONS: &[(&str, &str)] = &[
    ("nvmlInit_v2", ""),
    ("nvmlShutdown", ""),
    ("nvmlSystemGetDriverVersion", "ol"),
    ("nvmlSystemGetProcessName", "nol"),
    ("nvmlDeviceGetCount_v2", "o"),
    ("nvmlDeviceGetHandleByIndex_v2", "no"),
    ("nvmlDeviceGetHandleByIndex_v2", "no"),
    ("nvmlDeviceGetHandleByUUID", "to"),
    ("nvmlDeviceGetHandleByUUIDV", "vo"),
    ("nvmlDeviceGetHandleByPciBusId_v2", "to"),
    ("nvmlDeviceGetName", "hol"),
    ("nvmlDeviceGetUUID", "hol"),
    ("nvmlDeviceGetIndex", "ho"),
    ("nvmlDeviceGetMinorNumber", "ho"),
    ("nvmlDeviceGetPciInfo_v3", "ho"),
    ("nvmlDeviceGetPciInfoExt", "hv"),
    ("nvmlDeviceGetMemoryInfo", "ho"),
    ("nvmlDeviceGetMemoryInfo_v2", "hv"),
    ("nvmlDeviceGetArchitecture", "ho"),
    ("nvmlDeviceGetCudaComputeCapability", "hoo"),
    ("nvmlDeviceGetAttributes_v2", "ho"),
    ("nvmlDeviceGetFieldValues", "hfo"),
    ("nvmlDeviceSetMigMode", "hno"),
    ("nvmlDeviceGetMigMode", "hoo"),
    ("nvmlDeviceGetGpuInstanceProfileInfo", "hno"),
    ("nvmlDeviceGetGpuInstanceProfileInfoV", "hnv"),
    ("nvmlDeviceGetGpuInstanceProfileInfoByIdV", "hnv"),
    ("nvmlDeviceGetGpuInstancePossiblePlacements_v2", "hnoo"),
    ("nvmlDeviceGetGpuInstanceRemainingCapacity", "hno"),
    ("nvmlDeviceCreateGpuInstance", "hno"),
    ("nvmlDeviceCreateGpuInstance", "hno"),
    ("nvmlDeviceCreateGpuInstanceWithPlacement", "hnpo"),
    ("nvmlGpuInstanceDestroy", "h"),
    ("nvmlDeviceGetGpuInstances", "hnoo"),
    ("nvmlDeviceGetGpuInstanceById", "hno"),
    ("nvmlGpuInstanceGetInfo", "ho"),
    ("nvmlGpuInstanceGetComputeInstanceProfileInfo", "hnno"),
    ("nvmlGpuInstanceGetComputeInstanceProfileInfoV", "hnnv"),
    ("nvmlGpuInstanceGetComputeInstanceRemainingCapacity", "hno"),
    ("nvmlGpuInstanceGetComputeInstancePossiblePlacements", "hnoo"),
    ("nvmlGpuInstanceCreateComputeInstance", "hno"),
    ("nvmlGpuInstanceCreateComputeInstance", "hno"),
    ("nvmlGpuInstanceCreateComputeInstanceWithPlacement", "hnpo"),
    ("nvmlComputeInstanceDestroy", "h"),
    ("nvmlGpuInstanceGetComputeInstances", "hnoo"),
    ("nvmlGpuInstanceGetComputeInstanceById", "hno"),
    ("nvmlComputeInstanceGetInfo_v2", "ho"),
    ("nvmlDeviceIsMigDeviceHandle", "ho"),
    ("nvmlDeviceGetGpuInstanceId", "ho"),
    ("nvmlDeviceGetMaxMigDeviceCount", "ho"),
    ("nvmlDeviceGetMigDeviceHandleByIndex", "hno"),
    ("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", "ho"),
    ("nvmlDeviceGetComputeRunningProcesses_v3", "hco"),
    ("nvmlDeviceGetRunningProcessDetailList", "hv"),
    ("nvmlEventSetCreate", "o"),
    ("nvmlDeviceRegisterEvents", "hnh"),
    ("nvmlEventSetWait_v2", "ho"),
    ("nvmlEventSetFree", "h"),
    ("nvmlDeviceGetBoardId", "ho"),
];

/// Versions that structs have, with their sizes, and some that none has.
const VERSIONS: &[u32] = &[
    152 | 2 << 24,
    152 | 3 << 24,
    136 | 2 << 24,
    140 | 3 << 24,
    40 | 2 << 24,
    64 | 1 << 24,
    24 | 1 << 24,
    52 | 1 << 24,
    0,
    152,
];

/// Room for what the largest struct, or the most handles, take.
const WORDS: usize = 96;

/// The bytes, shared out to threads, as calls of a library that is initialized.
pub(crate) fn run(call: Caller<'_>, bytes: &[u8]) {
    let handles: Mutex<Vec<usize>> = Mutex::new(vec![0, 1, 0x1000_0000_0008]);
    // Whatever is shut down, this one initialization stays.
    assert_eq!(call("nvmlInit_v2", &[]), 0);
    for index in 0..8 {
        let mut handle = 0usize;
        if call("nvmlDeviceGetHandleByIndex_v2", &[index, &raw mut handle as usize]) == 0 {
            handles.lock().expect("whole").push(handle);
        }
    }
    std::thread::scope(|scope| {
        for part in bytes.chunks(bytes.len().div_ceil(3).max(1)) {
            let handles = &handles;
            scope.spawn(move || thread(call, part, handles));
        }
    });
    assert_eq!(call("nvmlShutdown", &[]), 0);
}

fn thread(call: Caller<'_>, bytes: &[u8], handles: &Mutex<Vec<usize>>) {
    let mut bytes = bytes.iter().copied();
    let mut initialized = 0;
    while let Some(which) = bytes.next() {
        let (name, kinds) = FUNCTIONS[usize::from(which) % FUNCTIONS.len()];
        match name {
            "nvmlInit_v2" => initialized += 1,
            // Others still need the last one.
            "nvmlShutdown" if initialized == 0 => continue,
            "nvmlShutdown" => initialized -= 1,
            _ => {}
        }
        let mut next = || usize::from(bytes.next().unwrap_or(0));
        let mut rooms = [[0u64; WORDS]; 4];
        let mut args = Vec::new();
        for (kind, room) in kinds.chars().zip(rooms.iter_mut()) {
            let value = next();
            // Every eighth pointer is NULL.
            let pointer = if value % 8 == 7 { 0 } else { room.as_mut_ptr() as usize };
            args.push(match kind {
                'h' => {
                    let handles = handles.lock().expect("whole");
                    handles[value % handles.len()]
                }
                'n' => [value % 24, value, value << 24][usize::from(value > 250) + usize::from(value > 253)],
                'f' => value % 3,
                'l' => value,
                'c' => {
                    room[0] = (value % 16) as u64;
                    pointer
                }
                'p' => {
                    room[0] = (value % 13) as u64 | [1, 2, 4, 8, 3, 6, 12][value % 7] << 32;
                    pointer
                }
                'v' => {
                    room[0] = VERSIONS[value % VERSIONS.len()].into();
                    pointer
                }
                't' => [c"GPU-", c"17:00.0", c"00000000:18:00.0", c"MIG-\xff"][value % 4].as_ptr() as usize,
                _ => pointer,
            });
        }
        // A text is never longer than the room that it is told to have.
        let done = call(name, &args);
        assert!(done < 31 || done == 999, "{name}: {done}");
        if done == 0 && kinds.contains('o') {
            let found = rooms.iter().flat_map(|room| room.first().copied());
            let mut handles = handles.lock().expect("whole");
            handles.extend(found.filter(|word| *word >= 0x1000_0000_0000).map(|word| word as usize));
            // The latest ones, and the first that are none.
            let many = handles.len().saturating_sub(64);
            handles.drain(3..3 + many);
        }
    }
    while initialized > 0 {
        assert_eq!(call("nvmlShutdown", &[]), 0);
        initialized -= 1;
    }
}

/// What holds of every world that a driver can make.
pub(crate) fn sound(world: &World) {
    let mut serials = BTreeSet::new();
    for gpu in world.nodes.values().flat_map(|node| &node.gpus) {
        assert!(gpu.mode || gpu.instances.is_empty(), "instances without MIG mode: {gpu:?}");
        let geometry = catalogue::by_id(&gpu.board).and_then(|board| board.shared_geometry()).expect("a known board");
        for (at, gi) in gpu.instances.iter().enumerate() {
            let profile = geometry.profiles.iter().find(|p| p.index == gi.profile_index).expect("a known profile");
            assert!(profile.placements().any(|legal| legal == gi.placement), "no legal placement: {gi:?}");
            let others = || gpu.instances.iter().take(at);
            assert!(!others().any(|other| other.placement.overlaps(gi.placement) || other.id == gi.id), "{gpu:?}");
            assert!(serials.insert(gi.serial), "a handle for two: {gpu:?}");
            for (at, ci) in gi.compute.iter().enumerate() {
                let mut others = gi.compute.iter().take(at);
                assert!(ci.placement.end() <= profile.slices && serials.insert(ci.serial), "{gi:?}");
                assert!(!others.any(|other| other.placement.overlaps(ci.placement) || other.id == ci.id), "{gi:?}");
            }
        }
    }
}
