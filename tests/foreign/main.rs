//! The simulated driver's C library, as programs that are not ours meet it: loaded, and called by name.
#![expect(unsafe_code, reason = "a C library is loaded and called")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]

mod alike;
mod calls;
mod client;
mod driver;
mod faults;
mod processes;
mod python;
mod threads;
