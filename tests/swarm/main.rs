//! Whole runs on random fleets and trees where calls fail, the program is killed, others interfere and the tree is
//! edited, on the virtual clock; each follows from its seed.
//!
//! ```text
//! cargo test --release --test swarm                       # a few of each kind
//! cargo test --release --test swarm -- swarm 10000        # so many seeds of one kind, or `all`
//! cargo test --release --test swarm -- kills 1000 500     # from seed 500 on
//! cargo test --release --test swarm -- replay swarm 17    # one, with all that happens in it
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]
#![allow(dead_code, reason = "the modules shared with the other tests offer more than is needed here")]

#[path = "../core/door.rs"]
mod door;
#[path = "../core/fleets.rs"]
mod fleets;
mod hazards;
mod judge;
mod kinds;
mod planted;
#[path = "../core/random.rs"]
mod random;
mod rig;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use kinds::{FOUND, KINDS};
use rig::Trace;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |at: usize| words.get(at).map(|word| word.parse::<u64>()).transpose();
    let (replay, kind, numbers) = match words.as_slice() {
        ["replay", kind, ..] => (true, *kind, (number(2), Ok(Some(1)))),
        [kind, ..] => (false, *kind, (number(2), number(1))),
        [] => (false, "all", (Ok(None), Ok(None))),
    };
    let (Ok(from), Ok(count)) = numbers else {
        eprintln!("usage: [replay] KIND [COUNT] [FROM], of numbers");
        return ExitCode::from(64);
    };
    let bare = words.is_empty();
    let asked: Vec<_> = KINDS.iter().filter(|(name, ..)| kind == "all" || *name == kind).collect();
    if asked.is_empty() {
        // What libtest would filter by is no kind of ours.
        println!("no kind of sweep is called {kind}: there are {}", KINDS.map(|(name, ..)| name).join(", "));
        return ExitCode::SUCCESS;
    }
    // A panic is told with its seed; its backtrace says nothing more, and a killed run is none.
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = Vec::new();
    let from = from.unwrap_or(0);
    for (name, few, sweep) in asked {
        let (mut runs, count) = (0u64, count.unwrap_or(*few).max(1));
        let found = FOUND.iter().filter(|(kind, ..)| bare && kind == name).map(|(_, seed, _)| *seed);
        for seed in (from..from.saturating_add(count)).chain(found) {
            let trace = Trace::new(replay);
            match catch_unwind(AssertUnwindSafe(|| sweep(seed, &trace))) {
                Ok(Ok(more)) => runs += more,
                Ok(Err(why)) => failed.push(format!("{name} {seed}: {why}")),
                Err(panic) => failed.push(format!("{name} {seed}: {}", rig::words(&*panic))),
            }
        }
        println!("{name}: seeds {from} to {}, {runs} runs", from + count - 1);
    }
    for one in &failed {
        println!(
            "FAILED {one}\n  replay: cargo test --release --test swarm -- replay {}",
            one.split(':').next().unwrap()
        );
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
