//! What tells a unit which MIG devices are its: a drop-in that lasts until the next boot, as the devices' UUIDs may.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::ports::{Port, PortError};

/// The drop-in of each unit, in a folder of its own.
const FILE: &str = "50-sectile.conf";
/// Without that ending systemd does not read it.
const NEW: &str = ".50-sectile.new";
/// What the unit may still run with, beside it.
const BEFORE: &str = ".50-sectile.before";

/// What a unit may still run with though it has another drop-in by now: its processes keep what they were started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    /// Its devices until then.
    pub(super) devices: BTreeSet<String>,
    /// The start that was its last when systemd had read the new drop-in; `None`: it may not have read it yet.
    pub(super) start: Option<String>,
}

impl Before {
    /// Whether a unit of that start may still run with what was there before.
    pub(super) fn holds(&self, start: &str) -> bool {
        self.start.as_ref().is_none_or(|last| last == start)
    }
}

/// The folder in which systemd finds what lasts until the next boot: `/run/systemd/system`.
#[derive(Clone, Debug)]
pub(super) struct DropIns {
    folder: PathBuf,
}

impl DropIns {
    pub(super) fn new(folder: PathBuf) -> Self {
        DropIns { folder }
    }

    /// Whether systemd runs here at all (sd_booted(3)).
    pub(super) fn are_read(&self) -> bool {
        self.folder.is_dir()
    }

    fn path(&self, unit: &str) -> PathBuf {
        self.folder.join(format!("{unit}.d"))
    }

    /// Units that have one.
    pub(super) fn units(&self) -> Port<BTreeSet<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(|error| failed("read", &self.folder, &error))?,
        };
        let mut units = BTreeSet::new();
        for entry in entries {
            let entry = entry.map_err(|error| failed("read", &self.folder, &error))?;
            let name = entry.file_name();
            let unit = name.to_str().and_then(|name| name.strip_suffix(".d"));
            units.extend(unit.filter(|_| entry.path().join(FILE).exists()).map(str::to_owned));
        }
        Ok(units)
    }

    /// Gives a unit a variable: whole or not at all.
    pub(super) fn write(&self, unit: &str, assignment: &str) -> Port<()> {
        let folder = self.path(unit);
        let (new, path) = (folder.join(NEW), folder.join(FILE));
        if assignment.contains(char::is_control) {
            return Err(failed("write", &path, &ErrorKind::InvalidInput.into()));
        }
        let write = || -> io::Result<()> {
            fs::create_dir_all(&folder)?;
            fs::write(&new, text(assignment))?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| failed("write", &path, &error))
    }

    /// Takes a unit's away.
    pub(super) fn remove(&self, unit: &str) -> Port<()> {
        let path = self.path(unit).join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path, &error)),
            _ => Ok(()),
        }
    }

    /// The variable that a unit's sets, `NAME=VALUE`.
    pub(super) fn assignment(&self, unit: &str) -> Port<Option<String>> {
        let text = self.read(&self.path(unit).join(FILE))?;
        let lines = text.iter().flat_map(|text| text.lines());
        let quoted = lines.filter_map(|line| line.strip_prefix("Environment=\"")?.strip_suffix('"')).next();
        Ok(quoted.map(unquoted))
    }

    /// What a unit may still run with; `None`: it runs with what systemd tells.
    pub(super) fn before(&self, unit: &str) -> Port<Option<Before>> {
        let text = self.read(&self.path(unit).join(BEFORE))?;
        Ok(text.map(|text| {
            let mut words = text.lines();
            let start = words.next().filter(|start| *start != "?").map(str::to_owned);
            Before { devices: words.map(str::to_owned).collect(), start }
        }))
    }

    /// Notes what a unit may still run with.
    pub(super) fn note(&self, unit: &str, before: &Before) -> Port<()> {
        let folder = self.path(unit);
        let (new, path) = (folder.join(NEW), folder.join(BEFORE));
        let start = before.start.as_deref().unwrap_or("?");
        // One that was never started has none: an empty line is a line.
        let lines = [start].into_iter().chain(before.devices.iter().map(String::as_str));
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        let write = || -> io::Result<()> {
            fs::create_dir_all(&folder)?;
            fs::write(&new, text)?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| failed("write", &path, &error))
    }

    fn read(&self, path: &Path) -> Port<Option<String>> {
        match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|error| failed("read", path, &error)),
        }
    }
}

/// The drop-in that sets a variable, `NAME=VALUE`.
fn text(assignment: &str) -> String {
    let mut quoted = String::with_capacity(assignment.len());
    for c in assignment.chars() {
        match c {
            // A specifier of systemd.unit(5).
            '%' => quoted.push_str("%%"),
            '"' | '\\' => quoted.extend(['\\', c]),
            c => quoted.push(c),
        }
    }
    format!("# Written by sectile: the MIG devices of this unit.\n[Service]\nEnvironment=\"{quoted}\"\n")
}

/// The assignment that was quoted so.
fn unquoted(quoted: &str) -> String {
    let mut assignment = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        // The first of two says what the second means.
        assignment.extend(if matches!(c, '%' | '\\') { chars.next() } else { Some(c) });
    }
    assignment
}

fn failed(what: &str, path: &Path, error: &io::Error) -> PortError {
    PortError { transient: false, code: error.to_string(), message: format!("can't {what} {}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_is_written_whole_for_each_instance_of_a_template() {
        let folder = tempfile::tempdir().unwrap();
        let drop_ins = DropIns::new(folder.path().join("system"));
        assert!(!drop_ins.are_read() && drop_ins.units().unwrap().is_empty());
        drop_ins.write("e@a.service", "CUDA_VISIBLE_DEVICES=MIG-1,MIG-2").unwrap();
        drop_ins.write("e@a.service", "CUDA_VISIBLE_DEVICES=MIG-3").unwrap();
        drop_ins.write("f.service", "A=b").unwrap();
        fs::create_dir(folder.path().join("system/others.service.d")).unwrap();
        assert_eq!(drop_ins.units().unwrap(), ["e@a.service", "f.service"].map(str::to_owned).into());
        let path = folder.path().join("system/e@a.service.d");
        let text = fs::read_to_string(path.join(FILE)).unwrap();
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            ["[Service]", "Environment=\"CUDA_VISIBLE_DEVICES=MIG-3\""]
        );
        assert_eq!(fs::read_dir(path).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_a_unit_may_still_run_with_is_told_until_it_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let drop_ins = DropIns::new(folder.path().to_owned());
        assert_eq!(drop_ins.before("e.service").unwrap(), None);
        let devices = BTreeSet::from(["MIG-1".to_owned(), "MIG-2".to_owned()]);
        for start in [None, Some(String::new()), Some("ab12".to_owned())] {
            for devices in [devices.clone(), BTreeSet::new()] {
                let before = Before { devices, start: start.clone() };
                drop_ins.note("e.service", &before).unwrap();
                assert_eq!(drop_ins.before("e.service").unwrap(), Some(before.clone()));
                assert_eq!(
                    (before.holds("ab12"), before.holds("cd34")),
                    (start != Some(String::new()), start.is_none())
                );
            }
        }
        assert!(drop_ins.units().unwrap().is_empty(), "it is no drop-in");
    }

    #[test]
    fn nothing_in_a_value_is_systemds_to_read() {
        let line = |assignment: &str| text(assignment).lines().last().unwrap().to_owned();
        assert_eq!(line("A=%h \"b\" \\x"), "Environment=\"A=%%h \\\"b\\\" \\\\x\"");
        let folder = tempfile::tempdir().unwrap();
        let drop_ins = DropIns::new(folder.path().to_owned());
        drop_ins.write("f.service", "A=%h \"b\" \\x").unwrap();
        assert_eq!(drop_ins.assignment("f.service").unwrap().unwrap(), "A=%h \"b\" \\x");
        drop_ins.remove("f.service").unwrap();
        drop_ins.remove("f.service").unwrap();
        assert_eq!(drop_ins.assignment("f.service").unwrap(), None);
        assert!(drop_ins.write("e.service", "A=b\nExecStart=/bin/sh").is_err());
        assert!(drop_ins.units().unwrap().is_empty());
    }
}
