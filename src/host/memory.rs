//! What is remembered of this node between commands, in a folder that one change at a time may use.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::Memory;
use crate::ports::{Port, PortError};

/// Raised when an older program could not read what a newer one writes.
const FORMAT_VERSION: u32 = 1;
const FILE: &str = "memory.json";
const LOCK: &str = "lock";
/// Held by whoever waits for a service to stop: its lock ends with its life.
const ASKED: &str = "asked";
/// A service that just looks is waited for; one that carries out a plan has it for longer than anybody would wait.
const TRIES: u32 = 40;
const TRY: Duration = Duration::from_millis(50);
/// So long a step of a plan may take, which is finished before anybody stops.
const STOPS: u32 = 7200;

/// What the folder is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To look what is remembered.
    Look,
    /// To change something, of the node too.
    Change,
    /// To change what is remembered alone: a service that carries out a plan is asked to stop, and is waited for.
    Stop,
}

/// The head is read first, so that another version's memory is not taken for damage.
#[derive(Deserialize)]
struct Head {
    format_version: u32,
}

#[derive(Serialize, Deserialize)]
struct Whole {
    format_version: u32,
    memory: Memory,
}

/// The folder's memory, read when it is opened.
#[derive(Debug)]
pub struct MemoryFile {
    folder: PathBuf,
    memory: Mutex<Memory>,
    /// As it is in the file.
    kept: Mutex<Memory>,
    /// Held as long as somebody means to change something.
    lock: Mutex<Option<File>>,
}

impl MemoryFile {
    /// Reads what is remembered; but to look, makes the folder and takes it for oneself.
    ///
    /// # Errors
    ///
    /// Where another program changes this node, the folder can't be used, or what is in it can't be read.
    pub fn open(folder: &Path, what_for: Use) -> Port<Self> {
        let lock = (what_for != Use::Look).then(|| take(folder, what_for)).transpose()?;
        let memory = read(&folder.join(FILE))?;
        let kept = Mutex::new(memory.clone());
        Ok(MemoryFile { folder: folder.to_owned(), memory: Mutex::new(memory), kept, lock: Mutex::new(lock) })
    }

    /// Lets others change what is remembered.
    pub fn leave(&self) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes it for oneself again, as others have left it.
    ///
    /// # Errors
    ///
    /// As [`MemoryFile::open`].
    pub fn take_again(&self) -> Port<()> {
        let lock = take(&self.folder, Use::Change)?;
        let memory = read(&self.folder.join(FILE))?;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&memory);
        self.with(|now| *now = memory);
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
        Ok(())
    }

    /// Whether somebody waits for a service to stop.
    pub fn is_asked(&self) -> bool {
        let file = OpenOptions::new().write(true).open(self.folder.join(ASKED));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// When the file was written last: another time than before, and somebody has changed what is remembered.
    pub fn stamp(&self) -> Option<SystemTime> {
        fs::metadata(self.folder.join(FILE)).and_then(|meta| meta.modified()).ok()
    }

    /// Works with what is remembered.
    pub fn with<T>(&self, with: impl FnOnce(&mut Memory) -> T) -> T {
        with(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes it, if it has changed: whole or not at all, and on stable storage when this returns.
    ///
    /// # Errors
    ///
    /// What the file system tells.
    pub fn save(&self) -> Port<()> {
        let memory = self.with(|memory| memory.clone());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept == memory {
            return Ok(());
        }
        let (path, new) = (self.folder.join(FILE), self.folder.join(format!("{FILE}.new")));
        let whole = Whole { format_version: FORMAT_VERSION, memory };
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&whole)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| failed("write", &path, &error))?;
        *kept = whole.memory;
        Ok(())
    }
}

fn take(folder: &Path, what_for: Use) -> Port<File> {
    let made = fs::create_dir_all(folder);
    made.map_err(|error| failed("make the folder of", &folder.join(LOCK), &error))?;
    let open = |name: &str| {
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        file.map_err(|error| failed("open", &path, &error))
    };
    let (path, file) = (folder.join(LOCK), open(LOCK)?);
    let mut locked = file.try_lock();
    let mut asks = None;
    for _ in 0..if what_for == Use::Stop { STOPS } else { TRIES } {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        if what_for == Use::Stop && asks.is_none() {
            let asked = open(ASKED)?;
            // Others who ask have their turn first, and whoever looks whether somebody does is done in no time.
            asked.lock().map_err(|error| failed("lock", &folder.join(ASKED), &error))?;
            tracing::warn!("a service changes this node: waiting until its step in hand is done");
            asks = Some(asked);
        }
        std::thread::sleep(TRY);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(PortError {
            transient: false,
            code: "in use".to_owned(),
            message: format!("another sectile changes this node ({} is locked)", path.display()),
        }),
        Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
    }
}

fn read(path: &Path) -> Port<Memory> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Memory::default()),
        read => read.map_err(|error| failed("read", path, &error))?,
    };
    let damaged = |code: String| PortError {
        transient: false,
        code,
        message: format!("{} holds no memory of this node", path.display()),
    };
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if head.format_version > FORMAT_VERSION {
        return Err(damaged(format!("a newer sectile wrote it (version {})", head.format_version)));
    }
    let whole: Whole = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    Ok(whole.memory)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> PortError {
    PortError { transient: false, code: error.to_string(), message: format!("can't {what} {}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observed::Suspension;

    fn suspend(memory: &mut Memory) {
        let suspended = Suspension { reason: "x".to_owned(), ..Suspension::default() };
        memory.nodes.entry("n".to_owned()).or_default().suspended = Some(suspended);
    }

    #[test]
    fn what_is_remembered_lasts_and_reading_alone_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let reader = MemoryFile::open(&state, Use::Look).unwrap();
        reader.save().unwrap();
        assert!(!state.exists());
        let writer = MemoryFile::open(&state, Use::Change).unwrap();
        writer.with(suspend);
        writer.save().unwrap();
        let again = MemoryFile::open(&state, Use::Look).unwrap();
        assert_eq!(again.with(|memory| memory.clone()), writer.with(|memory| memory.clone()));
        assert_ne!(again.with(|memory| memory.clone()), Memory::default());
    }

    #[test]
    fn one_change_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = MemoryFile::open(folder.path(), Use::Change).unwrap();
        assert_eq!(MemoryFile::open(folder.path(), Use::Change).unwrap_err().code, "in use");
        assert!(MemoryFile::open(folder.path(), Use::Look).is_ok(), "reading is free");
        drop(first);
        assert!(MemoryFile::open(folder.path(), Use::Change).is_ok());
    }

    #[test]
    fn what_can_not_be_read_is_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "{\"format_version\":2}", "{\"format_version\":1,\"memory\":7}"] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert!(MemoryFile::open(folder.path(), Use::Change).is_err(), "{text}");
        }
    }
}
