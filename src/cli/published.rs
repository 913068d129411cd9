//! A fleet seen from afar: what its nodes have published, or saved status documents, with what the cluster tells.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::cluster::{AfarNode, KubeCluster, LeaseState, Published};
use crate::config::NodeFacts;
use crate::execute::bind::look_at;
use crate::model::observed::{NodeInCluster, Scope, Suspension};
use crate::model::{Binding, Gap, Known, Observed, ObservedCluster, ObservedNode};
use crate::ports::{Cluster as _, Port};
use crate::render::view::{self, View};

use super::args::Global;
use super::error::{Context as _, Error};
use super::input;
use super::this_node::{client, runtime};

/// Nodes that were seen some time ago.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) observed: Observed,
    /// When each was seen.
    pub(super) at: BTreeMap<String, Timestamp>,
    /// How they say that they stand.
    pub(super) published: BTreeMap<String, Published>,
    /// Who told that a silent node is to be left alone.
    pub(super) suspended: BTreeMap<String, Suspension>,
    /// Nodes of the cluster that have published nothing that can be read: only their names and labels are known.
    pub(super) silent: Vec<NodeFacts>,
    /// The controller's lease, where it was asked for.
    pub(super) lease: Option<Port<Option<LeaseState>>>,
}

/// What the nodes of a cluster have published, and how the workloads of these bindings stand; with `lease`, who controls it,
/// as far as that may be seen.
pub(super) fn cluster<'a>(
    global: &Global,
    bindings: impl Iterator<Item = &'a Binding>,
    lease: bool,
) -> Result<Seen, Error> {
    let runtime = runtime()?;
    let kube = KubeCluster::new(client(global, &runtime)?, None);
    let asked = runtime.block_on(async {
        let (mut cluster, nodes) = kube.fleet().await?;
        look_at(&kube, bindings, &mut cluster).await;
        look_at_places(&kube, &mut cluster).await;
        Ok((cluster, nodes))
    });
    let asked: Port<_> = asked;
    let (cluster, nodes) = asked.map_err(|error| {
        Error::failed("the cluster could not be asked")
            .caused_by(error)
            .hint("`kubectl get nodes` tells whether it answers")
    })?;
    let mut seen = seen(cluster, nodes);
    if lease {
        seen.lease = Some(runtime.block_on(kube.lease()));
    }
    Ok(seen)
}

/// Who holds which places of the budgets. What can't be read is a gap.
pub(super) async fn look_at_places(kube: &KubeCluster, cluster: &mut ObservedCluster) {
    match kube.places().await {
        Ok((_, places)) => cluster.places = Known::Known(places),
        Err(error) => cluster.gaps.push(Gap { object: "places of budgets".to_owned(), message: error.to_string() }),
    }
}

/// What the nodes of a cluster have published, with what the cluster tells of them now.
pub(super) fn seen(cluster: ObservedCluster, nodes: BTreeMap<String, AfarNode>) -> Seen {
    let mut seen = Seen { observed: Observed { cluster, ..Observed::default() }, ..Seen::default() };
    for (name, AfarNode { told, labels, view, published, suspended }) in nodes {
        seen.published.insert(name.clone(), published);
        let read = view.as_deref().map(|text| of_node(&name, text));
        let gap = match &read {
            Some(Err(why)) => Some(Gap { object: format!("what {name} has published"), message: why.clone() }),
            _ => None,
        };
        seen.observed.cluster.gaps.extend(gap);
        let Some(Ok(view)) = read else {
            seen.suspended.extend(suspended.map(|suspended| (name.clone(), suspended)));
            let (labels, gpus, changed) = (Known::Known(labels), Vec::new(), None);
            seen.silent.push(NodeFacts { name, labels, gpus, changed });
            continue;
        };
        let mut node = ObservedNode { labels: Known::Known(labels), ..view.node };
        // Taint, pause and what is allocatable are told by the cluster itself; what is advertised only the kubelet knows.
        let advertised = node.cluster.take().map(|then| then.advertised).unwrap_or_default();
        node.cluster = Some(NodeInCluster { advertised, ..told });
        // What was suspended in the cluster stands there; what was suspended on the node, it alone tells.
        let here = node.suspended.filter(|suspended| suspended.scope == Scope::Here);
        node.suspended = suspended.or(here);
        seen.at.insert(name.clone(), view.at);
        seen.observed.nodes.insert(name, node);
    }
    seen
}

/// What a node has published of itself.
fn of_node(name: &str, text: &str) -> Result<View, String> {
    let view = view::read(text)?;
    let of = &view.node.name;
    if of == name { Ok(view) } else { Err(format!("it is of node {of}")) }
}

/// A document that `status -o json` printed, as far as it tells what was seen.
#[derive(Deserialize)]
struct Document {
    cluster: ObservedCluster,
    nodes: Vec<DocumentNode>,
}

#[derive(Deserialize)]
struct DocumentNode {
    observed_at: Timestamp,
    observed: Option<ObservedNode>,
}

/// Saved status documents. What each tells of the cluster adds up; the latest word on a thing counts.
pub(super) fn documents(folder: &Path) -> Result<Seen, Error> {
    let entries = std::fs::read_dir(folder).context(|| format!("{} can't be read", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    if paths.is_empty() {
        let error = Error::usage(format!("{} holds no file *.json", folder.display()));
        return Err(error.hint("`sectile status -o json > DIR/NODE.json` saves what a node sees"));
    }
    let mut documents = Vec::new();
    for path in &paths {
        let text = input::text(path, "the status document")?;
        let read: Document = serde_json::from_str(&text)
            .context(|| format!("{} is no status document", path.display()))
            .map_err(|error| error.hint("`sectile status -o json` prints one"))?;
        let at = read.nodes.iter().map(|node| node.observed_at).max();
        documents.push((at, read));
    }
    documents.sort_by_key(|(at, _)| *at);
    let mut seen = Seen::default();
    let mut pods = BTreeMap::new();
    let (mut budgets, mut workloads) = (BTreeMap::new(), BTreeMap::new());
    for (_, Document { cluster, nodes }) in documents {
        let ObservedCluster { pods: p, budgets: b, workloads: w, bound, free, strangers, gaps, peers: _, places: _ } =
            cluster;
        // Whoever is told last of one is right; one that is gone by then was there.
        pods.extend(p.into_iter().map(|pod| (pod.id(), pod)));
        budgets.extend(b.into_iter().map(|b| ((b.namespace.clone(), b.name.clone()), b)));
        workloads.extend(w.into_iter().map(|w| ((w.kind.clone(), w.namespace.clone(), w.name.clone()), w)));
        if let Known::Known(bound) = bound {
            seen.observed.cluster.bound = Known::Known(bound);
        }
        seen.observed.cluster.free.extend(free);
        seen.observed.cluster.strangers.extend(strangers);
        seen.observed.cluster.gaps.extend(gaps);
        for DocumentNode { observed_at, observed } in nodes {
            if let Some(node) = observed {
                seen.at.insert(node.name.clone(), observed_at);
                seen.observed.nodes.insert(node.name.clone(), node);
            }
        }
    }
    seen.observed.cluster.pods = pods.into_values().collect();
    seen.observed.cluster.budgets = budgets.into_values().collect();
    seen.observed.cluster.workloads = workloads.into_values().collect();
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn what_a_node_has_published_under_anothers_name_is_not_taken_for_a_node() {
        let node = ObservedNode {
            name: "n".to_owned(),
            labels: Known::Unknown,
            gpus: Vec::new(),
            lost: BTreeSet::new(),
            units: BTreeMap::new(),
            cluster: None,
            device_files: BTreeSet::new(),
            gaps: Vec::new(),
            inventory: Vec::new(),
            suspended: None,
        };
        let text = view::write(&node, Timestamp::UNIX_EPOCH);
        let told = |view| AfarNode {
            told: NodeInCluster::default(),
            labels: BTreeMap::new(),
            view,
            published: Published::default(),
            suspended: None,
        };
        let nodes = [("n", Some(text.clone())), ("m", Some(text)), ("silent", None), ("odd", Some("{}".to_owned()))];
        let seen = seen(
            ObservedCluster::default(),
            nodes.map(|(name, view)| (name.to_owned(), told(view))).into_iter().collect(),
        );
        assert_eq!(seen.observed.nodes.keys().collect::<Vec<_>>(), ["n"]);
        assert_eq!(seen.silent.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["m", "odd", "silent"]);
        let gaps: Vec<_> = seen.observed.cluster.gaps.iter().map(|gap| (&*gap.object, &*gap.message)).collect();
        assert_eq!(gaps.first(), Some(&("what m has published", "it is of node n")));
        assert_eq!(
            gaps.iter().map(|(object, _)| *object).collect::<Vec<_>>(),
            ["what m has published", "what odd has published"]
        );
    }
}
