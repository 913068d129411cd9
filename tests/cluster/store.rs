//! What the mocked API server has: objects by kind, every change with its version, and who watches.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A kind that is served.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Where its objects of all namespaces are.
    pub(crate) path: &'static str,
    pub(crate) api: &'static str,
    pub(crate) name: &'static str,
}

impl Kind {
    /// `pods`.
    pub(crate) fn resource(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap()
    }
}

const fn kind(path: &'static str, api: &'static str, name: &'static str) -> Kind {
    Kind { path, api, name }
}

pub(crate) const KINDS: [Kind; 16] = [
    kind("/api/v1/nodes", "v1", "Node"),
    kind("/api/v1/pods", "v1", "Pod"),
    kind("/api/v1/configmaps", "v1", "ConfigMap"),
    kind("/apis/coordination.k8s.io/v1/leases", "coordination.k8s.io/v1", "Lease"),
    kind("/apis/policy/v1/poddisruptionbudgets", "policy/v1", "PodDisruptionBudget"),
    kind("/apis/apps/v1/deployments", "apps/v1", "Deployment"),
    kind("/apis/apps/v1/statefulsets", "apps/v1", "StatefulSet"),
    kind("/apis/apps/v1/daemonsets", "apps/v1", "DaemonSet"),
    kind("/apis/apps/v1/replicasets", "apps/v1", "ReplicaSet"),
    kind("/apis/batch/v1/jobs", "batch/v1", "Job"),
    kind("/apis/batch/v1/cronjobs", "batch/v1", "CronJob"),
    kind("/apis/ray.io/v1/rayclusters", "ray.io/v1", "RayCluster"),
    kind("/api/v1/configmaps", "v1", "ConfigMap"),
    kind("/apis/resource.k8s.io/v1/resourceclaimtemplates", "resource.k8s.io/v1", "ResourceClaimTemplate"),
    kind("/apis/resource.k8s.io/v1/resourceclaims", "resource.k8s.io/v1", "ResourceClaim"),
    kind("/apis/resource.k8s.io/v1/resourceslices", "resource.k8s.io/v1", "ResourceSlice"),
];

fn of(resource: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.resource() == resource).unwrap()
}

/// A body that is sent piece by piece, and ends when its sender is dropped.
#[derive(Debug)]
pub(crate) struct Stream(mpsc::UnboundedReceiver<io::Result<Bytes>>);

type Sender = mpsc::UnboundedSender<io::Result<Bytes>>;

impl Stream {
    /// A body with all of its bytes.
    pub(crate) fn whole(text: String) -> Self {
        let (sender, stream) = Stream::open();
        sender.send(Ok(text.into())).unwrap();
        stream
    }

    fn open() -> (Sender, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Stream(receiver))
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
    }
}

/// The objects.
#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<&'static str, BTreeMap<(String, String), Value>>,
    version: u64,
    /// Resource, version and line of every change.
    changes: Vec<(&'static str, u64, String)>,
    /// Of these versions the changes are forgotten (410).
    forgotten: u64,
    watches: Vec<(&'static str, Sender)>,
}

impl Default for Store {
    fn default() -> Self {
        let none = KINDS.iter().map(|kind| (kind.resource(), BTreeMap::new())).collect();
        Store { objects: none, version: 100, changes: Vec::new(), forgotten: 0, watches: Vec::new() }
    }
}

fn key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

impl Store {
    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects[resource].get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Makes or changes an object, and tells it.
    pub(crate) fn put(&mut self, resource: &str, object: Value) -> Value {
        self.change(resource, object, true)
    }

    /// The same, but those who watch hear of it late: when they watch anew.
    pub(crate) fn put_unheard(&mut self, resource: &str, object: Value) -> Value {
        self.change(resource, object, false)
    }

    fn change(&mut self, resource: &str, mut object: Value, heard: bool) -> Value {
        let kind = of(resource);
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["apiVersion"] = json!(kind.api);
        object["kind"] = json!(kind.name);
        let before = self.objects.get_mut(kind.resource()).unwrap().insert(key(&object), object.clone());
        self.tell(kind, if before.is_some() { "MODIFIED" } else { "ADDED" }, &object, heard);
        object
    }

    /// Changes an object by what `with` does to it.
    pub(crate) fn edit(&mut self, resource: &str, namespace: &str, name: &str, with: impl FnOnce(&mut Value)) {
        let mut object = self.get(resource, namespace, name).unwrap().clone();
        with(&mut object);
        self.put(resource, object);
    }

    pub(crate) fn remove(&mut self, resource: &str, namespace: &str, name: &str) {
        let kind = of(resource);
        let all = self.objects.get_mut(kind.resource()).unwrap();
        let mut object = all.remove(&(namespace.to_owned(), name.to_owned())).unwrap();
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell(kind, "DELETED", &object, true);
    }

    /// The same, but nobody hears of it.
    pub(crate) fn remove_unheard(&mut self, resource: &str, namespace: &str, name: &str) {
        let all = self.objects.get_mut(of(resource).resource()).unwrap();
        all.remove(&(namespace.to_owned(), name.to_owned())).unwrap();
    }

    fn tell(&mut self, kind: &Kind, what: &str, object: &Value, heard: bool) {
        let line = format!("{}\n", json!({ "type": what, "object": object }));
        self.changes.push((kind.resource(), self.version, line.clone()));
        if heard {
            self.say(kind.resource(), line);
        }
    }

    /// Sends a line to those who watch a kind.
    pub(crate) fn say(&mut self, resource: &str, line: String) {
        self.watches.retain(|(of, watch)| *of != resource || watch.send(Ok(line.clone().into())).is_ok());
    }

    /// Tells those who watch a kind up to which version they know everything.
    pub(crate) fn bookmark(&mut self, resource: &str) {
        let kind = of(resource);
        let metadata = json!({ "resourceVersion": self.version.to_string() });
        let object = json!({ "apiVersion": kind.api, "kind": kind.name, "metadata": metadata, "spec": {} });
        self.say(resource, format!("{}\n", json!({ "type": "BOOKMARK", "object": object })));
    }

    /// Ends the watches of a kind; with a connection that breaks, if `broken`.
    pub(crate) fn drop_watches(&mut self, resource: &str, broken: bool) {
        for (_, watch) in self.watches.extract_if(.., |(of, _)| *of == resource) {
            if broken {
                let _ = watch.send(Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")));
            }
        }
    }

    /// Ends all watches.
    pub(crate) fn drop_all_watches(&mut self) {
        self.watches.clear();
    }

    /// Forgets what has changed so far.
    pub(crate) fn forget(&mut self) {
        self.version += 1;
        self.forgotten = self.version;
    }

    /// A backup is played back: versions begin anew, with this object.
    pub(crate) fn restore(&mut self, resource: &str, object: Value) {
        self.version = 10;
        self.changes.clear();
        self.put_unheard(resource, object);
        self.watches.clear();
    }

    /// A page of a kind's objects.
    pub(crate) fn list(&self, resource: &str, limit: usize, from: usize) -> Value {
        let kind = of(resource);
        let all = &self.objects[resource];
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if from + limit < all.len() {
            metadata["continue"] = json!((from + limit).to_string());
        }
        let items: Vec<&Value> = all.values().skip(from).take(limit).collect();
        json!({ "apiVersion": kind.api, "kind": format!("{}List", kind.name), "metadata": metadata, "items": items })
    }

    /// Every change of a kind since a version, and those to come; `None`: they are forgotten.
    pub(crate) fn watch(&mut self, resource: &str, since: u64) -> Option<Stream> {
        if since < self.forgotten {
            return None;
        }
        let (sender, stream) = Stream::open();
        for (_, _, line) in self.changes.iter().filter(|(of, version, _)| *of == resource && *version > since) {
            sender.send(Ok(line.clone().into())).unwrap();
        }
        self.watches.push((of(resource).resource(), sender));
        Some(stream)
    }
}
