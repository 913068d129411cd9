//! Clients that commands pause: what fails is taken back, and a plan file can name commands, never bring them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sectile::execute::{Machine, Outcome, Ports, at_once, drive};
use sectile::model::StepKind;
use sectile::model::observed::DeviceFiles;
use sectile::model::observed::UnitState;
use sectile::model::policy::{ClientCommand, Policy};
use sectile::ports::{CommandCall, CommandPhase, Host, Port};
use sectile::sim::clock::SimClock;
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::lock;
use sectile::sim::world::SimUnit;

use super::defects::{layout, node, run, stateful};
use super::fleets::Run;

const POLICY: &str = "[drain]\ntimeout = \"20s\"\n[clients]\nsystemd = [\"dcgm.service\"]\ncommands = [\n\
    { pause = [\"/usr/bin/scontrol\", \"drain\"], paused = [\"/usr/bin/is-drained\"], resume = [\"/usr/bin/scontrol\", \"resume\"] },\n\
    { pause = [\"/bin/hold\"], resume = [\"/bin/release\"] },\n]\n";

/// A host that writes down what is run, of which one phase exits 1.
struct Watched {
    inner: SimHost,
    fails: Option<CommandPhase>,
    ran: RefCell<Vec<String>>,
}

impl Host for Watched {
    async fn units(&self, names: &BTreeSet<String>) -> Port<BTreeMap<String, UnitState>> {
        self.inner.units(names).await
    }
    async fn commands(&self) -> Port<BTreeMap<String, Vec<String>>> {
        self.inner.commands().await
    }
    async fn stop_unit(&self, unit: &str, with: &[String]) -> Port<()> {
        self.ran.borrow_mut().push(format!("stop {unit}"));
        self.inner.stop_unit(unit, with).await
    }
    async fn start_unit(&self, unit: &str, env: &str, uuids: &[String]) -> Port<()> {
        self.ran.borrow_mut().push(format!("start {unit}"));
        self.inner.start_unit(unit, env, uuids).await
    }
    async fn run(&self, call: CommandCall<'_>) -> Port<i32> {
        // What is polled stands there once.
        let line = call.argv.join(" ");
        if self.ran.borrow().last() != Some(&line) {
            self.ran.borrow_mut().push(line);
        }
        let status = self.inner.run(call.clone()).await?;
        Ok(if self.fails == Some(call.phase) { 1 } else { status })
    }
    async fn reset_gpu(&self, pci: &str) -> Port<()> {
        self.inner.reset_gpu(pci).await
    }
    async fn device_files(&self) -> Port<BTreeSet<DeviceFiles>> {
        self.inner.device_files().await
    }
    async fn refresh_devices(&self, files: &[DeviceFiles]) -> Port<()> {
        self.ran.borrow_mut().push("refresh devices".to_owned());
        self.inner.refresh_devices(files).await
    }
    async fn terminate(&self, pid: u32) -> Port<()> {
        self.inner.terminate(pid).await
    }
}

/// An idle instance has to go, so that clients are paused and nobody moves.
fn scene() -> Run {
    let fleet = node("n", &["0:1g.10gb 4:3g.40gb:pod:x/w-0"]) + &stateful("w").replace("1g.10gb", "3g.40gb");
    let run = run(&fleet, &[layout("n", &["2g.20gb 3g.40gb"])], POLICY);
    let active = SimUnit { active: true, ..SimUnit::default() };
    lock(&run.world).nodes.get_mut("n").unwrap().units.insert("dcgm.service".into(), active);
    run
}

/// Carries the plan out under that policy; how it ended, and what was run.
fn carry_out(run: &Run, fails: Option<CommandPhase>, change: impl Fn(&mut Policy)) -> (Outcome, Vec<String>) {
    let (desired, _, plan) = run.plan();
    let inner = SimHost { world: run.world.clone(), node: "n".into() };
    let host = Watched { inner, fails, ran: RefCell::default() };
    let (cluster, clock, units) = (run.cluster(), SimClock { world: run.world.clone() }, run.tree.units());
    let ports = Ports {
        node: "n",
        gpus: &run.nodes[0].1,
        cluster: Some(&cluster),
        host: &host,
        clock: &clock,
        bindings: &desired.bindings,
        units: &units,
        turn: None,
    };
    let mut policy = desired.nodes["n"].policy.clone().unwrap();
    change(Arc::make_mut(&mut policy));
    let machine = Machine::new(&plan.nodes[0], &policy);
    let outcome = at_once(drive(machine, &ports, &mut MemoryJournal::default(), &|| false, &mut |_| {})).unwrap();
    let ran = host.ran.borrow().clone();
    (outcome, ran)
}

/// Nothing is left tainted, paused or stopped; whether the idle instance is still there.
fn as_before(run: &Run) -> bool {
    let world = lock(&run.world);
    let node = &world.nodes["n"];
    assert!(!node.tainted && !node.clients_paused && node.units["dcgm.service"].active, "{node:?}");
    assert!(node.commands.is_empty() && world.ledger.is_empty(), "{:?}", node.commands);
    node.gpus[0].instances.iter().any(|gi| gi.placement.size == 1)
}

#[test]
fn clients_are_paused_after_units_stop_and_resumed_before_they_start() {
    let run = scene();
    let (outcome, ran) = carry_out(&run, None, |_| {});
    assert_eq!(outcome, Outcome::Done);
    let order = [
        "stop dcgm.service",
        "/usr/bin/scontrol drain",
        "/bin/hold",
        "/usr/bin/is-drained",
        "/usr/bin/scontrol resume",
        "/bin/release",
        "start dcgm.service",
    ];
    assert_eq!(ran, order);
    assert!(!as_before(&run));
}

#[test]
fn a_pause_that_fails_or_takes_too_long_is_taken_back_and_nothing_is_destroyed() {
    for (fails, says) in [(CommandPhase::Pause, "exit status 1"), (CommandPhase::Paused, "not done after 20 s")] {
        let run = scene();
        let (outcome, ran) = carry_out(&run, Some(fails), |_| {});
        let Outcome::Failed { why, left, .. } = outcome else { panic!("{outcome:?}") };
        assert!(why.contains(says) && left.is_empty(), "{why} {left:?}");
        assert_eq!(ran[ran.len() - 3..], ["/usr/bin/scontrol resume", "/bin/release", "start dcgm.service"]);
        assert!(as_before(&run));
    }
}

#[test]
fn a_resume_that_fails_is_told_as_not_taken_back() {
    let run = scene();
    let (outcome, _) = carry_out(&run, Some(CommandPhase::Unpause), |_| {});
    let Outcome::Failed { left, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(lock(&run.world).nodes["n"].clients_paused, "what is not resumed still shows");
}

#[test]
fn a_plan_names_commands_that_only_the_policy_can_bring() {
    let (_, _, plan) = scene().plan();
    let text = serde_json::to_string(&plan).unwrap();
    assert!(
        !text.contains("scontrol")
            && text.contains("\"commands\":[{\"source\":\"policies/p.toml:6\",\"number\":1,\"digest\":")
    );
    // Of a policy that has other commands by now, none is run.
    let other = |command: &mut ClientCommand| command.resume.push("anew".to_owned());
    let run = scene();
    let (outcome, ran) = carry_out(&run, None, |policy| policy.clients.commands.iter_mut().for_each(other));
    let Outcome::Failed { why, .. } = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("the policy has no command policies/p.toml:6 #1"), "{why}");
    assert!(ran.iter().all(|line| line.ends_with("dcgm.service")), "{ran:?}");
}

#[test]
fn a_client_that_was_paused_is_resumed_also_where_the_tree_was_edited_above_it() {
    let run = scene();
    let (outcome, ran) = carry_out(&run, None, |policy| {
        policy.clients.commands.reverse();
        policy.clients.commands_at = Some("policies/p.toml:7".parse().unwrap());
    });
    assert_eq!(outcome, Outcome::Done);
    assert_eq!((ran[1].as_str(), ran[4].as_str()), ("/usr/bin/scontrol drain", "/usr/bin/scontrol resume"));
}

#[test]
fn units_and_clients_that_a_killed_run_left_stopped_are_brought_back() {
    let effects = 60;
    for most in 0..effects {
        let run = scene();
        let (desired, observed, plan) = run.plan();
        run.node_killed(&plan.nodes[0], &desired, &observed, most);
        run.apply();
        assert!(!as_before(&run), "killed after {most}");
        assert_eq!(run.plan().2.nodes[0].state.word(), "converged");
    }
    assert!(scene().plan().2.nodes[0].steps.iter().any(|step| matches!(step.kind, StepKind::PauseClients { .. })));
}
