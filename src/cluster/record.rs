//! What is recorded in the cluster of bindings: a ConfigMap with a key for each workload, and the order of revisions. It is
//! how what a tree says no more is found, and who may write over whom.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::kubernetes::{CONFLICTS, KubeCluster};
use super::names::{ACCEPTED, RECORD, REVISIONS};
use super::requests;
use crate::model::binding::newer;
use crate::model::{Bind, Bound, Object};
use crate::ports::{Port, PortError};

/// So many revisions are remembered: more than one who is behind can be late.
const MOST_REVISIONS: usize = 100;

/// The ConfigMap.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Record {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    /// Absent: there is no such object yet.
    resource_version: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The key of a workload: parts that have no underscore.
fn key(of: &Object) -> String {
    let Object { api_version, kind, namespace, name, path: _ } = of;
    let group = api_version.split_once('/').map_or("core", |(group, _)| group);
    format!("{group}_{kind}_{namespace}_{name}")
}

fn unreadable(key: &str, why: &serde_json::Error) -> PortError {
    PortError {
        transient: false,
        code: why.to_string(),
        message: format!("the key {key} of configmap {}/{} can't be read", RECORD.0, RECORD.1),
    }
}

impl Record {
    /// Everything that was bound.
    pub(super) fn bound(&self) -> Port<Vec<Bound>> {
        let of = self.data.iter().filter(|(key, _)| *key != REVISIONS);
        of.map(|(key, text)| serde_json::from_str(text).map_err(|error| unreadable(key, &error))).collect()
    }

    fn revisions(&self) -> Port<Vec<String>> {
        let Some(text) = self.data.get(REVISIONS) else { return Ok(Vec::new()) };
        serde_json::from_str(text).map_err(|error| unreadable(REVISIONS, &error))
    }

    /// An error where a newer revision than ours was taken up.
    pub(super) fn refuse_older(&self, ours: &str) -> Port<()> {
        let revisions = self.revisions()?;
        match newer(&revisions, ours) {
            None => Ok(()),
            Some(newer) => Err(PortError {
                transient: false,
                code: "older revision".to_owned(),
                message: format!(
                    "the cluster has taken up {newer} after {ours}, which writes over nothing any more; to go back, make a \
                     new commit (git revert)"
                ),
            }),
        }
    }

    /// The data of ours beside theirs: the revision as the newest, and a workload's entry or its end.
    fn change(&self, revision: &str, object: &Object, bound: Option<&Bound>) -> Port<Value> {
        let mut revisions = self.revisions()?;
        if !revisions.iter().any(|taken_up| taken_up == revision) {
            revisions.push(revision.to_owned());
        }
        let late = revisions.split_off(revisions.len().saturating_sub(MOST_REVISIONS));
        let text = |value: Value| Value::String(value.to_string());
        let entry = bound.map_or(Value::Null, |bound| text(json!(bound)));
        Ok(json!({ REVISIONS: text(json!(late)), key(object): entry }))
    }
}

impl KubeCluster {
    /// What is recorded; nothing where there is no record yet.
    pub(super) async fn record(&self) -> Port<Record> {
        let reply = self.ask(requests::record(), RECORD.1).await?;
        if reply.status == 404 { Ok(Record::default()) } else { reply.read() }
    }

    /// The revision of the tree that somebody accepted although it lost most of its bindings.
    ///
    /// # Errors
    ///
    /// As of any request.
    pub async fn accepted_removal(&self) -> Port<Option<String>> {
        Ok(self.record().await?.metadata.annotations.remove(ACCEPTED))
    }

    /// Takes a revision up and records what is about to be bound, or (`None`) that it was taken back; again where somebody
    /// else was faster.
    pub(super) async fn write_down(&self, revision: &str, object: &Object, bind: Option<&Bind>) -> Port<()> {
        let bound = bind.map(|bind| Bound { bind: bind.clone(), revision: revision.to_owned() });
        for _ in 0..CONFLICTS {
            let record = self.record().await?;
            record.refuse_older(revision)?;
            let data = record.change(revision, object, bound.as_ref())?;
            let call = match &record.metadata.resource_version {
                Some(version) => {
                    requests::patch_record(&json!({ "metadata": { "resourceVersion": version }, "data": data }))
                }
                None if bound.is_none() => return Ok(()),
                None => requests::make_record(&json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": { "name": RECORD.1, "namespace": RECORD.0 },
                    "data": data,
                })),
            };
            let reply = self.ask(call, RECORD.1).await?;
            if reply.status != 409 {
                return reply.done();
            }
        }
        Err(PortError {
            transient: true,
            code: "409".to_owned(),
            message: format!("configmap {}/{} is changed by others all the time", RECORD.0, RECORD.1),
        })
    }
}
