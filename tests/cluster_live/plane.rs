//! The control plane's programs on this machine: ended, and started again as they were, as a kubelet would.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::stage::{admin, wait_for};

/// A program that runs, and how it was started.
#[derive(Clone, Debug)]
struct Program {
    pid: String,
    exe: PathBuf,
    words: Vec<String>,
    folder: PathBuf,
}

impl Program {
    /// The program of that name whose words bear this.
    fn find(name: &str, word: &str) -> Self {
        // Linux keeps the first 15 letters of a name.
        let found = Command::new("pgrep").args(["-x", name.get(..15).unwrap_or(name)]).output().unwrap();
        let pids = String::from_utf8(found.stdout).unwrap();
        let of = |pid: &str| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
            let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
            let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            Some(Program { pid: pid.to_owned(), exe, words, folder })
        };
        let all = pids.lines().filter_map(of);
        let mut of_this = all.filter(|program| program.words.iter().any(|have| have.contains(word)));
        of_this.next().unwrap_or_else(|| panic!("{name} does not run on this machine"))
    }

    fn runs(&self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn start(&mut self) {
        let arguments = self.words.iter().skip(1);
        let mut command = Command::new(&self.exe);
        command.args(arguments).current_dir(&self.folder).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.pid = child.id().to_string();
        // It outlives the test, and is gone for good when it ends.
        std::thread::spawn(move || child.wait());
        let name = self.exe.file_name().unwrap().to_string_lossy().into_owned();
        // Where whoever started it looks for it.
        let _ = std::fs::write(self.folder.join(format!("{name}.pid")), &self.pid);
    }
}

/// Keeps scheduler and controllers running: they end where their view of the cluster broke.
pub(crate) struct Supervisor(Arc<AtomicBool>);

impl Supervisor {
    pub(crate) fn begin() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut programs: Vec<Program> =
            ["kube-scheduler", "kube-controller-manager"].map(|name| Program::find(name, "kubeconfig")).to_vec();
        let until = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                programs.iter_mut().filter(|program| !program.runs()).for_each(Program::start);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Supervisor(stop)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Ends the API server, and starts it again after that time.
pub(crate) fn restart_api_server(away: Duration) {
    let server = std::fs::read_to_string(admin()).unwrap();
    let behind = server.split("127.0.0.1:").nth(1).expect("an API server of this machine");
    let port = behind.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    let mut program = Program::find("kube-apiserver", port);
    assert!(Command::new("kill").args(["-9", &program.pid]).status().unwrap().success());
    std::thread::sleep(away);
    program.start();
    wait_for("the API server", || {
        let ready = Command::new("kubectl").args(["get", "--raw", "/readyz"]).env("KUBECONFIG", admin()).output();
        ready.unwrap().status.success()
    });
}
