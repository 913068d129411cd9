//! How soon an edit of the tree is planned: from the last file event until the service shows the new plan, without the time that
//! a tree must be still before it is read.
//!
//! `cargo bench --bench latency` makes a hundred edits, `cargo bench --bench latency -- 1000` so many; in `cargo test` a few show
//! that it works. The node has eight GPUs, all of which change with each edit, simulated in the service's own process. The plan
//! is asked for over the service's socket, again and again: how long an answer takes counts. Expected: below 100 ms.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark fails and reports as tests do"
)]

mod asked;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sectile::daemon::agenda::SETTLE;
use sectile::host::clock::uptime;

const GPUS: usize = 8;
/// How long the service has for what takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);
const LAYOUTS: [&str; 2] = ["{ \"3g.40gb\" = 1 }", "{ \"1g.10gb\" = 4 }"];

/// Ends with whoever looks on.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let Some(edits) = asked::asked(100_usize, 3) else { return };
    let edits = edits.max(1);

    let folder = tempfile::tempdir().expect("a folder");
    let gpu = "  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n";
    let fleet = format!("[[node]]\nname = \"n\"\ncluster = false\n{}", gpu.repeat(GPUS));
    fs::write(folder.path().join("fleet.toml"), fleet).expect("a file");
    fs::create_dir_all(folder.path().join("tree/layouts")).expect("a folder");
    edit(folder.path(), 0);
    let log = fs::File::create(folder.path().join("log")).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
    command.current_dir(folder.path()).env_clear().stdout(Stdio::null()).stderr(log);
    command.args(["run", "tree", "--gpus", "sim", "--node", "n", "--sim", "fleet.toml", "--sim-state", "sim.json"]);
    command.args(["--cluster", "none", "--state", "state", "--metrics", "none", "--socket", "s.sock"]);
    let _service = Service(command.spawn().expect("the program"));

    let mut took: Vec<Duration> = (1..=edits)
        .map(|at| {
            // The edit before is carried out, and the node as it is wanted.
            until(folder.path(), "/v1/status?output=json", &["\"state\": \"converged\"", &name(folder.path())]);
            let begin = edit(folder.path(), at);
            until(folder.path(), "/v1/plan", &[&name(folder.path())]) - begin
        })
        .map(|shown| shown.saturating_sub(SETTLE))
        .collect();
    took.sort();
    let ms = |time: Option<&Duration>| time.map_or(0.0, Duration::as_secs_f64) * 1000.0;
    println!("{edits} edits: median {:.1} ms, worst {:.1} ms", ms(took.get(edits / 2)), ms(took.last()));
}

/// What the tree is called.
fn name(folder: &Path) -> String {
    sectile::config::load(&folder.join("tree")).revision.to_string()
}

/// Writes the layout that comes next, as an editor does; when that was done.
fn edit(folder: &Path, at: usize) -> Duration {
    let layout = LAYOUTS.get(at % LAYOUTS.len()).expect("one of them");
    let text = format!("# {at}\nnodes = [\"*\"]\n[[gpu]]\ninstances = {layout}\n");
    let (new, file) = (folder.join("tree/layouts/.n.swp"), folder.join("tree/layouts/n.toml"));
    fs::write(&new, text).expect("a file");
    fs::rename(new, file).expect("a file");
    uptime()
}

/// When the service answers with all of those words.
fn until(folder: &Path, path: &str, words: &[&str]) -> Duration {
    let begin = uptime();
    while uptime() - begin < PATIENCE {
        let answer = ask(folder, path).unwrap_or_default();
        if words.iter().all(|word| answer.contains(word)) {
            return uptime();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{path} does not say {words:?}: {}", fs::read_to_string(folder.join("log")).unwrap_or_default());
}

fn ask(folder: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(folder.join("s.sock"))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
