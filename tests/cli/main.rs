//! The program as a person runs it: command lines, files, exit codes, and what is printed where.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]

mod boot;
mod cluster;
mod commands;
mod fleet;
mod four_models;
mod guards;
mod life;
mod policy;
mod readme;
mod sandbox;
mod saved;
mod service;
mod suspend;
mod this_node;
mod trouble;
mod turned;
mod usage;
mod validate;
mod watched;
