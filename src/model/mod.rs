//! The nouns: what is desired, what is observed, and the plan between them. No room above is known here.

pub mod allowed;
pub mod binding;
pub mod catalogue;
pub(crate) mod closed;
pub mod desired;
pub mod geometry;
pub mod identity;
pub mod memory;
pub mod observed;
pub(crate) mod parallel;
pub mod place;
pub mod plan;
pub mod policy;
pub mod profile;
pub mod text;

pub use allowed::Allowed;
pub use binding::{Affinity, Bind, Bound, Object};
pub use desired::{AsIs, Binding, Desired, DesiredNode, Goal, GpuGoal, SharedGoal, Target, Wanted};
pub use geometry::{ComputeProfile, Engines, Geometry, GpuProfile, Placement};
pub use identity::{Digest, Revision, Source};
pub use memory::Memory;
pub use observed::{
    Budget, ComputeInstance, Gap, GpuInstance, Known, MigMode, Observed, ObservedCluster, ObservedGpu, ObservedNode,
    Pod, Recorded, User,
};
pub use place::{Place, PlaceState, Places, Reserved};
pub use plan::{Block, NodePlan, NodeState, Plan, Step, StepKind};
pub use policy::Policy;
pub use profile::{Attribute, ComputeName, ProfileName};
pub use text::visible;
