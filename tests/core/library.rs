//! The simulator behind NVML's C interface against the one in this process.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sectile::sim::lock;

use super::door::{choose, library_calls};
use super::fleets::Run;
use super::random::{Tape, draw};

/// Whole runs, with all that is drawn: whichever door the driver is behind, the world ends the same.
#[test]
fn runs_through_the_library_end_in_the_same_world() {
    let mut runner = TestRunner::deterministic();
    let before = library_calls();
    let tapes = proptest::collection::vec(any::<u8>(), 100..400);
    for seed in 0..20 {
        let case = draw(&mut Tape::new(&tapes.new_tree(&mut runner).unwrap().current()));
        let ended = [false, true].map(|library| {
            choose(Some(library));
            let run = Run::new(&case.fleet, &case.files());
            let ended = run.apply_in_trouble();
            let world = lock(&run.world).clone();
            (ended.plans, ended.after, world)
        });
        let [(plans, after, world), (lib_plans, lib_after, lib_world)] = ended;
        assert_eq!(world, lib_world, "seed {seed}");
        // NVML writes the letters of a bus id large, and so does the library.
        let text = |of: &dyn std::fmt::Debug| format!("{of:?}").to_lowercase();
        assert_eq!(text(&after), text(&lib_after), "seed {seed}");
        assert_eq!(text(&plans), text(&lib_plans), "seed {seed}");
    }
    choose(None);
    assert!(library_calls() > before + 1000, "the library was not asked");
}
