//! NVIDIA's devices in dynamic resource allocation: ResourceSlices and ResourceClaims (`resource.k8s.io/v1`, 1.34).
//!
//! Static MIG devices bear their UUID and profile as attributes. A slice of shared counters means that the driver makes
//! MIG devices by itself (k8s-dra-driver-gpu, partitions.go).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, ResourceClaim, ResourceSlice};

use super::names::DRA_DRIVER;
use crate::model::ProfileName;

/// A device that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) uuid: Option<String>,
    pub(super) profile: Option<ProfileName>,
}

/// What is needed of a slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SliceItem {
    pub(super) node: Option<String>,
    pub(super) pool: String,
    /// Whether the driver cuts GPUs by itself.
    pub(super) dynamic: bool,
    /// By name.
    pub(super) devices: BTreeMap<String, Published>,
}

/// What is needed of a slice; `None`: it is another driver's.
pub(super) fn slice(slice: &ResourceSlice) -> Option<SliceItem> {
    let spec = slice.spec.clone();
    if spec.driver != DRA_DRIVER {
        return None;
    }
    let devices = spec.devices.unwrap_or_default().into_iter().map(|device| (device.name.clone(), published(&device)));
    Some(SliceItem {
        node: spec.node_name,
        pool: spec.pool.name,
        dynamic: spec.shared_counters.is_some_and(|counters| !counters.is_empty()),
        devices: devices.collect(),
    })
}

fn published(device: &Device) -> Published {
    let attribute = |name: &str| {
        let all = device.attributes.as_ref()?;
        let qualified = format!("{DRA_DRIVER}/{name}");
        let DeviceAttribute { string, .. } = all.get(name).or_else(|| all.get(&qualified))?;
        string.clone()
    };
    Published { uuid: attribute("uuid"), profile: attribute("profile").and_then(|profile| profile.parse().ok()) }
}

/// What is needed of a claim.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClaimItem {
    /// Devices that it was given: pool and name.
    pub(super) devices: Vec<(String, String)>,
    /// Names of the pods that it is reserved for.
    pub(super) holders: BTreeSet<String>,
}

/// What is needed of a claim; `None`: it has none of our devices.
pub(super) fn claim(claim: &ResourceClaim) -> Option<ClaimItem> {
    let status = claim.status.as_ref()?;
    let results = status.allocation.as_ref()?.devices.as_ref()?.results.as_deref().unwrap_or_default();
    let ours = results.iter().filter(|result| result.driver == DRA_DRIVER);
    let devices: Vec<_> = ours.map(|result| (result.pool.clone(), result.device.clone())).collect();
    let holders = status.reserved_for.iter().flatten().filter(|holder| holder.resource == "pods");
    let holders = holders.map(|holder| holder.name.clone()).collect();
    (!devices.is_empty()).then_some(ClaimItem { devices, holders })
}

/// The devices of all slices, by pool and name.
pub(super) fn devices<'a>(
    slices: impl Iterator<Item = &'a SliceItem>,
) -> BTreeMap<(String, String), (Option<String>, Published)> {
    let of = |slice: &'a SliceItem| {
        let all = slice.devices.iter();
        all.map(|(name, device)| ((slice.pool.clone(), name.clone()), (slice.node.clone(), device.clone())))
    };
    slices.flat_map(of).collect()
}
