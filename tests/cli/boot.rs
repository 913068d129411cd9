//! `sectile boot`: the last layout after a reboot, before anything is given out.

use std::os::unix::net::UnixListener;

use super::sandbox::Sandbox;
use super::this_node::{run, run_with};

/// Two GPUs of which one loses its MIG mode with a reboot; what they have is the tree's.
fn converged() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("fleet.toml", FRESH);
    // Nobody would put the second so by itself.
    sandbox.write(
        "layouts/n.toml",
        r#"nodes = ["*"]
[[gpu]]
index = [0]
instances = [{ profile = "3g.40gb", start = 4 }, { profile = "2g.20gb", start = 2, compute = ["1c.2g.20gb", "1c.2g.20gb"] }]
[[gpu]]
index = [1]
instances = [{ profile = "1g.5gb", start = 5 }]
"#,
    );
    let applied = run(&sandbox, "apply --yes");
    assert_eq!(applied.code, 0, "{applied:?}");
    sandbox
}

/// The node as it is after it was started.
const FRESH: &str = r#"
[[node]]
name = "n"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = false
  [[node.gpu]]
  model = "a100-40gb"
  mig = true
"#;

fn reboot(sandbox: &Sandbox) {
    std::fs::remove_file(sandbox.path("sim.json")).unwrap();
}

/// What is there, as a layout says it.
fn lies(sandbox: &Sandbox) -> String {
    run(sandbox, "export").stdout
}

#[test]
fn the_last_layout_comes_back_at_its_places() {
    let sandbox = converged();
    let before = lies(&sandbox);
    assert!(before.contains("1c.2g.20gb") && before.contains("start = 5"), "{before}");
    let idle = run(&sandbox, "boot");
    assert_eq!(
        (idle.code, idle.stdout.as_str()),
        (0, "Nothing is put back: no GPU has lost the instances that it had.\n")
    );

    reboot(&sandbox);
    assert_ne!(lies(&sandbox), before);
    // Neither what the tree wants now nor an error in it matters.
    sandbox.write("layouts/n.toml", "nodes = [\"*\"]\n[[gpu]]\ninstances = { \"7g\" = 1 }\n");
    sandbox.write("layouts/broken.toml", "nodes = 3\n");
    let booted = run(&sandbox, "boot");
    assert_eq!(booted.code, 0, "{booted:?}");
    assert!(booted.stdout.contains("Done: 3 created, 0 destroyed, 0 moved"), "{booted:?}");
    assert_eq!(lies(&sandbox), before);

    // What the node converged to is not what boot makes of it: the tree counts as before.
    std::fs::remove_file(sandbox.path("layouts/broken.toml")).unwrap();
    let applied = run(&sandbox, "apply --yes");
    assert!(applied.stdout.contains("Done: 2 created, 3 destroyed"), "{applied:?}");
}

/// Its modules are loaded by others meanwhile.
#[test]
fn a_driver_that_is_not_loaded_yet_is_waited_for() {
    let sandbox = converged();
    let before = lies(&sandbox);
    sandbox.write("sim.json", "no driver yet");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(1500));
            reboot(&sandbox);
        });
        let booted = run(&sandbox, "boot");
        assert!(booted.code == 0 && booted.stdout.contains("Done: 3 created"), "{booted:?}");
    });
    assert_eq!(lies(&sandbox), before);
}

#[test]
fn a_gpu_that_has_an_instance_is_left_alone() {
    let sandbox = converged();
    let before = lies(&sandbox);
    reboot(&sandbox);
    let other = FRESH.replace(
        "model = \"a100-40gb\"\n  mig = true",
        "model = \"a100-40gb\"\n  mig = true\n  instances = [{ profile = \"3g.20gb\", start = 0 }]",
    );
    sandbox.write("fleet.toml", &other);
    let booted = run(&sandbox, "boot");
    assert_eq!(booted.code, 0, "{booted:?}");
    assert!(booted.stdout.contains("Done: 2 created"), "{booted:?}");
    let after = lies(&sandbox);
    assert!(
        after.contains("3g.20gb") && !after.contains("start = 5") && after.contains("1c.2g.20gb"),
        "{before}\n{after}"
    );
}

/// Whatever it has given out is seen by asking it alone.
#[test]
fn where_the_kubelet_runs_already_nothing_is_put_back() {
    let sandbox = converged();
    reboot(&sandbox);
    let socket = sandbox.path("kubelet.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let at = [("SECTILE_POD_RESOURCES", socket.to_str().unwrap())];
    let booted = run_with(&sandbox, "boot", &at);
    assert_eq!(booted.code, 1, "{booted:?}");
    assert!(booted.stderr.contains("the kubelet runs already"), "{booted:?}");
    // Its socket outlasts a reboot.
    drop(listener);
    assert!(socket.exists());
    let booted = run_with(&sandbox, "boot", &at);
    assert!(booted.code == 0 && booted.stdout.contains("Done: 3 created"), "{booted:?}");
}

#[test]
fn there_may_be_nothing_to_put_back() {
    let sandbox = Sandbox::empty();
    sandbox.write("fleet.toml", FRESH);
    let new = run(&sandbox, "boot");
    assert!(new.code == 0 && new.stdout.contains("has never converged"), "{new:?}");

    let sandbox = converged();
    reboot(&sandbox);
    let other = run_with(
        &sandbox,
        "boot",
        &[("SECTILE_SIM_NODE", "n"), ("SECTILE_CLUSTER", "kube"), ("SECTILE_NODE", "other")],
    );
    assert!(
        other.code == 0 && other.stdout.contains("other has never converged; what is remembered is of "),
        "{other:?}"
    );
    assert_eq!(run(&sandbox, "suspend --reason INC-4711").code, 0);
    let suspended = run(&sandbox, "boot");
    assert!(suspended.code == 0 && suspended.stdout.contains("is suspended since"), "{suspended:?}");
    assert!(suspended.stdout.contains("INC-4711"), "{suspended:?}");
    let simulated = sandbox.run("boot --sim");
    assert!(simulated.code == 64 && simulated.stderr.contains("a simulated fleet does not boot"), "{simulated:?}");
}

/// A node that lost its power in the middle of a plan: what is tainted or stopped is taken back by who sees it.
#[test]
fn what_an_earlier_run_left_is_taken_back_first() {
    let sandbox = converged();
    reboot(&sandbox);
    let mut of_state = std::fs::read_dir(sandbox.path("var")).unwrap().map(|entry| entry.unwrap().path());
    let journal = of_state.find(|path| path.extension().is_some_and(|end| end == "journal")).unwrap();
    let text = std::fs::read_to_string(&journal).unwrap();
    let (cut, _) = text.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(&journal, format!("{cut}\n")).unwrap();
    let booted = run(&sandbox, "boot");
    assert!(booted.code == 0 && booted.stdout.contains("an earlier run was cut short"), "{booted:?}");
    assert_eq!(run(&sandbox, "apply --yes").code, 0);
    reboot(&sandbox);
    assert!(run(&sandbox, "boot").stdout.contains("Done: 3 created"));
}
