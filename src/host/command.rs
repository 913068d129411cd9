//! Runs a command of the tree: no shell, few variables, a time limit, and the end of what it said.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::model::visible;
use crate::ports::{Port, PortError};

/// Where programs find others (the default of systemd).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// So much of what a command said is kept, of its end.
const KEPT: usize = 8 << 10;
/// So many lines of that are shown.
const LINES: usize = 5;
/// How long what a command said may take to arrive behind its end.
const REST: Duration = Duration::from_millis(200);

/// A command, ready to be run.
#[derive(Debug)]
pub(super) struct Command<'a> {
    /// Program and arguments.
    pub(super) argv: &'a [String],
    /// The node's name.
    pub(super) node: &'a str,
    /// The MIG devices that it is about.
    pub(super) uuids: &'a [String],
    /// It is killed after so long.
    pub(super) limit: Duration,
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit status.
    pub(super) status: i32,
    /// The last lines of what it said.
    pub(super) said: String,
}

impl Command<'_> {
    /// All its variables.
    pub(super) fn env(&self) -> [(&'static str, String); 3] {
        let uuids = self.uuids.join(",");
        [("SECTILE_NODE", self.node.to_owned()), ("SECTILE_MIG_UUIDS", uuids), ("PATH", PATH.to_owned())]
    }

    /// As messages name it.
    pub(super) fn name(&self) -> String {
        format!("`{}`", self.argv.iter().map(|word| visible(word)).collect::<Vec<_>>().join(" "))
    }

    /// The error of a command that did not end by itself, or was not run at all.
    pub(super) fn failed(&self, code: String, said: &str) -> PortError {
        let said = if said.is_empty() { String::new() } else { format!(" said: {said}") };
        PortError { transient: false, code, message: format!("{}{said}", self.name()) }
    }

    /// The error of one that was killed since it took too long.
    pub(super) fn late(&self, said: &str) -> PortError {
        self.failed(format!("killed after {} s", self.limit.as_secs()), said)
    }

    /// Runs it as a child of this program.
    pub(super) async fn run(&self) -> Port<Ended> {
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err(self.failed("no program".to_owned(), ""));
        };
        let (heard, mouth) = Heard::new().map_err(|error| self.failed(error.to_string(), ""))?;
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).env_clear().envs(self.env()).current_dir("/").stdin(Stdio::null());
        let second = mouth.try_clone().map_err(|error| self.failed(error.to_string(), ""))?;
        command.stdout(Stdio::from(mouth)).stderr(Stdio::from(second)).process_group(0);
        let child = command.spawn();
        // It holds the ends of the pipe.
        drop(command);
        let mut child = child.map_err(|error| self.failed(format!("can't be run: {error}"), ""))?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let ended = tokio::time::timeout(self.limit, child.wait()).await;
        // What it left running goes with it, as it does where systemd runs it.
        drop(group);
        let said = heard.said().await;
        match ended {
            Err(_) => {
                let _ = child.wait().await;
                Err(self.late(&said))
            }
            Ok(Err(error)) => Err(self.failed(error.to_string(), &said)),
            Ok(Ok(status)) => match status.code() {
                Some(status) => Ok(Ended { status, said }),
                None => Err(self.failed(status.to_string(), &said)),
            },
        }
    }
}

/// A process group that is killed when nobody waits for it any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Listens to what a command says, so that it never waits for a reader.
pub(super) struct Heard {
    tail: Arc<Mutex<Vec<u8>>>,
    reads: JoinHandle<()>,
}

impl Heard {
    /// A listener, and what it hears.
    pub(super) fn new() -> std::io::Result<(Self, OwnedFd)> {
        let (reader, writer) = std::io::pipe()?;
        let mut reader = pipe::Receiver::from_owned_fd(reader.into())?;
        let tail = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&tail);
        let reads = tokio::spawn(async move {
            let mut buffer = vec![0; KEPT];
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                let mut tail = kept.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend(buffer.iter().take(read));
                let over = tail.len().saturating_sub(KEPT);
                tail.drain(..over);
            }
        });
        Ok((Heard { tail, reads }, writer.into()))
    }

    /// The last lines, once the command has ended. A process that it left may keep the pipe open.
    pub(super) async fn said(mut self) -> String {
        let _ = tokio::time::timeout(REST, &mut self.reads).await;
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<String> = text.lines().map(visible).filter(|line| !line.trim().is_empty()).collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("; ")
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.reads.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_its_children_and_what_it_said_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let late = folder.path().join("late").display().to_string();
        let script = "echo begun; (sleep 1; touch \"$0\") & sleep 1; touch \"$0\"";
        let argv = ["/bin/sh", "-c", script, &late].map(str::to_owned);
        let command = Command { argv: &argv, node: "n", uuids: &[], limit: Duration::from_millis(200) };
        let error = command.run().await.unwrap_err();
        assert_eq!((error.transient, error.code.as_str()), (false, "killed after 0 s"));
        assert!(error.message.ends_with("said: begun"), "{error:?}");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!folder.path().join("late").exists());
        let argv = ["/bin/sh", "-c", "kill -9 $$"].map(str::to_owned);
        let command = Command { argv: &argv, limit: Duration::from_secs(9), ..command };
        assert!(command.run().await.unwrap_err().code.contains("signal: 9"));
    }
}
