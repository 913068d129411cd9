//! Suspensions in the cluster, from wherever its API server can be reached: every agent sees them before its next step.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::super::args::{Global, Output};
use super::super::error::Error;
use super::super::exit::Exit;
use super::super::fleet::{self, Purpose, on};
use super::super::output;
use super::super::this_node::{client, runtime};
use super::{Change, Told, chosen, document, remember, tell};
use crate::cluster::KubeCluster;
use crate::host::memory::{MemoryFile, Use};
use crate::model::observed::{Scope, Suspension};
use crate::model::plan::FORMAT_VERSION;
use crate::ports::{Port, PortError, Reason};

/// The cluster, and what waits for it.
struct Afar {
    runtime: tokio::runtime::Runtime,
    kube: KubeCluster,
}

/// Suspends or resumes the nodes that `--node` means, or the whole fleet.
pub(super) fn set(global: &Global, change: &Change<'_>) -> Result<Exit, Error> {
    let runtime = runtime()?;
    let kube = KubeCluster::new(client(global, &runtime)?, None);
    let afar = Afar { runtime, kube };
    match &global.node {
        Some(glob) => nodes(&afar, global, glob, change),
        None => whole(&afar, global, change),
    }
}

fn refused(error: PortError) -> Error {
    let told = Error::failed("the cluster could not be asked");
    told.caused_by(error).hint("`kubectl auth can-i patch nodes` tells whether you may")
}

impl Afar {
    fn ask<T>(&self, asked: impl Future<Output = Port<T>>) -> Result<T, Error> {
        self.runtime.block_on(asked).map_err(refused)
    }

    /// Who is not told of it has lost nothing but the record.
    fn record(&self, node: Option<&str>, change: &Change<'_>, before: Option<&Suspension>) {
        let (reason, message) = event(change, before);
        if let Err(error) = self.runtime.block_on(self.kube.tell_suspension(node, reason, &message)) {
            tracing::warn!("it is done, and not recorded as an event: {error}");
        }
    }
}

/// What is recorded of a change.
fn event(change: &Change<'_>, before: Option<&Suspension>) -> (Reason, String) {
    let someone = |by: &Option<String>| by.clone().unwrap_or_else(|| "somebody".to_owned());
    match change {
        Change::Suspend { reason, by, .. } => (Reason::Suspended, format!("{} suspended it: {reason}", someone(by))),
        Change::Resume { reason, by } => {
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let before = before.map(|before| format!(" (it was suspended {before})")).unwrap_or_default();
            (Reason::Resumed, format!("{} resumed it{reason}{before}", someone(by)))
        }
    }
}

fn nodes(afar: &Afar, global: &Global, glob: &str, change: &Change<'_>) -> Result<Exit, Error> {
    let all = afar.ask(afar.kube.suspensions())?;
    let names = chosen(all.keys(), Some(glob))?;
    let now = change.becomes(Timestamp::now(), Scope::Node);
    let mut failed = if now.is_none() { here(global, &names)? } else { BTreeMap::new() };
    let mut told = Vec::new();
    for name in names {
        let before = all.get(&name).cloned().flatten();
        if before.is_some() || now.is_some() {
            afar.ask(afar.kube.suspend_node(&name, now.as_ref()))
                .map_err(|error| error.hint(format!("node {name}")))?;
            afar.record(Some(&name), change, before.as_ref());
        }
        let failed = failed.remove(&name);
        told.push(Told { name, before, now: now.clone(), failed });
    }
    let exit = tell(told, global)?;
    if now.is_none()
        && let Ok(Some(whole)) = afar.runtime.block_on(afar.kube.fleet_suspension())
    {
        output::tell(&format!("Every node is still suspended {whole}\n`sectile resume --fleet` ends that.\n"));
    }
    Ok(exit)
}

fn whole(afar: &Afar, global: &Global, change: &Change<'_>) -> Result<Exit, Error> {
    let before = afar.ask(afar.kube.fleet_suspension())?;
    let now = change.becomes(Timestamp::now(), Scope::Fleet);
    if before.is_some() || now.is_some() {
        afar.ask(afar.kube.suspend_fleet(now.as_ref()))?;
        afar.record(None, change, before.as_ref());
    }
    if global.output == Output::Json {
        return document(&json!({ "format_version": FORMAT_VERSION, "fleet": { "suspended": now } }));
    }
    tell(vec![Told { name: "the fleet".to_owned(), before, now, failed: None }], global)
}

/// Where this is one of the nodes itself, what it remembers is changed too: it may have been suspended here, and what failed
/// on it is tried again.
fn here(global: &Global, names: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let known = MemoryFile::open(global.state(), Use::Look);
    let known = known.map(|memory| memory.with(|memory| memory.nodes.keys().cloned().collect::<Vec<_>>()));
    let Some(name) = names.iter().find(|name| known.as_ref().is_ok_and(|known| known.contains(name))) else {
        return Ok(BTreeMap::new());
    };
    let mine = Global { node: Some(name.clone()), ..global.clone() };
    on!(fleet::open(&mine, Purpose::Remember)?, fleet => remember(&fleet, std::slice::from_ref(name), None))
}
