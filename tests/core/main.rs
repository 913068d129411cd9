//! The core's rules, a module for each room, in one binary.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]

mod apply;
mod catalogue;
mod cluster;
mod config_bad;
mod config_good;
mod defects;
mod defects_check;
mod defects_run;
mod drive;
mod driver;
mod export;
mod faulty;
mod fit;
mod fleet;
mod fleets;
mod gpu_adapter;
mod host;
mod journal;
mod life;
mod manual;
mod memory;
mod mutants;
mod planner;
mod policy;
mod policy_clients;
mod policy_codes;
mod policy_merge;
mod policy_turns;
mod policy_window;
mod product;
mod random;
mod ready;
mod render;
mod resolve;
mod state;
mod support;
