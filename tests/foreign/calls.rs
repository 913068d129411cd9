//! What NVML promises of every function: it is there, counts initializations, and refuses what is no argument.

use std::ffi::{CStr, c_char};

use sectile::ports::NvmlCode;

use super::client::*;

/// Every function of nvml.h 13.5.37.
const SYMBOLS: &str = include_str!("symbols.txt");

const FLEET: &str = r#"
[[node]]
name = "n1"
  [[node.gpu]]
  model = "a100-80gb"
  mig = true
  instances = [{ profile = "1g.10gb", start = 0, users = ["process:4711/train"] }]
[[node]]
name = "n2"
  [[node.gpu]]
  model = "h100-80gb-sxm"
"#;

fn words(client: &Client, code: u32) -> String {
    // SAFETY: NVML's texts are constants.
    unsafe { CStr::from_ptr(client.text_of(code) as *const c_char) }.to_str().unwrap().to_owned()
}

#[test]
fn every_function_of_the_header_is_there_and_none_works_before_it_is_initialized() {
    let client = Client::idle(FLEET, &[]);
    let names: Vec<&str> = SYMBOLS.lines().collect();
    assert_eq!(names.len(), 436);
    for name in names {
        assert!(client.has(name), "{name}");
        if !name.starts_with("nvmlInit") && name != "nvmlErrorString" {
            assert_eq!(client.call(name, &[]), UNINITIALIZED, "{name}");
        }
    }
    assert!(!client.has("nvmlDeviceGetNothing"));
}

#[test]
fn with_zeroes_for_arguments_every_function_refuses_or_is_not_supported() {
    let client = Client::new(FLEET);
    let mut unsupported = 0;
    for name in SYMBOLS.lines() {
        if name.starts_with("nvmlInit") || ["nvmlErrorString", "nvmlShutdown"].contains(&name) {
            continue;
        }
        let code = client.call(name, &[]);
        assert!([INVALID_ARGUMENT, NOT_SUPPORTED].contains(&code), "{name}: {code}");
        unsupported += usize::from(code == NOT_SUPPORTED);
    }
    // All that a simulation of MIG has nothing to say about.
    assert_eq!(unsupported, 351);
}

#[test]
fn initializations_are_counted() {
    let client = Client::idle(FLEET, &[]);
    assert_eq!(client.call("nvmlShutdown", &[]), UNINITIALIZED);
    for init in ["nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags"] {
        assert_eq!(client.call(init, &[2]), SUCCESS);
    }
    let gpu = client.gpu(0);
    for _ in 0..2 {
        assert_eq!(client.call("nvmlShutdown", &[]), SUCCESS);
        assert_eq!(client.get::<u32>("nvmlDeviceGetIndex", &[gpu]), Ok(0));
    }
    assert_eq!(client.call("nvmlShutdown", &[]), SUCCESS);
    assert_eq!(client.get::<u32>("nvmlDeviceGetIndex", &[gpu]), Err(UNINITIALIZED));
    assert_eq!(client.call("nvmlInit_v2", &[]), SUCCESS);
    assert_eq!(client.get::<u32>("nvmlDeviceGetIndex", &[gpu]), Ok(0));
}

#[test]
fn without_a_simulation_there_is_no_driver() {
    for settings in [
        ("SECTILE_SIM_STATE", ""),
        ("SECTILE_SIM", "/nowhere/fleet.toml"),
        ("SECTILE_SIM_NODE", "n3"),
        ("SECTILE_SIM_LATENCY", "fast"),
        ("SECTILE_SIM_LATENCY", "-1"),
    ] {
        let client = Client::idle(FLEET, &[settings]);
        assert_eq!(client.call("nvmlInit_v2", &[]), DRIVER_NOT_LOADED, "{settings:?}");
        assert_eq!(client.call("nvmlShutdown", &[]), UNINITIALIZED, "{settings:?}");
    }
}

#[test]
fn the_node_is_the_one_that_the_environment_names_or_the_first() {
    for (settings, name) in [(&[][..], "NVIDIA A100"), (&[("SECTILE_SIM_NODE", "n2")][..], "NVIDIA H100 80GB HBM3")] {
        let client = Client::with(FLEET, settings);
        let mut room = Room::new();
        assert_eq!(client.call("nvmlDeviceGetName", &[client.gpu(0), room.pointer(), 96]), SUCCESS);
        assert!(room.text(0).starts_with(name), "{}", room.text(0));
    }
}

#[test]
fn every_code_has_the_words_that_nvml_has_for_it() {
    let client = Client::idle(FLEET, &[]);
    for code in NvmlCode::ERRORS {
        assert_eq!(words(&client, *code as u32), code.words());
    }
    assert_eq!(words(&client, SUCCESS), "Success");
    assert_eq!((words(&client, 14).as_str(), words(&client, 12345).as_str()), ("Corrupted infoROM", "Unknown Error"));
}

#[test]
fn a_text_that_does_not_fit_is_not_written() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    let mut whole = Room::new();
    assert_eq!(client.call("nvmlDeviceGetUUID", &[gpu, whole.pointer(), 80]), SUCCESS);
    let length = whole.text(0).len();
    for (room, code) in [(0, INSUFFICIENT_SIZE), (length, INSUFFICIENT_SIZE), (length + 1, SUCCESS)] {
        let mut place = Room::new();
        assert_eq!(client.call("nvmlDeviceGetUUID", &[gpu, place.pointer(), room]), code, "{room}");
        let written = if code == SUCCESS { length + 1 } else { 0 };
        place.words(written);
    }
}

#[test]
fn a_struct_of_another_version_is_refused_and_left_alone() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    let mig: usize = client.get("nvmlDeviceGetMigDeviceHandleByIndex", &[gpu, 0]).unwrap();
    let gi = gi_of(&client, gpu).unwrap();
    for (name, args, sizes, code) in [
        ("nvmlDeviceGetGpuInstanceProfileInfoV", &[gpu, 0][..], &[(2, 152), (3, 152)][..], INVALID_ARGUMENT),
        ("nvmlDeviceGetGpuInstanceProfileInfoByIdV", &[gpu, 19], &[(2, 152), (3, 152)], INVALID_ARGUMENT),
        ("nvmlGpuInstanceGetComputeInstanceProfileInfoV", &[gi, 0, 0], &[(2, 136), (3, 140)], INVALID_ARGUMENT),
        ("nvmlDeviceGetMemoryInfo_v2", &[gpu], &[(2, 40)], VERSION_MISMATCH),
        ("nvmlDeviceGetMemoryInfo_v2", &[mig], &[(2, 40)], VERSION_MISMATCH),
        ("nvmlDeviceGetPciInfoExt", &[gpu], &[(1, 64)], VERSION_MISMATCH),
        ("nvmlDeviceGetRunningProcessDetailList", &[mig], &[], INVALID_ARGUMENT),
    ] {
        for version in 0..5 {
            for size in [36, 40, 48, 64, 136, 140, 152, 0] {
                let mut room = Room::version(size | version << 24);
                let told = client.call(name, &[args, &[room.pointer()]].concat());
                let known = sizes.contains(&(version, size));
                assert_eq!(told, if known { SUCCESS } else { code }, "{name} {version} {size}");
                room.words(if known { size as usize } else { 4 });
            }
        }
    }
}

fn gi_of(client: &Client, gpu: usize) -> Result<usize, u32> {
    let mut gis = [0usize; 8];
    client.get::<u32>("nvmlDeviceGetGpuInstances", &[gpu, 19, gis.as_mut_ptr() as usize]).map(|_| gis[0])
}

#[test]
fn a_null_pointer_creates_nothing() {
    let client = Client::new(FLEET);
    let (gpu, before) = (client.gpu(0), client.world());
    let gi = gi_of(&client, gpu).unwrap();
    let at = [4u32, 4];
    let at = at.as_ptr() as usize;
    for (name, args) in [
        ("nvmlDeviceCreateGpuInstance", &[gpu, 9, 0][..]),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", &[gpu, 9, at, 0]),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", &[gpu, 9, 0, at]),
        ("nvmlGpuInstanceCreateComputeInstance", &[gi, 0, 0]),
        ("nvmlDeviceSetMigMode", &[gpu, 0, 0]),
    ] {
        assert_eq!(client.call(name, args), INVALID_ARGUMENT, "{name}");
    }
    assert_eq!(client.world(), before);
}

#[test]
fn a_handle_is_of_one_kind_and_gone_for_good_when_its_instance_is() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    let first = client.create(gpu, 9).unwrap();
    for name in ["nvmlDeviceGetIndex", "nvmlComputeInstanceGetInfo_v2", "nvmlEventSetFree"] {
        assert_eq!(client.call(name, &[first, Room::new().pointer()]), INVALID_ARGUMENT, "{name}");
    }
    assert_eq!(client.call("nvmlGpuInstanceGetInfo", &[gpu, Room::new().pointer()]), INVALID_ARGUMENT);
    assert_eq!(client.call("nvmlGpuInstanceDestroy", &[first]), SUCCESS);
    let second = client.create(gpu, 9).unwrap();
    assert_ne!(first, second);
    assert_eq!(client.call("nvmlGpuInstanceDestroy", &[first]), INVALID_ARGUMENT);
    assert_eq!(client.call("nvmlGpuInstanceDestroy", &[second]), SUCCESS);
}

#[test]
fn who_has_no_rights_may_look_and_not_touch() {
    let client = Client::with(FLEET, &[("SECTILE_SIM_UNPRIVILEGED", "1")]);
    let (gpu, before) = (client.gpu(0), client.world());
    assert_eq!(client.create(gpu, 19), Err(NO_PERMISSION));
    assert_eq!(client.get::<u32>("nvmlDeviceSetMigMode", &[gpu, 0]), Err(NO_PERMISSION));
    assert_eq!(gi_of(&client, gpu), Err(NO_PERMISSION));
    let mig: usize = client.get("nvmlDeviceGetMigDeviceHandleByIndex", &[gpu, 0]).unwrap();
    assert_eq!(client.call("nvmlDeviceGetAttributes_v2", &[mig, Room::new().pointer()]), SUCCESS);
    assert_eq!(client.world(), before);
    drop(client);
    let client = Client::with(FLEET, &[("SECTILE_SIM_UNPRIVILEGED", "0")]);
    assert!(client.create(client.gpu(0), 19).is_ok());
}

#[test]
fn the_codes_of_what_is_full_in_use_or_not_there() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    let gi = gi_of(&client, gpu).unwrap();
    assert_eq!(client.create(gpu, 0), Err(INSUFFICIENT_RESOURCES));
    assert_eq!(client.call("nvmlGpuInstanceDestroy", &[gi]), IN_USE);
    let ci: usize = client.get("nvmlGpuInstanceGetComputeInstanceById", &[gi, 0]).unwrap();
    assert_eq!(client.call("nvmlComputeInstanceDestroy", &[ci]), IN_USE);
    assert_eq!(client.get::<usize>("nvmlGpuInstanceGetComputeInstanceById", &[gi, 1]), Err(NOT_FOUND));
    assert_eq!(client.get::<usize>("nvmlDeviceGetMigDeviceHandleByIndex", &[gpu, 6]), Err(NOT_FOUND));
    let missing = c"GPU-00000000-0000-0000-0000-000000000000".as_ptr() as usize;
    assert_eq!(client.get::<usize>("nvmlDeviceGetHandleByUUID", &[missing]), Err(NOT_FOUND));
}

#[test]
fn a_bus_id_may_be_written_as_short_as_lspci_does() {
    let client = Client::new(FLEET);
    for (text, there) in [
        (c"00000000:17:00.0", Ok(client.gpu(0))),
        (c"0000:17:00.0", Ok(client.gpu(0))),
        (c"17:00.0", Ok(client.gpu(0))),
        (c"17:00", Ok(client.gpu(0))),
        (c"00000000:18:00.0", Err(NOT_FOUND)),
        (c"00000001:17:00.0", Err(NOT_FOUND)),
        (c"17:00.1", Err(INVALID_ARGUMENT)),
        (c"", Err(INVALID_ARGUMENT)),
        (c"a:b:c:d", Err(INVALID_ARGUMENT)),
        (c"\xff", Err(INVALID_ARGUMENT)),
    ] {
        let told = client.get("nvmlDeviceGetHandleByPciBusId_v2", &[text.as_ptr() as usize]);
        assert_eq!(told, there, "{text:?}");
    }
}

#[test]
fn a_uuid_finds_its_device_as_text_and_as_bytes() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    for device in [gpu, client.get("nvmlDeviceGetMigDeviceHandleByIndex", &[gpu, 0]).unwrap()] {
        let mut text = Room::new();
        assert_eq!(client.call("nvmlDeviceGetUUID", &[device, text.pointer(), 80]), SUCCESS);
        let hex: String = text.text(0).chars().skip(4).filter(char::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        for (kind, value) in [(1u32, text.text(0).into_bytes()), (2, bytes)] {
            let mut uuid = [0u8; 52];
            uuid[..4].copy_from_slice(&(52u32 | 1 << 24).to_le_bytes());
            uuid[4..8].copy_from_slice(&kind.to_le_bytes());
            uuid[8..8 + value.len()].copy_from_slice(&value);
            assert_eq!(client.get("nvmlDeviceGetHandleByUUIDV", &[uuid.as_ptr() as usize]), Ok(device));
        }
    }
}

#[test]
fn processes_are_counted_before_they_are_listed() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    for (name, bytes) in [
        ("nvmlDeviceGetComputeRunningProcesses", 16),
        ("nvmlDeviceGetComputeRunningProcesses_v2", 24),
        ("nvmlDeviceGetComputeRunningProcesses_v3", 24),
    ] {
        let (mut count, mut room) = (0u32, Room::new());
        assert_eq!(client.call(name, &[gpu, &raw mut count as usize, 0]), INSUFFICIENT_SIZE);
        assert_eq!(count, 1);
        assert_eq!(client.call(name, &[gpu, &raw mut count as usize, 0]), INVALID_ARGUMENT);
        assert_eq!(client.call(name, &[gpu, &raw mut count as usize, room.pointer()]), SUCCESS);
        assert_eq!((count, room.words(bytes)[0]), (1, 4711));
        let (mut none, name) = (0u32, name.replace("Compute", "Graphics"));
        assert_eq!(client.call(&name, &[gpu, &raw mut none as usize, 0]), SUCCESS);
    }
    let mut list = [0u64; 3];
    list[0] = 24 | 1 << 24 | 3 << 32;
    let at = list.as_mut_ptr() as usize;
    assert_eq!(client.call("nvmlDeviceGetRunningProcessDetailList", &[gpu, at]), INSUFFICIENT_SIZE);
    assert_eq!(list[1], 1);
    let mut room = Room::new();
    list[2] = room.pointer() as u64;
    assert_eq!(client.call("nvmlDeviceGetRunningProcessDetailList", &[gpu, list.as_mut_ptr() as usize]), SUCCESS);
    assert_eq!(room.words(32)[0], 4711);
}

#[test]
fn the_attributes_of_old_were_written_past_the_end_of_their_struct() {
    let client = Client::new(FLEET);
    let mig: usize = client.get("nvmlDeviceGetMigDeviceHandleByIndex", &[client.gpu(0), 0]).unwrap();
    let (mut old, mut new) = (Room::new(), Room::new());
    assert_eq!(client.call("nvmlDeviceGetAttributes", &[mig, old.pointer()]), SUCCESS);
    assert_eq!(client.call("nvmlDeviceGetAttributes_v2", &[mig, new.pointer()]), SUCCESS);
    assert_eq!(old.words(24), &new.words(40)[..6]);
}
