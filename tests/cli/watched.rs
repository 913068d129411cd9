//! What wakes `sectile run`, and whom it tells: real files, a real socket of systemd's kind, real signals.
#![expect(clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sectile::gpu::Gpus;
use sectile::model::observed::GpuInstance;
use sectile::model::plan::SlotRef;
use sectile::sim::state::door::Door;
use serde_json::Value;

use super::sandbox::Sandbox;
use super::this_node::{node, run, run_with, settings};

/// A look that nobody causes comes later than this test ends.
const NEVER: &str = "10m";
const LAYOUT: &str = "nodes = [\"*\"]\n[[gpu]]\nindex = [0]\ninstances = [";

/// A service with its sockets.
pub(crate) struct Watched<'a> {
    sandbox: &'a Sandbox,
    pub(crate) child: Child,
    /// What systemd is told: read at once, as systemd does, since whoever tells it waits for that.
    systemd: Receiver<String>,
}

impl<'a> Watched<'a> {
    pub(crate) fn begin(sandbox: &'a Sandbox, tree: &str) -> Self {
        Watched::begin_with(sandbox, tree, &[])
    }

    /// The same with more settings.
    fn begin_with(sandbox: &'a Sandbox, tree: &str, more: &[(&str, &str)]) -> Self {
        let notify = sandbox.path("notify.sock");
        let _ = std::fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        let (tell, systemd) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(n) = socket.recv(&mut buffer) {
                if tell.send(String::from_utf8_lossy(&buffer[..n]).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        command.current_dir(sandbox.path(".")).env_clear().envs(settings(sandbox)).env("NOTIFY_SOCKET", &notify);
        command.env("SECTILE_SOCKET", sandbox.path("s.sock")).env("WATCHDOG_USEC", "4000000");
        command.envs(more.iter().copied());
        let log = std::fs::File::options().create(true).append(true).open(sandbox.path("log")).unwrap();
        command.args(["run", tree, "--resync", NEVER]).stdout(Stdio::null()).stderr(log);
        Watched { sandbox, child: command.spawn().unwrap(), systemd }
    }

    /// What systemd is told next that holds this.
    fn told(&self, what: &str) -> String {
        for _ in 0..1000 {
            let text = self.systemd.recv_timeout(Duration::from_secs(60));
            let text = text.unwrap_or_else(|error| panic!("{what}: {error}: {}", self.log()));
            if text.contains(what) {
                return text;
            }
        }
        panic!("systemd is told much, and not {what}: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        self.sandbox.read("log")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What the service says under a path, by curl's way.
    pub(crate) fn ask(&self, path: &str) -> (String, String) {
        use std::io::{Read as _, Write as _};
        // It has just begun, or not yet.
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(self.sandbox.path("s.sock")) else {
            return Default::default();
        };
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.ask("/metrics").1;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    fn looks(&self) -> f64 {
        self.metric("sectile_looks_total{result=\"done\"}").unwrap_or(0.0)
    }

    /// The profiles on GPU 0, as the service says.
    pub(crate) fn profiles(&self) -> Vec<String> {
        let (code, body) = self.ask("/v1/status?output=json");
        if code != "200" {
            return Vec::new();
        }
        let status: Value = serde_json::from_str(&body).unwrap();
        let instances = status["nodes"][0]["observed"]["gpus"][0]["instances"].as_array().unwrap().clone();
        let mut profiles: Vec<String> =
            instances.iter().map(|instance| instance["profile"].as_str().unwrap().to_owned()).collect();
        profiles.sort();
        profiles
    }

    pub(crate) fn becomes(&self, profiles: &[&str]) {
        self.until(&format!("{profiles:?}"), || self.profiles() == profiles);
    }

    pub(crate) fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        for _ in 0..600 {
            if so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("waited in vain for {what}: {}", self.log());
    }

    pub(crate) fn end(mut self) -> String {
        self.signal(Signal::TERM);
        self.told("STOPPING=1");
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.log());
        self.log()
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn layout(profiles: &str) -> String {
    format!("{LAYOUT}{profiles}]\n")
}

/// A node whose first GPU is to have that, in a tree below the sandbox.
pub(crate) fn stage(tree: &str, profiles: &str) -> Sandbox {
    let sandbox = node();
    std::fs::remove_dir_all(sandbox.path("layouts")).unwrap();
    sandbox.write(&format!("{tree}/layouts/n.toml"), &layout(profiles));
    sandbox
}

#[test]
fn systemd_hears_how_the_service_stands_from_its_first_look_to_its_end() {
    let sandbox = stage("tree", "\"3g\", \"1g\"");
    let service = Watched::begin(&sandbox, "tree");
    let told = service.told("READY=1");
    // It was looked at, and whoever is ordered after the service does not wait for the layout.
    assert!(told.contains("STATUS=") && told.contains(" is changing"), "{told}");
    assert_eq!(service.ask("/v1/status").0, "200");
    service.told("WATCHDOG=1");
    service.becomes(&["1g.10gb", "3g.40gb"]);
    assert_eq!((service.ask("/readyz").0.as_str(), service.ask("/healthz").0.as_str()), ("200", "200"));
    assert_eq!(service.ask("/v1/nothing").0, "404");
    // The manual lists what is measured.
    let manual = include_str!("../../packaging/doc/service.md");
    for line in service.ask("/metrics").1.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else { continue };
        let suffix =
            [("counter", "_total"), ("info", "_info")].iter().find(|(of, _)| *of == kind).map_or("", |of| of.1);
        assert!(manual.contains(&format!("| `{name}{suffix}` |")), "{name}{suffix}");
    }
    let board = include_str!("../../packaging/grafana/sectile.json");
    let _: Value = serde_json::from_str(board).unwrap();
    let parts = board.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for used in parts.filter(|part| part.starts_with("sectile_")) {
        assert!(manual.contains(&format!("| `{}` |", used.trim_end_matches("_bucket"))), "{used}");
    }
    for cause in sectile::daemon::agenda::Cause::ALL {
        assert!(manual.contains(&format!("| `{cause}` |")), "{cause}");
    }
    let looks = service.looks();
    service.signal(Signal::HUP);
    let told = service.told("RELOADING=1");
    assert!(told.contains("MONOTONIC_USEC="), "{told}");
    service.told("READY=1");
    service.until("a look", || service.looks() > looks);
    // A tree with errors is told until it is mended, and changes nothing.
    sandbox.write("tree/layouts/n.toml", "qqq = 1\n");
    let told = service.told("an error");
    assert!(told.contains("still holds"), "{told}");
    let (code, why) = service.ask("/readyz");
    assert!(code == "503" && why.contains("still holds"), "{why}");
    assert_eq!((service.metric("sectile_tree_valid"), service.profiles().len()), (Some(0.0), 2));
    sandbox.write("tree/layouts/n.toml", &layout("\"3g\", \"1g\""));
    service.until("it to be ready", || service.ask("/readyz").0 == "200");
    service.told(" is converged");
    let log = service.end();
    assert!(log.contains("since the service begins") && log.contains("since somebody asked for it"), "{log}");
}

#[test]
fn a_tree_is_taken_up_however_it_is_changed() {
    let sandbox = stage("tree", "\"3g\"");
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["3g.40gb"]);
    // As an editor does: another file, renamed.
    sandbox.write("tree/layouts/.n.toml.swp", &layout("\"3g\", \"1g\""));
    std::fs::rename(sandbox.path("tree/layouts/.n.toml.swp"), sandbox.path("tree/layouts/n.toml")).unwrap();
    service.becomes(&["1g.10gb", "3g.40gb"]);
    // In a folder that was not there.
    std::fs::remove_file(sandbox.path("tree/layouts/n.toml")).unwrap();
    sandbox.write("tree/layouts/deep/er/n.toml", &layout("\"3g\", \"2g\""));
    service.becomes(&["2g.20gb", "3g.40gb"]);
    sandbox.write("tree/layouts/deep/er/n.toml", &layout("\"4g\""));
    service.becomes(&["4g.40gb"]);
    // It vanishes and returns.
    std::fs::rename(sandbox.path("tree"), sandbox.path("away")).unwrap();
    service.told("an error");
    sandbox.write("away/layouts/deep/er/n.toml", &layout("\"3g\""));
    std::fs::rename(sandbox.path("away"), sandbox.path("tree")).unwrap();
    service.becomes(&["3g.40gb"]);
    service.end();
}

#[test]
fn a_tree_behind_a_link_that_is_turned_is_taken_up_as_a_whole() {
    // git-sync's: the link is another one, at once.
    let sandbox = stage("worktrees/one", "\"3g\"");
    let turn = |to: &str, link: &str| {
        let new = sandbox.path("new-link");
        symlink(to, &new).unwrap();
        std::fs::rename(&new, sandbox.path(link)).unwrap();
    };
    turn("worktrees/one", "current");
    let service = Watched::begin(&sandbox, "current");
    service.becomes(&["3g.40gb"]);
    for (at, (profiles, seen)) in
        [("\"4g\"", vec!["4g.40gb"]), ("\"2g\", \"2g\"", vec!["2g.20gb"; 2])].into_iter().enumerate()
    {
        sandbox.write(&format!("worktrees/more-{at}/layouts/n.toml"), &layout(profiles));
        turn(&format!("worktrees/more-{at}"), "current");
        service.becomes(&seen);
    }
    // Within the tree it is watched, too.
    sandbox.write("worktrees/more-1/layouts/n.toml", &layout("\"1g\""));
    service.becomes(&["1g.10gb"]);
    service.end();
}

#[test]
fn a_config_map_that_the_kubelet_swaps_is_taken_up_as_a_whole() {
    let sandbox = stage("map/..one", "\"3g\"");
    let swap = |to: &str| {
        let new = sandbox.path("map/..data_tmp");
        symlink(to, &new).unwrap();
        std::fs::rename(&new, sandbox.path("map/..data")).unwrap();
    };
    swap("..one");
    symlink("..data/layouts", sandbox.path("map/layouts")).unwrap();
    let service = Watched::begin(&sandbox, "map");
    service.becomes(&["3g.40gb"]);
    sandbox.write("map/..two/layouts/n.toml", &layout("\"4g\""));
    swap("..two");
    service.becomes(&["4g.40gb"]);
    service.end();
}

#[test]
fn a_storm_of_file_events_is_one_look_and_what_changes_nothing_none() {
    let sandbox = stage("tree", "\"3g\"");
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["3g.40gb"]);
    let looks = service.looks();
    // Reading the tree makes events itself, and files that do not count make more.
    for n in 0..10_000 {
        sandbox.write("tree/layouts/.scratch", &n.to_string());
    }
    let waited = service.metric("sectile_wakes_total{cause=\"tree\"}");
    service.until("the storm to be seen", || service.metric("sectile_wakes_total{cause=\"tree\"}") > waited);
    assert!(service.looks() - looks < 1.0, "{} looks, and nothing had changed", service.looks() - looks);
    for n in 0..1_000 {
        sandbox.write("tree/layouts/n.toml", &(layout("\"4g\"") + &format!("# {n}\n")));
    }
    service.becomes(&["4g.40gb"]);
    let log = service.end();
    let created = log.matches("create 4g.40gb").count();
    assert_eq!(created, 1, "{log}");
}

#[test]
fn what_others_do_to_the_gpus_is_seen_and_put_right() {
    let sandbox = stage("tree", "\"3g\", \"1g\"");
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["1g.10gb", "3g.40gb"]);
    // By another program on the same driver.
    let fleet = (sandbox.read("fleet.toml"), sandbox.path("fleet.toml").display().to_string());
    let door = Door::open(&sandbox.path("sim.json"), &fleet.0, &fleet.1, Some("n"), true, 0.0).unwrap().unwrap();
    let gpus = Gpus::new(door);
    let gpu = &gpus.observe().unwrap().0[0];
    let GpuInstance { profile, placement, .. } = gpu.instances[0];
    gpus.destroy(&SlotRef { gpu: gpu.uuid.clone(), profile, placement }).unwrap();
    service.until("a glance", || service.metric("sectile_wakes_total{cause=\"gpus\"}") >= Some(1.0));
    service.becomes(&["1g.10gb", "3g.40gb"]);
    let log = service.end();
    assert!(log.contains("since the GPUs have changed"), "{log}");
}

#[test]
fn another_service_of_the_node_does_not_take_the_first_ones_socket() {
    let sandbox = stage("tree", "\"3g\"");
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["3g.40gb"]);
    let socket = sandbox.path("s.sock").display().to_string();
    // One that was named without its folder was not made.
    for socket in [socket.as_str(), "s.sock"] {
        let second = run(&sandbox, &format!("run tree --socket {socket}"));
        assert!(second.code == 1 && second.stderr.contains("another service of this node"), "{second:?}");
    }
    assert_eq!(service.ask("/readyz").0, "200");
    service.end();
}

#[test]
fn killed_at_any_time_it_goes_on_where_it_was() {
    let sandbox = stage("tree", "\"3g\"");
    let wanted = [("\"3g\", \"1g\"", vec!["1g.10gb", "3g.40gb"]), ("\"4g\"", vec!["4g.40gb"])];
    for round in 0..12u64 {
        let (profiles, _) = &wanted[usize::try_from(round % 2).unwrap()];
        sandbox.write("tree/layouts/n.toml", &layout(profiles));
        let mut service = Watched::begin(&sandbox, "tree");
        std::thread::sleep(Duration::from_millis(round * 40));
        service.child.kill().unwrap();
        service.child.wait().unwrap();
    }
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&wanted[1].1);
    service.end();
}

/// A file system of a few pages, which may be full; `None`: it can't be had here.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&path).output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(Small(path))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_stops_changes_and_not_the_service() {
    let sandbox = stage("tree", "\"3g\"");
    let Some(disk) = Small::mount(sandbox.path("var")) else {
        eprintln!("skipped: a small file system can't be mounted here");
        return;
    };
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["3g.40gb"]);
    let full = disk.0.join("full");
    let mut size = 1 << 16;
    while size > 0 {
        let mut file = std::fs::File::options().create(true).append(true).open(&full).unwrap();
        if std::io::Write::write_all(&mut file, &vec![0; size]).is_err() {
            size /= 2;
        }
    }
    sandbox.write("tree/layouts/n.toml", &layout("\"4g\""));
    service.until("the service to tell", || service.ask("/readyz").0 == "503");
    assert_eq!((service.ask("/healthz").0.as_str(), service.profiles()), ("200", vec!["3g.40gb".to_owned()]));
    std::fs::remove_file(&full).unwrap();
    service.becomes(&["4g.40gb"]);
    service.until("it to be ready", || service.ask("/readyz").0 == "200");
    service.end();
}

#[test]
fn a_tree_or_plan_that_others_may_write_is_refused_and_the_last_good_one_holds() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = stage("tree", "\"3g\"");
    let mode = |name: &str, mode| {
        std::fs::set_permissions(sandbox.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["3g.40gb"]);
    mode("tree/layouts", 0o777);
    sandbox.write("tree/layouts/n.toml", &layout("\"4g\""));
    let told = service.told("can't be trusted");
    assert!(told.contains("layouts (mode 777): chmod go-w"), "{told}");
    assert_eq!(service.ask("/readyz").0, "503");
    let applied = run(&sandbox, "apply tree --yes");
    assert!(applied.code == 1 && applied.stderr.contains("can't be trusted"), "{applied:?}");
    assert_eq!(service.profiles(), ["3g.40gb"]);
    mode("tree/layouts", 0o755);
    service.becomes(&["4g.40gb"]);
    service.end();
    sandbox.write("tree/layouts/n.toml", &layout("\"3g\""));
    assert_eq!(run(&sandbox, "plan tree --out plan.json").code, 0);
    mode("plan.json", 0o666);
    let applied = run(&sandbox, "apply plan.json --tree tree --yes");
    assert!(applied.code == 1 && applied.stderr.contains("plan.json (mode 666)"), "{applied:?}");
    // Whoever only looks may look.
    assert_eq!(run(&sandbox, "plan tree").code, 0);
    mode("plan.json", 0o644);
    assert_eq!(run(&sandbox, "apply plan.json --tree tree --yes").code, 0);
}

#[test]
fn whoever_suspends_or_resumes_the_node_wakes_the_service() {
    let sandbox = stage("tree", "\"3g\"");
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["3g.40gb"]);
    assert_eq!(run(&sandbox, "suspend --reason INC-4711").code, 0);
    service.until("the node to be suspended", || service.ask("/v1/status").1.contains("INC-4711"));
    sandbox.write("tree/layouts/n.toml", &layout("\"4g\""));
    service.until("the tree to wait", || service.ask("/v1/plan").1.contains("4g.40gb"));
    assert_eq!(service.profiles(), ["3g.40gb"]);
    assert_eq!(run(&sandbox, "resume").code, 0);
    service.becomes(&["4g.40gb"]);
    service.end();
}

/// NVML holds the driver's device files open, so that its modules can't be unloaded.
#[test]
fn the_service_lets_go_of_the_driver_for_an_upgrade_and_repairs_the_node_then() {
    let sandbox = stage("tree", "\"3g\"");
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["3g.40gb"]);
    let open = || service.metric("sectile_driver_open");
    assert_eq!(open(), Some(1.0));
    let line = "suspend --reason INC-4711 --release";
    let told = run_with(&sandbox, line, &[("SECTILE_SOCKET", sandbox.path("s.sock").to_str().unwrap())]);
    assert!(told.code == 0 && told.stderr.contains("The service has let go of the driver"), "{told:?}");
    assert_eq!(open(), Some(0.0));
    assert!(service.ask("/v1/status").1.contains("without the driver"));

    // The new driver has no instances; until it is there, whoever asks the old one gets errors.
    sandbox.write("sim.json", "the driver is gone");
    let looks = service.looks();
    service.signal(Signal::HUP);
    service.until("a look", || service.looks() > looks);
    sandbox.write("tree/layouts/n.toml", &layout("\"4g\""));
    service.until("the tree", || service.looks() > looks + 1.0);
    assert_eq!((open(), service.ask("/readyz").0.as_str()), (Some(0.0), "200"), "{}", service.log());
    std::fs::remove_file(sandbox.path("sim.json")).unwrap();
    assert_eq!(run(&sandbox, "resume").code, 0);
    service.becomes(&["4g.40gb"]);
    assert_eq!(open(), Some(1.0));
    service.end();
    // Where no service has it open, nobody is waited for.
    let told = run_with(&sandbox, line, &[("SECTILE_SOCKET", sandbox.path("s.sock").to_str().unwrap())]);
    assert!(told.code == 0 && !told.stderr.contains("driver"), "{told:?}");
}

/// Its container has the library of the driver that was there when it was made.
#[test]
fn in_a_pod_the_service_ends_after_an_upgrade_to_be_given_the_new_library() {
    let sandbox = stage("tree", "\"3g\"");
    let mut service = Watched::begin_with(&sandbox, "tree", &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]);
    service.becomes(&["3g.40gb"]);
    let at = [("SECTILE_SOCKET", sandbox.path("s.sock"))];
    let at: Vec<(&str, &str)> = at.iter().map(|(key, path)| (*key, path.to_str().unwrap())).collect();
    assert_eq!(run_with(&sandbox, "suspend --reason INC-4711 --release", &at).code, 0);
    assert_eq!(run(&sandbox, "resume").code, 0);
    assert_eq!(service.child.wait().unwrap().code(), Some(0), "{}", service.log());
    let log = service.log();
    assert!(log.contains("to be begun anew with the library"), "{log}");
}

/// It has nothing to let go of, and was waited for.
#[test]
fn a_service_that_has_no_driver_is_not_waited_for() {
    let sandbox = stage("tree", "\"3g\"");
    sandbox.write("sim.json", "no driver");
    let service = Watched::begin(&sandbox, "tree");
    service.until("it to tell why", || service.log().contains("can't be looked at yet"));
    let at = sandbox.path("s.sock");
    let told = run_with(&sandbox, "suspend --reason INC-4711 --release", &[("SECTILE_SOCKET", at.to_str().unwrap())]);
    assert!(told.code == 0 && told.stderr.contains("has let go of the driver"), "{told:?}");
    service.end();
}
