//! The adapter to Kubernetes: what the API server and the kubelet tell, and what is asked of them.
//!
//! Requests are values ([`requests`]), and what they may do is read off them, so that the roles in packaging/ can be
//! compared with the code. What changes without us is kept by watches (`mirror`); who holds which device is asked of
//! the kubelet anew each time ([`kubelet`]).

mod bind;
mod claims;
mod holders;
pub mod kubelet;
mod kubernetes;
mod lease;
mod mirror;
pub mod names;
mod node;
mod picture;
mod places;
mod pods;
mod reach;
mod record;
pub mod requests;
mod suspension;
mod template;
mod transport;
mod workloads;

pub use kubernetes::{Access, KubeCluster};
pub use lease::LeaseState;
pub use node::Published;
pub use picture::AfarNode;
