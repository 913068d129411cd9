//! Commands: what they get, how they end, and what they hold; as units of their own, and without systemd.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use sectile::host::node::NodeHost;
use sectile::ports::{CommandCall, CommandPhase, Host as _, Port};

use super::stand_in::{Manner, StandIn};
use super::units::host;

/// A node with a program, with systemd or without.
struct Stage {
    stand_in: StandIn,
    host: NodeHost,
    program: String,
}

impl Stage {
    fn new(script: &str, systemd: bool) -> Stage {
        let stand_in = StandIn::start();
        let path = stand_in.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\ncd {}\n{script}\n", stand_in.path().display())).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let program = path.display().to_string();
        let host = host(&stand_in, &[], &[&program]);
        if !systemd {
            std::fs::remove_dir(stand_in.path().join("system")).unwrap();
        }
        Stage { stand_in, host, program }
    }

    async fn run(&self, phase: CommandPhase, arguments: &[&str], uuids: &[&str]) -> Port<i32> {
        let argv: Vec<String> =
            [self.program.as_str()].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        let uuids: Vec<String> = uuids.iter().map(|uuid| (*uuid).to_owned()).collect();
        self.host.run(CommandCall { workload: "vm 7", phase, argv: &argv, uuids: &uuids }).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stand_in.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    async fn held(&self) -> Vec<String> {
        self.host.commands().await.unwrap().remove("vm 7").unwrap_or_default()
    }
}

const BOTH: [bool; 2] = [true, false];

#[tokio::test]
async fn a_command_gets_its_arguments_as_they_are_and_three_variables() {
    for systemd in BOTH {
        let stage = Stage::new("printf '%s\\n' \"$@\" > told; env | sort > env; pwd >> told", systemd);
        let done = stage.run(CommandPhase::Resume, &["a b", "$HOME", "; touch x", "%h"], &["MIG-1", "MIG-2"]).await;
        assert_eq!(done, Ok(0));
        let told = stage.read("told");
        assert_eq!(
            told.lines().take(4).collect::<Vec<_>>(),
            ["a b", "$HOME", "; touch x", "%h"],
            "no shell reads them"
        );
        let env = stage.read("env");
        // A shell has some of its own.
        let own = ["OLDPWD", "PWD", "SHLVL", "_"];
        let env = env.lines().map(|line| line.split_once('=').unwrap()).filter(|(name, _)| !own.contains(name));
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(
            env.collect::<Vec<_>>(),
            [("PATH", path), ("SECTILE_MIG_UUIDS", "MIG-1,MIG-2"), ("SECTILE_NODE", "n")]
        );
        let as_unit = stage.stand_in.world().calls.iter().any(|call| call.starts_with("StartTransientUnit"));
        assert_eq!(as_unit, systemd);
    }
}

#[tokio::test]
async fn who_asks_is_answered_and_who_acts_must_do_well() {
    for systemd in BOTH {
        let stage = Stage::new("echo one; echo two >&2; printf 'a\\033[1mb\\n'; exit $1", systemd);
        assert_eq!(stage.run(CommandPhase::Ready, &["0"], &[]).await, Ok(0));
        assert_eq!(stage.run(CommandPhase::Ready, &["5"], &[]).await, Ok(5));
        let error = stage.run(CommandPhase::Drain, &["5"], &[]).await.unwrap_err();
        assert!(!error.transient && error.code == "exit status 5", "{error:?}");
        assert!(error.message.ends_with("program 5` said: one; two; a\\u{1b}[1mb"), "{error:?}");
        let error = stage.run(CommandPhase::Pause, &["1"], &[]).await.unwrap_err();
        assert_eq!(error.code, "exit status 1");
    }
}

#[tokio::test]
async fn a_command_that_says_much_does_not_wait_for_a_reader() {
    for systemd in BOTH {
        let stage = Stage::new("i=0; while [ $i -lt 20000 ]; do echo \"line $i\"; i=$((i+1)); done; exit 1", systemd);
        let error = stage.run(CommandPhase::Resume, &[], &[]).await.unwrap_err();
        assert!(error.message.ends_with("line 19995; line 19996; line 19997; line 19998; line 19999"), "{error:?}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_or_not_allowed_is_not_run() {
    for systemd in BOTH {
        let stage = Stage::new("touch ran", systemd);
        let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), stage.program.clone()];
        let call = CommandCall { workload: "vm", phase: CommandPhase::Resume, argv: &argv, uuids: &[] };
        let error = stage.host.run(call).await.unwrap_err();
        assert_eq!((error.transient, error.code.as_str()), (false, "not allowed"));
        assert!(error.message.contains("`commands` of [host] in /etc/s.toml"), "{error:?}");
        assert!(!stage.path("ran").exists() && stage.held().await.is_empty());
        std::fs::remove_file(&stage.program).unwrap();
        let error = stage.run(CommandPhase::Drain, &[], &[]).await.unwrap_err();
        assert!(!error.transient && error.code.starts_with("can't be run"), "{error:?}");
    }
}

#[tokio::test]
async fn what_a_workload_was_given_it_holds_until_it_is_drained() {
    for systemd in BOTH {
        let stage = Stage::new("echo \"$1 $SECTILE_MIG_UUIDS\" >> told; [ -e fine ]", systemd);
        // A failed resume may have handed them out all the same.
        stage.run(CommandPhase::Resume, &["resume"], &["MIG-1"]).await.unwrap_err();
        assert_eq!(stage.held().await, ["MIG-1"]);
        assert_eq!(stage.run(CommandPhase::Drained, &["drained"], &[]).await, Ok(1));
        assert_eq!(stage.held().await, ["MIG-1"]);
        std::fs::write(stage.path("fine"), "").unwrap();
        stage.run(CommandPhase::Drain, &["drain"], &[]).await.unwrap();
        assert_eq!(stage.held().await, ["MIG-1"], "it has only begun to let go");
        assert_eq!(stage.run(CommandPhase::Drained, &["drained"], &[]).await, Ok(0));
        assert!(stage.held().await.is_empty());
        assert_eq!(stage.read("told"), "resume MIG-1\ndrained MIG-1\ndrain MIG-1\ndrained MIG-1\n");
    }
}

#[tokio::test]
async fn a_command_was_run_beside_one_that_an_earlier_run_had_left() {
    let stage = Stage::new("exit 0", true);
    {
        let mut world = stage.stand_in.world();
        world.unit("sectile-cmd-vm_7-1-0.service", Manner::Well).active = "activating".to_owned();
        world.unit("sectile-cmd-vm_7-1-1.service", Manner::Well).active = "failed".to_owned();
        world.unit("sectile-cmd-vm_7-1-2.service", Manner::Well).active = "active".to_owned();
    }
    let ends = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let mut world = stage.stand_in.world();
        assert!(!world.calls.iter().any(|call| call.starts_with("StartTransientUnit")), "{:?}", world.calls);
        world.units.get_mut("sectile-cmd-vm_7-1-0.service").unwrap().active = "failed".to_owned();
    };
    let (done, ()) = tokio::join!(stage.run(CommandPhase::Drain, &["drain"], &[]), ends);
    assert_eq!(done, Ok(0));
    let world = stage.stand_in.world();
    let mut left = world.units.iter().filter(|(name, _)| name.starts_with("sectile-cmd-vm_7-1-"));
    assert!(left.all(|(_, unit)| unit.active == "inactive"), "{:?}", world.units);
}

#[tokio::test]
async fn whoever_is_not_waited_for_any_more_is_killed_with_its_children() {
    let stage = Stage::new("(sleep 3; touch late) & sleep 3; touch late", false);
    let left = tokio::time::timeout(Duration::from_millis(300), stage.run(CommandPhase::Ready, &[], &[])).await;
    assert!(left.is_err());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!stage.path("late").exists());
}

#[tokio::test]
async fn what_a_command_leaves_running_ends_with_it_and_is_not_waited_for() {
    let stage = Stage::new("(sleep 3; touch late) & exit 0", false);
    assert_eq!(tokio::time::timeout(Duration::from_secs(2), stage.run(CommandPhase::Ready, &[], &[])).await, Ok(Ok(0)));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!stage.path("late").exists());
}
