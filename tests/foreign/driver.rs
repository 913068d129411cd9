//! `sectile driver`: what a program finds that it runs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libloading::Library;
use sectile::sim::state;
use tempfile::TempDir;

use super::client::{SUCCESS, built, sectile};

const MANUAL: &str = include_str!("../../packaging/doc/driver.md");

const FLEET: &str = r#"
[[node]]
name = "n1"
  [[node.gpu]]
  model = "a30-24gb"
[[node]]
name = "n2"
  [[node.gpu]]
  model = "a100-80gb"
  mig = true
"#;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fleet.toml"), FLEET).unwrap();
        Place(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        self.told(sectile(env!("CARGO_BIN_EXE_sectile")).args(line.split_whitespace()))
    }

    /// The same with settings, where programs of that command line may be `sectile`, and there is a tree.
    fn within(&self, line: &str, settings: &[(&str, &str)]) -> (i32, String, String) {
        std::fs::create_dir_all(self.path("layouts")).unwrap();
        let layout = "nodes = [\"*\"]\n[[gpu]]\nmodel = \"A100*\"\ninstances = [\"3g\"]\n";
        std::fs::write(self.path("layouts/all.toml"), layout).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let own = Path::new(env!("CARGO_BIN_EXE_sectile")).parent().unwrap().to_owned();
        let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&path))).unwrap();
        let mut program = sectile(env!("CARGO_BIN_EXE_sectile"));
        program.env("PATH", path).envs(settings.iter().copied());
        self.told(program.args(line.split_whitespace()))
    }

    fn told(&self, command: &mut Command) -> (i32, String, String) {
        command.current_dir(self.0.path()).env("XDG_STATE_HOME", self.path("state home"));
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}

#[test]
fn the_programs_exit_code_is_ours() {
    let place = Place::new();
    for code in [0, 1, 2, 7, 64, 255] {
        let mut program = sectile(env!("CARGO_BIN_EXE_sectile"));
        program.args(["driver", "--sim", "-q", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(place.told(&mut program), (code, String::new(), String::new()));
    }
}

#[test]
fn the_program_finds_the_library_and_which_simulation_it_is() {
    let place = Place::new();
    let line = "driver --sim fleet.toml --node n2 --sim-state a/state --sim-latency 0.5 --sim-unprivileged -- env";
    let (code, stdout, stderr) = place.run(line);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let told = |name: &str| stdout.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    assert_eq!(told("SECTILE_SIM").map(Path::new), Some(place.path("fleet.toml").as_path()));
    assert_eq!(told("SECTILE_SIM_STATE").map(Path::new), Some(place.path("a/state").as_path()));
    assert_eq!((told("SECTILE_SIM_NODE"), told("SECTILE_SIM_LATENCY")), (Some("n2"), Some("0.5")));
    assert_eq!(told("SECTILE_SIM_UNPRIVILEGED"), Some("1"));
    assert!(place.path("a/state").is_file());
    let folder = told("LD_LIBRARY_PATH").unwrap().split(':').next().unwrap();
    assert!(Path::new(folder).join("libnvidia-ml.so.1").is_file(), "{folder}");
    let mut other = sectile(env!("CARGO_BIN_EXE_sectile"));
    other.args(["driver", "--sim", "fleet.toml", "--", "env"]).env("LD_LIBRARY_PATH", "/opt/lib:/srv/lib");
    let (_, stdout, stderr) = place.told(&mut other);
    assert!(stdout.contains(&format!("LD_LIBRARY_PATH={folder}:/opt/lib:/srv/lib\n")), "{stdout}");
    assert!(stdout.contains("SECTILE_SIM_NODE=n1\n") && !stdout.contains("UNPRIVILEGED"), "{stdout}");
    assert_eq!(stderr, "on node n1; --node NAME takes another\n");
}

#[test]
fn a_link_of_another_build_sent_programs_to_the_real_driver() {
    let place = Place::new();
    // The same program and library, elsewhere.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (build, other) = (folder.path().join("build"), folder.path().join("other.so"));
    let link = build.join("examples/nvml/libnvidia-ml.so.1");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::fs::hard_link(env!("CARGO_BIN_EXE_sectile"), build.join("sectile")).unwrap();
    std::fs::hard_link(built(), build.join("examples/libnvidia_ml.so")).unwrap();
    std::fs::write(&other, "").unwrap();
    let run = |build: &Path| {
        let mut program = sectile(build.join("sectile"));
        program.args(["driver", "--sim", "-q", "--", "sh", "-c", "realpath ${LD_LIBRARY_PATH%%:*}/libnvidia-ml.so.1"]);
        place.told(&mut program)
    };
    let library =
        |build: &Path| format!("{}\n", build.canonicalize().unwrap().join("examples/libnvidia_ml.so").display());
    for stale in [Path::new("/nowhere/libnvidia_ml.so"), &other] {
        std::os::unix::fs::symlink(stale, &link).unwrap();
        assert_eq!(run(&build), (0, library(&build), String::new()), "{}", stale.display());
        std::fs::remove_file(&link).unwrap();
    }
    assert_eq!(run(&build).0, 0);
    let moved = folder.path().join("moved");
    std::fs::rename(&build, &moved).unwrap();
    let link = moved.join("examples/nvml/libnvidia-ml.so.1");
    assert!(link.is_file(), "what is moved as a whole stays whole");
    // What can't be put right is told, and nothing is run.
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(&link).unwrap();
    let (code, stdout, stderr) = run(&moved);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("libnvidia-ml.so.1 can't be made"), "{stderr}");
}

#[test]
fn settings_of_the_real_node_reached_sectile_on_the_simulated_driver() {
    let place = Place::new();
    let refresh = place.path("refresh").display().to_string();
    let real = place.path("real").display().to_string();
    std::fs::write(&refresh, format!("#!/bin/sh\ntouch {real}\n")).unwrap();
    assert!(Command::new("chmod").args(["+x", &refresh]).status().unwrap().success());
    let settings = [
        ("SECTILE_STATE", real.as_str()),
        ("SECTILE_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1"),
        ("SECTILE_GPU_RESET", &refresh),
        ("SECTILE_DEVICE_REFRESH", &refresh),
        ("SECTILE_CLUSTER", "kube"),
        ("SECTILE_NODE", "n1"),
    ];
    let driver = "driver --sim fleet.toml --node n2 --sim-state state --";
    let (_, env, _) = place.within(&format!("{driver} env"), &settings);
    for name in ["SECTILE_NVML_LIBRARY", "SECTILE_GPU_RESET", "SECTILE_CLUSTER", "SECTILE_NODE"] {
        assert!(!env.contains(name), "{env}");
    }
    let apply = format!("{driver} sectile apply --gpus nvml --yes");
    let (code, stdout, stderr) = place.within(&apply, &settings);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.contains("Done: 1 created"), "{stdout}");
    assert!(!Path::new(&real).exists(), "the real node was changed");
    let kept = place.path("state.n2.host");
    assert!(kept.join("memory.json").is_file());
    // It goes with the world that it is of.
    assert_eq!(place.within("status --sim fleet.toml --sim-state state --sim-fresh", &[]).0, 0);
    assert!(!kept.exists());
    let (code, stdout, stderr) = place.within(&apply, &[]);
    assert!(code == 0 && stdout.contains("Done: 1 created"), "{stdout}{stderr}");
}

#[test]
fn the_manuals_line_for_sectile_on_the_simulated_driver_always_failed() {
    let place = Place::new();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut lines = 0;
    for line in MANUAL.split(['`', '\n']).filter(|line| line.starts_with("sectile driver ") && line.contains(" -- ")) {
        let words = line.replace("FLEET.toml", "fleet.toml").replace("gpu-a-01", "n2").replace("COMMAND…", "true");
        let (code, stdout, stderr) = place.within(words.strip_prefix("sectile ").unwrap(), &[]);
        assert_eq!(code, 0, "{line}: {stdout}{stderr}");
        assert_eq!(stdout.contains(host.trim()), line.contains("--gpus nvml"), "{line}: {stdout}");
        lines += 1;
    }
    assert_eq!(lines, 2);
    // Without `--gpus nvml` it simulates by itself.
    let (code, stdout, stderr) = place.within("driver --sim fleet.toml -- sectile plan", &[]);
    assert!(code == 0 && stdout.contains("n2"), "{stdout}{stderr}");
    // Two sides that nobody joins are still refused elsewhere.
    assert_eq!(place.within("plan --sim fleet.toml --gpus nvml", &[]).0, 1);
}

#[test]
fn what_the_program_does_is_kept_in_the_simulation() {
    let place = Place::new();
    let mut program = sectile(env!("CARGO_BIN_EXE_sectile"));
    program.args(["driver", "--sim", "fleet.toml", "--node", "n2", "--sim-state", "state", "--"]);
    program.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact", "driver::child"]);
    let (code, stdout, stderr) = place.told(&mut program);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let text = std::fs::read_to_string(place.path("state")).unwrap();
    let world = state::load(&place.path("state"), &text, FLEET, "fleet.toml").unwrap();
    assert_eq!(world.nodes["n2"].gpus[0].instances.len(), 1);
    let (_, stdout, stderr) = place.run("export --sim fleet.toml --sim-state state --node n2");
    assert!(stdout.contains("3g.40gb"), "{stdout}{stderr}");
}

/// A program of somebody else's: it loads NVML by its name and creates an instance.
#[test]
#[ignore = "a helper that what_the_program_does_is_kept_in_the_simulation runs by itself"]
fn child() {
    type Call = unsafe extern "C" fn(usize, usize, usize, usize) -> u32;
    // SAFETY: loading it runs nothing.
    let library = unsafe { Library::new("libnvidia-ml.so.1") }.unwrap();
    // SAFETY: functions of NVML's with integers and pointers to room.
    let call = |name: &str, args: [usize; 4]| unsafe {
        library.get::<Call>(name.as_bytes()).unwrap()(args[0], args[1], args[2], args[3])
    };
    let mut handle = 0usize;
    let out = &raw mut handle as usize;
    assert_eq!(call("nvmlInit_v2", [0; 4]), SUCCESS);
    assert_eq!(call("nvmlDeviceGetHandleByIndex_v2", [0, out, 0, 0]), SUCCESS);
    assert_eq!(call("nvmlDeviceCreateGpuInstance", [handle, 9, out, 0]), SUCCESS);
}

#[test]
fn what_can_not_be_run_is_told_with_a_way_out() {
    let place = Place::new();
    for (line, code, words) in [
        ("driver --sim", 64, "required"),
        ("driver --sim fleet.toml --sim-latency fast -- true", 64, "a factor is a number from 0 to 1000"),
        ("driver --sim fleet.toml --node n3 -- true", 64, "it has n1, n2"),
        ("driver --sim nowhere.toml -- true", 1, "nowhere.toml"),
        ("driver --sim fleet.toml -q -- /nowhere/program", 1, "/nowhere/program can't be run"),
    ] {
        let (told, _, stderr) = place.run(line);
        assert_eq!(told, code, "{line}: {stderr}");
        assert!(stderr.contains(words), "{line}: {stderr}");
    }
    // A program without its library: the same one, elsewhere.
    let alone = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = alone.path().join("sectile");
    std::fs::hard_link(env!("CARGO_BIN_EXE_sectile"), &program).unwrap();
    let (code, _, stderr) = place.told(sectile(&program).args(["driver", "--sim", "-q", "--", "true"]));
    assert_eq!(code, 1);
    assert!(stderr.contains("libnvidia-ml.so.1 is not there") && stderr.contains("hint: "), "{stderr}");
    // And as the package has it.
    std::fs::create_dir_all(alone.path().join("lib/sectile")).unwrap();
    std::fs::create_dir(alone.path().join("bin")).unwrap();
    std::fs::hard_link(&program, alone.path().join("bin/sectile")).unwrap();
    std::fs::write(alone.path().join("lib/sectile/libnvidia-ml.so.1"), "").unwrap();
    let packaged = alone.path().join("bin/sectile");
    let (code, stdout, _) = place.told(sectile(packaged).args(["driver", "--sim", "-q", "--", "env"]));
    assert_eq!(code, 0);
    assert!(stdout.contains("lib/sectile\n") || stdout.contains("lib/sectile:"), "{stdout}");
}
