//! The host of this node: units by systemd, commands, and what is plain; and of them only what its settings allow.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::command::{Command, Ended};
use super::given::Given;
use super::plain::PlainHost;
use super::systemd::Systemd;
use crate::model::Allowed;
use crate::model::observed::{DeviceFiles, UnitState};
use crate::ports::{CommandCall, CommandPhase, Host, Port, PortError};

/// How long a command may take that only asks, and one that begins something: a little less than whoever waits for it.
const ASKS: Duration = Duration::from_secs(50);
const ACTS: Duration = Duration::from_secs(280);

/// The host that this program runs on.
#[derive(Debug)]
pub struct NodeHost {
    /// The node's name.
    pub node: String,
    /// What may be touched.
    pub allowed: Allowed,
    /// Its processes, resets and device nodes.
    pub plain: PlainHost,
    /// Its units.
    pub systemd: Systemd,
    /// What its commands' workloads hold.
    pub given: Given,
}

impl NodeHost {
    fn unit(&self, unit: &str) -> Port<()> {
        // It becomes a folder's name.
        let is_name = !unit.contains('/') && !unit.starts_with('.');
        if self.allowed.unit(unit) && is_name { Ok(()) } else { Err(self.refused(unit, "units")) }
    }

    /// Ends what is left of commands that an earlier run began, before anything is planned or begun by another one.
    ///
    /// # Errors
    ///
    /// Where systemd does not answer.
    pub async fn end_left(&self) -> Port<()> {
        match self.systemd.is_there() && !self.allowed.commands.is_empty() {
            true => self.systemd.end_left().await,
            false => Ok(()),
        }
    }

    fn refused(&self, what: &str, key: &str) -> PortError {
        let code = "not allowed".to_owned();
        let message = format!("{what} is not in `{key}` of [host] in {}", self.allowed.file);
        PortError { transient: false, code, message }
    }

    async fn carry_out(&self, call: CommandCall<'_>, uuids: &[String]) -> Port<Ended> {
        let limit = if asks(call.phase) { ASKS } else { ACTS };
        let command = Command { argv: call.argv, node: &self.node, uuids, limit };
        let ended = match self.systemd.is_there() {
            true => self.systemd.run(call.workload, &command).await,
            false => command.run().await,
        };
        tracing::debug!(workload = call.workload, phase = ?call.phase, ?ended, "ran {}", command.name());
        let ended = ended?;
        if ended.status != 0 && !asks(call.phase) {
            return Err(command.failed(format!("exit status {}", ended.status), &ended.said));
        }
        Ok(ended)
    }
}

/// Whether a command only asks, so that its exit status is an answer.
fn asks(phase: CommandPhase) -> bool {
    matches!(phase, CommandPhase::Drained | CommandPhase::Ready | CommandPhase::Paused)
}

impl Host for NodeHost {
    /// The tree may name units of other nodes, too: here only those are looked at that may be touched.
    async fn units(&self, names: &BTreeSet<String>) -> Port<BTreeMap<String, UnitState>> {
        if !self.systemd.is_there() {
            return Ok(BTreeMap::new());
        }
        let names = names.iter().filter(|unit| self.unit(unit).is_ok()).cloned().collect();
        self.systemd.units(names).await
    }

    async fn commands(&self) -> Port<BTreeMap<String, Vec<String>>> {
        // Where none may be run, nobody was given anything, and nothing can be lost.
        if self.allowed.commands.is_empty() && !self.given.is_kept() {
            return Ok(BTreeMap::new());
        }
        self.given.all()
    }

    async fn stop_unit(&self, unit: &str, with: &[String]) -> Port<()> {
        self.unit(unit)?;
        self.systemd.stop(unit, with).await
    }

    async fn start_unit(&self, unit: &str, env: &str, uuids: &[String]) -> Port<()> {
        self.unit(unit)?;
        if env.is_empty() {
            return self.systemd.start(unit, None).await;
        }
        if uuids.is_empty() {
            self.systemd.take_back(unit).await?;
            return self.systemd.start(unit, None).await;
        }
        self.systemd.start(unit, Some(&format!("{env}={}", uuids.join(",")))).await
    }

    async fn run(&self, call: CommandCall<'_>) -> Port<i32> {
        if !self.allowed.command(call.argv) {
            let program = call.argv.first().map(String::as_str).unwrap_or_default();
            return Err(self.refused(&format!("{program}, a command of {},", call.workload), "commands"));
        }
        let held = match call.phase {
            CommandPhase::Drain | CommandPhase::Drained if call.uuids.is_empty() => {
                self.given.all()?.remove(call.workload).unwrap_or_default()
            }
            CommandPhase::Resume => {
                // From when it is told on it may hold them, whatever becomes of the command.
                self.given.set(call.workload, Some(call.uuids))?;
                call.uuids.to_vec()
            }
            _ => call.uuids.to_vec(),
        };
        let Ended { status, .. } = self.carry_out(call.clone(), &held).await?;
        if call.phase == CommandPhase::Drained && status == 0 {
            self.given.set(call.workload, None)?;
        }
        Ok(status)
    }

    async fn reset_gpu(&self, pci: &str) -> Port<()> {
        self.plain.reset_gpu(pci).await
    }

    async fn device_files(&self) -> Port<BTreeSet<DeviceFiles>> {
        Ok(self.plain.device_files())
    }

    async fn refresh_devices(&self, files: &[DeviceFiles]) -> Port<()> {
        self.plain.refresh_devices(files).await
    }

    async fn terminate(&self, pid: u32) -> Port<()> {
        self.plain.terminate(pid).await
    }
}
