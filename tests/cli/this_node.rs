//! The program on this node, whose GPUs are simulated behind NVML's C interface: it loads them as it loads real ones.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::sandbox::{Sandbox, Told};

/// What `cargo test` builds beside this test, as does `cargo build --example nvidia-ml`.
fn library() -> PathBuf {
    let library = Path::new(env!("CARGO_BIN_EXE_sectile")).with_file_name("examples").join("libnvidia_ml.so");
    assert!(library.exists(), "{}: run `cargo build --example nvidia-ml` first", library.display());
    library
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

/// A node with two GPUs, and a tree for it.
pub(crate) fn node() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("REVISION", "r1\n");
    sandbox.write(
        "fleet.toml",
        r#"
[[node]]
name = "n"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  instances = [{ profile = "2g.20gb", start = 0 }, { profile = "3g.40gb", start = 4 }]
  [[node.gpu]]
  model = "a100-40gb"
  mig = false
"#,
    );
    sandbox.write(
        "layouts/n.toml",
        "nodes = [\"*\"]\n[[gpu]]\nindex = [0]\ninstances = [\"3g\", \"1g\"]\n[[gpu]]\nindex = [1]\ninstances = [\"2g\"]\n",
    );
    sandbox
}

/// What makes a sandbox the node.
pub(crate) fn settings(sandbox: &Sandbox) -> [(&'static str, String); 8] {
    let path = |name: &str| sandbox.path(name).display().to_string();
    [
        ("SECTILE_SIM", path("fleet.toml")),
        ("SECTILE_SIM_STATE", path("sim.json")),
        ("SECTILE_GPUS", "nvml".to_owned()),
        ("SECTILE_CLUSTER", "none".to_owned()),
        ("SECTILE_STATE", path("var")),
        ("SECTILE_NVML_LIBRARY", library().display().to_string()),
        // Several services on one machine.
        ("SECTILE_METRICS", "none".to_owned()),
        ("SECTILE_SOCKET", "none".to_owned()),
    ]
}

/// Runs a command on the node, with more settings.
pub(crate) fn run_with(sandbox: &Sandbox, line: &str, more: &[(&str, &str)]) -> Told {
    let settings = settings(sandbox);
    let mut env: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    env.retain(|(key, _)| more.iter().all(|(other, _)| other != key));
    env.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    sandbox.run_with(line, &env)
}

pub(crate) fn run(sandbox: &Sandbox, line: &str) -> Told {
    run_with(sandbox, line, &[])
}

#[test]
fn this_node_is_planned_applied_verified_and_exported() {
    let sandbox = node();
    let planned = run(&sandbox, "plan --detailed-exitcode");
    assert_eq!(planned.code, 2, "{planned:?}");
    assert!(
        planned.stdout.contains("- destroy  2g.20gb at 0") && planned.stdout.contains("MIG mode on"),
        "{planned:?}"
    );
    assert!(!sandbox.path("var").exists(), "looking leaves nothing behind");

    let nobody = run(&sandbox, "apply");
    assert_eq!(nobody.code, 64, "{nobody:?}");
    assert!(nobody.stderr.contains("--yes"), "{nobody:?}");
    assert_eq!(run(&sandbox, "plan --detailed-exitcode").code, 2);

    let applied = run(&sandbox, "apply --yes");
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.stdout.contains("Done: 2 created, 1 destroyed, 0 moved"), "{applied:?}");
    assert!(applied.stdout.contains("1 node converged, 3 instances."), "{applied:?}");
    assert_eq!(run(&sandbox, "plan --detailed-exitcode").code, 0);
    assert!(run(&sandbox, "apply").stdout.contains("Nothing to do."), "nobody is asked about nothing");
    let exported = run(&sandbox, "export").stdout;
    assert!(exported.contains(&format!("nodes = [\"{}\"]", host())), "{exported}");
    assert!(exported.contains("instances = { \"2g.10gb\" = 1 }"), "{exported}");
    let fits = run(&sandbox, "validate");
    assert!(fits.code == 0 && fits.stdout.contains("fits this node"), "{fits:?}");
}

/// What is remembered lasts: a node that was suspended still is.
#[test]
fn what_is_remembered_of_this_node_lasts() {
    let sandbox = node();
    assert_eq!(run(&sandbox, "suspend --reason INC-4711").code, 0);
    let applied = run(&sandbox, "apply --yes");
    assert_eq!(applied.code, 3, "{applied:?}");
    assert!(applied.stdout.contains("suspended") && applied.stdout.contains("INC-4711"), "{applied:?}");
    assert_eq!(run(&sandbox, "resume").code, 0);
    assert_eq!(run(&sandbox, "apply --yes").code, 0);
}

/// Nobody need be there to resume it.
#[test]
fn a_suspension_ends_by_itself_if_it_is_to() {
    let sandbox = node();
    let told = run(&sandbox, "suspend --reason INC-4711 --for 1h -o json").stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let time = |key: &str| told["nodes"][0]["suspended"][key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("until").duration_since(time("since")), jiff::SignedDuration::from_hours(1));
    let applied = run(&sandbox, "apply --yes");
    assert!(applied.code == 3 && applied.stdout.contains("until 20"), "{applied:?}");
    assert_eq!(run(&sandbox, "suspend --reason INC-4711 --for 1s").code, 0);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(run(&sandbox, "apply --yes").code, 0);
    for wrong in ["0s", "-1h", "2", "never", "9000h"] {
        let told = run(&sandbox, &format!("suspend --reason INC-4711 --for={wrong}"));
        assert!(told.code == 64 && told.stderr.contains("from 1s to a year"), "{told:?}");
    }
}

#[test]
fn a_command_was_refused_because_the_service_just_looked() {
    let sandbox = node();
    sandbox.write("var/lock", "");
    let look = || {
        let lock = std::fs::File::options().write(true).open(sandbox.path("var/lock")).unwrap();
        lock.lock().unwrap();
        lock
    };
    let looks = look();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            drop(looks);
        });
        assert_eq!(run(&sandbox, "suspend --reason INC-4711").code, 0);
    });
    // One that carries out a plan is not waited for.
    let _works = look();
    let told = run(&sandbox, "apply --yes");
    assert!(told.code == 1 && told.stderr.contains("another sectile changes this node"), "{told:?}");
}

/// That is when one wants to.
#[test]
fn a_node_whose_driver_is_gone_could_not_be_suspended() {
    let sandbox = node();
    let gone = [("SECTILE_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1")];
    let suspended = run_with(&sandbox, "suspend --reason upgrade", &gone);
    assert_eq!(suspended.code, 0, "{suspended:?}");
    assert_eq!(run(&sandbox, "apply --yes").code, 3);
    assert_eq!(run_with(&sandbox, "resume", &gone).code, 0);
    assert_eq!(run(&sandbox, "apply --yes").code, 0);
}

#[test]
fn another_node_is_not_mistaken_for_this_one() {
    let told = run(&node(), "apply --yes --node gpu-z-99");
    assert_eq!((told.code, told.stdout.as_str()), (64, ""), "{told:?}");
}

#[test]
fn what_keeps_from_the_gpus_is_told_apart() {
    let sandbox = node();
    let told = [
        ("no library", ("SECTILE_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1")),
        ("no driver", ("SECTILE_SIM_STATE", "")),
        ("no rights", ("SECTILE_SIM_UNPRIVILEGED", "1")),
    ]
    .map(|(title, setting)| {
        let told = run_with(&sandbox, "plan", &[setting]);
        assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{title}: {told:?}");
        // What the simulated library itself says of its settings is not Sectile's.
        let own: Vec<&str> = told.stderr.lines().skip_while(|line| !line.starts_with("error:")).collect();
        format!("# {title}\n{}\n", own.join("\n").replace(&format!("node {}", host()), "node HOST"))
    });
    insta::assert_snapshot!(told.join("\n"));
    // Where it lies is the machine's affair.
    let other = run_with(&sandbox, "plan", &[("SECTILE_NVML_LIBRARY", "libc.so.6")]);
    assert!(other.code == 1 && other.stderr.contains("caused by: the library is no NVML"), "{other:?}");
}

/// The node with a program that makes device nodes and CDI specifications anew.
fn refreshed_by(script: &str) -> Sandbox {
    let sandbox = node();
    sandbox.write("refresh", &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(sandbox.path("refresh"), Permissions::from_mode(0o755)).unwrap();
    sandbox
}

#[test]
fn a_program_of_ones_own_makes_device_nodes_and_cdi_anew_once_the_instances_are_there() {
    let sandbox = refreshed_by("echo \"$*\" >> told && cp sim.json seen.json");
    let program = sandbox.path("refresh").display().to_string();
    let run = |line: &str| run_with(&sandbox, line, &[("SECTILE_DEVICE_REFRESH", &program)]);
    let steps = |line: &str| {
        let plan: serde_json::Value = serde_json::from_str(&run(line).stdout).unwrap();
        plan["nodes"][0]["steps"].as_array().unwrap().clone()
    };
    let planned = steps("plan -o json");
    let refreshes: Vec<_> = planned.iter().filter(|step| step["kind"] == "refresh_devices").collect();
    assert_eq!(refreshes.len(), 1, "{planned:?}");
    assert_eq!(refreshes[0]["files"], serde_json::json!(["device-nodes", "cdi"]));
    let wide = run("plan -o wide").stdout;
    assert!(wide.contains("make device nodes and the CDI specification anew"), "{wide}");
    assert!(!sandbox.path("told").exists(), "a plan runs nothing");
    let applied = run("apply --yes");
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(sandbox.read("told"), "device-nodes cdi\n");
    // What the program saw is what there is now.
    assert_eq!(sandbox.read("seen.json"), sandbox.read("sim.json"));
    assert!(steps("plan -o json").is_empty());
    assert_eq!(run("apply --yes").code, 0);
    assert_eq!(sandbox.read("told"), "device-nodes cdi\n", "nothing changed, and nobody is told");
}

#[test]
fn a_program_that_fails_to_make_them_anew_ends_the_plan_with_its_last_line() {
    let sandbox = refreshed_by("echo first; echo 'the specification is read-only' >&2; exit 3");
    let program = sandbox.path("refresh").display().to_string();
    let applied = run_with(&sandbox, "apply --yes", &[("SECTILE_DEVICE_REFRESH", &program)]);
    assert_eq!(applied.code, 1, "{applied:?}");
    let said = format!("`{program} device-nodes cdi` said: the specification is read-only: exit status: 3");
    assert!(applied.stdout.contains(&said), "{applied:?}");
    assert!(!applied.stdout.contains("first"), "{applied:?}");
}

#[test]
fn a_unit_that_nobody_allowed_holds_this_node_back() {
    let sandbox = node();
    sandbox.write(
        "layouts/n.toml",
        "nodes = [\"*\"]\n[[gpu]]\nindex = [0]\ninstances = [\"3g\"]\n\
         [[workload]]\nname = \"e\"\nsystemd = { unit = \"e.service\" }\nprofile = \"3g.40gb\"\n",
    );
    let told = run(&sandbox, "plan --detailed-exitcode");
    assert_eq!(told.code, 3, "{told:?}");
    assert!(told.stdout.contains("the tree binds e.service, which this node does not allow"), "{told:?}");
    assert!(told.stdout.contains("in `units` of [host] in /etc/sectile/sectile.toml"), "{told:?}");
    assert!(!told.stdout.contains("no-such-target"), "nobody looked: {told:?}");
}

#[test]
fn where_a_kubelet_runs_nothing_is_planned_before_somebody_tells_where_its_cluster_is() {
    let sandbox = node();
    sandbox.write("kubelet.sock", "");
    let socket = sandbox.path("kubelet.sock").display().to_string();
    // The settings of the simulation stand for the driver's alone here.
    let more = [("SECTILE_CLUSTER", ""), ("SECTILE_SIM_NODE", "n"), ("SECTILE_POD_RESOURCES", socket.as_str())];
    let told = run_with(&sandbox, "plan", &more);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.stderr.contains("a kubelet runs here") && told.stderr.contains("--kubeconfig FILE"), "{told:?}");
    assert_eq!(run_with(&sandbox, "plan --cluster none", &more).code, 0);
    // A node is not planned either where its cluster can't be reached.
    let told = run_with(&sandbox, "plan --kubeconfig no-such-file", &more);
    assert!(told.code == 1 && told.stderr.contains("no-such-file can't be used"), "{told:?}");
}
