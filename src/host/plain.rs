//! A host without systemd's bus: processes and resets, and nothing of its units and commands yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::devices::DeviceTools;
use crate::model::observed::DeviceFiles;
use crate::model::observed::UnitState;
use crate::model::visible;
use crate::ports::{CommandCall, Host, Port, PortError};

/// What is asked to reset a GPU, with its PCI bus id behind it.
const RESET: [&str; 3] = ["nvidia-smi", "--gpu-reset", "-i"];
/// How long a process may take to end after SIGTERM, and after SIGKILL, in tenths of a second.
const TERM_TENTHS: u32 = 100;
const KILL_TENTHS: u32 = 50;
/// How many words of a command an error shows.
const MOST_WORDS: usize = 6;

/// The host that this program runs on.
pub struct PlainHost {
    reset: Vec<String>,
    devices: DeviceTools,
    release: Box<dyn Fn()>,
}

impl fmt::Debug for PlainHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainHost").field("reset", &self.reset).finish_non_exhaustive()
    }
}

impl PlainHost {
    /// A host that resets GPUs by a program, which gets the PCI bus id; without one, by nvidia-smi. `refresh` tells it
    /// of new devices; without one, NVIDIA's tools do. `release` lets go of the driver: a GPU that anybody has open is
    /// not reset.
    pub fn new(reset: Option<String>, refresh: Option<String>, release: impl Fn() + 'static) -> Self {
        let reset = reset.map_or_else(|| RESET.map(str::to_owned).to_vec(), |program| vec![program]);
        let devices = refresh.map_or_else(|| DeviceTools::Nvidia(PathBuf::from("/")), DeviceTools::Program);
        PlainHost { reset, devices, release: Box::new(release) }
    }
}

/// Runs a program to its end; what it said last is the error's.
async fn run(argv: &[OsString]) -> Port<()> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    // Of many arguments the first tell enough.
    let words: Vec<_> = argv.iter().take(MOST_WORDS).map(|word| word.to_string_lossy()).collect();
    let more = if argv.len() > MOST_WORDS { " …" } else { "" };
    let failed = |transient, code: String, what: &str| PortError {
        transient,
        code,
        message: format!("`{}{more}`{what}", words.join(" ")),
    };
    let output = command.output().await.map_err(|error| failed(false, error.to_string(), " can't be run"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let busy = said.to_lowercase().contains("in use");
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).map(visible).unwrap_or_default();
    Err(failed(busy, output.status.to_string(), &format!(" said: {last}")))
}

fn missing(message: String) -> PortError {
    PortError { transient: false, code: "not supported".to_owned(), message }
}

impl Host for PlainHost {
    /// Nothing is known of any unit: a tree that names one of this node is refused by whoever reads it.
    async fn units(&self, _names: &BTreeSet<String>) -> Port<BTreeMap<String, UnitState>> {
        Ok(BTreeMap::new())
    }

    /// None was run.
    async fn commands(&self) -> Port<BTreeMap<String, Vec<String>>> {
        Ok(BTreeMap::new())
    }

    async fn stop_unit(&self, unit: &str) -> Port<()> {
        Err(missing(format!("this version does not speak to systemd, and can't stop {unit}")))
    }

    async fn start_unit(&self, unit: &str, _env: &str, _uuids: &[String]) -> Port<()> {
        Err(missing(format!("this version does not speak to systemd, and can't start {unit}")))
    }

    /// Only what the node's own settings list may be run, and this version reads none.
    async fn run(&self, call: CommandCall<'_>) -> Port<i32> {
        let program = call.argv.first().map(String::as_str).unwrap_or_default();
        Err(missing(format!("nothing on this node allows {program}, a command of {}, to be run", call.workload)))
    }

    async fn reset_gpu(&self, pci: &str) -> Port<()> {
        (self.release)();
        let argv: Vec<OsString> = self.reset.iter().map(OsString::from).chain([pci.into()]).collect();
        run(&argv).await
    }

    async fn device_files(&self) -> Port<BTreeSet<DeviceFiles>> {
        Ok(self.devices.files())
    }

    async fn refresh_devices(&self, files: &[DeviceFiles]) -> Port<()> {
        for argv in self.devices.commands(files) {
            run(&argv).await?;
        }
        Ok(())
    }

    /// A process that is not there has ended already.
    async fn terminate(&self, pid: u32) -> Port<()> {
        let failed =
            |code: String, what: &str| PortError { transient: false, code, message: format!("process {pid} {what}") };
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| failed("no such id".to_owned(), "can't be ended"))?;
        // By its descriptor, since its number may be another's by the time of the second signal.
        let process = match pidfd_open(id, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            opened => opened.map_err(|error| failed(error.to_string(), "can't be ended"))?,
        };
        for (signal, tenths) in [(Signal::TERM, TERM_TENTHS), (Signal::KILL, KILL_TENTHS)] {
            match pidfd_send_signal(&process, signal) {
                Ok(()) => {}
                Err(Errno::SRCH) => return Ok(()),
                Err(error) => return Err(failed(error.to_string(), "can't be ended")),
            }
            for _ in 0..tenths {
                let mut ended = [PollFd::new(&process, PollFlags::IN)];
                if poll(&mut ended, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Err(failed("still there".to_owned(), "does not end"))
    }
}
