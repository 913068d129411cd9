//! `sectile run` on a node whose GPUs are simulated behind NVML's C interface: what it does by itself, what it leaves to
//! others, and how it ends. With a cluster: tests/cluster_live.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::sandbox::Sandbox;
use super::this_node::{node, run, settings};

/// A service that runs.
struct Service(Child);

impl Service {
    fn begin(sandbox: &Sandbox) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        command.current_dir(sandbox.path(".")).env_clear().envs(settings(sandbox)).args(["run", "--resync", "5s"]);
        Service(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Asks it to stop; its exit code and what it has told.
    fn end(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = until(|| self.0.try_wait().unwrap().is_some());
        assert!(ended, "it does not end");
        let output = self.0.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    }
}

/// Waits until it is so, for as long as this may take on a busy machine.
fn until(mut so: impl FnMut() -> bool) -> bool {
    (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        so()
    })
}

fn converged(sandbox: &Sandbox) -> bool {
    run(sandbox, "plan --detailed-exitcode").code == 0
}

#[test]
fn the_service_keeps_its_node_as_the_tree_says_until_it_is_told_to_stop() {
    let sandbox = node();
    assert!(!converged(&sandbox));
    let service = Service::begin(&sandbox);
    assert!(until(|| converged(&sandbox)), "it does nothing");
    assert!(!sandbox.path("none").exists(), "a socket of that name is none");
    // Others work between its passes.
    assert!(until(|| run(&sandbox, "suspend --reason INC-4711").code == 0), "nobody else gets a turn");
    sandbox.edit("layouts/n.toml", "[\"3g\", \"1g\"]", "[\"3g\", \"2g\"]");
    assert!(!until_seen(&sandbox), "a suspended node was changed");
    assert!(until(|| run(&sandbox, "resume").code == 0));
    assert!(until(|| converged(&sandbox)), "it does not go on");
    // A tree with errors changes nothing.
    let good = sandbox.read("layouts/n.toml");
    sandbox.write("layouts/n.toml", "nodes = [\"*\"]\n[[gpu]]\nindex = [0]\ninstances = [\"9g\"]\nqqq = 1\n");
    assert!(!until_seen(&sandbox));
    sandbox.write("layouts/n.toml", &good);
    let (code, told) = service.end();
    assert_eq!(code, Some(0), "{told}");
    for part in ["The tree is ", "has an error; ", " still holds", "Done: ", "is suspended."] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(told.matches("has an error; ").count() == 1, "{told}");
    assert!(converged(&sandbox));
}

/// Whether the layout on the node becomes what the tree says within a pass.
fn until_seen(sandbox: &Sandbox) -> bool {
    let before = sandbox.read("sim.json");
    (0..80).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        sandbox.read("sim.json").matches("2g.20gb").count() != before.matches("2g.20gb").count()
    })
}
