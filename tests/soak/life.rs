//! A life of the service: from its start until it is killed or told to end, with what it holds meanwhile.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sectile::host::clock::uptime;

use super::stage::Stage;

/// How long it has to begin, to answer and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) files: usize,
    /// inotify's.
    pub(crate) watches: usize,
    pub(crate) threads: u64,
    /// In kB.
    pub(crate) resident: u64,
}

pub(crate) struct Life {
    child: Child,
}

impl Life {
    /// Begins it, and waits until it answers.
    pub(crate) fn begin(stage: &Stage) -> Self {
        let log = File::options().create(true).append(true).open(stage.path("log")).unwrap();
        let mut command = stage.command();
        command.args(["run", "current", "--resync", "5s", "--log", "text", "--metrics", &stage.metrics.to_string()]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let life = Life { child };
        let begin = uptime();
        while life.ask_over(stage, "/healthz", true).is_none_or(|(code, _)| code != 200) {
            assert!(uptime() - begin < PATIENCE, "it does not begin: {}", stage.log());
            life.pause(Duration::from_millis(20));
        }
        life
    }

    pub(crate) fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it says under a path, over its socket or its address.
    fn ask_over(&self, stage: &Stage, path: &str, unix: bool) -> Option<(u16, String)> {
        trait Both: Read + Write {}
        impl<T: Read + Write> Both for T {}
        let mut stream: Box<dyn Both> = match unix {
            true => {
                let stream = UnixStream::connect(stage.path("s.sock")).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
            false => {
                let stream = TcpStream::connect(stage.metrics).ok()?;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        };
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    pub(crate) fn ask(&self, stage: &Stage, path: &str, unix: bool) -> (u16, String) {
        let answer = self.ask_over(stage, path, unix);
        answer.unwrap_or_else(|| panic!("it does not answer for {path}: {}", stage.log()))
    }

    /// Whether it has seen and done all: the node is as the newest tree says, and nobody waits for anything.
    pub(crate) fn is_at_rest(&self, stage: &Stage) -> bool {
        let newest = sectile::config::load(&stage.path("current")).revision.to_string();
        let (_, measured) = self.ask(stage, "/metrics", true);
        let holds = measured.lines().any(|line| line.starts_with("sectile_tree_revision") && line.contains(&newest));
        holds && measured.contains("state=\"converged\"} 1") && self.ask(stage, "/readyz", true).0 == 200
    }

    /// It has not ended by itself.
    pub(crate) fn goes_on(&mut self, stage: &Stage) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it has ended: {status}: {}", stage.log());
        }
    }

    /// What it holds where nobody asks it anything.
    pub(crate) fn held(&self) -> Held {
        // Whoever asked before is let go of.
        self.pause(Duration::from_millis(500));
        let process = format!("/proc/{}", self.child.id());
        let watches = |file: &fs::DirEntry| {
            let info =
                fs::read_to_string(format!("{process}/fdinfo/{}", file.file_name().display())).unwrap_or_default();
            info.lines().filter(|line| line.starts_with("inotify ")).count()
        };
        let files: Vec<_> = fs::read_dir(format!("{process}/fd")).unwrap().flatten().collect();
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").trim().parse().unwrap()
        };
        let watches = files.iter().map(watches).sum();
        Held { files: files.len(), watches, threads: figure("Threads:"), resident: figure("VmRSS:") }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as systemd does.
    pub(crate) fn end(mut self, stage: &Stage) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success(), "{}", stage.log());
        let log = fs::read_to_string(stage.path("log")).unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
