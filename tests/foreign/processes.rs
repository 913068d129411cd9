//! Several processes over one state, and the events that tell one of them what another did.

use sectile::ports::Driver as _;
use sectile::sim::fleet;
use sectile::sim::state::StateFile;
use sectile::sim::state::door::Door;

use super::client::*;

const FLEET: &str = r#"
[[node]]
name = "n1"
  [[node.gpu]]
  model = "a100-80gb"
  mig = true
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
"#;

/// Another process: another door to the same state.
fn other(client: &Client) -> Door {
    Door::open(&client.state(), client.fleet(), "fleet.toml", None, true, 0.0).unwrap().unwrap()
}

/// The GPU of the next event, by its handle.
fn event(client: &Client, set: usize) -> Result<usize, u32> {
    let mut room = Room::new();
    match client.call("nvmlEventSetWait_v2", &[set, room.pointer(), 20]) {
        SUCCESS => {
            assert_eq!(room.words(32)[2..], [0x100, 0, 0, 0, u32::MAX, u32::MAX]);
            Ok(room.handle(0))
        }
        code => Err(code),
    }
}

#[test]
fn what_one_process_does_the_next_call_of_another_sees() {
    let client = Client::new(FLEET);
    let door = other(&client);
    let gpu = door.call("device_by_index", |driver| driver.device_by_index(0)).unwrap();
    let gi = door.call("create_gi", |driver| driver.create_gi(gpu, 9)).unwrap();
    let mut gis = [0usize; 8];
    let gis = gis.as_mut_ptr() as usize;
    assert_eq!(client.get::<u32>("nvmlDeviceGetGpuInstances", &[client.gpu(0), 9, gis]), Ok(1));
    assert!(client.create(client.gpu(0), 9).is_ok());
    assert_eq!(door.call("gi_remaining_capacity", |driver| driver.gi_remaining_capacity(gpu, 9)), Ok(0));
    door.call("destroy_gi", |driver| driver.destroy_gi(gi)).unwrap();
    assert_eq!(client.get::<u32>("nvmlDeviceGetGpuInstances", &[client.gpu(0), 9, gis]), Ok(1));
}

#[test]
fn each_change_of_a_watched_gpu_is_one_event_whoever_made_it() {
    let client = Client::new(FLEET);
    let (first, second) = (client.gpu(0), client.gpu(1));
    let before = client.create(first, 19).unwrap();
    let set: usize = client.get("nvmlEventSetCreate", &[]).unwrap();
    assert_eq!(event(&client, set), Err(TIMEOUT));
    assert_eq!(client.call("nvmlDeviceRegisterEvents", &[first, 0x108, set]), SUCCESS);
    // Nothing but XIDs: none ever comes.
    assert_eq!(client.call("nvmlDeviceRegisterEvents", &[second, 0x8, set]), SUCCESS);
    assert_eq!(client.call("nvmlDeviceRegisterEvents", &[first, 1 << 40, set]), NOT_SUPPORTED);
    assert_eq!(event(&client, set), Err(TIMEOUT), "what was before it was asked for is no event");
    assert_eq!(client.call("nvmlGpuInstanceDestroy", &[before]), SUCCESS);
    client.create(second, 9).unwrap();
    let door = other(&client);
    let gpu = door.call("device_by_index", |driver| driver.device_by_index(0)).unwrap();
    let gi = door.call("create_gi", |driver| driver.create_gi(gpu, 9)).unwrap();
    door.call("create_ci", |driver| driver.create_ci(gi, 2)).unwrap();
    assert!(client.create(first, 0).is_err(), "what fails changes nothing");
    for _ in 0..3 {
        assert_eq!(event(&client, set), Ok(first));
    }
    assert_eq!(event(&client, set), Err(TIMEOUT));
    assert_eq!(client.call("nvmlEventSetFree", &[set]), SUCCESS);
    assert_eq!(event(&client, set), Err(INVALID_ARGUMENT));
    assert_eq!(client.call("nvmlEventSetFree", &[set]), INVALID_ARGUMENT);
}

#[test]
fn an_event_of_old_was_written_past_the_end_of_its_struct() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    let set: usize = client.get("nvmlEventSetCreate", &[]).unwrap();
    assert_eq!(client.call("nvmlDeviceRegisterEvents", &[gpu, 0x100, set]), SUCCESS);
    client.create(gpu, 9).unwrap();
    let mut room = Room::new();
    assert_eq!(client.call("nvmlEventSetWait", &[set, room.pointer(), 20]), SUCCESS);
    assert_eq!((room.handle(0), &room.words(24)[2..]), (gpu, &[0x100, 0, 0, 0][..]));
}

/// What ends a world while programs know it, and begins another in its place.
const ENDS: [fn(&Client); 4] = [
    // `--sim-fresh`.
    |client| begin(client, true),
    // The state is removed, and a command begins it.
    |client| {
        std::fs::remove_file(client.state()).unwrap();
        begin(client, false);
    },
    // The same, and the next program does.
    |client| {
        std::fs::remove_file(client.state()).unwrap();
        other(client);
    },
    // The same, and so does this one when it initializes the library again.
    |client| {
        std::fs::remove_file(client.state()).unwrap();
        assert_eq!(client.call("nvmlShutdown", &[]), SUCCESS);
        assert_eq!(client.call("nvmlInit_v2", &[]), SUCCESS);
    },
];

fn begin(client: &Client, fresh: bool) {
    StateFile::open(&client.state(), client.fleet(), "fleet.toml", fresh, true).unwrap().save().unwrap();
}

/// An instance on the first GPU: its handle, its compute instance's and its MIG device's.
fn instance(client: &Client) -> [usize; 3] {
    let gi = client.create(client.gpu(0), 9).unwrap();
    let ci = client.get("nvmlGpuInstanceCreateComputeInstance", &[gi, 2]).unwrap();
    let mut migs = (0..7).map(|index| client.get("nvmlDeviceGetMigDeviceHandleByIndex", &[client.gpu(0), index]));
    [gi, ci, migs.find_map(Result::ok).unwrap()]
}

#[test]
fn a_handle_of_an_earlier_world_destroyed_an_instance_of_the_next() {
    for end in ENDS {
        let client = Client::new(FLEET);
        let gpu = client.gpu(0);
        let [gi, ci, mig] = instance(&client);
        assert!(client.get::<u32>("nvmlDeviceGetGpuInstanceId", &[mig]).is_ok());
        end(&client);
        assert_eq!(client.gpu(0), gpu, "the GPU is the same");
        let new = instance(&client);
        let before = client.world();
        assert_eq!(client.get::<u32>("nvmlDeviceGetGpuInstanceId", &[mig]), Err(INVALID_ARGUMENT));
        assert_eq!(client.call("nvmlComputeInstanceDestroy", &[ci]), INVALID_ARGUMENT);
        assert_eq!(client.call("nvmlGpuInstanceDestroy", &[gi]), INVALID_ARGUMENT);
        assert_eq!(client.get::<usize>("nvmlGpuInstanceCreateComputeInstance", &[gi, 0]), Err(INVALID_ARGUMENT));
        assert_eq!(client.world(), before);
        assert_eq!(client.call("nvmlComputeInstanceDestroy", &[new[1]]), SUCCESS);
        assert_eq!(client.call("nvmlGpuInstanceDestroy", &[new[0]]), SUCCESS);
    }
}

#[test]
fn a_handle_is_good_as_long_as_its_world_whoever_writes_it_and_however_often_the_library_is_initialized() {
    let client = Client::new(FLEET);
    let [gi, ci, mig] = instance(&client);
    // A command writes the state as it is.
    begin(&client, false);
    assert_eq!(client.call("nvmlShutdown", &[]), SUCCESS);
    assert_eq!(client.call("nvmlInit_v2", &[]), SUCCESS);
    assert!(client.get::<u32>("nvmlDeviceGetGpuInstanceId", &[mig]).is_ok());
    assert_eq!(client.call("nvmlComputeInstanceDestroy", &[ci]), SUCCESS);
    assert_eq!(client.call("nvmlGpuInstanceDestroy", &[gi]), SUCCESS);
}

#[test]
fn changes_of_a_world_that_began_anew_were_no_events_until_there_were_more_than_before() {
    // All but the last: what is initialized again has no event sets.
    for end in &ENDS[..3] {
        let client = Client::new(FLEET);
        let gpu = client.gpu(0);
        let set: usize = client.get("nvmlEventSetCreate", &[]).unwrap();
        assert_eq!(client.call("nvmlDeviceRegisterEvents", &[gpu, 0x100, set]), SUCCESS);
        instance(&client);
        assert_eq!([event(&client, set), event(&client, set), event(&client, set)], [Ok(gpu), Ok(gpu), Err(TIMEOUT)]);
        end(&client);
        assert_eq!([event(&client, set), event(&client, set)], [Ok(gpu), Err(TIMEOUT)], "another world is a change");
        client.create(gpu, 9).unwrap();
        assert_eq!([event(&client, set), event(&client, set)], [Ok(gpu), Err(TIMEOUT)]);
    }
}

#[test]
fn an_event_comes_to_who_waits_already() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    let set: usize = client.get("nvmlEventSetCreate", &[]).unwrap();
    assert_eq!(client.call("nvmlDeviceRegisterEvents", &[gpu, 0x100, set]), SUCCESS);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| client.call("nvmlEventSetWait_v2", &[set, Room::new().pointer(), 60_000]));
        client.create(gpu, 9).unwrap();
        assert_eq!(waits.join().unwrap(), SUCCESS);
    });
}

#[test]
fn who_reads_waits_for_nobody_and_who_changes_waits_for_who_has_the_state() {
    let client = Client::new(FLEET);
    let held = StateFile::open(&client.state(), client.fleet(), "fleet.toml", false, true).unwrap();
    assert_eq!(client.get::<u32>("nvmlDeviceGetMinorNumber", &[client.gpu(1)]), Ok(1));
    std::thread::scope(|scope| {
        let creates = scope.spawn(|| client.create(client.gpu(0), 9));
        held.save().unwrap();
        drop(held);
        assert!(creates.join().unwrap().is_ok());
    });
}

#[test]
fn a_command_is_not_put_off_by_the_moment_of_a_call() {
    let client = Client::new(FLEET);
    for _ in 0..50 {
        let call = StateFile::open(&client.state(), client.fleet(), "fleet.toml", false, true).unwrap();
        std::thread::scope(|scope| {
            let command = scope.spawn(|| StateFile::open(&client.state(), client.fleet(), "fleet.toml", false, false));
            // The call takes its time.
            fleet::parse("fleet.toml", FLEET).unwrap();
            drop(call);
            assert!(command.join().unwrap().is_ok());
        });
    }
}
