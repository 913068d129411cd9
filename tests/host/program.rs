//! The program on a node without a cluster: a unit and a command on simulated GPUs, with the real host.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::stand_in::{Manner, StandIn};

const FLEET: &str = r#"
[[node]]
name = "n"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
"#;

const WORKLOADS: &str = r#"
[[workload]]
name = "embedder"
systemd = { unit = "embedder.service" }
profile = "1g.10gb"
[[workload]]
name = "vm7"
profile = "2g.20gb"
  [workload.command]
  drain = ["PROGRAM", "drain", "vm 7"]
  drained = ["PROGRAM", "drained", "vm 7"]
  resume = ["PROGRAM", "resume", "vm 7"]
  ready = ["PROGRAM", "ready", "vm 7"]
"#;

const POLICY: &str = r#"
nodes = ["*"]
[apply]
mode = "auto"
[clients]
systemd = ["dcgm.service"]
commands = [{ pause = ["PROGRAM", "pause"], paused = ["PROGRAM", "paused"], resume = ["PROGRAM", "unpause"] }]
"#;

/// A program that runs the workload, and keeps a record of what it was told.
const PROGRAM: &str = r#"#!/bin/sh
cd FOLDER
echo "$1 $2 $SECTILE_NODE $SECTILE_MIG_UUIDS" >> told
case $1 in
  drain) rm running ;;
  drained) [ ! -e running ] ;;
  resume) echo "$SECTILE_MIG_UUIDS" > running ;;
  ready) [ -e running ] ;;
esac
"#;

const SETTINGS: &str = r#"
[node]
name = "n"
[tree]
path = "FOLDER/tree"
[host]
units = ["embedder*.service", "dcgm.service"]
commands = ["PROGRAM"]
[service]
state = "FOLDER/var"
"#;

struct Node {
    stand_in: StandIn,
}

struct Told {
    code: i32,
    text: String,
}

impl Node {
    fn new() -> Node {
        let node = Node { stand_in: StandIn::start() };
        node.stand_in.world().unit("embedder.service", Manner::Well);
        node.stand_in.world().unit("dcgm.service", Manner::Well).active = "active".to_owned();
        for (path, text) in [("fleet.toml", FLEET), ("program", PROGRAM), ("sectile.toml", SETTINGS)] {
            node.write(path, text);
        }
        node.write("tree/REVISION", "r1\n");
        node.write("tree/policies/all.toml", POLICY);
        std::fs::set_permissions(node.path("program"), Permissions::from_mode(0o755)).unwrap();
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stand_in.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let program = self.path("program").display().to_string();
        let text = text.replace("PROGRAM", &program).replace("FOLDER", &self.stand_in.path().display().to_string());
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }

    fn layout(&self, gpu: &str) {
        self.write("tree/layouts/n.toml", &format!("nodes = [\"n\"]\n[[gpu]]\ninstances = {gpu}\n{WORKLOADS}"));
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Runs the program as the node would.
    fn run(&self, line: &str) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        command.env_clear().current_dir(self.stand_in.path());
        for (name, value) in [
            ("SECTILE_SIM", self.path("fleet.toml")),
            ("SECTILE_SIM_STATE", self.path("sim.json")),
            ("SECTILE_GPUS", "sim".into()),
            ("SECTILE_CLUSTER", "none".into()),
            ("SECTILE_SETTINGS", self.path("sectile.toml")),
            ("SECTILE_SYSTEMD", self.stand_in.path().to_owned()),
            ("SECTILE_DEVICE_REFRESH", "true".into()),
            ("SECTILE_GPU_RESET", "true".into()),
            ("DBUS_SYSTEM_BUS_ADDRESS", self.stand_in.address.clone().into()),
        ] {
            command.env(name, value);
        }
        let output = command.args(line.split_whitespace()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Told { code: output.status.code().unwrap(), text: String::from_utf8(text).unwrap() }
    }

    fn apply(&self) -> String {
        let Told { code, text } = self.run("apply --yes");
        assert_eq!(code, 0, "{text}");
        text
    }

    /// The UUIDs of the instances of a profile.
    fn uuids(&self, profile: &str) -> Vec<String> {
        let status: serde_json::Value = serde_json::from_str(&self.run("status -q -o json").text).unwrap();
        let instances = status["nodes"][0]["observed"]["gpus"][0]["instances"].as_array().unwrap();
        let of = instances.iter().filter(|instance| instance["profile"] == profile);
        of.map(|instance| instance["compute"][0]["uuid"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_unit_and_a_command_are_given_instances_and_moved_when_these_go() {
    let node = Node::new();
    node.layout("[{ profile = \"2g.20gb\", start = 0 }, { profile = \"1g.10gb\", start = 2 }]");
    let told = node.apply();
    assert!(told.contains("2 created"), "{told}");
    let (unit, vm) = (node.uuids("1g.10gb"), node.uuids("2g.20gb"));
    let variable = |uuids: &[String]| format!("CUDA_VISIBLE_DEVICES={}", uuids.join(","));
    assert_eq!(node.stand_in.world().units["embedder.service"].runs_with, [variable(&unit)]);
    assert_eq!(node.read("running").trim(), vm.join(","));
    assert!(node.apply().contains("Nothing to do."));
    let status = node.run("status").text;
    assert!(status.contains("embedder.service") && status.contains("vm7"), "{status}");

    // Both instances go: a unit and a workload are on their ways out before, and on others behind.
    std::fs::remove_file(node.path("told")).unwrap();
    node.stand_in.world().calls.clear();
    node.layout("[{ profile = \"1g.10gb\", start = 1 }, { profile = \"2g.20gb\", start = 4 }]");
    let told = node.apply();
    assert!(told.contains("2 created, 2 destroyed, 2 moved"), "{told}");
    let (unit, then) = (node.uuids("1g.10gb"), node.uuids("2g.20gb"));
    assert_eq!(node.stand_in.world().units["embedder.service"].runs_with, [variable(&unit)]);
    assert_eq!(node.read("running").trim(), then.join(","));
    assert_eq!(
        node.read("told").lines().map(str::trim).collect::<Vec<_>>(),
        [
            format!("drained vm 7 n {}", vm.join(",")),
            format!("drain vm 7 n {}", vm.join(",")),
            format!("drained vm 7 n {}", vm.join(",")),
            "pause  n".to_owned(),
            "paused  n".to_owned(),
            "unpause  n".to_owned(),
            format!("resume vm 7 n {}", then.join(",")),
            format!("ready vm 7 n {}", then.join(",")),
        ]
    );
    let world = node.stand_in.world();
    let ours = |call: &&str| *call == "Reload" || call.ends_with(".service") && !call.contains("sectile-cmd");
    let about_units: Vec<&str> = world.calls.iter().map(String::as_str).filter(ours).collect();
    assert_eq!(
        about_units,
        [
            "StopUnit embedder.service",
            "Reload",
            "StopUnit dcgm.service",
            "StartUnit dcgm.service",
            "Reload",
            "StartUnit embedder.service"
        ]
    );
}

#[test]
fn a_process_of_a_unit_is_the_units_whatever_that_was_given() {
    let node = Node::new();
    let instance = "instances = [{ profile = \"1g.10gb\", start = 2, users = [\"process:4711/python\"] }]\n";
    node.write("fleet.toml", &format!("{FLEET}  {instance}"));
    node.layout("[{ profile = \"2g.20gb\", start = 0 }, { profile = \"1g.10gb\", start = 2 }]");
    let row = || {
        let status = node.run("status").text;
        status.lines().find(|line| line.contains("1g.10gb at 2   1g")).unwrap().to_owned()
    };
    assert!(row().contains("python"), "{}", row());
    {
        let mut world = node.stand_in.world();
        let unit = world.units.get_mut("embedder.service").unwrap();
        (unit.active, unit.processes) = ("active".to_owned(), vec![4711]);
    }
    assert!(row().ends_with("embedder.service") && !row().contains("python"), "{}", row());
}

#[test]
fn a_record_of_what_was_given_that_is_lost_holds_the_node_back() {
    let node = Node::new();
    node.layout("[{ profile = \"2g.20gb\", start = 0 }, { profile = \"1g.10gb\", start = 2 }]");
    node.apply();
    std::fs::remove_file(node.path("var/given.json")).unwrap();
    let Told { code, text } = node.run("apply --yes");
    assert!(code == 1 && text.contains("given.json does not tell which devices"), "{text}");
}

#[test]
fn what_an_earlier_run_left_of_its_commands_is_over_before_anything_is_planned() {
    let node = Node::new();
    node.layout("[{ profile = \"2g.20gb\", start = 0 }, { profile = \"1g.10gb\", start = 2 }]");
    let (left, failed) = ("sectile-cmd-vm7-1-0.service", "sectile-cmd-vm7-1-1.service");
    node.stand_in.world().unit(left, Manner::Well).active = "activating".to_owned();
    node.stand_in.world().unit(failed, Manner::Well).active = "failed".to_owned();
    let active = |unit: &str| node.stand_in.world().units[unit].active.clone();
    std::thread::scope(|scope| {
        let told = scope.spawn(|| node.run("apply --yes"));
        while active(failed) != "inactive" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(!told.is_finished() && node.read("told").is_empty());
        node.stand_in.world().units.get_mut(left).unwrap().active = "active".to_owned();
        let Told { code, text } = told.join().unwrap();
        assert_eq!(code, 0, "{text}");
    });
    assert_eq!(active(left), "inactive");
    let calls = node.stand_in.world().calls.clone();
    assert!(calls.iter().any(|call| call.starts_with("StartTransientUnit")));
    assert!(!calls.iter().any(|call| call.ends_with(" beside another")), "{calls:?}");
}

#[test]
fn a_unit_that_does_not_come_up_again_fails_the_plan_and_is_told() {
    let node = Node::new();
    node.layout("[{ profile = \"2g.20gb\", start = 0 }, { profile = \"1g.10gb\", start = 2 }]");
    node.stand_in.world().units.get_mut("embedder.service").unwrap().manner = Manner::Fails;
    let Told { code, text } = node.run("apply --yes");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("systemd did not start embedder.service: exit status 3: job failed"), "{text}");
}

#[test]
fn a_workload_that_could_not_be_resumed_kept_the_layout_from_being_put_back() {
    let node = Node::new();
    node.layout("[{ profile = \"2g.20gb\", start = 0 }, { profile = \"1g.10gb\", start = 2 }]");
    node.write("program", &PROGRAM.replace("resume) echo", "resume) exit 1; echo"));
    std::fs::set_permissions(node.path("program"), Permissions::from_mode(0o755)).unwrap();
    let Told { code, text } = node.run("apply --yes");
    assert!(code == 1 && text.contains("the layout was put back"), "{text}");
    assert!(node.uuids("1g.10gb").is_empty() && node.uuids("2g.20gb").is_empty());
    // The unit ran by then; it is given nothing any more, nor is the workload, which never ran.
    let unit = node.stand_in.world().units["embedder.service"].clone();
    assert_eq!(
        (unit.starts, unit.active.as_str(), unit.environment),
        (1, "inactive", vec!["CUDA_VISIBLE_DEVICES=".into()])
    );
    assert!(node.read("var/given.json").contains("\"given\":{}"), "{}", node.read("var/given.json"));
}

#[test]
fn what_the_node_does_not_allow_holds_it_back_before_anything_is_touched() {
    let node = Node::new();
    node.layout("[{ profile = \"2g.20gb\", start = 0 }, { profile = \"1g.10gb\", start = 2 }]");
    node.write(
        "sectile.toml",
        "[node]\nname = \"n\"\n[tree]\npath = \"FOLDER/tree\"\n[service]\nstate = \"FOLDER/var\"\n",
    );
    let Told { code, text } = node.run("apply --yes");
    assert_eq!(code, 3, "{text}");
    let place = node.path("sectile.toml").display().to_string();
    for expected in [
        "not-allowed".to_owned(),
        "embedder.service".to_owned(),
        "dcgm.service".to_owned(),
        format!("`units` of [host] in {place}"),
        format!("`commands` of [host] in {place}"),
        "layouts/n.toml:5".to_owned(),
        "layouts/n.toml:9".to_owned(),
        "policies/all.toml:7 #1".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected}: {text}");
    }
    assert!(node.stand_in.world().calls.is_empty() && node.read("told").is_empty());
    assert!(node.uuids("1g.10gb").is_empty());
}

#[test]
fn settings_that_others_may_write_are_refused() {
    let node = Node::new();
    node.layout("[\"2g.20gb\", \"1g.10gb\"]");
    assert_eq!(node.run("plan").code, 0);
    for mode in [0o666, 0o664, 0o646] {
        std::fs::set_permissions(node.path("sectile.toml"), Permissions::from_mode(mode)).unwrap();
        let Told { code, text } = node.run("plan");
        assert!(code == 1 && text.contains("chmod go-w"), "{text}");
    }
    node.write("sectile.toml", "[node]\nnam = \"n\"\n");
    let Told { code, text } = node.run("plan");
    assert!(code == 1 && text.contains("did you mean `name`?"), "{text}");
    std::fs::remove_file(node.path("sectile.toml")).unwrap();
    assert_eq!(node.run("plan").code, 1, "it was asked for");
}

#[test]
fn labels_of_the_settings_select_where_no_cluster_tells_them() {
    let node = Node::new();
    let layout = "nodes = [\"*\"]\nlabels = { pool = \"edge\" }\n[[gpu]]\ninstances = [\"1g.10gb\"]\n";
    node.write("tree/layouts/n.toml", layout);
    node.write("tree/policies/all.toml", "nodes = [\"*\"]\n[apply]\nmode = \"auto\"\n");
    let undecided = node.run("plan --detailed-exitcode");
    assert!(undecided.code == 3 && undecided.text.contains("undecided"), "{}", undecided.text);
    node.write("sectile.toml", &SETTINGS.replace("name = \"n\"", "name = \"n\"\nlabels = { pool = \"edge\" }"));
    assert_eq!(node.run("plan --detailed-exitcode").code, 2);
    node.write("sectile.toml", &SETTINGS.replace("name = \"n\"", "name = \"n\"\nlabels = { pool = \"core\" }"));
    assert_eq!(node.run("plan --detailed-exitcode").code, 0);
}
