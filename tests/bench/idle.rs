//! What a service costs that has nothing to do: a node with eight GPUs that is as its tree says.
//!
//! `cargo bench --bench idle` watches it for ten minutes, `cargo bench --bench idle -- 60` for so many seconds; in `cargo test`
//! a few seconds show that it works. Its GPUs are simulated behind NVML's C interface in the service's own process, whose cost
//! counts; it is in no cluster.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark fails and reports as tests do")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const GPUS: usize = 8;
/// The service has looked, and done what it begins with.
const BEGIN: Duration = Duration::from_secs(5);

/// Ends with whoever looks on.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A test runner asks what there is: no tests.
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let asked = arguments.iter().find_map(|argument| argument.parse().ok());
    let seconds = asked.unwrap_or(if whole { 600 } else { 3 });

    let folder = tempfile::tempdir().expect("a folder");
    let gpu = "  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n  instances = [{ profile = \"3g.40gb\", start = 4 }]\n";
    let fleet = format!("[[node]]\nname = \"n\"\ncluster = false\n{}", gpu.repeat(GPUS));
    let layout = "nodes = [\"*\"]\n[[gpu]]\ninstances = { \"3g.40gb\" = 1 }\n";
    for (name, text) in [("fleet.toml", fleet.as_str()), ("tree/layouts/n.toml", layout)] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
    command.current_dir(folder.path()).env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    command.args(["run", "tree", "--gpus", "sim", "--cluster", "none", "--node", "n", "--sim", "fleet.toml"]);
    command.args(["--sim-state", "sim.json", "--state", "state", "--metrics", "none", "--socket", "s.sock"]);
    let service = Service(command.spawn().expect("the program"));
    std::thread::sleep(BEGIN);
    let before = spent(&service);
    std::thread::sleep(Duration::from_secs(seconds));
    let took = spent(&service).saturating_sub(before);
    let share = took.as_secs_f64() / Duration::from_secs(seconds).as_secs_f64() * 100.0;
    println!("idle for {seconds} s with {GPUS} GPUs: {share:.3} % of a core, {:.1} MB resident", resident(&service));
}

/// The processor time of the service so far. Where the kernel counts it in ticks that is coarse; in `schedstat` it is not.
fn spent(service: &Service) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{}/task", service.0.id())).expect("the service runs");
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.filter_map(Result::ok).map(of).sum())
}

/// What of its memory is its own or in use, in MB.
fn resident(service: &Service) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/status", service.0.id())).expect("the service runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") / 1024.0
}
