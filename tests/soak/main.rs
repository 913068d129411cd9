//! The node's service for a while, as it runs for months: its tree is edited in every way, others change its GPUs, its driver
//! fails, it is suspended, asked, signalled and killed; each deed follows from a seed. Then all is well again, and it must
//! have done its work: the node is as the tree says, nobody on a GPU lost an instance, and it has kept nothing.
//!
//! ```text
//! cargo test --test soak                # for a few seconds
//! cargo test --test soak -- 600         # for so many
//! cargo test --test soak -- 600 17      # with the deeds of that seed; when each one strikes differs from run to run
//! ```
//!
//! The GPUs are simulated in the service's own process and in this one, over one state file, as other programs would change
//! them. In the first half it is killed now and then; in the second, what it holds when all is well is compared.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test of its own kind fails and reports as tests do"
)]

mod deeds;
mod life;
mod stage;

use std::time::Duration;

use life::Life;
use sectile::host::clock::uptime;
use stage::Stage;

/// How long it has to do what is left, once nothing goes wrong any more.
const SETTLES: Duration = Duration::from_secs(90);
/// Its memory may grow by so many kB: an allocator finds its size.
const SLACK: u64 = 4096;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A test runner asks what there is: no tests.
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let seconds = numbers.next().unwrap_or(6);
    let seed = numbers.next().unwrap_or_else(|| uptime().as_secs());
    println!("for {seconds} s, with seed {seed}");

    let mut stage = Stage::new(seed);
    deeds::swap(&mut stage, &deeds::draw);
    let mut life = Life::begin(&stage);
    let time = Duration::from_secs(seconds);
    let begin = uptime();
    while uptime() - begin < time / 2 {
        if stage.random.one_in(12) {
            stage.did("kill");
            life.kill();
            life = Life::begin(&stage);
        }
        deeds::one(&mut stage, &mut life);
    }
    // Its last life warms up, and is then compared with itself.
    while uptime() - begin < time * 5 / 8 {
        deeds::one(&mut stage, &mut life);
    }
    rest(&mut stage, &mut life);
    let before = life.held();
    while uptime() - begin < time {
        deeds::one(&mut stage, &mut life);
    }
    rest(&mut stage, &mut life);
    let after = life.held();
    println!("{}", stage.done());
    println!("it held {before:?}, and in the end {after:?}");
    let more = after.files > before.files || after.watches > before.watches || after.threads > before.threads;
    assert!(!more && after.resident <= before.resident + SLACK, "it holds more: {}", stage.log());
    life.end(&stage);
}

/// Nothing goes wrong any more, and what is left is done.
fn rest(stage: &mut Stage, life: &mut Life) {
    deeds::mend(stage);
    let begin = uptime();
    loop {
        // It is refused while the service is at work.
        stage.run("resume");
        let told = stage.run("plan current --detailed-exitcode");
        if told.0 == 0 && life.is_at_rest(stage) {
            break;
        }
        assert!(uptime() - begin < SETTLES, "not as the tree says: {told:?}: {}", stage.log());
        life.pause(Duration::from_millis(200));
    }
    stage.untouched();
}
