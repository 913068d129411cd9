//! The state file: a simulated world that outlives the command, in JSON, one command at a time.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fleet::{self, FleetErrors};
use super::world::World;
use super::{Shared, lock};
use crate::model::{Digest, visible};

pub mod door;

/// What marks the file as ours.
const KIND: &str = "sectile-simulation";
/// How often, and how long after each other in milliseconds, the lock is tried where it is not waited for: programs that
/// use the simulated driver have it for the moment of a call.
const TRIES: u32 = 20;
const TRY_MS: u64 = 10;
/// Raised with everything that is added: an older program would drop it when it writes. Version 1 had neither `begun`
/// nor, at first, a node's `device_files`; version 2 no events, and not what a node shows; version 3
/// no places of budgets, and no bindings that were carried out.
const FORMAT_VERSION: u32 = 4;

/// The head is read before the world is, so that another version's world is not taken for damage.
#[derive(Debug, Deserialize)]
struct Head {
    kind: String,
    format_version: u32,
    fleet: Option<Digest>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole<W> {
    kind: String,
    format_version: u32,
    fleet: Digest,
    #[serde(default)]
    begun: Begun,
    world: W,
}

/// What tells a world from those that began in its place before, as the same fleet.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    /// No other world has the same; 0 where that was not told yet.
    number: u64,
    /// Whether the journals beside it may be those of an earlier world.
    fresh: bool,
}

impl Begun {
    fn now() -> Self {
        // A program that runs on while its world is replaced must see that, so it is neither a count nor a time of the
        // virtual clock. The highest bit is that of the handles of GPUs.
        Begun { number: RandomState::new().build_hasher().finish() >> 1, fresh: true }
    }
}

/// Why a state file can't be used.
#[derive(Debug)]
pub enum StateError {
    /// The fleet file has errors.
    Fleet(Box<FleetErrors>),
    /// Another command uses the state.
    Locked {
        /// The state file.
        path: PathBuf,
        /// The other's process id, where it was told.
        pid: Option<u32>,
        /// Since when.
        since: Option<Timestamp>,
    },
    /// The state began as another fleet, or as this one before it was edited.
    OtherFleet {
        /// The state file.
        path: PathBuf,
        /// What the fleet file is called.
        fleet: String,
    },
    /// The file is no state, or a part of one.
    Damaged {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer program wrote it.
    Newer {
        /// The state file.
        path: PathBuf,
        /// Its format's version.
        version: u32,
    },
    /// The file system said no.
    Io {
        /// What was to be done: `read`, `lock`.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

impl StateError {
    /// A way out.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StateError::Locked { .. } => {
                Some("wait until it is done, or keep another simulation's state with --sim-state FILE")
            }
            StateError::OtherFleet { .. } | StateError::Damaged { .. } => Some("--sim-fresh starts over"),
            StateError::Newer { .. } => Some("upgrade sectile; --sim-fresh starts over"),
            StateError::Fleet(_) | StateError::Io { .. } => None,
        }
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Fleet(errors) => errors.fmt(f),
            StateError::Locked { path, pid, since } => {
                write!(f, "the simulation's state {} is in use by ", path.display())?;
                match pid {
                    Some(pid) => write!(f, "process {pid}")?,
                    None => f.write_str("another process")?,
                }
                since.map_or(Ok(()), |since| write!(f, " since {since:.0}"))
            }
            StateError::OtherFleet { path, fleet } => {
                write!(f, "the state {} began as another fleet than {fleet} now tells of", path.display())
            }
            StateError::Damaged { path, reason } => {
                write!(f, "{} holds no whole state of a simulation: {reason}", path.display())
            }
            StateError::Newer { path, version } => {
                write!(f, "a newer sectile wrote the state {} (version {version})", path.display())
            }
            StateError::Io { what, path, .. } => write!(f, "can't {what} {}", path.display()),
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StateError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> StateError + 'a {
    move |source| StateError::Io { what, path: path.to_owned(), source }
}

/// A path with something behind its name, in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A simulated world, kept in a file. Who has it has the file for itself until it is dropped.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    world: Shared,
    number: u64,
    fresh: AtomicBool,
    _lock: Held,
}

/// A lock that is held. It is given back by word, not by closing the file alone: a process that is just being started
/// has a copy of the file until it runs, and would keep the lock for that long.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // The file is closed next, which gives it back in any case.
        let _ = self.0.unlock();
    }
}

impl StateFile {
    /// Takes the state at `path`, and begins it as `fleet_text` tells where there is none or with `fresh`. Nothing
    /// is written before [`StateFile::save`]. With `wait`, another command that has it is waited for.
    pub fn open(
        path: &Path,
        fleet_text: &str,
        fleet_name: &str,
        fresh: bool,
        wait: bool,
    ) -> Result<StateFile, StateError> {
        std::fs::create_dir_all(folder(path)).map_err(io("make the folder of", path))?;
        let lock = take(path, wait)?;
        let text = if fresh { None } else { read(path)? };
        let (Begun { number, fresh }, world) = match text {
            Some(text) => whole(path, &text, fleet_text, fleet_name)?,
            None => (Begun::now(), fleet::parse(fleet_name, fleet_text).map_err(StateError::Fleet)?),
        };
        let (world, fresh) = (Arc::new(Mutex::new(world)), AtomicBool::new(fresh));
        Ok(StateFile { path: path.to_owned(), world, number, fresh, _lock: lock })
    }

    /// Whether the world began with this command, or with a program on the simulated driver since the last one: what
    /// lies beside the state tells of an earlier world.
    pub fn fresh(&self) -> bool {
        self.fresh.load(Ordering::SeqCst)
    }

    /// From now on what lies beside the state is this world's.
    pub fn settle(&self) {
        self.fresh.store(false, Ordering::SeqCst);
    }

    /// The world, for the simulators.
    pub fn shared(&self) -> Shared {
        Arc::clone(&self.world)
    }

    /// Writes the world as it is now: whole or not at all, and on stable storage when this returns.
    pub fn save(&self) -> Result<(), StateError> {
        let begun = Begun { number: self.number, fresh: self.fresh() };
        write(&self.path, begun, &lock(&self.world), true)
    }
}

/// Replaces the state, whole or not at all; `stable`: also where the machine dies, not the process alone.
fn write(path: &Path, begun: Begun, world: &World, stable: bool) -> Result<(), StateError> {
    let (kind, fleet) = (KIND.to_owned(), world.fleet.clone());
    let whole = Whole { kind, format_version: FORMAT_VERSION, fleet, begun, world };
    let temporary = beside(path, ".new");
    let write = || {
        let mut text = serde_json::to_vec(&whole)?;
        text.push(b'\n');
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        if !stable {
            return std::fs::rename(&temporary, path);
        }
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(folder(path))?.sync_all()
    };
    write().map_err(|error| {
        // What is there of it takes the room that a full disk lacks.
        let _ = std::fs::remove_file(&temporary);
        io("write", path)(error)
    })
}

/// Locks a file beside the state (which itself is replaced by each save) and writes there who has it. Since when is the
/// time that the file system gives that file.
fn take(path: &Path, wait: bool) -> Result<Held, StateError> {
    let beside = beside(path, ".lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&beside).map_err(io("open", &beside))?;
    let mut locked = file.try_lock();
    for _ in 0..if wait { 0 } else { TRIES } {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(TRY_MS));
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) if wait => file.lock().map_err(io("lock", &beside))?,
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            let modified = file.metadata().and_then(|data| data.modified()).ok();
            let since = modified.and_then(|time| Timestamp::try_from(time).ok());
            return Err(StateError::Locked { path: path.to_owned(), pid, since });
        }
        Err(TryLockError::Error(error)) => return Err(io("lock", &beside)(error)),
    }
    let mut held = Held(file);
    let told = held.0.set_len(0).and_then(|()| held.0.rewind());
    told.and_then(|()| writeln!(held.0, "{}", std::process::id())).map_err(io("write", &beside))?;
    Ok(held)
}

/// The file's text; `None`: there is no such file.
fn read(path: &Path) -> Result<Option<String>, StateError> {
    // Reading a pipe would wait for somebody to write to it.
    let file = std::fs::metadata(path).map(|data| data.is_file() || data.is_dir());
    if matches!(file, Ok(false)) {
        return Err(StateError::Damaged { path: path.to_owned(), reason: "it is no file".to_owned() });
    }
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(StateError::Damaged { path: path.to_owned(), reason: "it is no text".to_owned() }),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", path)(error)),
    }
}

/// The world that a state file's text holds, if it is one of that fleet. `path` is what messages call it.
pub fn load(path: &Path, text: &str, fleet_text: &str, fleet_name: &str) -> Result<World, StateError> {
    whole(path, text, fleet_text, fleet_name).map(|(_, world)| world)
}

fn whole(path: &Path, text: &str, fleet_text: &str, fleet_name: &str) -> Result<(Begun, World), StateError> {
    let damaged =
        |error: serde_json::Error| StateError::Damaged { path: path.to_owned(), reason: visible(&error.to_string()) };
    let head: Head = serde_json::from_str(text).map_err(damaged)?;
    if head.kind != KIND {
        let reason = format!("it is of kind `{}`", visible(&head.kind));
        return Err(StateError::Damaged { path: path.to_owned(), reason });
    }
    if head.format_version > FORMAT_VERSION {
        return Err(StateError::Newer { path: path.to_owned(), version: head.format_version });
    }
    if head.fleet != Some(fleet::digest(fleet_text)) {
        return Err(StateError::OtherFleet { path: path.to_owned(), fleet: fleet_name.to_owned() });
    }
    let Whole { kind: _, format_version: _, fleet: _, begun, world } = serde_json::from_str(text).map_err(damaged)?;
    match twice(&world) {
        Some(uuid) => {
            let reason = format!("two GPUs are {}", visible(uuid));
            Err(StateError::Damaged { path: path.to_owned(), reason })
        }
        None => Ok((begun, world)),
    }
}

/// A GPU that is there twice: everything else trusts that a UUID names one.
fn twice(world: &World) -> Option<&str> {
    let mut seen = BTreeSet::new();
    let mut uuids = world.nodes.values().flat_map(|node| &node.gpus).map(|gpu| gpu.uuid.as_str());
    uuids.find(|uuid| !seen.insert(*uuid))
}
