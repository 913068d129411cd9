//! What a service costs that has nothing to do: a node with eight GPUs that is as its tree says, in no cluster and in one.
//!
//! `cargo bench --profile dist --bench idle` watches each for ten minutes, `-- 60` behind it for so many seconds; in `cargo test` a
//! few seconds show that it works. Its GPUs are simulated behind NVML's C interface in the service's own process, whose cost
//! counts; the API server and the kubelet are stand-ins in this one. The contract: below 0.1 % of a core and 20 MB resident.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark fails and reports as tests do"
)]

mod asked;
mod deployed;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tower_service::Service as _;

#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../cluster/applied.rs"]
mod applied;
#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../kubelet/mod.rs"]
mod kubelet;
#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../cluster/objects.rs"]
mod objects;
#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../cluster/server.rs"]
mod server;
#[expect(dead_code, reason = "only what a quiet cluster needs of it")]
#[path = "../cluster/store.rs"]
mod store;

use deployed::deployed;
use kubelet::Kubelet;
use objects::{NODE, node, pod};
use server::Server;

const GPUS: usize = 8;
/// Pods on the node: the most that a kubelet takes by default.
const PODS: usize = 110;
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

/// A cluster with this node and its pods, as other processes reach it; ends with this one.
fn cluster(folder: &Path) -> tokio::runtime::Runtime {
    let server = Server::default();
    server.put("nodes", node(NODE));
    for name in (0..PODS).map(|i| format!("p{i:03}")) {
        let mut pod = pod(&name, Some(NODE));
        pod["status"] = json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] });
        deployed(pod).into_iter().for_each(|(resource, object)| server.put(resource, object));
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": format!("http://{address}") } }],
        "users": [{ "name": "u", "user": {} }],
    });
    fs::write(folder.join("kubeconfig"), kubeconfig.to_string()).expect("a file");
    let socket = folder.join("kubelet.sock");
    runtime.spawn(async move {
        let _kubelet = Kubelet::begin(&socket, Arc::default());
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let server = server.clone();
            let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let mut server = server.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
                    server.call(http::Request::from_parts(parts, body.to_vec().into())).await
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    runtime
}

fn main() {
    let Some(seconds) = asked::asked(600, 3) else { return };
    println!("for {seconds} s, with {GPUS} GPUs");
    println!("{:<24}{:>12}{:>12}{:>12}", "", "of a core", "resident", "its own");

    let gpu = "  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n  instances = [{ profile = \"3g.40gb\", start = 4 }]\n";
    let fleet = format!("[[node]]\nname = \"{NODE}\"\ncluster = false\n{}", gpu.repeat(GPUS));
    let layout = "nodes = [\"*\"]\n[[gpu]]\ninstances = { \"3g.40gb\" = 1 }\n";
    for (what, in_cluster) in [("in no cluster", false), ("in one, with 110 pods", true)] {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("fleet.toml", fleet.as_str()), ("tree/layouts/n.toml", layout)] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let _cluster = in_cluster.then(|| cluster(folder.path()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        command.current_dir(folder.path()).env_clear().stdout(Stdio::null()).stderr(log);
        command.args([
            "run",
            "tree",
            "--gpus",
            "sim",
            "--node",
            NODE,
            "--sim",
            "fleet.toml",
            "--sim-state",
            "sim.json",
        ]);
        command.args(["--state", "state", "--metrics", "none", "--socket", "s.sock"]);
        command.args(["--cluster", if in_cluster { "kube" } else { "none" }]);
        if in_cluster {
            command.args(["--kubeconfig", "kubeconfig", "--pod-resources", "kubelet.sock"]);
        }
        let service = Service(command.spawn().expect("the program"));
        std::thread::sleep(BEGIN);
        let log = fs::read_to_string(folder.path().join("log")).expect("a log");
        assert!(log.contains("n is converged"), "{log}");
        let before = spent(&service);
        std::thread::sleep(Duration::from_secs(seconds));
        let took = spent(&service).saturating_sub(before);
        let share = took.as_secs_f64() / Duration::from_secs(seconds).as_secs_f64() * 100.0;
        let (resident, own) = (memory(&service, "VmRSS:"), memory(&service, "RssAnon:"));
        println!("{what:<24}{share:>10.3} %{resident:>9.1} MB{own:>9.1} MB");
    }
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

/// A figure of its memory, in MB.
fn memory(service: &Service, figure: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/status", service.0.id())).expect("the service runs");
    let line = text.lines().find_map(|line| line.strip_prefix(figure)).expect("its memory");
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().expect("a number") / 1024.0
}
