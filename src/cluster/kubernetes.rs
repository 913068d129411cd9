//! The cluster behind its port: mirrors for what changes without us, requests for what we change, the kubelet for who
//! holds what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Node, ObjectReference, Pod as KubePod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;

use super::holders;
use super::kubelet::{Kubelet, Start};
use super::names::{BUDGETS, CONTROLLER, NAMESPACE, NODE_EVENTS};
use super::node::NodeItem;
use super::picture::{AfarNode, Mirrors, Picture};
use super::places;
use super::pods::{self, PodItem, Role, uuid};
use super::requests::{self, Call};
use super::transport::{Reply, send, words};
use crate::model::observed::{Known, NodeInCluster, Suspension, WorkloadState};
use crate::model::policy::Allocation;
use crate::model::{Bind, Digest, Gap, Object, ObservedCluster, Place, Places, Pod};
use crate::ports::{Cluster, ClusterEvent, Eviction, Port, PortError, Reason, Removal, Shown, Version, foremost};

/// A server that does not take a connection in this time is away.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a patch is made anew where somebody else was faster.
pub(super) const CONFLICTS: u32 = 5;
/// An event's note may have no more bytes (events.k8s.io/v1).
const MOST_NOTE: usize = 1024;

/// How a cluster is reached.
#[derive(Clone, Debug, Default)]
pub struct Access<'a> {
    /// A kubeconfig; without one KUBECONFIG, the user's, or the pod's own service account.
    pub kubeconfig: Option<&'a Path>,
    /// A context of it.
    pub context: Option<&'a str>,
}

impl Access<'_> {
    /// A client. To be called within tokio.
    ///
    /// # Errors
    ///
    /// Where the configuration can't be read, or nobody tells where the cluster is.
    pub async fn client(&self) -> Port<Client> {
        let failed = |what: String, error: &(dyn std::error::Error + 'static)| PortError {
            transient: false,
            code: words(error),
            message: what,
        };
        let options = KubeConfigOptions { context: self.context.map(str::to_owned), ..KubeConfigOptions::default() };
        let config = match (self.kubeconfig, self.context) {
            (Some(path), _) => {
                let unreadable = || format!("the kubeconfig {} can't be used", path.display());
                let read = Kubeconfig::read_from(path).map_err(|error| failed(unreadable(), &error))?;
                Config::from_custom_kubeconfig(read, &options).await.map_err(|error| failed(unreadable(), &error))
            }
            (None, Some(context)) => Config::from_kubeconfig(&options)
                .await
                .map_err(|error| failed(format!("the context {context} of the kubeconfig can't be used"), &error)),
            (None, None) => {
                Config::infer().await.map_err(|error| failed("nobody tells where the cluster is".to_owned(), &error))
            }
        };
        let mut config = config?;
        // What is tried again, and when, the executor decides.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        Client::try_from(config).map_err(|error| failed("no client for the cluster can be made".to_owned(), &error))
    }
}

/// A cluster, seen from one of its nodes or from outside.
pub struct KubeCluster {
    client: Client,
    /// The node that this program runs on, with its kubelet.
    own: Option<(String, Kubelet)>,
    mirrors: OnceLock<Mirrors>,
    /// UIDs of pods that we evicted: they are on their way, also where a watch tells it later.
    evicted: Mutex<BTreeSet<String>>,
    /// The kubelet's start while the clients are paused.
    paused_in: Mutex<Option<Start>>,
}

impl fmt::Debug for KubeCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeCluster").field("own", &self.own).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an event is about; what has no namespace is told of in that of nodes.
#[derive(Debug)]
pub(super) struct About<'a> {
    pub(super) kind: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) uid: Option<String>,
}

/// A list of pods.
#[derive(Deserialize)]
struct Listed {
    items: Vec<KubePod>,
}

fn nameless(what: &str) -> PortError {
    PortError { transient: false, code: "400".to_owned(), message: format!("`{what}` is no name of anything") }
}

fn unknown_node(node: &str) -> PortError {
    PortError {
        transient: false,
        code: "404".to_owned(),
        message: format!("the cluster has no node {node} (--node tells what it calls this one)"),
    }
}

impl KubeCluster {
    /// A cluster seen from `own`, a node with the kubelet of that socket; `None`: from outside, where nobody tells which
    /// pod holds which device but the pods' status.
    pub fn new(client: Client, own: Option<(&str, &Path)>) -> Self {
        KubeCluster {
            client,
            own: own.map(|(node, socket)| (node.to_owned(), Kubelet::new(socket))),
            mirrors: OnceLock::new(),
            evicted: Mutex::default(),
            paused_in: Mutex::default(),
        }
    }

    /// The cluster from afar with what was bound there, and its nodes: what it tells of each, its labels, and what it has
    /// published of itself.
    ///
    /// # Errors
    ///
    /// As [`Cluster::observe`].
    pub async fn fleet(&self) -> Port<(ObservedCluster, BTreeMap<String, AfarNode>)> {
        let picture = self.picture().await?;
        let mut observed = picture.observed(None, self.mirrors().gaps());
        match self.record().await.and_then(|record| record.bound()) {
            Ok(bound) => observed.bound = Known::Known(bound),
            Err(error) => observed.gaps.push(Gap { object: "bindings".to_owned(), message: error.to_string() }),
        }
        Ok((observed, picture.fleet()))
    }

    /// Another number than before: what is kept by watches may have changed.
    pub fn changes(&self) -> u64 {
        // Where nothing is watched yet, nothing has changed; and to begin takes a runtime.
        self.mirrors.get().map_or(0, Mirrors::changes)
    }

    pub(super) fn mirrors(&self) -> &Mirrors {
        self.mirrors.get_or_init(|| Mirrors::begin(&self.client))
    }

    fn kubelet(&self, node: &str) -> Option<&Kubelet> {
        self.own.as_ref().filter(|(own, _)| own == node).map(|(_, kubelet)| kubelet)
    }

    async fn picture(&self) -> Port<Picture> {
        let evicted = lock(&self.evicted).clone();
        let picture = self.mirrors().picture(evicted).await?;
        // Who is gone is gone.
        lock(&self.evicted).retain(|uid| picture.knows(uid));
        Ok(picture)
    }

    async fn item(&self, node: &str) -> Port<Option<NodeItem>> {
        self.mirrors().nodes.with(|nodes| nodes.get(&(String::new(), node.to_owned())).cloned()).await
    }

    pub(super) async fn ask(&self, call: Option<Call>, what: &str) -> Port<Reply> {
        send(&self.client, call.ok_or_else(|| nameless(what))?).await
    }

    /// Tells an event; `by`: who reports it.
    pub(super) async fn tell(&self, about: About<'_>, reason: Reason, message: &str, by: &str) -> Port<()> {
        let About { kind, namespace, name, uid } = about;
        let note =
            message.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MOST_NOTE).map(|(_, c)| c).collect();
        let told = Event {
            metadata: ObjectMeta {
                generate_name: Some("sectile-".to_owned()),
                namespace: Some(namespace.unwrap_or(NODE_EVENTS).to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(by.to_owned()),
            action: Some("Repartition".to_owned()),
            reason: Some(reason.word().to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some(kind.to_owned()),
                namespace: namespace.map(str::to_owned),
                name: Some(name.to_owned()),
                uid,
                ..ObjectReference::default()
            }),
            note: Some(note),
            type_: Some(if reason.warns() { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        self.ask(requests::event(namespace.unwrap_or(NODE_EVENTS), &told, name), name).await?.done()
    }

    /// Changes a node by a patch that is made from what it is now; again where somebody else was faster.
    async fn patch(&self, node: &str, patch: impl Fn(&NodeItem) -> Option<Value>) -> Port<()> {
        let mut now = self.item(node).await?.ok_or_else(|| unknown_node(node))?;
        for _ in 0..CONFLICTS {
            let Some(body) = patch(&now) else { return Ok(()) };
            let reply = self.ask(requests::patch_node(node, &body), node).await?;
            let read = if reply.status == 409 { self.ask(requests::node(node), node).await? } else { reply };
            let fresh: Node = read.read()?;
            now = NodeItem::of(&fresh);
            self.mirrors().nodes.put(&fresh, now.clone());
        }
        // The last answer may be that of a patch that took.
        match patch(&now) {
            None => Ok(()),
            Some(_) => Err(PortError {
                transient: true,
                code: "409".to_owned(),
                message: format!("node {node} is changed by others all the time"),
            }),
        }
    }

    /// Takes back what a patch did; of a node that is gone everything is.
    async fn unpatch(&self, node: &str, patch: impl Fn(&NodeItem) -> Option<Value>) -> Port<()> {
        match self.patch(node, patch).await {
            Err(error) if error.code.starts_with("404") => Ok(()),
            done => done,
        }
    }

    /// Pods on a node that advertise its GPUs.
    async fn plugins(&self, node: &str) -> Port<Vec<PodItem>> {
        let on = |item: &&PodItem| {
            let plugin = matches!(item.role, Role::DevicePlugin | Role::DraPlugin);
            plugin && item.pod.node.as_deref() == Some(node)
        };
        self.mirrors().pods.with(|pods| pods.values().filter(on).cloned().collect()).await
    }

    /// Deletes these pods, whose DaemonSets make new ones.
    async fn delete_all(&self, items: &[PodItem]) -> Port<()> {
        let how = Removal { grace_period_s: None, delete: true, dry_run: false };
        for PodItem { pod, .. } in items {
            if let Eviction::TooMany { .. } = self.remove(pod, how).await? {
                return Err(PortError {
                    transient: true,
                    code: "429".to_owned(),
                    message: format!("deleting pod {}", pod.id()),
                });
            }
        }
        Ok(())
    }

    async fn remove(&self, pod: &Pod, how: Removal) -> Port<Eviction> {
        let Pod { namespace, name, uid, .. } = pod;
        let call = match how.delete {
            true => requests::delete(namespace, name, uid, how),
            false => requests::evict(namespace, name, uid, how),
        };
        let reply = self.ask(call, name).await?;
        match reply.status {
            404 => Ok(Eviction::Gone),
            // Either the pod of that name is another one now, or somebody else changes it.
            409 => match self.pod(namespace, name).await? {
                Some(now) if now.uid == *uid => reply.done().map(|()| Eviction::Accepted),
                _ => Ok(Eviction::Gone),
            },
            429 => Ok(Eviction::TooMany { retry_after_s: reply.retry_after_s }),
            500 if reply.refusal().message.contains("more than one PodDisruptionBudget") => {
                reply.done().map_err(|error| PortError { transient: false, ..error }).map(|()| Eviction::Accepted)
            }
            _ => reply.done().map(|()| Eviction::Accepted),
        }
    }

    /// An error where the kubelet was restarted while the clients are paused: it may reject pods that are to stay.
    fn restarted(&self, kubelet: &Kubelet) -> Port<()> {
        let before = *lock(&self.paused_in);
        match before {
            Some(before) if kubelet.start() != Some(before) => Err(PortError {
                transient: false,
                code: "restarted".to_owned(),
                message: "the kubelet was restarted while what advertises the GPUs was paused, and may reject pods \
                          that are to stay"
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl Cluster for KubeCluster {
    async fn observe(&self) -> Port<ObservedCluster> {
        let picture = self.picture().await?;
        let mut gaps = self.mirrors().gaps();
        let mut given = None;
        if let Some((node, kubelet)) = &self.own {
            match kubelet.list().await {
                Ok(listed) => given = Some((node.as_str(), listed)),
                // The pods' status may tell.
                Err(error) => {
                    gaps.push(Gap { object: format!("devices of pods on {node}"), message: error.to_string() })
                }
            }
        }
        Ok(picture.observed(given.as_ref().map(|(node, listed)| (*node, listed.as_slice())), gaps))
    }

    async fn node(&self, node: &str) -> Port<Option<NodeInCluster>> {
        let picture = self.picture().await?;
        let is_own = self.own.as_ref().is_some_and(|(own, _)| own == node);
        let Some(mut told) = picture.node(node) else {
            // Whose pods are not looked for are not seen.
            return if is_own { Err(unknown_node(node)) } else { Ok(None) };
        };
        // Where nothing hands devices out, none is hidden.
        if told.allocation != Allocation::Auto
            && let Some(kubelet) = self.kubelet(node)
            && let Ok(devices) = kubelet.allocatable().await
        {
            let ids = devices.iter().flat_map(|devices| &devices.device_ids).filter_map(|id| uuid(id));
            let mut advertised: BTreeSet<String> = ids.filter(|id| id.starts_with("MIG-")).collect();
            advertised.extend(picture.published(node));
            told.advertised = Known::Known(advertised);
        }
        Ok(Some(told))
    }

    async fn labels(&self, node: &str) -> Port<Option<BTreeMap<String, String>>> {
        Ok(self.item(node).await?.map(|item| item.labels))
    }

    async fn holders(&self, node: &str) -> Port<Vec<Pod>> {
        let picture = self.picture().await?;
        // Not what a watch told last; and before the kubelet, which may admit more in between.
        let reply = self.ask(requests::pods_of(node), node).await?;
        let listed: Listed = reply.read()?;
        let items = listed.items.iter().filter_map(pods::keep).filter(|item| item.role == Role::User);
        let items: Vec<PodItem> = items.collect();
        let given = match self.kubelet(node) {
            Some(kubelet) => {
                self.restarted(kubelet)?;
                // Who holds what besides these pods only it can tell.
                Some(holders::given(&kubelet.list().await?, &picture.claimed))
            }
            None => None,
        };
        Ok(holders::join(&items, given.as_ref(), &picture.claimed, node))
    }

    async fn pod(&self, namespace: &str, name: &str) -> Port<Option<Pod>> {
        let reply = self.ask(requests::pod(namespace, name), name).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let pod: KubePod = reply.read()?;
        let item = pods::read(&pod);
        Ok(item.map(|item| item.pod))
    }

    async fn set_taint(&self, node: &str, plan: Option<&Digest>) -> Port<()> {
        let now = Timestamp::now().to_string();
        match plan {
            Some(plan) => self.patch(node, |item| item.taint(plan, &now)).await,
            None => self.unpatch(node, NodeItem::untaint).await,
        }
    }

    async fn set_clients_paused(&self, node: &str, plan: Option<&Digest>) -> Port<()> {
        let now = Timestamp::now().to_string();
        let Some(plan) = plan else {
            let Some(item) = self.item(node).await? else { return Ok(()) };
            if item.is_paused() {
                // What no label deploys was never stopped, and reads what is there when it starts. The mark goes last,
                // so that whoever is cut short here does it again.
                let plugins = self.plugins(node).await?;
                let picture = self.picture().await?;
                let operated = picture.is_operated(&item);
                let restart = |item: &PodItem| item.role == Role::DraPlugin || !operated;
                self.delete_all(&plugins.into_iter().filter(restart).collect::<Vec<_>>()).await?;
            }
            self.unpatch(node, NodeItem::resume).await?;
            *lock(&self.paused_in) = None;
            return Ok(());
        };
        self.patch(node, |item| item.pause(plan, &now)).await?;
        lock(&self.paused_in).clone_from(&self.kubelet(node).and_then(Kubelet::start));
        Ok(())
    }

    async fn restart_clients(&self, node: &str) -> Port<()> {
        let plugins = self.plugins(node).await?;
        self.delete_all(&plugins).await
    }

    async fn remove_pod(&self, namespace: &str, name: &str, uid: &str, how: Removal) -> Port<Eviction> {
        let pod = holders::nobody(namespace, name, uid);
        let done = self.remove(&pod, how).await?;
        if done == Eviction::Accepted && !how.dry_run {
            lock(&self.evicted).insert(uid.to_owned());
        }
        Ok(done)
    }

    async fn writer_gone(&self, node: &str) -> Port<Vec<String>> {
        let on = |item: &&PodItem| item.role == Role::MigManager && item.pod.node.as_deref() == Some(node);
        self.mirrors().pods.with(|pods| pods.values().filter(on).map(|item| item.pod.id()).collect()).await
    }

    async fn set_label(&self, node: &str, key: &str, value: &str) -> Port<()> {
        self.patch(node, |item| item.label(key, value)).await
    }

    async fn is_going(&self, node: &str) -> Port<Option<bool>> {
        let reply = self.ask(requests::node(node), node).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let fresh: Node = reply.read()?;
        let item = NodeItem::of(&fresh);
        Ok(Some(item.is_tainted() || item.is_paused()))
    }

    async fn places(&self) -> Port<(Version, Places)> {
        let reply = self.ask(requests::budgets(), BUDGETS).await?;
        if reply.status == 404 {
            return Ok((Version(None), Places::new()));
        }
        let read: ConfigMap = reply.read()?;
        Ok((Version(read.metadata.resource_version.clone()), places::read(&read)))
    }

    async fn set_place(&self, version: &Version, holder: &str, place: Option<&Place>) -> Port<bool> {
        let Version(Some(version)) = version else {
            return Err(PortError {
                transient: false,
                code: "404".to_owned(),
                message: format!(
                    "there is no ConfigMap {BUDGETS} in the namespace {NAMESPACE} to share budgets by; \
                     `kubectl apply -k packaging/kubernetes` makes it"
                ),
            });
        };
        let reply = self.ask(requests::patch_budgets(&places::patch(version, holder, place)), BUDGETS).await?;
        if reply.status == 409 {
            return Ok(false);
        }
        reply.done().map(|()| true)
    }

    async fn stopped(&self, node: &str) -> Port<Option<Suspension>> {
        let key = (String::new(), node.to_owned());
        let now = Timestamp::now();
        let own = self.mirrors().nodes.last(|nodes| nodes.get(&key).and_then(|node| node.suspended(now))).await?;
        let whole = self.mirrors().whole.last(|all| all.values().next().cloned()).await?;
        Ok(foremost([own, whole], now))
    }

    async fn workload(&self, object: &Object) -> Port<Option<WorkloadState>> {
        self.look_up(object).await
    }

    async fn bind(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        self.set(bind, revision, dry_run).await
    }

    async fn unbind(&self, bind: &Bind, revision: &str, dry_run: bool) -> Port<()> {
        self.take_back(bind, revision, dry_run).await
    }

    async fn publish(&self, node: &str, shown: &Shown<'_>) -> Port<()> {
        self.patch(node, |item| item.show(shown)).await
    }

    async fn event(&self, event: &ClusterEvent<'_>) -> Port<()> {
        let ClusterEvent { node, pod, reason, message } = event;
        let about = match *pod {
            Some((namespace, name, uid)) => {
                About { kind: "Pod", namespace: Some(namespace), name, uid: Some(uid.to_owned()) }
            }
            None => {
                let uid = self.item(node).await?.map(|item| item.uid);
                About { kind: "Node", namespace: None, name: node, uid }
            }
        };
        self.tell(about, *reason, message, node).await
    }
}
