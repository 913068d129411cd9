//! systemd: how its units are, stopping and starting them with the MIG devices that are theirs, and commands as units of
//! their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use zbus::{Fd, OwnedObjectPath, OwnedVariant, Variant};

use super::bus::{Bus, read};
use super::command::{Command, Ended, Heard};
use super::dropin::{Before, DropIns};
use crate::model::observed::UnitState;
use crate::model::visible;
use crate::ports::{Port, PortError};

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// Where systemd keeps drop-ins that last until the next boot, below its folder in `/run`.
const SYSTEM: &str = "system";
/// How long a unit is watched behind its start: most that can't run end at once.
pub const SETTLE: Duration = Duration::from_secs(2);
/// How often, meanwhile.
const LOOK: Duration = Duration::from_millis(200);
/// systemd's exit status of a program that could not be run (systemd.exec(5)).
const NOT_RUN: i32 = 203;
/// What units of commands are called.
const COMMAND: &str = "sectile-cmd-";
/// How long a command may take to end once its time is over, in microseconds.
const KILL_US: u64 = 5_000_000;
/// There is no such unit, and can be none.
const NONE: [&str; 2] = ["org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.InvalidArgs"];
/// What a unit's stop is passed on to (systemd.unit(5), "Mapping of unit properties to their inverses").
const TAKES: [&str; 5] = ["RequiredBy", "RequisiteOf", "BoundBy", "ConsistsOf", "PropagatesStopTo"];
/// Whom a unit's start stops.
const AGAINST: [&str; 2] = ["Conflicts", "ConflictedBy"];
/// A unit's name is not longer than 255 bytes (systemd.unit(5)).
const LONGEST: usize = 100;

/// systemd, by its bus.
#[derive(Debug)]
pub struct Systemd {
    bus: Bus,
    drop_ins: DropIns,
    settle: Duration,
    /// Commands that were run so far.
    runs: AtomicU32,
}

/// A unit as systemd tells it.
#[derive(Debug)]
struct Look {
    exists: bool,
    /// `active`, `inactive`, `failed`, `activating`, …
    active: String,
    /// The finer state: `running`, `exited`, `auto-restart`, …
    sub: String,
    /// One start of it, in hexadecimal.
    start: String,
    /// Units that systemd stops with it.
    takes: BTreeSet<String>,
    /// Units that systemd stops when it starts this one.
    against: BTreeSet<String>,
    /// Variables of its settings.
    environment: Vec<String>,
    /// Those of the files that it names, which win (`EnvironmentFile=`), as they are now.
    files: Vec<String>,
    /// Those that are taken from it in the end.
    unset: Vec<String>,
    /// How it ended last: `success`, `exit-code`, …
    result: String,
    /// The exit status of its main process, or the signal that ended it.
    status: i32,
}

impl Look {
    /// Whether it may hold something. What is about to end still does, and what begins may already.
    fn is_up(&self) -> bool {
        !matches!(self.active.as_str(), "inactive" | "failed")
    }

    /// How it ended, in words.
    fn end(&self) -> String {
        match self.result.as_str() {
            "" | "success" => format!("it ended by itself, with exit status {}", self.status),
            "exit-code" => format!("exit status {}", self.status),
            "signal" | "core-dump" => format!("{}, signal {}", self.result, self.status),
            other => other.to_owned(),
        }
    }

    /// UUIDs in any of its variables: of a unit that somebody gave its devices by other means, too.
    fn devices(&self) -> BTreeSet<String> {
        devices(self.environment.iter().chain(&self.files))
    }

    /// Whether it has a variable once it starts.
    fn has(&self, assignment: &str) -> bool {
        let name = assignment.split_once('=').map_or(assignment, |(name, _)| name);
        let sets = |line: &&String| line.split_once('=').is_some_and(|(other, _)| other == name);
        let last = self.files.iter().rfind(sets).or_else(|| self.environment.iter().find(sets));
        let unset = self.unset.iter().any(|unset| unset == name || unset == assignment);
        !unset && last.is_some_and(|line| line == assignment)
    }
}

/// Variables in the files that a unit names, but for patterns, and files that can't be read.
fn variables(files: Vec<(String, bool)>) -> Vec<String> {
    let texts = files.into_iter().filter_map(|(path, _)| std::fs::read_to_string(path).ok());
    let lines = texts.flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
    lines.filter(|line| line.contains('=') && !line.starts_with(['#', ';'])).collect()
}

/// UUIDs in the values of variables.
fn devices<'a>(assignments: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let values = assignments.into_iter().filter_map(|line| line.split_once('=')).map(|(_, value)| value);
    let around = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    let words = values.flat_map(|value| value.split(',')).map(|word| word.trim_matches(around));
    words.filter(|word| word.starts_with("MIG-") || word.starts_with("GPU-")).map(str::to_owned).collect()
}

impl Systemd {
    /// systemd at that address of a bus (`None`: the system's), with that folder in `/run`. A unit that was started is
    /// watched for `settle`.
    pub fn new(address: Option<String>, folder: &Path, settle: Duration) -> Self {
        let drop_ins = DropIns::new(folder.join(SYSTEM));
        Systemd { bus: Bus::new(address), drop_ins, settle, runs: AtomicU32::new(0) }
    }

    /// Whether it runs here at all.
    pub(super) fn is_there(&self) -> bool {
        self.drop_ins.are_read()
    }

    /// States of these units, and of those that were given devices; one that does not exist is left out.
    pub(super) async fn units(&self, names: BTreeSet<String>) -> Port<BTreeMap<String, UnitState>> {
        let names = names.into_iter().chain(self.drop_ins.units()?);
        let mut units = BTreeMap::new();
        for unit in names.collect::<BTreeSet<_>>() {
            let Some(look) = self.look(&unit).await? else { continue };
            let mut state = UnitState { active: look.is_up(), ..UnitState::default() };
            if state.active {
                let before = self.before(&unit, &look)?;
                state.stale = before.is_some();
                // What it is given lasts, whatever else gave it another value since its start.
                let held = look.devices().into_iter().chain(devices(&self.drop_ins.assignment(&unit)?));
                let held: BTreeSet<String> = held.chain(before.unwrap_or_default().devices).collect();
                state.devices = held.into_iter().collect();
                state.processes = self.processes(&unit).await?;
                state.takes = self.takes(&unit, &look).await?;
            }
            units.insert(unit, state);
        }
        Ok(units)
    }

    /// What a unit may still run with; `None`: it was started after systemd read what it was given last.
    fn before(&self, unit: &str, look: &Look) -> Port<Option<Before>> {
        Ok(self.drop_ins.before(unit)?.filter(|before| before.holds(&look.start)))
    }

    /// Units that run and that systemd stops with this one, however many others lie between.
    async fn takes(&self, unit: &str, look: &Look) -> Port<BTreeSet<String>> {
        let (mut seen, mut running) = (BTreeSet::from([unit.to_owned()]), BTreeSet::new());
        let mut left: Vec<String> = look.takes.iter().cloned().collect();
        while let Some(next) = left.pop() {
            if !seen.insert(next.clone()) {
                continue;
            }
            let Some(look) = self.look(&next).await? else { continue };
            left.extend(look.takes.iter().cloned());
            running.extend(look.is_up().then_some(next));
        }
        Ok(running)
    }

    /// Refuses what would stop others than these, too.
    async fn alone(&self, unit: &str, look: &Look, with: &[String]) -> Port<()> {
        let takes = self.takes(unit, look).await?;
        let others: Vec<&str> = takes.iter().filter(|other| !with.contains(other)).map(String::as_str).collect();
        if others.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{unit} was not stopped, since systemd would stop {} with it, of which the tree does not speak",
            others.join(", ")
        );
        Err(PortError { transient: false, code: "others would stop".to_owned(), message })
    }

    /// A unit; `None`: there is none.
    async fn look(&self, unit: &str) -> Port<Option<Look>> {
        let look = self.look_at(unit).await?;
        Ok(look.filter(|look| look.exists || look.is_up()))
    }

    async fn look_at(&self, unit: &str) -> Port<Option<Look>> {
        let what = format!("systemd does not tell of {unit}");
        let path: Port<OwnedObjectPath> = match self.bus.call("LoadUnit", &(unit,), &what).await {
            // Nothing is called so, or could be: a template is no unit.
            Err(error) if NONE.contains(&error.code.as_str()) => return Ok(None),
            reply => reply.and_then(|reply| read(&reply, &what)),
        };
        let path = path?;
        type Properties = HashMap<String, OwnedVariant>;
        let of_unit: Properties = self.bus.properties(&path, UNIT, &what).await?;
        // Only services have these.
        let of_service = match unit.ends_with(".service") {
            true => self.bus.properties(&path, SERVICE, &what).await?,
            false => Properties::new(),
        };
        fn get<T: TryFrom<OwnedVariant>>(of: &Properties, key: &str) -> Option<T> {
            of.get(key).and_then(|value| value.try_clone().ok()).and_then(|value| T::try_from(value).ok())
        }
        let text = |of, key| get::<String>(of, key).unwrap_or_default();
        let Some(active) = get::<String>(&of_unit, "ActiveState") else {
            let code = "no ActiveState".to_owned();
            return Err(PortError { transient: false, code, message: what });
        };
        let loaded = text(&of_unit, "LoadState");
        Ok(Some(Look {
            exists: loaded != "not-found",
            active,
            sub: text(&of_unit, "SubState"),
            start: get::<Vec<u8>>(&of_unit, "InvocationID")
                .iter()
                .flatten()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            against: AGAINST.iter().flat_map(|key| get::<Vec<String>>(&of_unit, key)).flatten().collect(),
            takes: TAKES.iter().flat_map(|key| get::<Vec<String>>(&of_unit, key)).flatten().collect(),
            environment: get(&of_service, "Environment").unwrap_or_default(),
            files: variables(get(&of_service, "EnvironmentFiles").unwrap_or_default()),
            unset: get(&of_service, "UnsetEnvironment").unwrap_or_default(),
            result: text(&of_service, "Result"),
            status: get(&of_service, "ExecMainStatus").unwrap_or_default(),
        }))
    }

    /// Ids of a unit's processes.
    async fn processes(&self, unit: &str) -> Port<BTreeSet<u32>> {
        let what = format!("systemd does not tell the processes of {unit}");
        let reply = match self.bus.call("GetUnitProcesses", &(unit,), &what).await {
            // It has ended meanwhile. Whatever else is wrong, who uses what is not known.
            Err(error) if NONE.contains(&error.code.as_str()) => return Ok(BTreeSet::new()),
            reply => reply?,
        };
        let all: Vec<(String, u32, String)> = read(&reply, &what)?;
        Ok(all.into_iter().map(|(_, pid, _)| pid).collect())
    }

    /// Stops a unit, unless others than these would stop with it, and waits until it is inactive. It is given no device any
    /// more: whoever starts it by hand must not find those of others.
    pub(super) async fn stop(&self, unit: &str, with: &[String]) -> Port<()> {
        let what = format!("systemd did not stop {unit}");
        let Some(before) = self.look(unit).await? else { return Ok(()) };
        if before.is_up() {
            self.alone(unit, &before, with).await?;
            let ended = self.bus.job("StopUnit", &(unit, "replace"), &what).await?;
            done(ended.as_deref(), &what, String::new)?;
        }
        let given = self.drop_ins.assignment(unit)?.filter(|given| !devices([given]).is_empty());
        let after = match given.as_ref().and_then(|given| given.split_once('=')) {
            Some((name, _)) => self.give(unit, &before, Some(&format!("{name}="))).await?,
            None => self.look(unit).await?,
        };
        match after {
            Some(look) if look.is_up() => Err(PortError {
                transient: true,
                code: format!("it is {} ({})", look.active, look.sub),
                message: format!("{unit} was stopped, and is started again"),
            }),
            _ => Ok(()),
        }
    }

    /// Takes what a unit was given: from its next start on it is as it was before.
    pub(super) async fn take_back(&self, unit: &str) -> Port<()> {
        if let (Some(_), Some(before)) = (self.drop_ins.assignment(unit)?, self.look(unit).await?) {
            self.give(unit, &before, None).await?;
        }
        Ok(())
    }

    /// Sets what a unit is started with from now on, or (`None`) no longer, and has systemd read it; the unit then. What it
    /// may run with until its next start is noted first.
    async fn give(&self, unit: &str, before: &Look, assignment: Option<&str>) -> Port<Option<Look>> {
        let still = self.before(unit, before)?.unwrap_or_default().devices;
        let given = devices(&self.drop_ins.assignment(unit)?);
        let held = before.devices().into_iter().chain(given).chain(still).collect();
        let mut note = Before { devices: held, start: None };
        self.drop_ins.note(unit, &note)?;
        match assignment {
            Some(assignment) => self.drop_ins.write(unit, assignment)?,
            None => self.drop_ins.remove(unit)?,
        }
        self.bus.call("Reload", &(), "systemd did not read its units anew").await?;
        let after = self.look(unit).await?;
        note.start = after.as_ref().map(|look| look.start.clone());
        self.drop_ins.note(unit, &note)?;
        Ok(after)
    }

    /// Gives a unit a variable (`NAME=VALUE`), starts it, and waits until it is active and stays so. `None`: it is only
    /// started.
    pub(super) async fn start(&self, unit: &str, assignment: Option<&str>) -> Port<()> {
        let what = format!("systemd did not start {unit}");
        let gone = || PortError {
            transient: false,
            code: "org.freedesktop.systemd1.NoSuchUnit".to_owned(),
            message: format!("{what}: there is no such unit"),
        };
        let before = self.look(unit).await?.ok_or_else(gone)?;
        for other in &before.against {
            if self.look(other).await?.is_some_and(|look| look.is_up()) {
                let message = format!("{what}, since it would stop {other}, which runs and conflicts with it");
                return Err(PortError { transient: false, code: "others would stop".to_owned(), message });
            }
        }
        let mut verb = "StartUnit";
        let is_stale = self.before(unit, &before)?.is_some();
        // Where an earlier try was not heard of to its end, it may run with what it is to have.
        let has_it = |assignment: &&str| before.is_up() && !is_stale && before.has(assignment);
        if let Some(assignment) = assignment.filter(|assignment| !has_it(assignment)) {
            let after = self.give(unit, &before, Some(assignment)).await?.ok_or_else(gone)?;
            if !after.has(assignment) {
                let _ = self.stop(unit, &[]).await;
                let name = assignment.split_once('=').map_or(assignment, |(name, _)| name);
                let message = format!("{what}: something else of it sets {name}, which `systemctl cat {unit}` shows");
                return Err(PortError { transient: false, code: "not given".to_owned(), message });
            }
            // Somebody else started it, with what it had before.
            if before.is_up() || after.is_up() {
                self.alone(unit, &after, &[]).await?;
                verb = "RestartUnit";
            }
        }
        let started = self.begin(verb, unit, &what).await;
        if assignment.is_some() && started.as_ref().is_err_and(|error| !error.transient) {
            // It must not be started again and again on instances that may be others' by then.
            let _ = self.stop(unit, &[]).await;
        }
        started
    }

    async fn begin(&self, verb: &str, unit: &str, what: &str) -> Port<()> {
        let ended = self.bus.job(verb, &(unit, "replace"), what).await?;
        let after = self.look(unit).await?;
        let end = || after.as_ref().map(|look| format!(": {}", look.end())).unwrap_or_default();
        done(ended.as_deref(), what, end)?;
        self.stays(unit, what).await
    }

    /// Watches a unit for a while that must be active.
    async fn stays(&self, unit: &str, what: &str) -> Port<()> {
        let mut first = None;
        let until = tokio::time::Instant::now() + self.settle;
        loop {
            let look = self.look(unit).await?;
            let failed = |how: String| {
                let code = "org.freedesktop.systemd1.JobFailed".to_owned();
                Err(PortError { transient: false, code, message: format!("{what}: {how}") })
            };
            let Some(look) = look else { return failed("it is gone".to_owned()) };
            match look.active.as_str() {
                "active" | "reloading" | "refreshing" => {}
                "inactive" | "failed" => return failed(look.end()),
                other => return failed(format!("it is {other} ({}) after its start; {}", look.sub, look.end())),
            }
            if *first.get_or_insert_with(|| look.start.clone()) != look.start {
                return failed("it ends and is started again and again".to_owned());
            }
            if tokio::time::Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends what is left of commands whose end nobody lived to see, or waited for. One that still runs is waited for, which is
    /// no longer than its own limit: killed half way it would leave who knows what, and beside another it must not run.
    pub(super) async fn end_left(&self) -> Port<()> {
        // How ListUnits tells a unit: name, description, load, active and sub state, followed, path, job, its kind and path.
        type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
        let what = "systemd does not tell of commands that an earlier run left";
        let (mut told, pattern) = (false, format!("{COMMAND}*.service"));
        loop {
            let asked: (&[&str], &[&str]) = (&[], &[&pattern]);
            let reply = self.bus.call("ListUnitsByPatterns", &asked, what).await?;
            let left: Vec<Listed> = read(&reply, what)?;
            let (running, over): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|unit| matches!(unit.3.as_str(), "activating" | "deactivating"));
            for (unit, ..) in over {
                // One that has failed is gone once that is forgotten.
                let _ = self.bus.job("StopUnit", &(unit.as_str(), "replace"), what).await?;
                let _ = self.bus.call("ResetFailedUnit", &(unit.as_str(),), what).await;
            }
            let Some((unit, description, ..)) = running.first() else { return Ok(()) };
            if !std::mem::replace(&mut told, true) {
                tracing::info!("waiting for {}, which an earlier run began ({unit})", visible(description));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Runs a command as a unit of its own, so that nothing that holds for this program holds for it.
    pub(super) async fn run(&self, of: &str, command: &Command<'_>) -> Port<Ended> {
        let Some(program) = command.argv.first() else { return Err(command.failed("no program".to_owned(), "")) };
        self.end_left().await?;
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
        let of: String = of.chars().map(plain).take(LONGEST).collect();
        let unit = format!("{COMMAND}{of}-{}-{number}.service", std::process::id());
        let (heard, mouth) = Heard::new().map_err(|error| command.failed(error.to_string(), ""))?;
        let what = format!("systemd did not run {}", command.name());
        let ended = {
            let env: Vec<String> = command.env().iter().map(|(name, value)| format!("{name}={value}")).collect();
            // systemd would put variables in the place of `$NAME`; specifiers it leaves alone here.
            let argv: Vec<String> = command.argv.iter().map(|word| word.replace('$', "$$")).collect();
            let limit = u64::try_from(command.limit.as_micros()).unwrap_or(u64::MAX);
            let properties = [
                ("Description", Variant::from(format!("{} for sectile", command.name()))),
                // Its start is over when it is.
                ("Type", Variant::from("oneshot")),
                // And it is there until its exit status was read.
                ("RemainAfterExit", Variant::from(true)),
                ("ExecStart", Variant::from(vec![(program.clone(), argv, false)])),
                ("Environment", Variant::from(env)),
                ("WorkingDirectory", Variant::from("/")),
                ("TimeoutStartUSec", Variant::from(limit)),
                // Who does not end by then is killed, before anybody starts another one beside it.
                ("TimeoutStopUSec", Variant::from(KILL_US)),
                ("StandardOutputFileDescriptor", Variant::from(Fd::from(&mouth))),
                ("StandardErrorFileDescriptor", Variant::from(Fd::from(&mouth))),
            ];
            let others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
            let properties: Vec<(&str, Variant<'_>)> = properties.into_iter().collect();
            self.bus.job("StartTransientUnit", &(unit.as_str(), "fail", properties, others), &what).await
        };
        drop(mouth);
        let look = match &ended {
            Ok(_) => self.look_at(&unit).await,
            Err(_) => Ok(None),
        };
        // Whatever it left running goes with its unit.
        let _ = self.bus.call("StopUnit", &(unit.as_str(), "replace"), &what).await;
        let _ = self.bus.call("ResetFailedUnit", &(unit.as_str(),), &what).await;
        let said = heard.said().await;
        ended?;
        let Some(look) = look? else { return Err(command.failed("nobody told how it ended".to_owned(), &said)) };
        match look.result.as_str() {
            "exit-code" if look.status == NOT_RUN => Err(command.failed("can't be run".to_owned(), &said)),
            "success" | "exit-code" if look.active != "activating" => Ok(Ended { status: look.status, said }),
            "timeout" => Err(command.late(&said)),
            _ => Err(command.failed(look.end(), &said)),
        }
    }
}

/// Whether a job came to a good end; where nobody told, the unit's state tells.
fn done(ended: Option<&str>, what: &str, why: impl Fn() -> String) -> Port<()> {
    match ended {
        None | Some("done") => Ok(()),
        Some(result) => Err(PortError {
            // Somebody else queued another job in its place.
            transient: result == "canceled",
            code: format!("job {result}"),
            message: format!("{what}{}", why()),
        }),
    }
}
