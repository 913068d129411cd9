//! Whole runs on random fleets and trees where calls fail, the program is killed, others interfere and the tree is
//! edited, on the virtual clock; each follows from its seed.
//!
//! ```text
//! cargo test --release --test swarm                       # a few of each kind
//! cargo test --release --test swarm -- swarm 10000        # so many seeds of one kind, or `all`
//! cargo test --release --test swarm -- kills 1000 500     # from seed 500 on
//! cargo test --release --test swarm -- replay swarm 17    # one, with all that happens in it
//! ```
//!
//! With `CORE_DRIVER=library`, each run is made twice: on the simulator in this process, and on the same simulator
//! behind NVML's C interface (`cargo build --release --example nvidia-ml`), where the driver's calls go wrong within
//! the library. Both must end in the same state to the byte, with the same journals and for the same reasons.
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

use kinds::{FOUND, KINDS, Sweep};
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
    let mut failed = 0u32;
    let from = from.unwrap_or(0);
    let twice = door::by_library();
    let door = if twice { "CORE_DRIVER=library " } else { "" };
    for (name, few, sweep) in asked {
        let (mut runs, count) = (0u64, count.unwrap_or(*few).max(1));
        let found = FOUND.iter().filter(|(kind, ..)| bare && kind == name).map(|(_, seed, _)| *seed);
        let calls = door::library_calls();
        for seed in (from..from.saturating_add(count)).chain(found) {
            let done = match twice {
                true => alike(*sweep, seed, replay),
                false => one(*sweep, seed, &Trace::new(replay)),
            };
            match done {
                Ok(more) => runs += more,
                Err(why) => {
                    failed += 1;
                    println!("FAILED {name} {seed}: {why}");
                    println!("  replay: {door}cargo test --release --test swarm -- replay {name} {seed}");
                }
            }
        }
        let calls = door::library_calls() - calls;
        let again = if twice { format!(", and again by {calls} calls of the library") } else { String::new() };
        println!("{name}: seeds {from} to {}, {runs} runs{again}", from + count - 1);
        if twice && calls == 0 {
            failed += 1;
            println!("FAILED {name}: the library was not asked");
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One seed's sweep.
fn one(sweep: Sweep, seed: u64, trace: &Trace) -> Result<u64, String> {
    catch_unwind(AssertUnwindSafe(|| sweep(seed, trace))).unwrap_or_else(|panic| Err(rig::words(&*panic)))
}

/// The same in this process and through the library: each run ends in the same state and tells the same.
fn alike(sweep: Sweep, seed: u64, shown: bool) -> Result<u64, String> {
    let both = |whole: Option<usize>| {
        [false, true].map(|library| {
            door::choose(Some(library));
            let trace = Trace::keeping(shown, whole);
            trace.say(|| format!("\nby library: {library}"));
            (one(sweep, seed, &trace), trace.ends())
        })
    };
    let [(here, ends), (there, others)] = both(None);
    let here = here?;
    let Some(at) = ends.iter().zip(&others).position(|(end, other)| end != other) else {
        let same = there.as_ref() == Ok(&here) && ends.len() == others.len();
        return if same { Ok(here) } else { Err(format!("{here} runs, and by library {there:?}")) };
    };
    let texts = both(Some(at)).map(|(_, mut ends)| ends.swap_remove(at).text.unwrap());
    Err(format!("by library, {} ends otherwise:\n  {}", ends[at].hazard, rig::difference(&texts)))
}
