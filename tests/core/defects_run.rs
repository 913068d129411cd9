//! Runs that a review found to harm somebody or to leave something behind, each with the name of what it did.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use sectile::execute::{Machine, Outcome, Ports, at_once, drive};
use sectile::gpu::Gpus;
use sectile::model::observed::DeviceFiles;
use sectile::model::observed::{NodeInCluster, PodPhase, Suspension, UnitState, WorkloadState};
use sectile::model::policy::DO_NOT_DISRUPT;
use sectile::model::{Bind, Digest, Object, ObservedCluster, Place, Places, Pod};
use sectile::ports::{
    Clock, Cluster, ClusterEvent, CommandCall, Eviction, Host, NvmlCode, Port, PortError, Removal, Shown, Version,
};
use sectile::sim::clock::SimClock;
use sectile::sim::cluster::SimCluster;
use sectile::sim::host::SimHost;
use sectile::sim::journal::MemoryJournal;
use sectile::sim::lock;
use sectile::sim::world::{SimNode, SimProcess, SimUnit, World};

use super::defects::{bare, layout, node, run, stateful, unit, words};
use super::faulty::Faulty;
use super::fleets::Run;
use super::ready::budget;
use crate::door::TestDriver;

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Fate {
    Passes,
    /// It fails for good, and nothing was done.
    Fails,
    /// It fails, and trying again may help.
    Transient,
    /// It is done, and its answer is lost.
    Lost,
}

/// Called before each call, with its name.
type Hook = Box<dyn Fn(&str) -> Fate>;

/// The first call of that name has that fate.
fn once(call: &'static str, fate: Fate) -> Hook {
    let due = Cell::new(true);
    Box::new(move |name| if name == call && due.replace(false) { fate } else { Fate::Passes })
}

/// A port whose calls can fail.
struct Meddled<T> {
    inner: T,
    hook: Hook,
}

impl<T> Meddled<T> {
    async fn call<R>(&self, name: &str, call: impl Future<Output = Port<R>>) -> Port<R> {
        let error = |transient| PortError { transient, code: "fault".to_owned(), message: name.to_owned() };
        match (self.hook)(name) {
            Fate::Passes => call.await,
            Fate::Fails => Err(error(false)),
            Fate::Transient => Err(error(true)),
            Fate::Lost => call.await.and(Err(error(false))),
        }
    }
}

impl Host for Meddled<SimHost> {
    async fn units(&self, names: &BTreeSet<String>) -> Port<BTreeMap<String, UnitState>> {
        self.inner.units(names).await
    }
    async fn commands(&self) -> Port<BTreeMap<String, Vec<String>>> {
        self.call("commands", self.inner.commands()).await
    }
    async fn stop_unit(&self, unit: &str, with: &[String]) -> Port<()> {
        self.call("stop_unit", self.inner.stop_unit(unit, with)).await
    }
    async fn start_unit(&self, unit: &str, env: &str, uuids: &[String]) -> Port<()> {
        self.call("start_unit", self.inner.start_unit(unit, env, uuids)).await
    }
    async fn run(&self, call: CommandCall<'_>) -> Port<i32> {
        self.inner.run(call).await
    }
    async fn reset_gpu(&self, pci: &str) -> Port<()> {
        self.call("reset_gpu", self.inner.reset_gpu(pci)).await
    }
    async fn device_files(&self) -> Port<BTreeSet<DeviceFiles>> {
        self.inner.device_files().await
    }
    async fn refresh_devices(&self, files: &[DeviceFiles]) -> Port<()> {
        self.call("refresh_devices", self.inner.refresh_devices(files)).await
    }
    async fn terminate(&self, pid: u32) -> Port<()> {
        self.inner.terminate(pid).await
    }
}

impl Cluster for Meddled<SimCluster> {
    async fn observe(&self) -> Port<ObservedCluster> {
        self.inner.observe().await
    }
    async fn node(&self, node: &str) -> Port<Option<NodeInCluster>> {
        self.inner.node(node).await
    }
    async fn labels(&self, node: &str) -> Port<Option<BTreeMap<String, String>>> {
        self.inner.labels(node).await
    }
    async fn holders(&self, node: &str) -> Port<Vec<Pod>> {
        self.inner.holders(node).await
    }
    async fn pod(&self, namespace: &str, name: &str) -> Port<Option<Pod>> {
        self.inner.pod(namespace, name).await
    }
    async fn writer_gone(&self, node: &str) -> Port<Vec<String>> {
        self.call("writer_gone", self.inner.writer_gone(node)).await
    }
    async fn set_taint(&self, node: &str, plan: Option<&Digest>) -> Port<()> {
        self.call(if plan.is_some() { "taint" } else { "untaint" }, self.inner.set_taint(node, plan)).await
    }
    async fn set_clients_paused(&self, node: &str, plan: Option<&Digest>) -> Port<()> {
        self.call(if plan.is_some() { "pause" } else { "resume" }, self.inner.set_clients_paused(node, plan)).await
    }
    async fn restart_clients(&self, node: &str) -> Port<()> {
        self.call("restart", self.inner.restart_clients(node)).await
    }
    async fn set_label(&self, node: &str, key: &str, value: &str) -> Port<()> {
        self.call("set_label", self.inner.set_label(node, key, value)).await
    }
    async fn remove_pod(&self, namespace: &str, name: &str, uid: &str, how: Removal) -> Port<Eviction> {
        self.inner.remove_pod(namespace, name, uid, how).await
    }
    async fn is_going(&self, node: &str) -> Port<Option<bool>> {
        self.inner.is_going(node).await
    }
    async fn places(&self) -> Port<(Version, Places)> {
        self.inner.places().await
    }
    async fn set_place(&self, version: &Version, holder: &str, place: Option<&Place>) -> Port<bool> {
        self.call("set_place", self.inner.set_place(version, holder, place)).await
    }

    async fn stopped(&self, node: &str) -> Port<Option<Suspension>> {
        self.call("stopped", self.inner.stopped(node)).await
    }
    async fn workload(&self, object: &Object) -> Port<Option<WorkloadState>> {
        self.inner.workload(object).await
    }
    async fn bind(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        self.inner.bind(bind, revision, dry_run).await
    }
    async fn unbind(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        self.inner.unbind(bind, revision, dry_run).await
    }
    async fn publish(&self, node: &str, shown: &Shown<'_>) -> Port<()> {
        self.inner.publish(node, shown).await
    }
    async fn event(&self, event: &ClusterEvent<'_>) -> Port<()> {
        self.inner.event(event).await
    }
}

/// The virtual clock, where something happens while somebody sleeps.
struct Eventful {
    inner: SimClock,
    asleep: Box<dyn Fn(&mut World)>,
}

impl Clock for Eventful {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
    fn elapsed(&self) -> Duration {
        self.inner.elapsed()
    }
    async fn sleep_until(&self, then: Timestamp) {
        self.inner.sleep_until(then).await;
        (self.asleep)(&mut lock(&self.inner.world));
    }
}

/// What goes wrong while the plan of the only node is carried out.
struct Trouble {
    driver: Option<(&'static str, NvmlCode)>,
    cluster: Hook,
    host: Hook,
    asleep: Box<dyn Fn(&mut World)>,
    interrupted: Box<dyn Fn(&SimNode) -> bool>,
}

impl Default for Trouble {
    fn default() -> Self {
        let pass = || -> Hook { Box::new(|_| Fate::Passes) };
        let interrupted = Box::new(|_: &SimNode| false);
        Trouble { driver: None, cluster: pass(), host: pass(), asleep: Box::new(|_| {}), interrupted }
    }
}

/// Plans, and carries the plan of `n` out under trouble.
fn carry_out(run: &Run, trouble: Trouble) -> Outcome {
    let (desired, observed, plan) = run.plan();
    let world = || run.world.clone();
    let faulty = Faulty::new(TestDriver::new(world(), "n"));
    if let Some((call, code)) = trouble.driver {
        faulty.fail(call, 0, 1, code);
    }
    let gpus = Gpus::new(faulty);
    let host = Meddled { inner: SimHost { world: world(), node: "n".to_owned() }, hook: trouble.host };
    let cluster = Meddled { inner: SimCluster { world: world() }, hook: trouble.cluster };
    let clock = Eventful { inner: SimClock { world: world() }, asleep: trouble.asleep };
    let units = run.tree.units();
    let ports = Ports {
        node: "n",
        gpus: &gpus,
        cluster: observed.nodes["n"].cluster.is_some().then_some(&cluster),
        host: &host,
        clock: &clock,
        bindings: &desired.bindings,
        units: &units,
        turn: None,
    };
    let machine = Machine::new(&plan.nodes[0], desired.nodes["n"].policy.as_ref().unwrap());
    let interrupted = || (trouble.interrupted)(&lock(&run.world).nodes["n"]);
    at_once(drive(machine, &ports, &mut MemoryJournal::default(), &interrupted, &mut |_| {})).unwrap()
}

fn n(world: &mut World) -> &mut SimNode {
    world.nodes.get_mut("n").unwrap()
}

/// A node with an idle instance that goes.
fn idle(fleet: &str, policy: &str) -> Run {
    run(fleet, &[layout("n", &["7g.80gb"])], policy)
}

fn failed(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Failed { left, .. } if left.is_empty()), "{outcome:?}");
}

fn nothing_is_left(run: &Run) {
    let world = lock(&run.world);
    let node = &world.nodes["n"];
    assert!(!node.tainted && !node.clients_paused, "tainted {}, paused {}", node.tainted, node.clients_paused);
    assert!(world.ledger.is_empty(), "{:?}", world.ledger);
}

#[test]
fn a_unit_that_nobody_binds_keeps_the_instance_that_it_takes_behind_the_plan() {
    let run = idle(&bare("n", &["0:1g.10gb"]), "");
    let (desired, observed, plan) = run.plan();
    assert_eq!(words(&plan.nodes[0]), ["destroy_instance", "create_instance"]);
    {
        let mut world = lock(&run.world);
        let devices = vec![n(&mut world).gpus[0].instances[0].compute[0].uuid.clone()];
        n(&mut world).units.insert("foreign.service".to_owned(), SimUnit { active: true, devices });
    }
    let (outcome, _) = run.node(&plan.nodes[0], &desired, &observed);
    assert!(matches!(outcome, Outcome::Held { .. }), "{outcome:?}");
    nothing_is_left(&run);
    assert_eq!(lock(&run.world).nodes["n"].gpus[0].instances.len(), 1);
}

#[test]
fn a_destroy_is_not_tried_again_without_a_look() {
    let run = idle(&bare("n", &["0:1g.10gb"]), "");
    let take = |world: &mut World| {
        let processes = &mut n(world).gpus[0].instances[0].compute[0].processes;
        if processes.is_empty() {
            processes.push(SimProcess { pid: 77, name: "quick".to_owned() });
        }
    };
    let busy = Some(("destroy_ci", NvmlCode::InUse));
    let outcome = carry_out(&run, Trouble { driver: busy, asleep: Box::new(take), ..Trouble::default() });
    nothing_is_left(&run);
    assert!(matches!(outcome, Outcome::Held { .. }), "{outcome:?}");
    assert_eq!(lock(&run.world).nodes["n"].gpus[0].instances[0].compute[0].processes.len(), 1);
}

#[test]
fn an_eviction_that_waited_for_its_budget_is_not_carried_out_in_a_shut_window() {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:1g.10gb"]) + &stateful("w") + &budget("w", 1);
    let window = "[window]\nopen = [\"Thu 00:00-00:10\"]\n";
    let run = run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb"])], window);
    // The budget shuts behind the plan, and opens when the window is shut.
    let begin = lock(&run.world).clock_ms;
    let first = Cell::new(true);
    let world = run.world.clone();
    let shut: Hook = Box::new(move |_| {
        if first.replace(false) {
            lock(&world).budgets[0].max_unavailable = 0;
        }
        Fate::Passes
    });
    let open = move |world: &mut World| {
        world.budgets[0].max_unavailable = u32::from(world.clock_ms - begin > 11 * 60_000);
    };
    let outcome = carry_out(&run, Trouble { cluster: shut, asleep: Box::new(open), ..Trouble::default() });
    assert!(matches!(outcome, Outcome::Held { .. }), "{outcome:?}");
    nothing_is_left(&run);
    assert_eq!(lock(&run.world).pods["x/w-0"].phase, PodPhase::Running);
}

#[test]
fn a_pause_that_fails_halfway_leaves_nothing_paused() {
    let run = idle(&node("n", &["0:1g.10gb"]), "[clients]\nsystemd = [\"dcgm.service\"]\n");
    let active = SimUnit { active: true, ..SimUnit::default() };
    n(&mut lock(&run.world)).units.insert("dcgm.service".to_owned(), active);
    let outcome = carry_out(&run, Trouble { host: once("stop_unit", Fate::Fails), ..Trouble::default() });
    failed(&outcome);
    nothing_is_left(&run);
    assert!(lock(&run.world).nodes["n"].units["dcgm.service"].active);
}

#[test]
fn a_refresh_that_fails_leaves_nothing_paused() {
    let run = run(&node("n", &[""]), &[layout("n", &["1g.10gb"])], "");
    assert_eq!(words(&run.plan().2.nodes[0]), ["create_instance", "refresh_clients"]);
    let outcome = carry_out(&run, Trouble { cluster: once("restart", Fate::Fails), ..Trouble::default() });
    failed(&outcome);
    nothing_is_left(&run);
}

#[test]
fn a_taint_whose_answer_is_lost_is_taken_off() {
    let run = idle(&node("n", &["0:1g.10gb"]), "");
    let outcome = carry_out(&run, Trouble { cluster: once("taint", Fate::Lost), ..Trouble::default() });
    failed(&outcome);
    nothing_is_left(&run);
}

#[test]
fn a_transient_error_while_undoing_is_tried_again() {
    for call in ["untaint", "resume"] {
        let run = idle(&node("n", &["0:1g.10gb"]), "");
        let driver = Some(("destroy_ci", NvmlCode::Unknown));
        let outcome = carry_out(&run, Trouble { driver, cluster: once(call, Fate::Transient), ..Trouble::default() });
        failed(&outcome);
        nothing_is_left(&run);
    }
}

/// A board whose mode needs a reset, and a process that comes between look and switch, so that the mode is pending; it
/// goes again before the reset if `goes`.
fn pending(goes: bool, mut trouble: Trouble) -> (Run, Outcome) {
    let run = run(&bare("n", &["off"]).replace("h100-80gb-sxm", "a100-80gb"), &[layout("n", &["7g.80gb"])], "");
    let (looks, world, then) = (Cell::new(0), run.world.clone(), trouble.host);
    trouble.host = Box::new(move |call| {
        if call == "commands" {
            looks.set(looks.get() + 1);
            let there = looks.get() == 1 || !goes;
            let processes = there.then(|| SimProcess { pid: 77, name: "quick".to_owned() });
            n(&mut lock(&world)).gpus[0].processes = processes.into_iter().collect();
        }
        then(call)
    });
    let outcome = carry_out(&run, trouble);
    (run, outcome)
}

#[test]
fn what_stops_a_plan_between_the_switch_and_the_reset_leaves_no_mode_pending() {
    let (done, outcome) = pending(true, Trouble::default());
    assert_eq!(outcome, Outcome::Done);
    assert!(lock(&done.world).nodes["n"].gpus[0].mode);
    let interrupted = Box::new(|node: &SimNode| node.gpus[0].mode != node.gpus[0].pending);
    let stops = [
        pending(true, Trouble { host: once("reset_gpu", Fate::Fails), ..Trouble::default() }),
        pending(true, Trouble { interrupted, ..Trouble::default() }),
        pending(false, Trouble::default()),
    ];
    for (run, outcome) in stops {
        assert_ne!(outcome, Outcome::Done);
        let world = lock(&run.world);
        let gpu = &world.nodes["n"].gpus[0];
        assert_eq!((gpu.mode, gpu.pending), (false, false), "{outcome:?}");
    }
}

/// A unit that has to leave the first GPU, and may go to the second.
fn leaving() -> Run {
    let layout = layout("n", &["7g.80gb", "1g.10gb"]) + &unit("u", "1g.10gb");
    run(&bare("n", &["0:1g.10gb:unit:u.service", ""]), &[layout], "")
}

#[test]
fn a_stopped_unit_runs_again_where_it_was_when_the_plan_stops() {
    let stops = [
        Trouble { driver: Some(("destroy_ci", NvmlCode::Unknown)), ..Trouble::default() },
        Trouble { interrupted: Box::new(|node| !node.units["u.service"].active), ..Trouble::default() },
        Trouble { host: once("stop_unit", Fate::Lost), ..Trouble::default() },
    ];
    for trouble in stops {
        let run = leaving();
        let before = lock(&run.world).nodes["n"].units.clone();
        let outcome = carry_out(&run, trouble);
        assert!(matches!(outcome, Outcome::Failed { .. } | Outcome::Interrupted), "{outcome:?}");
        assert_eq!(lock(&run.world).nodes["n"].units, before, "{outcome:?}");
        nothing_is_left(&run);
    }
}

#[test]
fn a_stop_gives_what_could_not_be_taken_back_just_now_its_time() {
    let run = leaving_pod("");
    let began = std::rc::Rc::new(Cell::new(None));
    let (tries, world, first) = (Cell::new(0), run.world.clone(), began.clone());
    let cluster = Box::new(move |name: &str| {
        if name != "untaint" {
            return Fate::Passes;
        }
        let now = lock(&world).clock_ms;
        first.set(first.get().or(Some(now)));
        tries.set(tries.get() + 1);
        if tries.get() <= 3 { Fate::Transient } else { Fate::Passes }
    });
    let interrupted = Box::new(|node: &SimNode| node.tainted);
    let outcome = carry_out(&run, Trouble { cluster, interrupted, ..Trouble::default() });
    assert_eq!(outcome, Outcome::Interrupted);
    nothing_is_left(&run);
    // 2, 4 and 8 seconds.
    assert_eq!(lock(&run.world).clock_ms - began.get().unwrap(), 14_000);
}

#[test]
fn what_passes_now_and_then_does_not_end_a_long_wait() {
    let run = leaving_pod("[failure]\nretries = 1\n");
    let calls = Cell::new(0);
    run.meddle(std::rc::Rc::new(move |name| {
        let pod = name == "pod";
        calls.set(calls.get() + u32::from(pod));
        let fails = sectile::sim::fault::Fate::Fails("503".to_owned());
        if pod && calls.get() % 2 == 1 { fails } else { sectile::sim::fault::Fate::Passes }
    }));
    let ended = run.apply_in_trouble();
    assert!(ended.failed.is_empty(), "{:?}", ended.failed);
}

/// A pod that has to leave its instance for another GPU's.
fn leaving_pod(policy: &str) -> Run {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0", "0:1g.10gb"]) + &stateful("w");
    run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb"])], policy)
}

/// A workload that commands move from the first GPU to the second.
fn leaving_command() -> Run {
    let bound = "[[workload]]\nname = \"vm\"\nprofile = \"1g.10gb\"\n[workload.command]\ndrain = [\"/d\"]\n\
                 drained = [\"/dd\"]\nresume = [\"/r\"]\nready = [\"/rr\"]\n";
    let layout = layout("n", &["7g.80gb", "1g.10gb"]) + bound;
    run(&bare("n", &["0:1g.10gb:command:vm", "0:1g.10gb"]), &[layout], "")
}

#[test]
fn what_was_recorded_and_never_done_is_not_taken_back() {
    let run = leaving_command();
    let calls = Cell::new(0);
    run.meddle(std::rc::Rc::new(move |name| {
        // The look of the guard before the drain.
        calls.set(calls.get() + u32::from(name == "commands"));
        let fails = sectile::sim::fault::Fate::Fails("org.freedesktop.DBus.Error.AccessDenied".to_owned());
        if name == "commands" && calls.get() == 1 { fails } else { sectile::sim::fault::Fate::Passes }
    }));
    let ended = run.apply_in_trouble();
    let why = &ended.failed["n"];
    assert!(matches!(why, Outcome::Failed { why, .. } if why.contains("commands")), "{why:?}");
    let story = run.story("n");
    assert_eq!((story.owed, story.undone), (vec![], vec![]));
}

/// Between a plan and its step somebody asks, and pods take their time to leave.
#[test]
fn a_process_that_ended_was_killed_all_the_same_where_its_id_was_anothers() {
    let fleet = bare("n", &["0:1g.10gb:process:7/train 4:3g.40gb"]);
    let layouts = [layout("n", &["3g.40gb 1g.10gb+me"])];
    let run = run(&fleet, &layouts, "[protect]\nprocesses = \"terminate\"\n");
    let (desired, observed, plan) = run.plan();
    assert!(words(&plan.nodes[0]).contains(&"terminate_process"));
    let processes = |change: &dyn Fn(&mut Vec<SimProcess>)| {
        let mut world = lock(&run.world);
        change(&mut world.nodes.get_mut("n").unwrap().gpus[0].instances[0].compute[0].processes);
    };
    processes(&|all| all[0].name = "postgres".to_owned());
    let (outcome, _) = run.node(&plan.nodes[0], &desired, &observed);
    assert!(matches!(&outcome, Outcome::Held { why, .. } if why.contains("process:7/postgres")), "{outcome:?}");
    processes(&|all| assert_eq!(all.len(), 1, "it was killed"));
    // Itself is ended, and what it held goes.
    processes(&|all| all[0].name = "train".to_owned());
    run.apply();
    assert!(lock(&run.world).ledger.is_empty());
    assert!(run.plan().2.nodes[0].steps.is_empty());
}

#[test]
fn a_pod_that_asks_not_to_be_disturbed_behind_the_plan_is_not_evicted() {
    let asked = |policy: &str, key: &'static str, value: &'static str| {
        let run = leaving_pod(policy);
        let world = run.world.clone();
        let annotate: Hook = Box::new(move |name| {
            if name == "taint" {
                let mut world = lock(&world);
                let pod = world.pods.get_mut("x/w-0").unwrap();
                pod.annotations.insert(key.to_owned(), value.to_owned());
            }
            Fate::Passes
        });
        let before = lock(&run.world).pods["x/w-0"].uid.clone();
        let outcome = carry_out(&run, Trouble { cluster: annotate, ..Trouble::default() });
        nothing_is_left(&run);
        let stays = lock(&run.world).pods["x/w-0"].uid == before;
        (outcome, stays)
    };
    for (key, value) in DO_NOT_DISRUPT {
        let (outcome, stays) = asked("", key, value);
        assert!(matches!(&outcome, Outcome::Held { why, .. } if why.contains(key)), "{outcome:?}");
        assert!(stays, "{key}");
        // It says the opposite, or nobody is to heed it.
        let (opposite, ignored) = (asked("", key, "x"), asked("[protect]\nannotations = false\n", key, value));
        assert_eq!((opposite, ignored), ((Outcome::Done, false), (Outcome::Done, false)), "{key}");
    }
}
