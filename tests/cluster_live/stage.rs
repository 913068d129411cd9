//! A stage for one test: a node of its own, a namespace of its own, a tree, and the program under the service account of
//! packaging/. Everything is taken away at the end.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{DEPLOY, Log, StandIn, fleet_name};

/// Something that is waited for here and does not come in this time never will.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a program has done.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct Stage {
    pub(crate) name: String,
    folder: tempfile::TempDir,
    fleet: String,
    /// Dropped before its node is taken away.
    node: Option<StandIn>,
}

/// A program that runs, and where it tells: into files, since nobody may read for long.
pub(crate) struct Running {
    child: Child,
    told: [PathBuf; 2],
}

impl Running {
    fn begin(mut command: Command, folder: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let told = ["out", "err"].map(|end| folder.join(format!("run-{number}.{end}")));
        let [out, err] = told.each_ref().map(|path| File::create(path).unwrap());
        Running { child: command.stdout(out).stderr(err).spawn().unwrap(), told }
    }

    pub(crate) fn end(mut self) -> Told {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let [stdout, stderr] = self.told.each_ref().map(|path| std::fs::read_to_string(path).unwrap());
        Told { code, stdout, stderr }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failed test tells what the program told")]
            for path in &self.told {
                eprintln!("---- {}:\n{}", path.display(), std::fs::read_to_string(path).unwrap());
            }
        }
    }
}

/// Waits until it is so.
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a real cluster takes real time")]
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn told(output: &std::process::Output) -> Told {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Told { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

pub(crate) fn admin() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "the test's own setting")]
    let path = std::env::var("KUBECONFIG").expect("KUBECONFIG of a cluster to play with");
    PathBuf::from(path)
}

/// kubectl as the administrator; what it prints.
pub(crate) fn kubectl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .env("KUBECONFIG", admin())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let told = told(&child.wait_with_output().unwrap());
    assert_eq!(told.code, 0, "kubectl {arguments:?}: {}", told.stderr);
    told.stdout
}

/// A kubeconfig like the administrator's, for a service account of packaging/.
pub(crate) fn kubeconfig(account: &str, node: Option<&str>, path: &Path) {
    let mut arguments = vec!["create", "token", account, "--namespace", "sectile"];
    if let Some(node) = node {
        arguments.extend(["--bound-object-kind", "Node", "--bound-object-name", node]);
    }
    let token = kubectl(&arguments, "");
    let text = std::fs::read_to_string(admin()).unwrap();
    let (before, after) = text.split_once("user: {token: ").expect("the administrator's token");
    let after = after.split_once('}').unwrap().1;
    std::fs::write(path, format!("{before}user: {{token: {}}}{}", token.trim(), after)).unwrap();
}

/// The roles and policies of packaging/, and that they are in force.
pub(crate) fn install() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/kubernetes");
    kubectl(&["apply", "-k", folder], "");
}

impl Stage {
    /// Sets the stage. `NODE` in the texts is the node's name.
    pub(crate) fn set(name: &str, fleet: &str, layout: &str, policy: &str) -> Self {
        install();
        let name = format!("live-{name}");
        let folder = tempfile::tempdir().unwrap();
        let fleet = fleet.replace("NODE", &name);
        for sub in ["tree/layouts", "tree/policies", "state"] {
            std::fs::create_dir_all(folder.path().join(sub)).unwrap();
        }
        std::fs::write(folder.path().join("FLEET.toml"), &fleet).unwrap();
        std::fs::write(folder.path().join("tree/policies/policy.toml"), policy).unwrap();
        let mut stage = Stage { name, folder, fleet, node: None };
        stage.clear();
        stage.edit_layout(layout);
        kubectl(&["create", "namespace", &stage.name], "");
        let labels = format!("{{\"{DEPLOY}\": \"true\", \"kubernetes.io/hostname\": \"{}\"}}", stage.name);
        let node = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {}, labels: {labels}}}\n", stage.name);
        kubectl(&["apply", "-f", "-"], &node);
        kubectl(&["patch", "node", &stage.name, "--type=merge", "-p", "{\"spec\":{\"taints\":null}}"], "");
        kubeconfig("sectile-agent", Some(&stage.name), &stage.path("agent"));
        kubeconfig("sectile-preview", None, &stage.path("preview"));
        kubeconfig("sectile-controller", None, &stage.path("controller"));
        let plugin = format!(
            "apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: nvidia-device-plugin-daemonset, namespace: {name}}}
spec:
  selector: {{matchLabels: {{app: nvidia-device-plugin-daemonset}}}}
  template:
    metadata: {{labels: {{app: nvidia-device-plugin-daemonset}}}}
    spec:
      nodeSelector: {{{DEPLOY}: \"true\", kubernetes.io/hostname: {name}}}
      tolerations: [{{operator: Exists}}]
      containers: [{{name: nvidia-device-plugin, image: none}}]
",
            name = stage.name
        );
        kubectl(&["apply", "-f", "-"], &plugin);
        let socket = stage.path("kubelet.sock");
        stage.node = Some(StandIn::begin(&stage.name, &stage.fleet, &stage.path("sim.json"), &socket, &admin()));
        wait_for("the node to offer its GPUs", || stage.node()["status"]["allocatable"].to_string().contains("mig-"));
        stage
    }

    fn clear(&self) {
        kubectl(&["delete", "namespace", &self.name, "--ignore-not-found", "--wait=false"], "");
        // Nobody would end its pods.
        let pods = ["delete", "pods", "--all", "-n", &self.name, "--force", "--grace-period=0", "--wait=false"];
        kubectl(&pods, "");
        kubectl(&["delete", "node", &self.name, "--ignore-not-found"], "");
        wait_for("the namespace to go", || {
            !kubectl(&["get", "namespaces", "-o", "name"], "")
                .lines()
                .any(|line| line == format!("namespace/{}", self.name))
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn agent_config(&self) -> PathBuf {
        self.path("agent")
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn edit_layout(&self, layout: &str) {
        std::fs::write(self.path("tree/layouts/layout.toml"), layout.replace("NODE", &self.name)).unwrap();
    }

    /// Names the tree's revision.
    pub(crate) fn revise(&self, name: &str) {
        std::fs::write(self.path("tree/REVISION"), name).unwrap();
    }

    pub(crate) fn edit_policy(&self, policy: &str) {
        std::fs::write(self.path("tree/policies/policy.toml"), policy).unwrap();
    }

    /// Forgets what is remembered on the node.
    pub(crate) fn lose_state(&self) {
        std::fs::remove_dir_all(self.path("state")).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        // The fleet's name is part of its state.
        command.current_dir(self.folder.path()).env_remove("KUBECONFIG").args(arguments).arg("tree");
        command
    }

    fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(arguments);
        command.args(["--gpus", "sim", "--cluster", "kube", "--node", &self.name, "--sim-state", "sim.json"]);
        command.args(["--state", "state", "--pod-resources", "kubelet.sock", "--kubeconfig", "agent"]);
        // Several agents are on one machine.
        command.env("SECTILE_METRICS", "none").env("SECTILE_SIM", fleet_name());
        command
    }

    /// The program on the node, as its agent.
    pub(crate) fn sectile(&self, arguments: &[&str]) -> Told {
        told(&self.agent(arguments).output().unwrap())
    }

    /// The same, which goes on meanwhile.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        Running::begin(self.agent(arguments), self.folder.path())
    }

    /// The program elsewhere, with rights to read alone.
    pub(crate) fn preview(&self, arguments: &[&str]) -> Told {
        told(&self.command(arguments).args(["--kubeconfig", "preview"]).output().unwrap())
    }

    /// The program elsewhere, as the administrator, and without the tree.
    pub(crate) fn admin(&self, arguments: &[&str]) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        command.current_dir(self.folder.path()).env("KUBECONFIG", admin());
        told(&command.args(arguments).output().unwrap())
    }

    /// A controller, with the rights of packaging/, and where it tells how it stands.
    pub(crate) fn controller(&self) -> (Running, SocketAddr) {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = self.command(&["controller", "--resync", "5s"]);
        command.args(["--kubeconfig", "controller", "--metrics", &address.to_string()]);
        (Running::begin(command, self.folder.path()), address)
    }

    /// The program elsewhere, without any cluster.
    pub(crate) fn alone(&self, arguments: &[&str]) -> Told {
        told(&self.command(arguments).output().unwrap())
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.node.as_ref().unwrap().log.lock().unwrap()
    }

    /// A workload whose pods ask for one of that resource, on this node.
    pub(crate) fn workload(&self, kind: &str, name: &str, replicas: u32, resource: &str) {
        let yaml = format!(
            "apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      nodeSelector: {{kubernetes.io/hostname: {namespace}}}
      terminationGracePeriodSeconds: 5
      containers: [{{name: server, image: none, resources: {{limits: {{{resource}: 1}}}}}}]
",
            namespace = self.name
        );
        kubectl(&["apply", "-f", "-"], &yaml);
    }

    /// A disruption budget over a workload's pods.
    pub(crate) fn budget(&self, workload: &str, max_unavailable: u32) {
        let yaml = format!(
            "apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: {workload}, namespace: {namespace}}}
spec: {{maxUnavailable: {max_unavailable}, selector: {{matchLabels: {{app: {workload}}}}}}}
",
            namespace = self.name
        );
        kubectl(&["apply", "-f", "-"], &yaml);
        // Its pods may be still to come.
        wait_for("the budget's status", || {
            self.allowed(workload) == max_unavailable.to_string() || max_unavailable > 0
        });
    }

    /// Changes a budget, and waits until its status tells so.
    pub(crate) fn set_budget(&self, workload: &str, max_unavailable: u32) {
        let patch = format!("{{\"spec\":{{\"maxUnavailable\":{max_unavailable}}}}}");
        kubectl(&["patch", "pdb", workload, "-n", &self.name, "--type=merge", "-p", &patch], "");
        wait_for("the budget's status", || self.allowed(workload) == max_unavailable.to_string());
    }

    /// How many evictions a budget allows now.
    fn allowed(&self, workload: &str) -> String {
        kubectl(&["get", "pdb", workload, "-n", &self.name, "-o", "jsonpath={.status.disruptionsAllowed}"], "")
    }

    /// A pod that no scheduler has bound to the node, and that asks for one of that resource.
    pub(crate) fn bound(&self, name: &str, resource: &str) {
        let yaml = format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {node}}}
spec:
  nodeName: {node}
  containers: [{{name: server, image: none, resources: {{limits: {{{resource}: 1}}}}}}]
",
            node = self.name
        );
        kubectl(&["apply", "-f", "-"], &yaml);
    }

    /// A workload's pods, as kubectl tells them.
    pub(crate) fn pods(&self, workload: &str) -> String {
        kubectl(&["get", "pods", "-n", &self.name, "-l", &format!("app={workload}"), "-o", "json"], "")
    }

    fn items(&self, workload: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.pods(workload)).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// UIDs of a workload's pods.
    pub(crate) fn uids(&self, workload: &str) -> Vec<String> {
        let mut uids: Vec<String> =
            self.items(workload).iter().map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect();
        uids.sort();
        uids
    }

    /// How many of a workload's pods run.
    pub(crate) fn running(&self, workload: &str) -> usize {
        let runs =
            |pod: &&Value| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"] == Value::Null;
        self.items(workload).iter().filter(runs).count()
    }

    pub(crate) fn node(&self) -> Value {
        serde_json::from_str(&kubectl(&["get", "node", &self.name, "-o", "json"], "")).unwrap()
    }

    pub(crate) fn is_tainted(&self) -> bool {
        self.node()["spec"]["taints"].to_string().contains("sectile.dev/repartitioning")
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.node()["metadata"]["labels"][DEPLOY] != "true"
    }

    /// Events of the node and of its pods.
    pub(crate) fn events(&self) -> String {
        let of = |namespace: &str| kubectl(&["get", "events", "-n", namespace, "-o", "wide"], "");
        let node = of("default").lines().filter(|line| line.contains(&self.name)).collect::<Vec<_>>().join("\n");
        format!("{node}\n{}", of(&self.name))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // While nothing is left to be judged; a node that still ends pods helps.
        if !std::thread::panicking() {
            self.clear();
        }
        self.node = None;
    }
}
