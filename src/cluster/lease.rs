//! The lease of the one controller that acts, and what changes it.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::ResourceExt as _;
use serde_json::json;

use super::kubernetes::KubeCluster;
use super::names::{LEASE, NAMESPACE};
use super::requests;
use crate::ports::Port;

/// The lease as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// Another one after each change.
    pub version: String,
    /// Since when it is this holder's, by the holder's clock.
    pub since: Option<Timestamp>,
    /// When it was last renewed, by the holder's clock.
    pub renewed: Option<Timestamp>,
    transitions: i32,
}

impl LeaseState {
    fn of(lease: &Lease) -> Self {
        let version = lease.resource_version().unwrap_or_default();
        let spec = lease.spec.clone().unwrap_or_default();
        LeaseState {
            holder: spec.holder_identity.unwrap_or_default(),
            version,
            since: spec.acquire_time.map(|MicroTime(time)| time),
            renewed: spec.renew_time.map(|MicroTime(time)| time),
            transitions: spec.lease_transitions.unwrap_or(0),
        }
    }
}

impl KubeCluster {
    /// The controller's lease; `None`: there was never one.
    ///
    /// # Errors
    ///
    /// Where it may not be read, or the API server does not answer.
    pub async fn lease(&self) -> Port<Option<LeaseState>> {
        let reply = self.ask(requests::lease(), LEASE).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let lease: Lease = reply.read()?;
        Ok(Some(LeaseState::of(&lease)))
    }

    /// Takes, renews or (with an empty holder) releases it where it is still as it was seen; `None`: it is not.
    ///
    /// # Errors
    ///
    /// Where it may not be changed, or the API server does not answer: whether it took is not known then.
    pub async fn set_lease(&self, holder: &str, seconds: i32, seen: Option<&LeaseState>) -> Port<Option<LeaseState>> {
        let now = MicroTime(Timestamp::now());
        let reply = match seen {
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(LEASE.to_owned()),
                        namespace: Some(NAMESPACE.to_owned()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(LeaseSpec {
                        holder_identity: Some(holder.to_owned()),
                        lease_duration_seconds: Some(seconds),
                        acquire_time: Some(now.clone()),
                        renew_time: Some(now),
                        lease_transitions: Some(0),
                        ..LeaseSpec::default()
                    }),
                };
                self.ask(requests::create_lease(&lease), LEASE).await?
            }
            Some(seen) => {
                let mut spec = json!({
                    "holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": now,
                });
                if seen.holder != holder
                    && let Some(spec) = spec.as_object_mut()
                {
                    spec.insert("acquireTime".to_owned(), json!(now));
                    spec.insert("leaseTransitions".to_owned(), json!(seen.transitions.saturating_add(1)));
                }
                let patch = json!({ "metadata": { "resourceVersion": seen.version }, "spec": spec });
                self.ask(requests::patch_lease(&patch), LEASE).await?
            }
        };
        if reply.status == 409 || (seen.is_some() && reply.status == 404) {
            return Ok(None);
        }
        let lease: Lease = reply.read()?;
        Ok(Some(LeaseState::of(&lease)))
    }
}
