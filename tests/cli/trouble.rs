//! What goes wrong, as a person sees it: failures, what status tells then, signals.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use sectile::sim::state::door::Door;

use super::sandbox::Sandbox;

const FLEET: &str = r#"[[node]]
name = "n"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [{ profile = "1g.10gb", start = 0, users = ["pod:x/w-0"] }]
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [{ profile = "1g.10gb", start = 0 }]
[[workload]]
kind = "StatefulSet"
namespace = "x"
name = "w"
profile = "1g.10gb"
"#;

const LAYOUT: &str = r#"nodes = ["n"]
[[gpu]]
index = [0]
instances = ["7g"]
[[gpu]]
index = [1]
instances = ["1g"]
"#;

fn sandbox(faults: &str) -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("layouts/n.toml", LAYOUT);
    sandbox.write("policies/p.toml", "nodes = [\"*\"]\n");
    sandbox.write("REVISION", "r1\n");
    sandbox.write("fleet.toml", &format!("{FLEET}{faults}"));
    sandbox
}

/// The same, where a workload is to be bound, too.
fn bound() -> Sandbox {
    let sandbox = sandbox("[[workload]]\nkind = \"Deployment\"\nnamespace = \"x\"\nname = \"v\"\n");
    let binding = "[[workload]]\nname = \"v\"\nprofile = \"1g.10gb\"\nmanage = true\n\
                   kubernetes = { kind = \"Deployment\", namespace = \"x\", name = \"v\" }\n";
    sandbox.edit("layouts/n.toml", "instances = [\"1g\"]\n", &format!("instances = [\"1g\", \"1g\"]\n{binding}"));
    sandbox
}

#[test]
fn a_failure_is_told_held_back_and_tried_again_when_the_tree_changes() {
    let sandbox = sandbox("[[fault.call]]\nname = \"create_gi_at\"\nfails = \"INSUFFICIENT_RESOURCES\"\n");
    let told = sandbox.run("apply --sim fleet.toml");
    assert_eq!(told.code, 1);
    insta::assert_snapshot!(format!("{}---- stderr\n{}", told.stdout, told.stderr));
    insta::assert_snapshot!("status_after_a_failure", sandbox.data("status --sim fleet.toml"));
    let told = sandbox.run("apply --sim fleet.toml");
    assert_eq!(told.code, 3, "{told:?}");
    insta::assert_snapshot!("held_back", told.stdout);
    assert_eq!(sandbox.run("plan --sim fleet.toml --detailed-exitcode").code, 3);
    let status: serde_json::Value = serde_json::from_str(&sandbox.data("status --sim fleet.toml -o json")).unwrap();
    assert_eq!(
        (&status["nodes"][0]["state"], &status["nodes"][0]["blocked"][0]["code"]),
        (&"failed".into(), &"failed".into())
    );
    let tale = &status["nodes"][0]["earlier_run"];
    assert_eq!((&tale["ended"], tale["left"].as_array().unwrap().len()), (&"failed".into(), 0), "{tale}");
    assert!(tale["failed"].as_str().unwrap().ends_with("Insufficient Resources"), "{tale}");
    assert!(!tale["done"].as_array().unwrap().is_empty(), "{tale}");
    sandbox.edit("policies/p.toml", "\n", "\n[failure]\nretries = 4\n");
    assert_eq!(sandbox.run("apply --sim fleet.toml").code, 0);
    let status = sandbox.data("status --sim fleet.toml");
    assert!(!status.contains("an earlier run"), "{status}");
}

#[test]
fn a_failure_is_forgiven_by_resume() {
    let sandbox = sandbox("[[fault.call]]\nname = \"create_gi_at\"\nfails = \"INSUFFICIENT_RESOURCES\"\n");
    assert_eq!(sandbox.run("apply --sim fleet.toml").code, 1);
    assert_eq!(sandbox.run("apply --sim fleet.toml").code, 3);
    let told = sandbox.run("resume --sim fleet.toml");
    assert!(told.stdout.starts_with("n is tried again (it failed: "), "{told:?}");
    assert_eq!(sandbox.run("apply --sim fleet.toml").code, 0);
    assert_eq!(sandbox.run("resume --sim fleet.toml").stdout, "n was not suspended\n");
}

#[test]
fn what_passes_is_waited_out_also_while_looking() {
    let fault = |name: &str, code: &str| format!("[[fault.call]]\nname = \"{name}\"\ntimes = 3\nfails = \"{code}\"\n");
    let disk = ["append", "lines", "clear"].map(|call| fault(call, "storage-full")).concat();
    let faults = [fault("observe", "503"), fault("set_taint", "429"), disk].concat();
    let told = sandbox(&faults).run("apply --sim fleet.toml");
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stderr.contains("the call `set_taint`: 429"), "{told:?}");
    let lasting = sandbox(&fault("observe", "403")).run("plan --sim fleet.toml");
    assert_eq!(lasting.code, 1);
    assert!(lasting.stderr.contains("the call `observe`: 403"), "{lasting:?}");
}

#[test]
fn a_call_that_goes_wrong_once_does_so_once_also_where_the_command_ends_with_it() {
    let sandbox = sandbox("[[fault.call]]\nname = \"observe\"\nfails = \"403\"\n");
    assert_eq!(sandbox.run("status --sim fleet.toml").code, 1);
    assert_eq!(sandbox.run("status --sim fleet.toml").code, 0);
}

#[test]
fn an_error_is_told_with_a_reason_also_beside_json() {
    let sandbox = sandbox("[[fault.call]]\nname = \"clear\"\nfails = \"io\"\n");
    let told = sandbox.run("apply --sim fleet.toml -o json -q");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("n failed: ") && told.stderr.contains("the call `clear`: io"), "{told:?}");
    serde_json::from_str::<serde_json::Value>(&told.stdout).unwrap();
}

#[test]
fn who_starts_over_is_not_held_back_by_what_failed_before() {
    let sandbox = sandbox("[[fault.call]]\nname = \"create_gi_at\"\nfails = \"INSUFFICIENT_RESOURCES\"\n");
    let run = |line: &str| sandbox.run(&format!("{line} --sim fleet.toml --sim-state s.json"));
    assert_eq!((run("apply").code, run("apply").code), (1, 3));
    assert_eq!((run("plan --sim-fresh --detailed-exitcode").code, run("apply").code), (2, 1));
    std::fs::remove_file(sandbox.path("s.json")).unwrap();
    assert_eq!((run("plan --detailed-exitcode").code, run("apply").code), (2, 1));
}

#[test]
fn a_world_that_a_program_on_the_driver_began_was_held_back_by_what_failed_in_the_one_before() {
    let sandbox = sandbox("[[fault.call]]\nname = \"create_gi_at\"\nfails = \"INSUFFICIENT_RESOURCES\"\n");
    let run = |line: &str| sandbox.run(&format!("{line} --sim fleet.toml --sim-state s.json"));
    assert_eq!((run("apply").code, run("apply").code), (1, 3));
    std::fs::remove_file(sandbox.path("s.json")).unwrap();
    let fleet = sandbox.read("fleet.toml");
    Door::open(&sandbox.path("s.json"), &fleet, "fleet.toml", None, true, 0.0).unwrap().unwrap();
    let status = run("status").stdout;
    assert!(!status.contains("an earlier run"), "{status}");
    // It fails anew, and that is of this world.
    assert_eq!((run("apply").code, run("apply").code), (1, 3));
}

#[test]
fn a_journal_has_a_place_of_its_own_whatever_the_node_is_called() {
    let long = "n".repeat(300);
    for name in ["../../n", "/n", "cluster", &long] {
        let sandbox = bound();
        sandbox.edit("fleet.toml", "name = \"n\"", &format!("name = \"{name}\""));
        sandbox.edit("layouts/n.toml", "\"n\"", "\"*\"");
        let told = sandbox.run("apply --sim fleet.toml --sim-state d/s/s.json");
        assert_eq!(told.code, 0, "{told:?}");
        let names = |folder: &str| {
            let all = std::fs::read_dir(sandbox.path(folder)).unwrap();
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let journals = names("d/s").iter().filter(|name| name.ends_with(".journal")).count();
        assert_eq!((journals, names("d").len()), (2, 1), "{name}: {:?}", names("d/s"));
    }
}

#[test]
fn a_journal_that_is_not_ours_is_neither_gone_by_nor_overwritten() {
    let sandbox = sandbox("");
    sandbox.data("plan --sim fleet.toml --sim-state s.json");
    sandbox.write("s.json.n.journal", "[Unit]\nDescription=something else\n");
    for line in ["plan", "apply", "status"] {
        let told = sandbox.run(&format!("{line} --sim fleet.toml --sim-state s.json"));
        assert_eq!(told.code, 1, "{line}: {told:?}");
        assert!(told.stderr.contains("s.json.n.journal can't be gone by"), "{line}: {told:?}");
        assert!(told.stderr.contains("hint: move it away"), "{line}: {told:?}");
    }
    assert_eq!(sandbox.read("s.json.n.journal"), "[Unit]\nDescription=something else\n");
}

#[test]
fn the_clusters_journal_is_not_overwritten_either_where_it_is_not_ours() {
    let sandbox = bound();
    sandbox.write("s.json.journal", "[Unit]\n");
    let told = sandbox.run("apply --sim fleet.toml --sim-state s.json");
    assert_eq!((told.code, sandbox.read("s.json.journal").as_str()), (1, "[Unit]\n"), "{told:?}");
    assert!(told.stderr.contains("s.json.journal can't be gone by"), "{told:?}");
}

/// An apply whose destroy really takes a while. Once its record is written, nothing but the destroy comes next.
fn stalled(sandbox: &Sandbox) -> (Child, BufReader<std::process::ChildStderr>) {
    stalled_at(sandbox, "destroy_instance")
}

/// The same, where a record that holds `text` is the last one.
fn stalled_at(sandbox: &Sandbox, text: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
    command.current_dir(sandbox.path("")).env_clear().env("XDG_STATE_HOME", sandbox.path("state"));
    command
        .args(["apply", "--sim", "fleet.toml", "--sim-state", "s.json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let begun = || std::fs::read_to_string(sandbox.path("s.json.n.journal")).is_ok_and(|t| t.contains(text));
    while !begun() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {text}");
        std::thread::yield_now();
    }
    (child, stderr)
}

fn read_until(stderr: &mut BufReader<std::process::ChildStderr>, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended without `{text}`");
    }
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_signal_lets_the_step_in_hand_end_and_leaves_nothing_behind() {
    let sandbox = sandbox("[[fault.call]]\nname = \"destroy_ci\"\nstalls = \"3s\"\n");
    let (mut child, mut stderr) = stalled(&sandbox);
    interrupt(&child);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("Stopping after the step in hand"), "{rest}");
    let status = sandbox.data("status --sim fleet.toml --sim-state s.json");
    assert!(!status.contains("an earlier run"), "{status}");
    let plan = sandbox.run("plan --sim fleet.toml --sim-state s.json -o wide").stdout;
    assert!(!plan.contains("mend"), "{plan}");
    assert_eq!(sandbox.run("apply --sim fleet.toml --sim-state s.json").code, 0);
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_next_start_recovers() {
    // Far longer than any test waits.
    let sandbox = sandbox("[[fault.call]]\nname = \"destroy_ci\"\nstalls = \"900s\"\n");
    let (mut child, mut stderr) = stalled(&sandbox);
    interrupt(&child);
    read_until(&mut stderr, "Stopping after the step in hand");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let status = sandbox.data("status --sim fleet.toml --sim-state s.json");
    assert!(status.contains("n: an earlier run was cut short"), "{status}");
    assert!(status.contains("left"), "{status}");
    let told = sandbox.run("apply --sim fleet.toml --sim-state s.json");
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stderr.contains("an earlier run was cut short in step"), "{told:?}");
    let status = sandbox.data("status --sim fleet.toml --sim-state s.json");
    assert!(!status.contains("an earlier run"), "{status}");
}

/// In the record of the first GPU's instance that is made again.
const BACK: &str = r#"create_instance","gpu":"GPU-5f4269e0-a034-406c-4c15-f622c85bf7ce","profile":"1g.10gb""#;

#[test]
fn a_run_that_was_cut_short_while_it_put_the_layout_back_is_told_until_it_is_recovered_and_no_longer() {
    let fault = |rest: &str| format!("[[fault.call]]\nname = \"create_gi_at\"\n{rest}\n");
    let faults = fault("fails = \"INSUFFICIENT_RESOURCES\"") + &fault("nth = 2\nstalls = \"900s\"");
    let sandbox = sandbox(&faults);
    let (mut child, mut stderr) = stalled_at(&sandbox, BACK);
    interrupt(&child);
    read_until(&mut stderr, "Stopping after the step in hand");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let run = |line: &str| sandbox.run(&format!("{line} --sim fleet.toml --sim-state s.json"));
    assert!(run("status").stdout.contains("n: an earlier run was cut short"));
    assert_eq!(run("suspend --reason x").code, 0);
    assert!(run("apply").stderr.contains("an earlier run was cut short"));
    assert!(!run("status").stdout.contains("an earlier run"));
    let journal = sandbox.read("s.json.n.journal");
    assert!(!run("apply").stderr.contains("an earlier run was cut short"));
    assert_eq!(sandbox.read("s.json.n.journal"), journal, "it would grow for ever");
}
