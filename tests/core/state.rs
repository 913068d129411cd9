//! State files: kept between commands, one command at a time, never half.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use sectile::ports::{Driver as _, Gi};
use sectile::sim::driver::SimDriver;
use sectile::sim::fleet::BUILTIN;
use sectile::sim::lock;
use sectile::sim::state::{StateError, StateFile};
use serde_json::Value;

fn open(path: &Path) -> Result<StateFile, StateError> {
    StateFile::open(path, BUILTIN, "FLEET.toml", false, false)
}

fn saved(path: &Path) -> String {
    open(path).unwrap().save().unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_world_outlives_the_command_and_fresh_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("below/state.json");
    let state = open(&path).unwrap();
    let begin = lock(&state.shared()).clone();
    lock(&state.shared()).pass(123_456);
    let later = lock(&state.shared()).clone();
    state.save().unwrap();
    drop(state);
    let state = open(&path).unwrap();
    assert_eq!(*lock(&state.shared()), later);
    drop(state);
    let state = StateFile::open(&path, BUILTIN, "FLEET.toml", true, false).unwrap();
    assert_eq!(*lock(&state.shared()), begin);
    drop(state);
    // Starting over is not kept until it is saved.
    assert_eq!(*lock(&open(&path).unwrap().shared()), later);
    let files: Vec<_> =
        std::fs::read_dir(folder.path().join("below")).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
}

#[test]
fn nothing_is_written_before_it_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    drop(open(&path).unwrap());
    assert!(!path.exists());
}

#[test]
fn an_edited_fleet_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    saved(&path);
    let edited = format!("{BUILTIN}\n");
    let error = StateFile::open(&path, &edited, "FLEET.toml", false, false).unwrap_err();
    assert!(matches!(error, StateError::OtherFleet { .. }));
    assert!(error.to_string().ends_with("began as another fleet than FLEET.toml now tells of"), "{error}");
    assert_eq!(error.hint(), Some("--sim-fresh starts over"));
    assert!(StateFile::open(&path, &edited, "FLEET.toml", true, false).is_ok());
}

#[test]
fn a_state_torn_anywhere_is_refused_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let whole = saved(&path);
    let text = whole.trim_end();
    for at in 0..text.len() {
        std::fs::write(&path, &text.as_bytes()[..at]).unwrap();
        let error = open(&path).expect_err(&text[..at]);
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert_eq!(error.hint(), Some("--sim-fresh starts over"));
    }
    std::fs::write(&path, b"\xff\xfe").unwrap();
    assert!(matches!(open(&path), Err(StateError::Damaged { .. })));
}

#[test]
fn a_foreign_file_and_a_newer_state_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let whole = saved(&path);
    std::fs::write(&path, whole.replacen("\"format_version\":4", "\"format_version\":5", 1)).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, StateError::Newer { version: 5, .. }), "{error}");
    assert_eq!(error.hint(), Some("upgrade sectile; --sim-fresh starts over"));
    for foreign in ["{}", "[]", "{\"kind\":\"Pod\",\"format_version\":1}", "name = 1"] {
        std::fs::write(&path, foreign).unwrap();
        assert!(matches!(open(&path), Err(StateError::Damaged { .. })), "{foreign}");
    }
}

/// Something of everything that a state can hold.
const ALL: &str = r#"
[[node]]
name = "n"
device_files = ["cdi"]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [
    { profile = "1g.10gb", start = 0, users = ["process:4711/train"] },
    { profile = "1g.10gb", start = 1, users = ["pod:x/w-0"] },
    { profile = "1g.10gb", start = 2, users = ["unit:u.service"] },
    { profile = "1g.10gb", start = 3, users = ["command:vm"] },
  ]
[[workload]]
kind = "StatefulSet"
namespace = "x"
name = "w"
profile = "1g.10gb"
[[budget]]
namespace = "x"
name = "w"
workload = "w"
max_unavailable = 1
[[fault.call]]
name = "observe"
fails = "503"
"#;

/// A state with all of it.
fn full(path: &Path) -> Value {
    let state = StateFile::open(path, ALL, "FLEET.toml", false, false).unwrap();
    let gi = lock(&state.shared()).nodes["n"].gpus[0].instances[0].serial;
    // Somebody is robbed of an instance, which is written down.
    SimDriver::new(state.shared(), "n").destroy_gi(Gi(gi)).unwrap_err();
    state.save().unwrap();
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_field_that_an_older_program_did_not_know_was_gone_after_its_next_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let whole = full(&path);
    let opened = |state: &Value| {
        std::fs::write(&path, state.to_string()).unwrap();
        StateFile::open(&path, ALL, "FLEET.toml", false, false)
    };
    opened(&whole).unwrap();
    for place in [
        "",
        "/begun",
        "/world",
        "/world/nodes/n",
        "/world/nodes/n/gpus/0",
        "/world/nodes/n/gpus/0/instances/0",
        "/world/nodes/n/gpus/0/instances/0/compute/0",
        "/world/nodes/n/gpus/0/instances/0/compute/0/processes/0",
        "/world/nodes/n/units/u.service",
        "/world/nodes/n/commands/vm",
        "/world/pods/x~1w-0",
        "/world/workloads/0",
        "/world/budgets/0",
        "/world/ledger/0",
        "/world/faults/0",
    ] {
        let mut newer = whole.clone();
        let there = newer.pointer_mut(place).and_then(Value::as_object_mut).expect(place);
        there.insert("cooling".to_owned(), "by air".into());
        let error = opened(&newer).expect_err(place);
        assert!(error.to_string().contains("unknown field `cooling`"), "{place}: {error}");
        assert_eq!(error.hint(), Some("--sim-fresh starts over"));
    }
}

#[test]
fn a_state_of_version_1_is_read_and_goes_on_as_one_of_version_4() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut state = full(&path);
    let world = lock(&StateFile::open(&path, ALL, "FLEET.toml", false, false).unwrap().shared()).clone();
    state["format_version"] = 1.into();
    assert!(state.as_object_mut().unwrap().remove("begun").is_some());
    assert!(state["world"]["nodes"]["n"].as_object_mut().unwrap().remove("device_files").is_some());
    std::fs::write(&path, state.to_string()).unwrap();
    let read = StateFile::open(&path, ALL, "FLEET.toml", false, false).unwrap();
    let mut without = world;
    without.nodes.get_mut("n").unwrap().device_files.clear();
    assert_eq!(*lock(&read.shared()), without);
    assert!(!read.fresh(), "what lies beside it is its own");
    read.save().unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"format_version\":4"));
}

#[test]
fn a_world_is_fresh_until_what_lies_beside_it_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let begun = open(&path).unwrap();
    begun.save().unwrap();
    assert!(begun.fresh());
    drop(begun);
    let again = open(&path).unwrap();
    assert!(again.fresh(), "whoever began it did not say so");
    again.settle();
    again.save().unwrap();
    drop(again);
    assert!(!open(&path).unwrap().fresh());
    assert!(StateFile::open(&path, BUILTIN, "FLEET.toml", true, false).unwrap().fresh());
}

#[test]
fn errors_of_the_fleet_file_come_through() {
    let folder = tempfile::tempdir().unwrap();
    let error = StateFile::open(&folder.path().join("s"), "nodes = 1", "FLEET.toml", false, false).unwrap_err();
    assert!(error.to_string().contains("did you mean `node`?"), "{error}");
    // A folder where the state should be.
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, StateError::Io { what: "read", .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

fn assert_locked(path: &Path, by: u32) {
    let error = open(path).unwrap_err();
    let StateError::Locked { pid, since, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(by));
    let since = since.unwrap();
    let text = error.to_string();
    assert!(text.ends_with(&format!("is in use by process {by} since {since:.0}")), "{text}");
    assert!(since.as_second() > 1_700_000_000, "{text}");
    assert!(error.hint().is_some());
}

#[test]
fn a_second_one_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let first = open(&path).unwrap();
    assert_locked(&path, std::process::id());
    drop(first);
    open(&path).unwrap();
}

#[test]
fn a_second_one_may_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let first = open(&path).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| StateFile::open(&path, BUILTIN, "FLEET.toml", false, true).unwrap());
        lock(&first.shared()).pass(1000);
        first.save().unwrap();
        let saved = lock(&first.shared()).clone();
        drop(first);
        // Whenever it began to wait, it sees what was saved.
        assert_eq!(*lock(&second.join().unwrap().shared()), saved);
    });
}

/// What [`another_process_is_told_apart`] runs in a process of its own.
#[test]
#[ignore = "a helper: it holds the state that SECTILE_TEST_STATE names until its standard input ends"]
fn holder() {
    let path = std::env::var_os("SECTILE_TEST_STATE").expect("SECTILE_TEST_STATE");
    let _state = open(Path::new(&path)).unwrap();
    println!("held");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn another_process_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "state::holder", "--nocapture"])
        .env("SECTILE_TEST_STATE", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("held")));
    assert_locked(&path, child.id());
    // It is killed, not asked: the lock goes with the process.
    child.kill().unwrap();
    child.wait().unwrap();
    open(&path).unwrap();
}

#[test]
fn a_lock_is_given_back_also_while_a_process_is_being_started() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Between fork and exec, a child has a copy of every open file.
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = std::process::Command::new("true").status();
            }
        });
        let opened: Result<Vec<_>, _> =
            (0..300).map(|_| StateFile::open(&path, BUILTIN, "FLEET.toml", true, false).map(drop)).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(opened.is_ok(), "{}", opened.unwrap_err());
    });
}
