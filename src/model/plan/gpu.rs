//! One GPU in a plan: what is there, what stays, goes and comes.

use serde::{Deserialize, Serialize};

use crate::model::geometry::Placement;
use crate::model::identity::Source;
use crate::model::observed::User;
use crate::model::profile::{ComputeName, ProfileName};

/// One GPU in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuPlan {
    /// `GPU-…`.
    pub uuid: String,
    /// The index in PCI order.
    pub index: u32,
    /// The PCI bus id.
    pub pci: String,
    /// NVML's name without `NVIDIA `.
    pub model: String,
    /// Whether any entry manages it.
    pub managed: bool,
    /// The entry that won.
    pub source: Option<Source>,
    /// Less specific entries that match too.
    pub shadows: Vec<Source>,
    /// Memory slices, for drawing; 0 where unknown.
    pub units: u32,
    /// The MIG mode.
    pub mig: ModeChangePlan,
    /// Instances that stay.
    pub keep: Vec<PlanInstance>,
    /// Instances that go.
    pub destroy: Vec<PlanInstance>,
    /// Instances that come.
    pub create: Vec<PlanInstance>,
}

/// MIG mode before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChangePlan {
    /// In force now.
    pub now: bool,
    /// In force then.
    pub then: bool,
}

/// An instance in a plan (the product's `I`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInstance {
    /// Its profile, as the driver names it.
    pub profile: ProfileName,
    /// The first memory slice.
    pub start: u32,
    /// Memory slices.
    pub size: u32,
    /// The driver's id, of instances that are there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gi_id: Option<u32>,
    /// Its compute instances (then, where they change).
    pub compute: Vec<PlanCompute>,
    /// Who uses it; `null` where unknown.
    pub users: Option<Vec<User>>,
    /// The entry that wants it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<Source>,
}

impl PlanInstance {
    /// Where it lies.
    pub fn placement(&self) -> Placement {
        Placement { start: self.start, size: self.size }
    }
}

/// A compute instance in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCompute {
    /// Its profile.
    pub profile: ComputeName,
    /// `MIG-…`, of those that are there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uuid: Option<String>,
    /// Who uses it.
    pub users: Option<Vec<User>>,
}
