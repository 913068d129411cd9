//! What a host does without anybody's help: it ends processes, resets GPUs, and makes device nodes anew.

use std::collections::BTreeSet;
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
use crate::model::visible;
use crate::ports::{Port, PortError};

/// What is asked to reset a GPU, with its PCI bus id behind it.
const RESET: [&str; 3] = ["nvidia-smi", "--gpu-reset", "-i"];
/// How long a process may take to end after SIGTERM, and after SIGKILL, in tenths of a second.
const TERM_TENTHS: u32 = 100;
const KILL_TENTHS: u32 = 50;
/// How many words of a command an error shows.
const MOST_WORDS: usize = 6;

/// The plain part of the host that this program runs on.
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

impl PlainHost {
    /// Resets exactly this GPU.
    pub(super) async fn reset_gpu(&self, pci: &str) -> Port<()> {
        (self.release)();
        let argv: Vec<OsString> = self.reset.iter().map(OsString::from).chain([pci.into()]).collect();
        run(&argv).await
    }

    /// What it keeps of its MIG devices beside the driver.
    pub(super) fn device_files(&self) -> BTreeSet<DeviceFiles> {
        self.devices.files()
    }

    /// Makes these anew, from what the driver has now.
    pub(super) async fn refresh_devices(&self, files: &[DeviceFiles]) -> Port<()> {
        for argv in self.devices.commands(files) {
            run(&argv).await?;
        }
        Ok(())
    }

    /// Ends a process: SIGTERM, then SIGKILL. One that is not there has ended already.
    pub(super) async fn terminate(&self, pid: u32) -> Port<()> {
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
