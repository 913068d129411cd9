//! What people read, to the letter.

use std::collections::{BTreeMap, BTreeSet};

use anstream::adapter::strip_str;
use sectile::model::desired::{DesiredNode, Goal, GpuGoal, Wanted};
use sectile::model::observed::DeviceFiles;
use sectile::model::observed::{ComputeInstance, NodeInCluster, UnitState};
use sectile::model::plan::*;
use sectile::model::policy::{Allocation, ClientRef};
use sectile::model::*;
use sectile::render::{self, Names, Style};

const GPU_0: &str = "GPU-1b3c0c11-6a7d-5f8e-9b1a-0c2d3e4f5a6b";
const GPU_1: &str = "GPU-77d0a9f2-1c3b-5d4e-8f6a-7b8c9d0e1f2a";

fn plain(text: &str) -> String {
    strip_str(text).to_string()
}

fn text(plan: &Plan) -> String {
    plain(&render::text::plan(plan, Style { wide: false }))
}

fn wide(plan: &Plan) -> String {
    plain(&render::text::plan(plan, Style { wide: true }))
}

fn pod(name: &str) -> User {
    User::Pod { namespace: "inference".into(), name: name.into() }
}

fn source(text: &str) -> Option<Source> {
    Some(text.parse().unwrap())
}

fn profile(name: &str) -> ProfileName {
    name.parse().unwrap()
}

/// An instance; its size follows from the slices, as on an H100.
fn instance(name: &str, start: u32, users: &[User]) -> PlanInstance {
    let profile = profile(name);
    let compute = PlanCompute { profile: ComputeName::filling(profile), uuid: None, users: Some(users.to_vec()) };
    PlanInstance {
        profile,
        start,
        size: if profile.slices == 3 { 4 } else { profile.slices },
        gi_id: Some(start + 1),
        compute: vec![compute],
        users: Some(users.to_vec()),
        source: None,
    }
}

fn slot(gpu: &str, name: &str, start: u32) -> SlotRef {
    let instance = instance(name, start, &[]);
    SlotRef { gpu: gpu.into(), profile: instance.profile, placement: instance.placement() }
}

fn gpu(uuid: &str, index: u32, parts: [Vec<PlanInstance>; 3]) -> GpuPlan {
    let [keep, destroy, create] = parts;
    GpuPlan {
        uuid: uuid.into(),
        index,
        pci: format!("00000000:{:02X}:00.0", 0x17 + index),
        model: "H100 80GB HBM3".into(),
        managed: true,
        source: source("layouts/inference.toml:8"),
        shadows: vec![],
        units: 8,
        mig: ModeChangePlan { now: true, then: true },
        keep,
        destroy,
        create,
    }
}

fn node(name: &str, state: NodeState, gpus: Vec<GpuPlan>) -> NodePlan {
    NodePlan {
        name: name.into(),
        state,
        suspended: None,
        fingerprint: Digest::of([name.as_bytes()]),
        observed_at: "2026-03-02T09:00:00Z".into(),
        age_s: None,
        source: source("layouts/inference.toml:4"),
        shadows: vec![],
        gpus,
        disruptions: vec![],
        steps: vec![],
        waves: vec![],
        blocked: vec![],
        waiting: vec![],
        gaps: vec![],
        warnings: vec![],
        estimate_s: 0,
        cost: 0,
        strategy: Default::default(),
        lower_bound: 0,
        optimal: true,
    }
}

fn plan(nodes: Vec<NodePlan>) -> Plan {
    let gpus = || nodes.iter().flat_map(|n| &n.gpus);
    let count = |part: fn(&GpuPlan) -> usize| gpus().map(part).sum::<usize>() as u32;
    let summary = Summary {
        nodes: nodes.len() as u32,
        changed: nodes.iter().filter(|n| !n.steps.is_empty()).count() as u32,
        keep: count(|g| if g.managed { g.keep.len() } else { 0 }),
        destroy: count(|g| g.destroy.len()),
        create: count(|g| g.create.len()),
        disrupt: nodes.iter().map(|n| n.disruptions.len()).sum::<usize>() as u32,
        blocked: nodes.iter().map(|n| n.blocked.len()).sum::<usize>() as u32,
    };
    let desired = Revision { name: Some("main@sha1:1eabc9a".into()), digest: Digest::of([b"tree".as_slice()]) };
    Plan { format_version: FORMAT_VERSION.into(), desired, cluster: ClusterPlan::default(), nodes, summary }
}

fn step(id: u32, after: &[u32], guards: &[Guard], kind: StepKind) -> Step {
    let disruptive = matches!(kind, StepKind::EvictPod { .. } | StepKind::AwaitGone { .. });
    Step {
        id,
        after: after.to_vec(),
        guards: guards.to_vec(),
        scope: Scope::Node,
        disruptive,
        waits: None,
        estimate_s: if disruptive { 6 } else { 0 },
        kind,
    }
}

fn create(gpu: &str, name: &str, start: u32) -> StepKind {
    StepKind::CreateInstance { slot: slot(gpu, name, start), compute: vec![ComputeName::filling(profile(name))] }
}

/// The example of the manual, as data.
fn example() -> Plan {
    let gpus = vec![
        gpu(
            GPU_0,
            0,
            [
                vec![instance("2g.20gb", 0, &[]), instance("1g.10gb", 2, &[]), instance("3g.40gb", 4, &[])],
                vec![],
                vec![instance("1g.10gb", 3, &[])],
            ],
        ),
        gpu(
            GPU_1,
            1,
            [
                vec![instance("3g.40gb", 4, &[pod("llama-chat-7d9f")])],
                vec![instance("2g.20gb", 0, &[pod("embed-0")])],
                vec![instance("4g.40gb", 0, &[])],
            ],
        ),
    ];
    let mut node = node("gpu-a-01", NodeState::Changing, gpus);
    node.disruptions = vec![Disruption {
        kind: DisruptionKind::Pod,
        namespace: Some("inference".into()),
        name: "embed-0".into(),
        uid: Some("7c1d".into()),
        verdict: Verdict::Move,
        reason: "budget embed allows 1".into(),
        downtime_s: 6,
        moves_to: Some("GPU 0".into()),
        loses: vec![slot(GPU_1, "2g.20gb", 0)],
    }];
    let pods = BTreeMap::from([("inference/embed-0".to_owned(), "7c1d".to_owned())]);
    let workloads = BTreeMap::from([("StatefulSet inference/embed".to_owned(), 1)]);
    node.steps = vec![
        step(1, &[], &[], create(GPU_0, "1g.10gb", 3)),
        step(2, &[1], &[], StepKind::Taint),
        step(
            3,
            &[2],
            &[Guard::Window, Guard::Budget, Guard::Capacity],
            StepKind::EvictPod {
                namespace: "inference".into(),
                pod: "embed-0".into(),
                uid: "7c1d".into(),
                grace_period_s: None,
                delete: false,
            },
        ),
        step(4, &[3], &[], StepKind::AwaitGone { pods, timeout_s: 900 }),
        step(5, &[4], &[Guard::Unused], StepKind::DestroyInstance { slot: slot(GPU_1, "2g.20gb", 0) }),
        step(6, &[5], &[], create(GPU_1, "4g.40gb", 0)),
        step(7, &[6], &[], StepKind::Untaint),
        step(8, &[7], &[], StepKind::AwaitReady { workloads, timeout_s: 900 }),
    ];
    node.waves = vec![vec![1], vec![2], vec![3], vec![4], vec![5], vec![6], vec![7], vec![8]];
    (node.estimate_s, node.cost, node.lower_bound) = (14, 1_013, 1_013);
    plan(vec![node])
}

#[test]
fn the_example_of_the_manual_is_drawn_to_the_letter() {
    let manual = "\
gpu-a-01   changing · main@sha1:1eabc9a · layouts/inference.toml:4
  GPU 0  H100 80GB HBM3  GPU-1b3c…
    now   │2g.20gb│1g │ · │3g.40gb        │
    then  │2g.20gb│1g │1g │3g.40gb        │
    = keep     2g.20gb at 0, 1g.10gb at 2, 3g.40gb at 4
    + create   1g.10gb at 3
  GPU 1  H100 80GB HBM3  GPU-77d0…
    now   │2g.20gb│ ·     │3g.40gb        │
    then  │4g.40gb        │3g.40gb        │
    = keep     3g.40gb at 4   inference/llama-chat-7d9f
    - destroy  2g.20gb at 0   its pod inference/embed-0 moves to GPU 0 first (budget embed allows 1; down about 6 s)
    + create   4g.40gb at 0

Plan: 2 to create, 1 to destroy, 4 kept, 1 pod to move, nothing blocked. No plan moves fewer.
";
    assert_eq!(text(&example()), manual);
}

#[test]
fn a_plan_that_is_not_proven_does_not_say_so() {
    let mut plan = example();
    (plan.nodes[0].optimal, plan.nodes[0].lower_bound) = (false, 0);
    assert!(text(&plan).ends_with("1 pod to move, nothing blocked.\n"));
    plan.nodes[0].lower_bound = 10_100;
    assert!(text(&plan).ends_with("1 pod to move, nothing blocked. No plan moves fewer than 1.\n"));
}

#[test]
fn a_wide_plan_lists_its_steps() {
    insta::assert_snapshot!(wide(&example()));
}

/// Everything at once: mode change, unit, command, process, unknown users, blocks, gaps, other GPUs.
fn everything() -> Plan {
    let mut going = instance("3g.40gb", 4, &[User::Unit("embedder.service".into())]);
    going.compute = ["1c.3g.40gb", "2c.3g.40gb"]
        .map(|name| PlanCompute { profile: name.parse().unwrap(), uuid: None, users: None })
        .to_vec();
    let mut unseen = instance("1g.10gb", 6, &[]);
    unseen.users = None;
    let vm = User::Command("desktop-vm-7".into());
    let process = User::Process { pid: 4711, name: "python3".into() };
    let first = gpu(
        GPU_0,
        0,
        [
            vec![instance("2g.20gb", 2, &[])],
            vec![going, instance("1g.10gb", 0, &[vm]), instance("1g.10gb", 1, &[process])],
            vec![instance("1g.10gb+me", 0, &[]), instance("1g.10gb", 1, &[])],
        ],
    );
    let mut second = gpu(GPU_1, 1, [vec![], vec![], vec![instance("7g.80gb", 0, &[])]]);
    second.mig.now = false;
    second.shadows = vec!["layouts/inference.toml:20".parse().unwrap()];
    second.create[0].size = 8;
    let third = gpu("GPU-0c5a", 2, [vec![unseen], vec![], vec![]]);
    let mut fourth = gpu("GPU-9e21", 3, [vec![instance("2g.20gb", 0, &[pod("other-0")])], vec![], vec![]]);
    fourth.managed = false;

    let mut busy = node("gpu-a-01", NodeState::Blocked, vec![first, second, third, fourth]);
    busy.shadows = vec!["layouts/default.toml:1".parse().unwrap()];
    let lost = |name: &str, start| vec![slot(GPU_0, name, start)];
    let disruption = |kind, name: &str, verdict, moves_to: Option<&str>, loses| Disruption {
        kind,
        namespace: None,
        name: name.into(),
        uid: None,
        verdict,
        reason: String::new(),
        downtime_s: 3,
        moves_to: moves_to.map(str::to_owned),
        loses,
    };
    busy.disruptions = vec![
        disruption(DisruptionKind::Unit, "embedder.service", Verdict::Move, Some("GPU 0"), lost("3g.40gb", 4)),
        disruption(DisruptionKind::Command, "desktop-vm-7", Verdict::Move, None, lost("1g.10gb", 0)),
        disruption(DisruptionKind::Process, "4711", Verdict::Refuse, None, lost("1g.10gb", 1)),
        disruption(DisruptionKind::Process, "815", Verdict::Wait, None, vec![]),
    ];
    let compute = vec!["1c.3g.40gb".parse().unwrap(), "2c.3g.40gb".parse().unwrap()];
    busy.steps = vec![
        step(1, &[], &[], StepKind::CreateInstance { slot: slot(GPU_0, "3g.40gb", 4), compute }),
        step(2, &[], &[], StepKind::SetMigMode { gpu: GPU_1.into(), enabled: true }),
    ];
    busy.steps[1].waits = Some(BlockCode::Window);
    let block = |code, message: &str, object: &str, hint: &str| Block {
        code,
        message: message.into(),
        object: object.into(),
        hint: hint.into(),
    };
    busy.waiting = vec![block(
        BlockCode::Window,
        "The window opens on Monday at 22:00 (Europe/Berlin).",
        GPU_1,
        "apply --override window --reason TEXT does not wait",
    )];
    busy.blocked = vec![block(
        BlockCode::Process,
        "No binding explains this process, and the policy refuses to end it.",
        "process 4711 (python3)",
        "end it, or bind it in a [[workload]]",
    )];
    busy.gaps = vec![Gap { object: "users of 1g.10gb at 6".into(), message: "The kubelet did not answer.".into() }];
    busy.warnings = vec!["The tree says 7g.79gb, and the driver 7g.80gb.".into()];
    busy.optimal = false;

    let calm = node(
        "gpu-a-02-long-name",
        NodeState::Converged,
        vec![gpu("GPU-aaaa", 0, [vec![instance("7g.80gb", 0, &[])], vec![], vec![]])],
    );
    let mut plan = plan(vec![busy, calm.clone(), NodePlan { name: "gpu-a-03".into(), ..calm }]);
    plan.cluster.bindings = vec![BindingReport {
        name: "reranker".into(),
        target: "Deployment inference/reranker".into(),
        profile: profile("1g.10gb"),
        provided: 2,
        bound: Some(3),
        matches: false,
        manage: false,
        source: "layouts/inference.toml:30".parse().unwrap(),
    }];
    plan
}

#[test]
fn everything_that_a_plan_may_say() {
    insta::assert_snapshot!(text(&everything()));
}

#[test]
fn nothing_to_do_is_a_line_for_each_node_and_one_for_all() {
    let mut plan = everything();
    plan.nodes.remove(0);
    plan.cluster.bindings.clear();
    (plan.summary.create, plan.summary.destroy, plan.summary.keep, plan.summary.blocked) = (0, 0, 2, 0);
    insta::assert_snapshot!(text(&plan));
}

fn bind(affinity: Affinity) -> Bind {
    let (name, path) = ("llama-chat".to_owned(), "spec.template".to_owned());
    let (api_version, kind, namespace) = ("apps/v1".to_owned(), "Deployment".to_owned(), "inference".to_owned());
    Bind {
        binding: name.clone(),
        object: Object { api_version, kind, namespace, name, path },
        container: None,
        profile: profile("3g.40gb"),
        per_replica: 2,
        strategy: Default::default(),
        allocation: Allocation::DevicePlugin,
        affinity,
    }
}

#[test]
fn every_kind_of_step_is_a_sentence() {
    let names = Names::of(&example().nodes[0]);
    let slots = || vec![slot(GPU_0, "1g.10gb", 3), slot("GPU-ffffffff-0000", "1g.10gb", 2)];
    let units = || vec!["nvidia-dcgm.service".to_owned()];
    let two = BTreeMap::from([("a/b".to_owned(), "1".to_owned()), ("a/c".to_owned(), "2".to_owned())]);
    let evict = |delete| StepKind::EvictPod {
        namespace: "inference".into(),
        pod: "embed-0".into(),
        uid: "7c1d".into(),
        grace_period_s: Some(30),
        delete,
    };
    let kinds = [
        StepKind::Taint,
        StepKind::Untaint,
        StepKind::PauseClients {
            units: units(),
            commands: vec![ClientRef {
                source: "policies/a.toml:3".parse().unwrap(),
                number: 1,
                digest: Digest::of([]),
            }],
        },
        StepKind::ResumeClients { units: vec![], commands: vec![] },
        StepKind::StandDown,
        StepKind::RefreshClients,
        StepKind::RefreshDevices { files: DeviceFiles::ALL.to_vec() },
        evict(false),
        evict(true),
        StepKind::AwaitGone { pods: two, timeout_s: 900 },
        StepKind::AwaitReady {
            workloads: BTreeMap::from([("Deployment inference/llama-chat".to_owned(), 2)]),
            timeout_s: 900,
        },
        StepKind::StopUnit { unit: "embedder.service".into() },
        StepKind::StartUnit { unit: "embedder.service".into(), env: "CUDA_VISIBLE_DEVICES".into(), slots: slots() },
        StepKind::DrainCommand { workload: "desktop-vm-7".into() },
        StepKind::ResumeCommand { workload: "desktop-vm-7".into(), slots: slots() },
        StepKind::TerminateProcess { pid: 4711, name: "python3".into() },
        StepKind::DestroyInstance { slot: slot(GPU_1, "2g.20gb", 0) },
        create(GPU_1, "4g.40gb", 0),
        StepKind::CreateInstance { slot: slot(GPU_1, "4g.40gb", 0), compute: vec![] },
        StepKind::CreateInstance {
            slot: slot(GPU_1, "3g.40gb", 4),
            compute: vec!["1c.3g.40gb".parse().unwrap(), "2c.3g.40gb".parse().unwrap()],
        },
        StepKind::SetMigMode { gpu: GPU_1.into(), enabled: true },
        StepKind::ResetGpu { gpu: GPU_1.into() },
        StepKind::BindWorkload { bind: Box::new(bind(Affinity::default())), timeout_s: 900 },
        StepKind::BindWorkload {
            bind: Box::new(Bind {
                container: Some("server".into()),
                per_replica: 1,
                allocation: Allocation::Dra,
                ..bind(Affinity {
                    labels: [("pool".to_owned(), "inference".to_owned())].into(),
                    names: ["gpu-a-01", "gpu-a-02"].map(str::to_owned).into(),
                })
            }),
            timeout_s: 900,
        },
        StepKind::UnbindWorkload { bind: Box::new(bind(Affinity::default())), timeout_s: 900 },
    ];
    let told: BTreeSet<&str> = kinds.iter().map(StepKind::word).collect();
    assert_eq!(told.len(), 21, "a new kind of step wants its sentence here");
    let sentences: Vec<String> =
        kinds.iter().map(|kind| format!("{:<16} {}", kind.word(), render::step(kind, &names))).collect();
    insta::assert_snapshot!(sentences.join("\n"));
    let unknown = StepKind::ResetGpu { gpu: GPU_1.into() };
    assert_eq!(render::step(&unknown, &Names::default()), "reset GPU-77d0…");
}

#[test]
fn a_plan_survives_its_json() {
    for plan in [example(), everything()] {
        let json = render::json::plan(&plan);
        assert!(json.ends_with("}\n"));
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    }
}

#[test]
fn a_stale_plan_is_shown_as_a_difference_of_steps() {
    let saved = example();
    assert_eq!(render::difference::plans(&saved, &saved), "");
    let mut now = example();
    now.nodes[0].steps.remove(0);
    if let StepKind::EvictPod { uid, .. } = &mut now.nodes[0].steps[1].kind {
        *uid = "9a0b".into();
    }
    insta::assert_snapshot!(plain(&render::difference::plans(&saved, &now)));
    // Where the sentences are the same, the fields are compared.
    let mut guarded = example();
    guarded.nodes[0].steps[0].guards = vec![Guard::Window];
    let difference = plain(&render::difference::plans(&saved, &guarded));
    assert!(difference.contains(r#"+gpu-a-01: {"after":[],"#), "{difference}");
}

/// What was observed on a node that the plan speaks of.
fn observe(node: &NodePlan) -> ObservedNode {
    let gpus = node.gpus.iter().map(|gpu| {
        let mut there: Vec<&PlanInstance> = gpu.keep.iter().chain(&gpu.destroy).collect();
        there.sort_by_key(|i| i.start);
        let instances = there.iter().map(|i| {
            let users = || i.users.clone().map_or(Known::Unknown, Known::Known);
            let profile = ComputeName::filling(i.profile);
            let compute = ComputeInstance { profile, ci_id: 0, uuid: format!("MIG-{}", i.start), users: users() };
            GpuInstance {
                profile: i.profile,
                placement: i.placement(),
                gi_id: 1,
                compute: vec![compute],
                users: users(),
            }
        });
        ObservedGpu {
            uuid: gpu.uuid.clone(),
            index: gpu.index,
            pci: gpu.pci.clone(),
            model: gpu.model.clone(),
            board: Some("h100-80gb-sxm".into()),
            mig: MigMode { capable: true, current: gpu.mig.now, pending: gpu.mig.now, resetless: true },
            geometry: None,
            instances: instances.collect(),
            recorded: vec![],
            users: Known::Known(vec![]),
        }
    });
    ObservedNode {
        name: node.name.clone(),
        labels: Known::Known(BTreeMap::new()),
        gpus: gpus.collect(),
        lost: Default::default(),
        units: BTreeMap::from([("embedder.service".to_owned(), UnitState { active: true, ..UnitState::default() })]),
        device_files: Default::default(),
        cluster: Some(NodeInCluster::default()),
        gaps: vec![],
        inventory: vec![],
        suspended: None,
    }
}

fn desire(plan: &Plan) -> Desired {
    let wanted = |name: &str, start| Wanted { profile: profile(name), start, compute: None };
    let goal = Goal::Instances(vec![wanted("1g", None), wanted("1g", None), wanted("2g", None), wanted("3g", Some(4))]);
    let nodes = plan.nodes.iter().map(|node| {
        let goal = GpuGoal { goal: goal.clone(), source: "layouts/inference.toml:8".parse().unwrap(), shadows: vec![] };
        let desired = DesiredNode {
            node: node.name.clone(),
            layout: node.source.clone(),
            shadows: vec![],
            gpus: BTreeMap::from([(GPU_0.to_owned(), goal)]),
            shared: vec![],
            bindings: vec![],
            policy: None,
            held: BTreeMap::new(),
            blocked: vec![],
        };
        (node.name.clone(), desired)
    });
    Desired {
        revision: plan.desired.clone(),
        nodes: nodes.collect(),
        bindings: vec![],
        peers: Default::default(),
        blocked: vec![],
    }
}

#[test]
fn status_shows_desired_beside_observed() {
    let plan = example();
    let mut observed = Observed::default();
    observed.nodes.insert("gpu-a-01".into(), observe(&plan.nodes[0]));
    let style = Style { wide: false };
    insta::assert_snapshot!(plain(&render::status::status(&desire(&plan), &observed, &plan, style)));
}

#[test]
fn status_of_several_nodes_begins_with_a_table() {
    let plan = everything();
    let mut observed = Observed::default();
    for node in &plan.nodes[..2] {
        observed.nodes.insert(node.name.clone(), observe(node));
    }
    let style = Style { wide: false };
    insta::assert_snapshot!(plain(&render::status::status(&desire(&plan), &observed, &plan, style)));
}

#[test]
fn status_as_json_holds_what_a_plan_needs() {
    let plan = example();
    let mut observed = Observed::default();
    observed.nodes.insert("gpu-a-01".into(), observe(&plan.nodes[0]));
    let desired = desire(&plan);
    let json: serde_json::Value = serde_json::from_str(&render::json::status(&desired, &observed, &plan, &[])).unwrap();
    assert_eq!(json["format_version"], "1");
    assert_eq!(json["nodes"][0]["state"], "changing");
    let seen: ObservedNode = serde_json::from_value(json["nodes"][0]["observed"].clone()).unwrap();
    assert_eq!(seen, observed.nodes["gpu-a-01"]);
    let wanted: DesiredNode = serde_json::from_value(json["nodes"][0]["desired"].clone()).unwrap();
    assert_eq!(wanted, desired.nodes["gpu-a-01"]);
}
