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
    fn nothing_in_a_value_is_systemds_to_read() {
        let line = |assignment: &str| text(assignment).lines().last().unwrap().to_owned();
        assert_eq!(line("A=%h \"b\" \\x"), "Environment=\"A=%%h \\\"b\\\" \\\\x\"");
        let folder = tempfile::tempdir().unwrap();
        let drop_ins = DropIns::new(folder.path().to_owned());
        assert!(drop_ins.write("e.service", "A=b\nExecStart=/bin/sh").is_err());
        assert!(drop_ins.units().unwrap().is_empty());
    }
}
