//! The pause of what advertises a node's GPUs: labels, the mark with what they were, plugins that no label stops, and a
//! fresh adapter that ends what another one began.

use sectile::ports::Cluster as _;
use serde_json::{Value, json};

use crate::objects::{NODE, daemon, labelled, node, user};
use crate::rig::{OURS, PAUSED, PLUGIN, Rig, mark, plan};
use crate::server::Fault;

const DISCOVERY: &str = "nvidia.com/gpu.deploy.gpu-feature-discovery";
const EXPORTER: &str = "nvidia.com/gpu.deploy.dcgm-exporter";
const DCGM: &str = "nvidia.com/gpu.deploy.dcgm";
const OPERATED: &[(&str, &str)] = &[
    (PLUGIN, "true"),
    (DISCOVERY, "true"),
    (EXPORTER, "false"),
    (DCGM, "paused-for-driver-upgrade"),
    ("nvidia.com/gpu.deploy.operator-validator", "true"),
];
/// What NVIDIA's operator gives the pods of the device plugin.
const OPERATORS: (&str, &str) = ("app", "nvidia-device-plugin-daemonset");
/// What the static manifest gives them.
const STATIC: (&str, &str) = ("name", "nvidia-device-plugin-ds");
const DRA: (&str, &str) = ("dra-driver-nvidia-gpu-component", "kubelet-plugin");

fn label(rig: &Rig, key: &str) -> Option<String> {
    rig.stored()["metadata"]["labels"][key].as_str().map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn labels_are_paused_with_what_they_were_and_resumed_to_that() {
    let rig = Rig::new([("nodes", labelled(OPERATED)), ("pods", daemon("plugin", OPERATORS))]);
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    assert!(rig.node().await.clients_paused);
    // It is paused already: nothing is asked.
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert!(!rig.node().await.clients_paused);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(rig.stored()["metadata"]["labels"], labelled(OPERATED)["metadata"]["labels"]);
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changed_meanwhile_stays() {
    let rig = Rig::new([("nodes", labelled(OPERATED))]);
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    rig.server.edit("nodes", "", NODE, |node| {
        node["metadata"]["labels"][DISCOVERY] = json!("false");
        node["metadata"]["labels"][EXPORTER] = json!("true");
    });
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    let labels = [PLUGIN, DISCOVERY, EXPORTER, DCGM].map(|key| label(&rig, key).unwrap());
    assert_eq!(labels, ["true", "false", "true", "paused-for-driver-upgrade"]);
    // A label that is gone was taken away by somebody.
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    rig.server.edit("nodes", "", NODE, |node| {
        node["metadata"]["labels"].as_object_mut().unwrap().remove(PLUGIN);
    });
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(label(&rig, PLUGIN), None);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_of_a_pause_is_settled_with_what_is_there_now() {
    let rig = Rig::new([("nodes", labelled(OPERATED))]);
    rig.node().await;
    let mut changed = rig.stored();
    changed["metadata"]["labels"][DISCOVERY] = json!("false");
    rig.server.lock().store.put_unheard("nodes", changed);
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    assert_eq!(mark(&rig.stored()).unwrap()["paused"], json!({ PLUGIN: "true" }));
    assert_eq!(label(&rig, DISCOVERY).as_deref(), Some("false"));
    let lines = ["PATCH /api/v1/nodes/n? 409", "GET /api/v1/nodes/n 200", "PATCH /api/v1/nodes/n? 200"];
    assert_eq!(rig.server.lines(), lines);
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_no_label_deploys_is_started_anew_at_the_end() {
    let discovery = {
        let mut pod = daemon("discovery", ("app.kubernetes.io/name", "nvidia-device-plugin"));
        pod["spec"]["containers"][0]["name"] = json!("gpu-feature-discovery-ctr");
        pod
    };
    let mut elsewhere = daemon("elsewhere", STATIC);
    elsewhere["spec"]["nodeName"] = json!("m");
    let pods = [daemon("plugin", STATIC), discovery, elsewhere, user("job", "nvidia.com/mig-1g.10gb", 1)];
    let mut offering = node(NODE);
    offering["status"]["allocatable"] = json!({ "nvidia.com/mig-1g.10gb": "2" });
    let rig = Rig::new(pods.map(|pod| ("pods", pod)).into_iter().chain([("nodes", offering)]));
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    let node = rig.node().await;
    // It goes on to offer them, to nobody: the taint keeps pods off.
    assert!(node.clients_paused && node.allocatable["nvidia.com/mig-1g.10gb"] == 0);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(rig.node().await.allocatable["nvidia.com/mig-1g.10gb"], 2);
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn the_dra_driver_is_started_anew_also_where_labels_deploy_the_rest() {
    let pods = [daemon("plugin", OPERATORS), daemon("dra", DRA)].map(|pod| ("pods", pod));
    let rig = Rig::new(pods.into_iter().chain([("nodes", labelled(OPERATED))]));
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    rig.server.forget_asked();
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    let lines = ["DELETE /api/v1/namespaces/a/pods/dra 200", "PATCH /api/v1/nodes/n? 200"];
    assert_eq!(rig.server.lines(), lines);
}

#[tokio::test(start_paused = true)]
async fn clients_are_restarted_without_a_pause() {
    let pods = [daemon("plugin", OPERATORS), daemon("dra", DRA)].map(|pod| ("pods", pod));
    let rig = Rig::new(pods.into_iter().chain([("nodes", labelled(OPERATED))]));
    rig.cluster.restart_clients(NODE).await.unwrap();
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_another_one_by_now_was_started_anew() {
    for fault in [Fault::Refused(404, "not found"), Fault::Refused(409, "another UID")] {
        let rig = Rig::new([("nodes", node(NODE)), ("pods", daemon("plugin", STATIC))]);
        rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
        let mut anew = daemon("plugin", STATIC);
        anew["metadata"]["uid"] = json!("another");
        rig.server.lock().store.put_unheard("pods", anew);
        rig.server.fail("DELETE", 1, fault);
        rig.cluster.set_clients_paused(NODE, None).await.unwrap();
        assert!(!rig.node().await.clients_paused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_could_not_be_deleted_is_no_success() {
    for (fault, transient) in [
        (Fault::Refused(403, "only pods of DaemonSets"), false),
        (Fault::Later(429, "slow down", 1), true),
        (Fault::Refused(500, "etcd"), true),
        (Fault::Lost, true),
    ] {
        let rig = Rig::new([("nodes", node(NODE)), ("pods", daemon("plugin", STATIC))]);
        rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
        rig.server.fail("DELETE", 1, fault.clone());
        let error = rig.cluster.set_clients_paused(NODE, None).await.unwrap_err();
        assert_eq!(error.transient, transient, "{fault:?}");
        // The mark is there still: the next try does all of it.
        assert!(rig.node().await.clients_paused);
        rig.cluster.set_clients_paused(NODE, None).await.unwrap();
        assert!(!rig.node().await.clients_paused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_adapter_ends_what_another_one_began() {
    let rig = Rig::new([("nodes", labelled(OPERATED)), ("pods", daemon("plugin", OPERATORS))]);
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    let rig = rig.afresh();
    let node = rig.node().await;
    assert!(node.tainted && node.clients_paused);
    // What it would do again is done.
    rig.cluster.set_taint(NODE, Some(&plan())).await.unwrap();
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    assert_eq!(rig.server.lines(), [""; 0]);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    rig.cluster.set_taint(NODE, None).await.unwrap();
    assert_eq!(rig.stored()["metadata"]["labels"], labelled(OPERATED)["metadata"]["labels"]);
    assert_eq!((mark(&rig.stored()), &rig.stored()["spec"]["taints"]), (None, &json!([])));
    insta::assert_snapshot!(rig.server.transcript());
}

#[tokio::test(start_paused = true)]
async fn a_fresh_adapter_does_again_what_was_cut_short() {
    let pods = [daemon("plugin", STATIC)].map(|pod| ("pods", pod));
    let rig = Rig::new(pods.into_iter().chain([("nodes", node(NODE))]));
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    // The plugin's pod was deleted, and then the connection broke.
    rig.server.fail("PATCH", 1, Fault::Lost);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap_err();
    let rig = rig.afresh();
    assert!(rig.node().await.clients_paused);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    let lines = ["DELETE /api/v1/namespaces/a/pods/plugin 200", "PATCH /api/v1/nodes/n? 200"];
    assert_eq!(rig.server.lines(), lines);
}

#[tokio::test(start_paused = true)]
async fn a_mark_of_a_later_version_is_read_as_far_as_it_is_known() {
    let mut marked = labelled(&[(PLUGIN, PAUSED)]);
    let text = json!({ "plan": plan(), "since": "2026-01-01T00:00:00Z", "paused": { PLUGIN: "true" }, "new": [1] });
    marked["metadata"]["annotations"][OURS] = Value::from(text.to_string());
    let rig = Rig::new([("nodes", marked)]);
    assert!(rig.node().await.clients_paused);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(label(&rig, PLUGIN).as_deref(), Some("true"));
}

#[tokio::test(start_paused = true)]
async fn a_stand_alone_plugin_beside_an_operator_that_deploys_none_is_started_anew() {
    let rig = Rig::new([("nodes", labelled(&[(PLUGIN, "false")])), ("pods", daemon("plugin", STATIC))]);
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    rig.server.forget_asked();
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    let lines = ["DELETE /api/v1/namespaces/a/pods/plugin 200", "PATCH /api/v1/nodes/n? 200"];
    assert_eq!(rig.server.lines(), lines);
    assert_eq!(label(&rig, PLUGIN).as_deref(), Some("false"));
}

#[tokio::test(start_paused = true)]
async fn what_a_label_stops_is_offered_until_the_kubelet_says_otherwise() {
    let mut offering = labelled(OPERATED);
    offering["status"]["allocatable"] = json!({ "nvidia.com/mig-1g.10gb": "2" });
    let rig = Rig::new([("nodes", offering)]);
    rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
    assert_eq!(rig.node().await.allocatable["nvidia.com/mig-1g.10gb"], 2);
    rig.server.edit("nodes", "", NODE, |node| node["status"]["allocatable"]["nvidia.com/mig-1g.10gb"] = json!("0"));
    rig.until(async |_| rig.node().await.allocatable["nvidia.com/mig-1g.10gb"] == 0).await;
}

#[tokio::test(start_paused = true)]
async fn clients_whose_mark_can_not_be_read_do_not_stay_paused() {
    let labels = [(PLUGIN, PAUSED), (DISCOVERY, PAUSED), (EXPORTER, "false"), (DCGM, "paused-for-driver-upgrade")];
    for text in ["", "{", "[]", "{\"plan\":7}"] {
        let mut marked = labelled(&labels);
        marked["metadata"]["annotations"][OURS] = json!(text);
        let rig = Rig::new([("nodes", marked)]);
        assert!(rig.node().await.clients_paused, "{text}");
        // They are paused, so that nothing is done.
        rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
        assert_eq!(rig.server.lines(), [""; 0]);
        rig.cluster.set_clients_paused(NODE, None).await.unwrap();
        let labels = [PLUGIN, DISCOVERY, EXPORTER, DCGM].map(|key| label(&rig, key).unwrap());
        assert_eq!(labels, ["true", "true", "false", "paused-for-driver-upgrade"], "{text}");
        assert_eq!(rig.stored()["metadata"]["annotations"], json!({}));
        assert!(!rig.node().await.clients_paused);
    }
    // Without any mark of ours it is somebody else's pause.
    let rig = Rig::new([("nodes", labelled(&labels))]);
    assert!(!rig.node().await.clients_paused);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!((rig.server.lines().len(), label(&rig, PLUGIN).as_deref()), (0, Some(PAUSED)));
}

#[tokio::test(start_paused = true)]
async fn labels_that_an_operator_left_behind_are_not_taken_to_stop_a_plugin_that_does_not_heed_them() {
    let offering = || {
        let mut node = labelled(&[(PLUGIN, "true")]);
        node["status"]["allocatable"] = json!({ "nvidia.com/mig-1g.10gb": "2" });
        ("nodes", node)
    };
    let scene = async |plugin: Value| {
        let rig = Rig::new([offering(), ("pods", plugin)]);
        rig.cluster.set_clients_paused(NODE, Some(&plan())).await.unwrap();
        rig.server.forget_asked();
        rig
    };
    let rig = scene(daemon("plugin", STATIC)).await;
    // Nobody waits for it to stop.
    assert_eq!(rig.node().await.allocatable["nvidia.com/mig-1g.10gb"], 0);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    let restarted = ["DELETE /api/v1/namespaces/a/pods/plugin 200", "PATCH /api/v1/nodes/n? 200"];
    assert_eq!(rig.server.lines(), restarted);
    // One that selects its nodes by the label is stopped by it, and waited for.
    let mut heeding = daemon("plugin", STATIC);
    heeding["spec"]["nodeSelector"] = json!({ PLUGIN: "true" });
    let rig = scene(heeding).await;
    assert_eq!(rig.node().await.allocatable["nvidia.com/mig-1g.10gb"], 2);
    rig.cluster.set_clients_paused(NODE, None).await.unwrap();
    assert_eq!(rig.server.lines(), ["PATCH /api/v1/nodes/n? 200"]);
}
