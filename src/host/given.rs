//! Which MIG devices the workloads of commands were given: nobody else can be asked, so that it is kept on the disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ports::{Port, PortError};

/// Raised when an older program could not read what a newer one writes.
const FORMAT_VERSION: u32 = 1;
const FILE: &str = "given.json";
/// What lies beside it on every node on which anything was changed.
const MEMORY: &str = "memory.json";

#[derive(Serialize, Deserialize)]
struct Whole {
    format_version: u32,
    /// By the binding's name.
    given: BTreeMap<String, Vec<String>>,
}

/// A file of a node's state folder.
#[derive(Debug)]
pub struct Given {
    path: PathBuf,
}

impl Given {
    /// The file in that folder; with `change`, it is begun on a node on which nothing was changed so far, so that one that
    /// is lost later is missed.
    ///
    /// # Errors
    ///
    /// What the file system tells.
    pub fn open(folder: &Path, change: bool) -> Port<Self> {
        let given = Given { path: folder.join(FILE) };
        if change && !given.path.exists() && !folder.join(MEMORY).exists() {
            given.write(BTreeMap::new())?;
        }
        Ok(given)
    }

    /// Whether there is such a file.
    pub(super) fn is_kept(&self) -> bool {
        self.path.exists()
    }

    /// Who was given what.
    ///
    /// # Errors
    ///
    /// Where that can't be known: then any device may be somebody's.
    pub(super) fn all(&self) -> Port<BTreeMap<String, Vec<String>>> {
        let path = self.path.display();
        let unknown = |code: String| PortError {
            transient: false,
            code,
            message: format!(
                "{path} does not tell which devices the commands' workloads hold; end them, and write \
                 {{\"format_version\":1,\"given\":{{}}}} to it"
            ),
        };
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let begun = self.path.with_file_name(MEMORY).exists();
                return if begun { Err(unknown("it is lost".to_owned())) } else { Ok(BTreeMap::new()) };
            }
            read => read.map_err(|error| unknown(error.to_string()))?,
        };
        let whole: Whole = serde_json::from_slice(&bytes).map_err(|error| unknown(error.to_string()))?;
        match whole.format_version {
            FORMAT_VERSION => Ok(whole.given),
            newer => Err(unknown(format!("another sectile wrote it (version {newer})"))),
        }
    }

    /// Whoever is given something holds it from then on; `None`: it holds nothing any more.
    pub(super) fn set(&self, workload: &str, uuids: Option<&[String]>) -> Port<()> {
        let mut given = self.all()?;
        let before = given.get(workload).map(Vec::as_slice);
        if before == uuids {
            return Ok(());
        }
        match uuids {
            Some(uuids) => given.insert(workload.to_owned(), uuids.to_vec()),
            None => given.remove(workload),
        };
        self.write(given)
    }

    /// Whole or not at all, and on stable storage when this returns.
    fn write(&self, given: BTreeMap<String, Vec<String>>) -> Port<()> {
        let new = self.path.with_extension("json.new");
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&Whole { format_version: FORMAT_VERSION, given })?)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            File::open(folder)?.sync_all()
        };
        let message = format!("can't write {}", self.path.display());
        write().map_err(|error| PortError { transient: false, code: error.to_string(), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_lasts_until_it_is_let_go_of() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Given::open(folder.path(), false).unwrap().all().unwrap().is_empty());
        assert!(!folder.path().join(FILE).exists(), "looking leaves nothing behind");
        let given = Given::open(folder.path(), true).unwrap();
        let held = vec!["MIG-1".to_owned()];
        given.set("vm7", Some(&held)).unwrap();
        given.set("vm8", Some(&[])).unwrap();
        let again = Given::open(folder.path(), true).unwrap();
        assert_eq!(again.all().unwrap(), BTreeMap::from([("vm7".to_owned(), held), ("vm8".to_owned(), vec![])]));
        again.set("vm7", None).unwrap();
        assert_eq!(given.all().unwrap().len(), 1);
    }

    #[test]
    fn what_is_lost_or_damaged_is_not_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let given = Given::open(folder.path(), true).unwrap();
        for text in ["", "{", "{\"format_version\":2,\"given\":{}}", "{\"format_version\":1}"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert!(given.all().is_err() && given.set("vm7", None).is_err(), "{text}");
        }
        fs::write(folder.path().join(MEMORY), "{}").unwrap();
        fs::remove_file(folder.path().join(FILE)).unwrap();
        let given = Given::open(folder.path(), true).unwrap();
        assert_eq!(given.all().unwrap_err().code, "it is lost");
    }
}
