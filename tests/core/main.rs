//! The core's rules, a module for each room, in one binary.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]

mod apply;
mod bindings;
mod bombs;
mod calls;
mod catalogue;
mod clock;
mod cluster;
mod config_bad;
mod config_files;
mod config_good;
mod config_values;
mod defects;
mod defects_check;
mod defects_parts;
mod defects_run;
mod device_files;
mod door;
mod drive;
mod driver;
mod election;
mod export;
mod faults;
mod faulty;
mod fit;
mod fleet;
mod fleet_bad;
mod fleets;
mod fuzz;
mod gpu_adapter;
mod host;
mod inputs;
mod journal;
mod library;
mod life;
mod lost;
mod manual;
mod memory;
mod messages;
mod misfit;
mod mutants;
mod old_library;
mod optimum;
mod oracle;
mod places;
mod places_exhaustive;
mod places_fleet;
mod places_sweep;
mod places_turn;
mod planner;
mod policy;
mod policy_clients;
mod policy_codes;
mod policy_merge;
mod policy_turns;
mod policy_window;
mod precedence;
mod product;
mod random;
mod ready;
mod rebind;
mod render;
mod resolve;
mod scale;
mod settings;
mod state;
mod stop;
mod story;
mod strategies;
mod support;
mod view;
mod watch;
mod writers;
