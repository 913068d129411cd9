//! Plans that a review found to be wrong, each with the name of what was wrong with it.

use sectile::execute::{at_once, observe};
use sectile::model::observed::PodPhase;
use sectile::model::plan::{Block, Verdict};
use sectile::model::{Known, NodePlan, Plan, StepKind};
use sectile::plan;
use sectile::sim::host::SimHost;
use sectile::sim::lock;

use super::fleets::Run;
use super::ready::{budget, workload};

const H100: &str = "h100-80gb-sxm";

/// A node of H100s, each told in words: `START:PROFILE[:USER]` an instance, `!PID/NAME` a process on the whole, `off`
/// without MIG.
pub(crate) fn node(name: &str, gpus: &[&str]) -> String {
    let mut text = format!("[[node]]\nname = \"{name}\"\n");
    for gpu in gpus {
        let (mut instances, mut processes) = (String::new(), String::new());
        for word in gpu.split_whitespace().filter(|word| *word != "off") {
            if let Some(process) = word.strip_prefix('!') {
                processes += &format!("\"process:{process}\",");
                continue;
            }
            let mut parts = word.splitn(3, ':');
            let (start, profile) = (parts.next().unwrap(), parts.next().unwrap());
            let users: String = parts.map(|user| format!("\"{user}\"")).collect();
            instances += &format!("{{ profile = \"{profile}\", start = {start}, users = [{users}] }},");
        }
        let mig = *gpu != "off" && !gpu.starts_with("off ");
        text += &format!("[[node.gpu]]\nmodel = \"{H100}\"\nmig = {mig}\nprocesses = [{processes}]\n");
        text += &format!("instances = [{instances}]\n");
    }
    text
}

/// A node in no cluster.
pub(crate) fn bare(name: &str, gpus: &[&str]) -> String {
    node(name, gpus).replacen("[[node.gpu]]", "cluster = false\n[[node.gpu]]", 1)
}

/// The layout of a node, a text for each GPU: its profiles, or `off`.
pub(crate) fn layout(name: &str, gpus: &[&str]) -> String {
    let mut text = format!("nodes = [\"{name}\"]\n");
    for (index, gpu) in gpus.iter().enumerate() {
        let profiles: Vec<String> = gpu.split_whitespace().map(|p| format!("\"{p}\"")).collect();
        let goal = if *gpu == "off" { "mig = false".into() } else { format!("instances = [{}]", profiles.join(", ")) };
        text += &format!("[[gpu]]\nindex = [{index}]\n{goal}\n");
    }
    text
}

/// Binds `NAME.service`.
pub(crate) fn unit(name: &str, profile: &str) -> String {
    let systemd = format!("{{ unit = \"{name}.service\", env = \"DEVICES\" }}");
    format!("[[workload]]\nname = \"{name}\"\nsystemd = {systemd}\nprofile = \"{profile}\"\n")
}

/// Binds and manages a workload of namespace x.
pub(crate) fn managed(kind: &str, name: &str, profile: &str) -> String {
    let object = format!("{{ kind = \"{kind}\", namespace = \"x\", name = \"{name}\" }}");
    format!("[[workload]]\nname = \"{name}\"\nkubernetes = {object}\nprofile = \"{profile}\"\nmanage = true\n")
}

/// A simulated fleet under these layouts and one policy for all.
pub(crate) fn run(fleet: &str, layouts: &[String], policy: &str) -> Run {
    let policy = format!("nodes = [\"*\"]\n{policy}");
    let names: Vec<String> = (0..layouts.len()).map(|n| format!("layouts/{n}.toml")).collect();
    let files = names.iter().zip(layouts).map(|(name, text)| (name.as_str(), text.as_str()));
    Run::new(fleet, &files.chain([("policies/p.toml", policy.as_str())]).collect::<Vec<_>>())
}

/// One StatefulSet's pod `x/w-0` with its profile.
pub(crate) fn stateful(name: &str) -> String {
    workload("StatefulSet", name, 1, "1g.10gb", "")
}

fn codes(blocks: &[Block]) -> Vec<&'static str> {
    blocks.iter().map(|block| block.code.word()).collect()
}

pub(crate) fn words(plan: &NodePlan) -> Vec<&'static str> {
    plan.steps.iter().map(|step| step.kind.word()).collect()
}

fn disruptive(plan: &NodePlan) -> bool {
    plan.steps.iter().any(|step| step.disruptive)
}

/// Names of those who move, over all nodes.
fn moving(plan: &Plan) -> Vec<&str> {
    let all = plan.nodes.iter().flat_map(|node| &node.disruptions);
    all.filter(|d| d.verdict == Verdict::Move).map(|d| d.name.as_str()).collect()
}

fn converges(run: &Run) {
    let last = run.apply().plans.pop().unwrap();
    for node in &last.nodes {
        assert_eq!((node.state.word(), codes(&node.blocked)), ("converged", vec![]), "{}", node.name);
    }
    let world = lock(&run.world);
    assert!(world.ledger.is_empty(), "{:?}", world.ledger);
    assert!(world.nodes.values().all(|node| !node.tainted && !node.clients_paused));
}

#[test]
fn a_node_left_paused_is_mended_also_where_an_idle_instance_goes() {
    let run = run(&node("n", &["0:1g.10gb 4:3g.40gb"]), &[layout("n", &["3g.40gb"])], "");
    lock(&run.world).nodes.get_mut("n").unwrap().clients_paused = true;
    converges(&run);
}

#[test]
fn a_kept_device_that_nobody_advertises_is_mended_also_where_an_idle_instance_goes() {
    let run = run(&node("n", &["0:1g.10gb 4:3g.40gb"]), &[layout("n", &["3g.40gb"])], "");
    lock(&run.world).nodes.get_mut("n").unwrap().advertised.retain(|_, resource| resource.contains("1g"));
    converges(&run);
    assert_eq!(lock(&run.world).nodes["n"].advertised.len(), 1);
}

#[test]
fn an_instance_held_by_a_unit_that_nobody_binds_is_in_use() {
    for fleet in [bare("n", &["0:1g.10gb:unit:foreign.service"]), node("n", &["0:1g.10gb:unit:foreign.service"])] {
        let run = run(&fleet, &[layout("n", &["7g.80gb"])], "");
        let (_, _, plan) = run.plan();
        assert_eq!(codes(&plan.nodes[0].blocked), ["unbound-user"]);
        assert!(!words(&plan.nodes[0]).contains(&"destroy_instance"));
        run.apply();
        let world = lock(&run.world);
        assert!(world.ledger.is_empty(), "{:?}", world.ledger);
        assert_eq!(world.nodes["n"].gpus[0].instances.len(), 1);
    }
}

#[test]
fn a_binding_waits_where_the_policy_of_its_nodes_waits() {
    let fleet = node("n", &["0:1g.10gb:pod:x/w-0 2:2g.20gb"]) + &stateful("w");
    let layout = layout("n", &["1g.10gb 2g.20gb"]) + &managed("StatefulSet", "w", "2g.20gb");
    // The virtual clock begins on a Thursday.
    let shut = "[window]\nopen = [\"Sat 00:00-24:00\"]\n";
    for (policy, code) in [("[apply]\nmode = \"manual\"\n", "manual-mode"), (shut, "window")] {
        let (_, _, plan) = run(&fleet, std::slice::from_ref(&layout), policy).plan();
        let waits: Vec<_> = plan.cluster.steps.iter().map(|s| s.waits.map(|code| code.word())).collect();
        assert_eq!(waits, [Some(code)]);
    }
    let (_, _, plan) = run(&fleet, &[layout], "").plan();
    assert_eq!(plan.cluster.steps.iter().map(|s| s.waits).collect::<Vec<_>>(), [None]);
}

#[test]
fn a_binding_whose_profile_two_boards_name_otherwise_settles() {
    let other = node("b", &["0:1g.5gb"]).replace(H100, "a100-40gb");
    let workload = workload("StatefulSet", "w", 1, "2g.20gb", "");
    let fleet = node("a", &["0:2g.20gb:pod:x/w-0 2:1g.10gb"]) + &other + &workload;
    let bound = managed("StatefulSet", "w", "1g");
    let (a, b) = (layout("a", &["2g.20gb 1g.10gb"]), layout("b", &["1g.5gb"]));
    let run = run(&fleet, &[a + &bound, b], "");
    let ended = run.apply();
    assert!(ended.plans.last().unwrap().cluster.steps.is_empty());
}

#[test]
fn two_bindings_that_set_one_object_are_an_error_of_the_tree() {
    let bound = managed("StatefulSet", "w", "1g");
    let twice = layout("a", &["1g.10gb"]) + &bound + &bound.replace("\"w\"\nkub", "\"v\"\nkub");
    let revision = sectile::model::Revision { name: None, digest: sectile::model::Digest::of([]) };
    let (tree, found) = sectile::config::assemble(revision, [("layouts/a.toml", twice.as_str())]);
    assert!(tree.is_none());
    assert_eq!(found.iter().map(|d| d.message.as_str()).collect::<Vec<_>>(), ["`v` sets what another binding sets"]);
}

#[test]
fn a_managed_job_that_would_change_is_blocked() {
    let fleet = node("n", &["0:1g.10gb:pod:x/j-a 2:2g.20gb"]) + &workload("Job", "j", 1, "1g.10gb", "");
    let (_, _, plan) = run(&fleet, &[layout("n", &["1g.10gb 2g.20gb"]) + &managed("Job", "j", "2g.20gb")], "").plan();
    assert_eq!((codes(&plan.cluster.blocked), plan.cluster.steps.len()), (vec!["immutable"], 0));
    // What is right already is no change.
    let (_, _, plan) = run(&fleet, &[layout("n", &["1g.10gb 2g.20gb"]) + &managed("Job", "j", "1g.10gb")], "").plan();
    assert_eq!((codes(&plan.cluster.blocked), plan.cluster.steps.len()), (vec![], 0));
}

#[test]
fn two_units_that_swap_their_instances_converge() {
    let fleet = bare("n", &["0:1g.10gb:unit:b.service 2:2g.20gb:unit:a.service"]);
    let layout = layout("n", &["1g.10gb 2g.20gb"]) + &unit("a", "1g.10gb") + &unit("b", "2g.20gb");
    let run = run(&fleet, &[layout], "");
    converges(&run);
    let world = lock(&run.world);
    let device = |i: usize| vec![world.nodes["n"].gpus[0].instances[i].compute[0].uuid.clone()];
    let units = &world.nodes["n"].units;
    assert_eq!((&units["a.service"].devices, &units["b.service"].devices), (&device(0), &device(1)));
    assert!(units.values().all(|unit| unit.active));
}

#[test]
fn one_free_instance_is_promised_to_one_pod_also_where_it_is_on_the_nodes_own() {
    let fleet = node("a", &["0:1g.10gb:pod:x/w-0"]) + &node("b", &["6:1g.10gb:pod:x/v-0", "0:1g.10gb"]);
    let layouts = [layout("a", &["7g.80gb"]), layout("b", &["7g.80gb", "1g.10gb"])];
    let (_, _, plan) = run(&(fleet + &stateful("w") + &stateful("v")), &layouts, "").plan();
    assert_eq!(moving(&plan).len(), 1, "{:?}", moving(&plan));
    let blocked: Vec<_> = plan.nodes.iter().flat_map(|node| codes(&node.blocked)).collect();
    assert_eq!(blocked, ["no-capacity"]);
}

#[test]
fn an_idle_instance_that_a_later_nodes_plan_destroys_is_promised_to_nobody() {
    let fleet = node("a", &["0:1g.10gb:pod:x/w-0"]) + &node("b", &["6:1g.10gb"]) + &stateful("w");
    let (_, _, plan) = run(&fleet, &[layout("a", &["7g.80gb"]), layout("b", &["7g.80gb"])], "").plan();
    assert_eq!((codes(&plan.nodes[0].blocked), moving(&plan)), (vec!["no-capacity"], vec![]));
    assert!(plan.nodes[0].disruptions.iter().all(|d| d.moves_to.is_none()));
}

#[test]
fn a_daemon_sets_pod_is_promised_no_other_node() {
    let fleet = node("a", &["0:1g.10gb:pod:x/d-a"]) + &node("b", &["0:1g.10gb:pod:x/d-b 1:1g.10gb"]);
    let fleet = fleet + &workload("DaemonSet", "d", 1, "1g.10gb", "");
    let layouts = [layout("a", &["7g.80gb"]), layout("b", &["1g.10gb 1g.10gb"])];
    let (_, _, plan) = run(&fleet, &layouts, "[drain]\ndaemonsets = \"delete\"\n").plan();
    assert_eq!((codes(&plan.nodes[0].blocked), moving(&plan)), (vec!["no-capacity"], vec![]));
    assert!(!disruptive(&plan.nodes[0]));
}

#[test]
fn a_mode_that_is_only_pending_otherwise_is_set_back_and_disturbs_nobody() {
    let cases =
        [("0:1g.10gb:process:9/x", "1g.10gb", true), ("0:1g.10gb", "1g.10gb", true), ("off !9/x", "off", false)];
    for (gpu, goal, mode) in cases {
        for fleet in [bare("n", &[gpu]), node("n", &[gpu])] {
            for board in [H100, "a100-80gb"] {
                let run = run(&fleet.replace(H100, board), &[layout("n", &[goal])], "");
                lock(&run.world).nodes.get_mut("n").unwrap().gpus[0].pending = !mode;
                let before = lock(&run.world).clone();
                let (_, _, plan) = run.plan();
                let kinds: Vec<_> = plan.nodes[0].steps.iter().map(|s| s.kind.clone()).collect();
                let uuid = before.nodes["n"].gpus[0].uuid.clone();
                assert_eq!(kinds, [StepKind::SetMigMode { gpu: uuid, enabled: mode }], "{gpu} {board}");
                assert!(plan.nodes[0].blocked.is_empty() && plan.nodes[0].disruptions.is_empty());
                converges(&run);
                let world = lock(&run.world);
                let (then, now) = (&before.nodes["n"].gpus[0], &world.nodes["n"].gpus[0]);
                assert_eq!((now.mode, now.pending), (mode, mode));
                assert_eq!((&now.instances, &now.processes), (&then.instances, &then.processes));
            }
        }
    }
}

#[test]
fn a_first_instance_on_a_gpu_that_a_process_uses_blocks_also_where_all_idle_ones_go_first() {
    let (_, _, plan) = run(&bare("n", &["0:1g.10gb !77/x"]), &[layout("n", &["7g.80gb"])], "").plan();
    assert_eq!((codes(&plan.nodes[0].blocked), words(&plan.nodes[0])), (vec!["process", "gpu-in-use"], vec![]));
}

/// A pod that has to go, and could.
fn goes(name: &str) -> (String, Vec<String>) {
    let fleet = node("n", &[&format!("0:1g.10gb:pod:x/{name}-0"), "0:1g.10gb"]) + &stateful(name);
    (fleet, vec![layout("n", &["7g.80gb", "1g.10gb"])])
}

/// The same under two budgets.
fn twice(allowed: u32) -> Run {
    let (fleet, layouts) = goes("w");
    let second = budget("w", allowed).replace("name = \"w\"", "name = \"again\"");
    run(&(fleet + &budget("w", allowed) + &second), &layouts, "")
}

#[test]
fn a_pod_under_two_disruption_budgets_is_blocked_before_anything() {
    let run = twice(1);
    let (_, _, plan) = run.plan();
    assert_eq!((codes(&plan.nodes[0].blocked), disruptive(&plan.nodes[0])), (vec!["two-budgets"], false));
    run.apply();
    assert_eq!(lock(&run.world).pods["x/w-0"].phase, PodPhase::Running);
}

#[test]
fn the_order_of_the_budgets_changes_no_byte_of_a_plan() {
    for allowed in [0, 1] {
        let (desired, mut observed, plan) = twice(allowed).plan();
        let now = plan.nodes[0].observed_at.parse().unwrap();
        observed.cluster.budgets.reverse();
        let turned = plan::plan(&desired, &observed, now);
        assert_eq!(serde_json::to_string(&plan).unwrap(), serde_json::to_string(&turned).unwrap());
    }
}

fn terminate(run: &Run, pod: &str) {
    let mut world = lock(&run.world);
    let until = world.clock_ms + 20_000;
    let pod = world.pods.get_mut(pod).unwrap();
    (pod.phase, pod.until_ms) = (PodPhase::Terminating, Some(until));
}

#[test]
fn a_pod_that_terminates_does_not_wait_for_a_shut_budget() {
    let (fleet, layouts) = goes("w");
    let run = run(&(fleet + &budget("w", 1)), &layouts, "");
    terminate(&run, "x/w-0");
    let (_, observed, plan) = run.plan();
    assert_eq!(observed.cluster.budgets[0].allowed, 0);
    assert_eq!((codes(&plan.nodes[0].waiting), codes(&plan.nodes[0].blocked)), (vec![], vec![]));
    let words = words(&plan.nodes[0]);
    assert!(words.contains(&"await_gone") && !words.contains(&"evict_pod"), "{words:?}");
    converges(&run);
}

#[test]
fn a_pod_that_terminates_uses_up_no_budget() {
    let gpus = ["0:1g.10gb:pod:x/w-a 1:1g.10gb:pod:x/w-b", "0:1g.10gb 1:1g.10gb 2:1g.10gb"];
    let fleet = node("n", &gpus) + &workload("Deployment", "w", 2, "1g.10gb", "") + &budget("w", 2);
    let run = run(&fleet, &[layout("n", &["7g.80gb", "1g.10gb 1g.10gb 1g.10gb"])], "");
    terminate(&run, "x/w-a");
    let (_, observed, plan) = run.plan();
    assert_eq!(observed.cluster.budgets[0].allowed, 1);
    // One round is enough for both.
    let taints = words(&plan.nodes[0]).into_iter().filter(|word| *word == "taint").count();
    assert_eq!((taints, moving(&plan)), (1, vec!["w-a", "w-b"]));
}

#[test]
fn a_stopped_unit_whose_only_instance_a_process_holds_has_no_capacity() {
    let layout = layout("n", &["1g.10gb"]) + &unit("u", "1g.10gb");
    let run = run(&bare("n", &["0:1g.10gb:process:77/x"]), &[layout], "");
    lock(&run.world).nodes.get_mut("n").unwrap().units.insert("u.service".to_owned(), Default::default());
    let (_, _, plan) = run.plan();
    assert_eq!(codes(&plan.nodes[0].blocked), ["no-capacity"]);
    assert!(plan.nodes[0].blocked[0].object.contains("u.service"), "{:?}", plan.nodes[0].blocked);
    assert!(plan.nodes[0].steps.is_empty());
}

#[test]
fn a_pod_elsewhere_is_not_evicted_for_one_of_its_name_that_only_the_kubelet_knows() {
    let (fleet, layouts) = goes("w");
    let run = run(&fleet, &layouts, "");
    let (desired, mut observed, free) = run.plan();
    assert!(words(&free.nodes[0]).contains(&"evict_pod"));
    // It was made anew on another node, and its kubelet still knows the one before.
    observed.cluster.pods[0].node = Some("m".to_owned());
    let plan = plan::plan(&desired, &observed, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(plan::check::check(&desired, &observed, &plan), []);
    assert_eq!((codes(&plan.nodes[0].blocked), disruptive(&plan.nodes[0])), (vec!["unknown-users"], false));
    assert_eq!(moving(&plan), [""; 0]);
    assert!(!words(&plan.nodes[0]).contains(&"destroy_instance"));
    // Who would take it for that one is caught.
    let found = plan::check::check(&desired, &observed, &free);
    assert!(found.iter().any(|v| v.invariant == plan::check::Invariant::Foreign), "{found:?}");
}

#[test]
fn a_pod_that_only_the_kubelet_knows_is_not_left_out_of_those_that_hold_something() {
    let run = run(&node("n", &["0:1g.10gb:pod:x/w-0"]), &[layout("n", &["7g.80gb"])], "");
    let mut observed = run.observe();
    observed.cluster.strangers = std::mem::take(&mut observed.cluster.pods);
    let pods = observe::pods_by_node(&observed.cluster)["n"].clone();
    let host = SimHost { world: run.world.clone(), node: "n".to_owned() };
    let (cluster, units, labels) = (run.cluster(), run.tree.units(), Known::Known(Default::default()));
    let look = observe::node_of("n", &run.nodes[0].1, Some(&cluster), Some(&pods), &host, &units, &labels);
    observed.nodes.insert("n".to_owned(), at_once(look).unwrap().unwrap());
    let (desired, now) = (run.resolve(&observed), jiff::Timestamp::UNIX_EPOCH);
    let plan = plan::plan(&desired, &observed, now);
    assert_eq!(plan::check::check(&desired, &observed, &plan), []);
    assert_eq!((codes(&plan.nodes[0].blocked), words(&plan.nodes[0])), (vec!["unknown-users"], vec![]));
}

#[test]
fn whom_only_the_kubelet_knows_is_not_chosen_to_leave_before_those_that_can() {
    let gpus = ["0:1g.10gb:pod:x/w-0 4:1g.10gb:pod:x/a-0 5:1g.10gb:pod:x/b-0", "0:1g.10gb 1:1g.10gb 2:1g.10gb"];
    let fleet = node("n", &gpus) + &["w", "a", "b"].map(stateful).concat();
    let run = run(&fleet, &[layout("n", &["3g.40gb 1g.10gb 1g.10gb", "1g.10gb 1g.10gb 1g.10gb"])], "");
    let (desired, mut observed, free) = run.plan();
    assert_eq!(moving(&free), ["w-0"]);
    let pod = observed.cluster.pods.iter_mut().find(|pod| pod.name == "w-0").unwrap();
    pod.node = Some("m".to_owned());
    let plan = plan::plan(&desired, &observed, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(plan::check::check(&desired, &observed, &plan), []);
    assert_eq!((moving(&plan), codes(&plan.nodes[0].blocked)), (vec!["a-0", "b-0"], vec![]));
}
