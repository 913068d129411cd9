//! A node of a real cluster without a machine: its GPUs are simulated, and what a kubelet and NVIDIA's device plugin
//! would do of them is done here. The plugin runs while its DaemonSet's pod does, and knows what was there when that
//! started; the kubelet offers what the plugin tells, gives bound pods devices or rejects them, runs them, and lets them go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use sectile::cluster::kubelet::{ContainerResources, Devices, PodResources};
use sectile::gpu::Gpus;
use sectile::sim::state::door::Door;
use serde_json::{Value, json};

use crate::kubelet::{Kubelet, Told};

/// The label of the plugin's pods.
const PLUGIN: (&str, &str) = ("app", "nvidia-device-plugin-daemonset");
/// The label by which the operator deploys the plugin.
pub(crate) const DEPLOY: &str = "nvidia.com/gpu.deploy.device-plugin";
const TICK: Duration = Duration::from_millis(50);
/// So many ticks a pod takes to end.
const GRACE_TICKS: u32 = 10;

/// What the stand-in has seen and done, for tests to look at.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Devices by pod, `namespace/name`, with the pod's UID.
    pub(crate) given: BTreeMap<String, (String, BTreeSet<String>)>,
    /// Whether the kubelet takes no pod up just now.
    pub(crate) frozen: bool,
    /// Pods that were rejected.
    pub(crate) rejected: Vec<String>,
    /// Whether the plugin was ever seen stopped.
    pub(crate) paused: bool,
    /// Devices that were gone while a pod still held them.
    pub(crate) robbed: Vec<String>,
}

/// The node, as long as it is not dropped.
pub(crate) struct StandIn {
    pub(crate) log: Arc<Mutex<Log>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl StandIn {
    /// Begins to be that node of the fleet, whose state lies in that file.
    pub(crate) fn begin(name: &str, fleet: &str, state: &Path, socket: &Path, kubeconfig: &Path) -> Self {
        let (log, stop) = (Arc::new(Mutex::new(Log::default())), Arc::new(AtomicBool::new(false)));
        let door = Door::open(state, fleet, &fleet_name(), Some(name), true, 0.0).unwrap().unwrap();
        let (name, socket, kubeconfig) = (name.to_owned(), socket.to_owned(), kubeconfig.to_owned());
        let (into, until) = (Arc::clone(&log), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let access = sectile::cluster::Access { kubeconfig: Some(&kubeconfig), context: None };
                let client = access.client().await.unwrap();
                let kubelet = Kubelet::begin(&socket, Arc::new(Mutex::new(Told::default())));
                let mut work = Work {
                    nodes: Api::all(client.clone()),
                    client,
                    name,
                    gpus: Gpus::new(door),
                    advertised: BTreeMap::new(),
                    plugin: None,
                    offered: None,
                    leaving: BTreeMap::new(),
                    told: Arc::clone(&kubelet.told),
                    log: into,
                };
                while !until.load(Ordering::SeqCst) {
                    // A server that is away is waited for, as a kubelet does.
                    let _ = work.tick().await;
                    tokio::time::sleep(TICK).await;
                }
                drop(kubelet);
            });
        });
        StandIn { log, stop, thread: Some(thread) }
    }
}

/// What the fleet file is called.
pub(crate) fn fleet_name() -> String {
    "FLEET.toml".to_owned()
}

struct Work {
    client: Client,
    nodes: Api<Node>,
    name: String,
    gpus: Gpus<Door>,
    /// What the plugin knows, by UUID: the resource.
    advertised: BTreeMap<String, String>,
    /// The UID of its pod while it runs.
    plugin: Option<String>,
    /// What the node's status tells.
    offered: Option<BTreeMap<String, u32>>,
    /// Ticks that terminating pods have still to live, by UID.
    leaving: BTreeMap<String, u32>,
    told: Arc<Mutex<Told>>,
    log: Arc<Mutex<Log>>,
}

impl Work {
    /// MIG devices that are there: UUID and resource.
    fn there(&self) -> Option<BTreeMap<String, String>> {
        let (gpus, ..) = self.gpus.observe().ok()?;
        let instances = gpus.iter().flat_map(|gpu| &gpu.instances);
        Some(instances.flat_map(|i| i.compute.iter().map(|c| (c.uuid.clone(), i.profile.resource()))).collect())
    }

    async fn tick(&mut self) -> kube::Result<()> {
        let Some(there) = self.there() else { return Ok(()) };
        let all: Api<Pod> = Api::all(self.client.clone());
        let pods = all.list(&ListParams::default().fields(&format!("spec.nodeName={}", self.name))).await?.items;
        let is_plugin = |pod: &&Pod| pod.labels().get(PLUGIN.0).is_some_and(|app| app == PLUGIN.1);
        let runs = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
        };
        let plugin = pods.iter().filter(is_plugin).find(runs).and_then(|pod| pod.uid());
        if plugin.is_some() && plugin != self.plugin {
            self.advertised.clone_from(&there);
        }
        self.log.lock().unwrap().paused |= plugin.is_none() && self.plugin.is_some();
        self.plugin = plugin;
        let known = self.advertised.iter().filter(|(uuid, of)| self.plugin.is_some() && there.get(*uuid) == Some(*of));
        let healthy: BTreeMap<String, String> = known.map(|(uuid, of)| (uuid.clone(), of.clone())).collect();
        self.pods(&pods, &healthy, &there).await?;
        self.offer(&healthy).await
    }

    /// Tells the API server what may be given out. A resource that is gone stays with 0.
    async fn offer(&mut self, healthy: &BTreeMap<String, String>) -> kube::Result<()> {
        let before = self.offered.iter().flat_map(BTreeMap::keys);
        let mut offer: BTreeMap<String, u32> = before.map(|resource| (resource.clone(), 0)).collect();
        healthy.values().for_each(|resource| *offer.entry(resource.clone()).or_default() += 1);
        let devices = |resource: &String| {
            let ids = healthy.iter().filter(|(_, of)| *of == resource).map(|(uuid, _)| uuid.clone());
            Devices { resource_name: resource.clone(), device_ids: ids.collect() }
        };
        self.told.lock().unwrap().allocatable.devices = offer.keys().map(devices).collect();
        if self.offered.as_ref() == Some(&offer) {
            return Ok(());
        }
        let mut amounts: serde_json::Map<String, Value> =
            offer.iter().map(|(resource, n)| (resource.clone(), n.to_string().into())).collect();
        amounts.extend([("cpu", "16"), ("memory", "64Gi"), ("pods", "110")].map(|(k, v)| (k.to_owned(), v.into())));
        let ready = json!([{ "type": "Ready", "status": "True", "reason": "StandIn", "message": "",
            "lastHeartbeatTime": null, "lastTransitionTime": null }]);
        let status = json!({ "status": { "capacity": amounts, "allocatable": amounts, "conditions": ready } });
        self.nodes.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(status)).await?;
        self.offered = Some(offer);
        Ok(())
    }

    async fn pods(
        &mut self,
        pods: &[Pod],
        healthy: &BTreeMap<String, String>,
        there: &BTreeMap<String, String>,
    ) -> kube::Result<()> {
        let mut here = BTreeSet::new();
        for pod in pods {
            let id = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            let uid = pod.uid().unwrap_or_default();
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            if pod.metadata.deletion_timestamp.is_some() {
                let left = self.leaving.entry(uid.clone()).or_insert(GRACE_TICKS);
                *left = left.saturating_sub(1);
                if *left == 0 {
                    // Its devices are free before it is gone.
                    self.log.lock().unwrap().given.remove(&id);
                    let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
                    continue;
                }
            } else if phase == "Pending" {
                self.admit(&api, pod, &id, healthy).await?;
            }
            here.insert(id);
        }
        let mut log = self.log.lock().unwrap();
        log.given.retain(|id, _| here.contains(id));
        let gone = log.given.iter().filter(|(_, (_, devices))| devices.iter().any(|d| !there.contains_key(d)));
        let robbed: Vec<String> = gone.map(|(id, (_, devices))| format!("{id} {devices:?}")).collect();
        log.robbed.extend(robbed);
        let told = log.given.iter().map(|(id, (_, uuids))| {
            let (namespace, name) = id.split_once('/').unwrap();
            let of = |uuid: &String| {
                let resource_name = there.get(uuid).cloned().unwrap_or_default();
                Devices { resource_name, device_ids: vec![uuid.clone()] }
            };
            let devices = uuids.iter().map(of).collect();
            let container = ContainerResources { name: "server".to_owned(), devices, dynamic_resources: vec![] };
            PodResources { name: name.to_owned(), namespace: namespace.to_owned(), containers: vec![container] }
        });
        self.told.lock().unwrap().listed.pod_resources = told.collect();
        Ok(())
    }

    /// Gives a pod its devices, the last ones first, and runs it; or rejects it.
    async fn admit(&self, api: &Api<Pod>, pod: &Pod, id: &str, healthy: &BTreeMap<String, String>) -> kube::Result<()> {
        if self.log.lock().unwrap().frozen {
            return Ok(());
        }
        let spec = pod.spec.clone().unwrap_or_default();
        let limits = spec.containers.iter().filter_map(|c| c.resources.as_ref()?.limits.clone()).flatten();
        let wants = limits.filter(|(resource, _)| resource.starts_with("nvidia.com/"));
        let mut given = BTreeSet::new();
        let mut short = None;
        {
            let log = self.log.lock().unwrap();
            let taken: BTreeSet<&String> = log.given.values().flat_map(|(_, devices)| devices).collect();
            for (resource, n) in wants {
                let n: usize = n.0.parse().unwrap();
                let free = healthy.iter().rev().filter(|(uuid, of)| **of == resource && !taken.contains(uuid));
                let uuids: Vec<String> = free.map(|(uuid, _)| uuid.clone()).take(n).collect();
                if uuids.len() < n {
                    short = Some(format!("Requested: {n}, Available: {}", uuids.len()));
                }
                given.extend(uuids);
            }
        }
        let now = jiff::Timestamp::now().to_string();
        let status = match short {
            Some(why) => {
                self.log.lock().unwrap().rejected.push(id.to_owned());
                let message = format!("Pod was rejected: {why}, which is unexpected");
                json!({ "phase": "Failed", "reason": "UnexpectedAdmissionError", "message": message, "startTime": now })
            }
            None => {
                let uid = pod.uid().unwrap_or_default();
                self.log.lock().unwrap().given.insert(id.to_owned(), (uid, given));
                let ready = ["Ready", "ContainersReady", "Initialized", "PodScheduled"]
                    .map(|kind| json!({ "type": kind, "status": "True" }));
                json!({ "phase": "Running", "startTime": now, "conditions": ready })
            }
        };
        api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await?;
        Ok(())
    }
}
