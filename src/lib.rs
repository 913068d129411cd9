//! Sectile keeps the MIG partitions of NVIDIA GPUs, and the workloads on them, as a tree of TOML files says.
//!
//! Data flows one way: [`config`] reads the tree into what is desired, the adapters ([`gpu`], and what implements the
//! [`ports`]) read what is observed, [`plan`] computes the smallest plan from one to the other and checks it by other
//! code, [`execute`] carries it out, and the result is observed again.

pub mod cli;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod execute;
pub mod gpu;
pub mod host;
pub mod model;
pub mod nvml;
pub mod plan;
pub mod ports;
pub mod render;
pub mod sim;
