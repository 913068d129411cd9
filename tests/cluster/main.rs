//! The adapter to Kubernetes against a mocked API server and a stand-in for the kubelet, a module for each concern.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]

mod access;
mod applied;
mod bind;
mod bind_record;
mod budgets;
mod claims;
mod evict;
#[path = "../kubelet/mod.rs"]
mod kubelet;
mod kubelets;
mod lease;
mod nodes;
mod objects;
mod pause;
mod places;
mod pods;
mod reach;
mod requests;
mod rig;
mod rights;
mod rollouts;
mod server;
mod stop;
mod store;
mod taint;
mod told;
mod watches;
