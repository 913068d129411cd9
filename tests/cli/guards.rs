//! What `apply` remembers, and what that holds back the next time.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use sectile::model::Memory;
use serde_json::Value;

use super::sandbox::{Sandbox, Told};

const STATE: &str = "state/sectile/sim-builtin.json";

fn state(sandbox: &Sandbox) -> Value {
    serde_json::from_str(&sandbox.read(STATE)).unwrap()
}

fn memory(sandbox: &Sandbox) -> Memory {
    serde_json::from_value(state(sandbox).pointer("/world/memory").unwrap().clone()).unwrap()
}

/// Changes a node of the simulated fleet behind the program's back.
fn meddle(sandbox: &Sandbox, node: &str, change: impl Fn(&mut Value)) {
    let mut state = state(sandbox);
    change(state.pointer_mut(&format!("/world/nodes/{node}")).unwrap());
    sandbox.write(STATE, &state.to_string());
}

fn shown(what: &str, told: &Told) -> String {
    format!("$ sectile {what}   # exits with {}\n{}{}\n", told.code, told.stdout, told.stderr)
}

#[test]
fn only_an_apply_remembers_and_the_same_twice_is_the_same() {
    let sandbox = Sandbox::example();
    for line in [
        "plan --sim",
        "validate --sim",
        "status --sim",
        "apply --sim --dry-run",
        "apply --sim --dry-run --accept-inventory",
    ] {
        sandbox.run(line);
        assert_eq!(memory(&sandbox), Memory::default(), "{line}");
    }
    sandbox.data("apply --sim --node edge-01 -q");
    let one = memory(&sandbox);
    assert_eq!(one.nodes.keys().collect::<Vec<_>>(), ["edge-01"]);
    assert_eq!(one.tree.as_ref().map(|tree| (tree.layouts, tree.bindings.len())), Some((4, 9)));
    sandbox.data("apply --sim -q");
    let all = memory(&sandbox);
    assert_eq!((all.nodes.len(), &all.nodes["edge-01"]), (5, &one.nodes["edge-01"]));
    assert!(all.nodes.values().all(|node| node.placements.len() == node.inventory.len()));
    for line in ["apply --sim", "plan --sim", "apply --sim --accept-inventory --accept-removal", "status --sim"] {
        sandbox.run(line);
        assert_eq!(memory(&sandbox), all, "{line}");
    }
    sandbox.run("plan --sim --sim-fresh");
    assert_eq!(memory(&sandbox), Memory::default());
}

#[test]
fn a_tree_that_lost_its_layouts_or_most_bindings_is_held_back_until_somebody_accepts_it() {
    let sandbox = Sandbox::example();
    // The first tree of all may be empty: it manages nothing.
    let empty = Sandbox::empty();
    empty.write("layouts/.keep", "");
    assert_eq!(empty.run("apply --sim").code, 0);
    sandbox.data("apply --sim -q");
    let before = memory(&sandbox);
    // The bindings of one file are five of nine; with an edit elsewhere there would be something to do.
    let layout = sandbox.read("layouts/inference.toml");
    let (gpus, _) = layout.split_once("[[workload]]").unwrap();
    sandbox.write("layouts/inference.toml", gpus);
    sandbox.edit("layouts/training.toml", "finetune\"\nkubernetes", "tuning\"\nkubernetes");
    sandbox.edit("layouts/training.toml", "\"2g.20gb\", \"1g.10gb\"]", "\"1g.10gb\", \"1g.10gb\"]");
    let mut told = String::new();
    for line in ["plan --sim", "apply --sim", "status --sim --node edge-01", "validate --sim"] {
        told.push_str(&shown(line, &sandbox.run(line)));
        assert_eq!(memory(&sandbox), before, "{line}");
    }
    insta::assert_snapshot!("mass_removal", told);
    assert_eq!(sandbox.run("plan --sim --detailed-exitcode").code, 3);
    assert_eq!(sandbox.run("apply --sim").code, 3);
    assert_eq!(sandbox.run("apply --sim --dry-run --accept-removal").code, 0);
    assert_eq!(sandbox.run("apply --sim").code, 3, "a dry run accepts nothing");
    assert_eq!(sandbox.run("apply --sim --accept-removal").code, 0);
    assert_eq!(sandbox.run("apply --sim").code, 0, "accepted once, it is the tree");
    // All layouts.
    for name in ["edge", "inference", "training", "workstations"] {
        sandbox.write(&format!("layouts/{name}.toml"), "");
    }
    let told = sandbox.run("apply --sim --node edge-01");
    assert_eq!(told.code, 3);
    assert!(told.stdout.contains("it has lost all 4 layouts that it had when it was last applied"), "{told:?}");
    assert_eq!(sandbox.run("apply --sim --accept-removal --node edge-01").code, 0);
    assert_eq!(sandbox.run("apply --sim").code, 0);
}

#[test]
fn a_gpu_that_fell_off_the_bus_holds_back_what_counts_gpus_until_somebody_accepts_it() {
    let sandbox = Sandbox::example();
    sandbox.data("apply --sim -q");
    let before = memory(&sandbox);
    // One of four is lost, and the tree wants another one cut anew.
    meddle(&sandbox, "gpu-t-01", |node| node["gpus"][2]["lost"] = Value::Bool(true));
    sandbox.edit("layouts/training.toml", "\"2g.20gb\", \"1g.10gb\"]", "\"1g.10gb\", \"1g.10gb\"]");
    let mut told = String::new();
    for line in ["plan --sim --node gpu-t-01", "apply --sim --node gpu-t-01", "status --sim --node gpu-t-01"] {
        told.push_str(&shown(line, &sandbox.run(line)));
        assert_eq!(memory(&sandbox).nodes, before.nodes, "{line}");
    }
    insta::assert_snapshot!("inventory_changed", told);
    for line in ["plan --sim -o json", "status --sim -o json"] {
        let told: Value = serde_json::from_str(&sandbox.data(line)).unwrap();
        let node = told["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "gpu-t-01").unwrap();
        assert_eq!(node["blocked"][0]["code"], "inventory-changed", "{line}");
    }
    assert_eq!(sandbox.run("plan --sim --detailed-exitcode --node gpu-t-01").code, 3);
    // Accepted for another node, it is not for this one; accepted for this one, the lost index is missed.
    assert_eq!(sandbox.run("apply --sim --accept-inventory --node edge-01").code, 0);
    let told = sandbox.run("apply --sim");
    assert!(told.stdout.contains("inventory-changed"), "{told:?}");
    let told = sandbox.run("apply --sim --accept-inventory");
    assert_eq!(told.code, 3);
    assert!(told.stdout.contains("no-such-gpu") && !told.stdout.contains("inventory-changed"), "{told:?}");
    assert_eq!(memory(&sandbox).nodes["gpu-t-01"].inventory.len(), 3);
    let layout = sandbox.read("layouts/training.toml").replacen("[[gpu]]\nindex = [2]\nmig = false\n", "", 1);
    sandbox.write("layouts/training.toml", &layout);
    assert_eq!(sandbox.run("apply --sim").code, 0);
    // It comes back: that is a change, too.
    meddle(&sandbox, "gpu-t-01", |node| node["gpus"][2]["lost"] = Value::Bool(false));
    let told = sandbox.run("apply --sim");
    assert!(told.code == 3 && told.stdout.contains("is new"), "{told:?}");
    assert_eq!(sandbox.run("apply --sim --accept-inventory").code, 0);
    assert_eq!(memory(&sandbox).nodes["gpu-t-01"].inventory, before.nodes["gpu-t-01"].inventory);
}

/// An entry that is held back plans to nothing, and says nothing of what is there.
#[test]
fn an_export_said_of_held_entries_that_the_file_says_so_already() {
    let sandbox = Sandbox::example();
    let entries = [("0", "instances = [\"3g\", \"3g\"]"), ("1", "instances = [\"7g\"]"), ("2", "managed = false")];
    let entries = entries.map(|(index, goal)| format!("[[gpu]]\nindex = [{index}]\n{goal}\n")).concat();
    sandbox.write("layouts/t.toml", &format!("nodes = [\"gpu-t-01\"]\n{entries}"));
    sandbox.data("apply --sim --node gpu-t-01 -q");
    // A reboot later, those behind it count from one less.
    meddle(&sandbox, "gpu-t-01", |node| _ = node["gpus"].as_array_mut().unwrap().remove(1));
    sandbox.data("export --sim --node gpu-t-01 --out layouts/t.toml");
    assert!(
        sandbox.read("layouts/t.toml").contains("index = [1]\nmig = false\n"),
        "{}",
        sandbox.read("layouts/t.toml")
    );
    let told = sandbox.run("apply --sim --node gpu-t-01 --accept-inventory");
    assert!(told.code == 0 && told.stdout.contains("Nothing to do."), "{told:?}");
}

/// Wherever a first apply is killed, what it remembered holds nothing back.
#[test]
fn an_apply_that_is_killed_leaves_nothing_that_holds_back_the_next_one() {
    for told in [0, 1, 2, 5, 10, 20, 30] {
        let sandbox = Sandbox::example();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        command.current_dir(sandbox.path("")).env_clear().env("XDG_STATE_HOME", sandbox.path("state"));
        let mut child = command.args(["apply", "--sim"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(lines.take(told).count(), told);
        child.kill().unwrap();
        child.wait().unwrap();
        let told = sandbox.run("apply --sim");
        assert_eq!(told.code, 0, "{told:?}");
        assert_eq!(memory(&sandbox).nodes.len(), 5);
    }
}

/// Errors of form, one for each code that files can show: the whole tree is held back, whatever else it says.
#[test]
fn errors_of_form_hold_back_the_whole_tree() {
    let unit = "[[workload]]\nname = \"u\"\nprofile = \"1g\"\nsystemd = { unit = \"u.service\" }\n";
    let gpu = "nodes = [\"x\"]\n[[gpu]]\n";
    let cases: Vec<(&str, &str, String)> = vec![
        ("syntax", "layouts/x.toml", "nodes = [".to_owned()),
        ("unknown-key", "layouts/x.toml", format!("{gpu}mgi = false\nmig = false\n")),
        ("missing-key", "layouts/x.toml", "[[gpu]]\nmig = false\n".to_owned()),
        ("wrong-type", "layouts/x.toml", format!("{gpu}mig = 1\n")),
        ("bad-value", "policies/x.toml", "nodes = [\"x\"]\n[apply]\nmode = \"now\"\n".to_owned()),
        ("contradiction", "layouts/x.toml", format!("{gpu}mig = false\ninstances = [\"1g\"]\n")),
        ("duplicate", "layouts/x.toml", format!("{unit}{unit}")),
        (
            "rewritten-label",
            "policies/x.toml",
            "labels = { \"sectile.dev/state\" = \"a\" }\n[failure]\nretries = 1\n".to_owned(),
        ),
        ("tie", "layouts/x.toml", "nodes = [\"edge-*\"]\n[[gpu]]\nmig = false\n".to_owned()),
        ("tie", "layouts/x.toml", "nodes = [\"*ge-01\"]\n[[gpu]]\nmig = false\n".to_owned()),
        ("rewritten-label", "layouts/x.toml", format!("{unit}labels = {{ \"nvidia.com/gpu.count\" = \"1\" }}\n")),
        ("nothing-left", "layouts/x.toml", format!("{gpu}mig = false\n[[gpu]]\ncount = 1\nmig = false\n")),
        ("over-bound", "layouts/x.toml", unit.replace("1g", "5g")),
        ("upgrade", "tree.toml", "requires = \">=99.0\"\n".to_owned()),
        ("unknown-key", "tree.toml", "requires = \">=0.1\"\nrequries = \">=0.1\"\n".to_owned()),
        ("too-large", "layouts/x.toml", "#".repeat(2 << 20)),
        ("not-a-file", "layouts/x.toml/y.toml", String::new()),
    ];
    for (code, path, text) in cases {
        let sandbox = Sandbox::example();
        sandbox.write(path, &text);
        for line in ["plan --sim --node ws-01", "apply --sim", "status --sim"] {
            let told = sandbox.run(line);
            assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{code}: {told:?}");
            assert!(told.stderr.contains(&format!("error[{code}]")), "{code}: {told:?}");
        }
        assert!(!sandbox.path(STATE).exists(), "{code}");
    }
}

#[test]
fn what_can_not_be_read_holds_back_the_whole_tree() {
    type Make = fn(&Path);
    let make: [(&str, Make); 3] = [
        ("broken-link", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
        ("not-utf8", |path| std::fs::write(path, [0xff, 0xfe]).unwrap()),
        ("not-a-file", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    for (code, make) in make {
        let sandbox = Sandbox::example();
        make(&sandbox.path("layouts/x.toml"));
        let told = sandbox.run("apply --sim");
        assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{code}: {told:?}");
        assert!(told.stderr.contains(&format!("error[{code}]")), "{code}: {told:?}");
    }
    let told = Sandbox::empty().run("apply --sim .");
    assert!(told.code == 1 && told.stderr.contains("error[no-tree]"), "{told:?}");
}

/// A state that an earlier version kept remembers nothing, and is read all the same.
#[test]
fn a_state_without_a_memory_is_one_that_remembers_nothing() {
    let sandbox = Sandbox::example();
    sandbox.data("apply --sim -q");
    let mut state = state(&sandbox);
    state["world"].as_object_mut().unwrap().remove("memory").unwrap();
    sandbox.write(STATE, &state.to_string());
    assert_eq!(sandbox.run("plan --sim --detailed-exitcode").code, 0);
    assert_eq!(memory(&sandbox), Memory::default());
}

/// A newer tree says so to an older program, and only that; one that this program may read has no keys it does not know.
#[test]
fn an_older_program_says_upgrade_and_a_new_key_is_unknown() {
    let sandbox = Sandbox::example();
    sandbox.edit("layouts/edge.toml", "[[gpu]]\n", "[[gpu]]\ninstanses = []\nshare = \"time\"\n");
    sandbox.write("tree.toml", "requires = \">=99.0\"\n");
    let old = sandbox.run("plan --sim");
    sandbox.write("tree.toml", "requires = \">=0.1\"\n");
    let new = sandbox.run("plan --sim");
    assert_eq!((old.code, new.code), (1, 1));
    insta::assert_snapshot!("requires", format!("{}\n{}", old.stderr, new.stderr));
}
