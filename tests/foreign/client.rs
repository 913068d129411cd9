//! The library, loaded once and initialized by one test at a time: its state and the environment are the process's.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use libloading::Library;
use sectile::sim::state;
use sectile::sim::world::World;
use tempfile::TempDir;

/// A call in C: integers and pointers alone, each a machine word in a register of its own, of which the callee takes as
/// much as it wants.
type Call = unsafe extern "C" fn(usize, usize, usize, usize, usize) -> u32;

/// Whoever has it is alone with the library.
static ALONE: Mutex<()> = Mutex::new(());

pub(crate) const SUCCESS: u32 = 0;
pub(crate) const UNINITIALIZED: u32 = 1;
pub(crate) const INVALID_ARGUMENT: u32 = 2;
pub(crate) const NOT_SUPPORTED: u32 = 3;
pub(crate) const NO_PERMISSION: u32 = 4;
pub(crate) const NOT_FOUND: u32 = 6;
pub(crate) const INSUFFICIENT_SIZE: u32 = 7;
pub(crate) const DRIVER_NOT_LOADED: u32 = 9;
pub(crate) const TIMEOUT: u32 = 10;
pub(crate) const IN_USE: u32 = 19;
pub(crate) const INSUFFICIENT_RESOURCES: u32 = 23;
pub(crate) const VERSION_MISMATCH: u32 = 25;

/// A simulation with a library over it.
pub(crate) struct Client {
    library: Library,
    folder: TempDir,
    fleet: String,
    _alone: MutexGuard<'static, ()>,
}

/// The library as cargo built it for these tests; one that is older than its source would test nothing.
pub(crate) fn built() -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name("../examples/libnvidia_ml.so");
    let written = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified());
    let library = written(&path).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut folders =
        ["tests/libnvml", "src/sim", "src/model"].map(|f| Path::new(env!("CARGO_MANIFEST_DIR")).join(f)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let newer = written(&path).unwrap() > library;
                assert!(!newer, "{} is newer than the library: cargo build --example nvidia-ml", path.display());
            }
        }
    }
    path
}

/// What the library reads, and these tests set.
const SETTINGS: [&str; 5] =
    ["SECTILE_SIM", "SECTILE_SIM_STATE", "SECTILE_SIM_NODE", "SECTILE_SIM_UNPRIVILEGED", "SECTILE_SIM_LATENCY"];

/// The program, which must not hear of the simulation that another test has at that moment.
pub(crate) fn sectile(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    SETTINGS.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

impl Client {
    /// The library over a fleet, initialized.
    pub(crate) fn new(fleet: &str) -> Self {
        Client::with(fleet, &[])
    }

    pub(crate) fn with(fleet: &str, settings: &[(&str, &str)]) -> Self {
        let client = Client::idle(fleet, settings);
        assert_eq!(client.call("nvmlInit_v2", &[]), SUCCESS);
        client
    }

    /// The same, not yet initialized.
    pub(crate) fn idle(fleet: &str, settings: &[(&str, &str)]) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fleet.toml"), fleet).unwrap();
        for name in SETTINGS {
            // SAFETY: only these tests touch the environment of this process, and this one is alone.
            unsafe { std::env::remove_var(name) };
        }
        let own = [("SECTILE_SIM", "fleet.toml"), ("SECTILE_SIM_STATE", "state.json")];
        let own = own.map(|(name, file)| (name, folder.path().join(file).into_os_string()));
        let settings = settings.iter().map(|(name, value)| (*name, (*value).into()));
        for (name, value) in own.into_iter().chain(settings) {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
        // SAFETY: loading it runs nothing.
        let library = unsafe { Library::new(built()) }.unwrap();
        let client = Client { library, folder, fleet: fleet.to_owned(), _alone: alone };
        while client.call("nvmlShutdown", &[]) == SUCCESS {}
        client
    }

    /// Calls a function by name.
    pub(crate) fn call(&self, name: &str, args: &[usize]) -> u32 {
        let at = |n: usize| args.get(n).copied().unwrap_or(0);
        // SAFETY: all functions of NVML take five arguments or fewer, as `Call` says; pointers among them are the
        // tests' own, to more room than any of them needs.
        unsafe { self.library.get::<Call>(name.as_bytes()).unwrap()(at(0), at(1), at(2), at(3), at(4)) }
    }

    /// The address of a code's text.
    pub(crate) fn text_of(&self, code: u32) -> usize {
        // SAFETY: so `nvmlErrorString` is declared.
        unsafe { self.library.get::<unsafe extern "C" fn(u32) -> usize>(b"nvmlErrorString").unwrap()(code) }
    }

    /// Whether there is such a function.
    pub(crate) fn has(&self, name: &str) -> bool {
        // SAFETY: it is only looked up.
        unsafe { self.library.get::<Call>(name.as_bytes()) }.is_ok()
    }

    /// Calls a function whose last argument is a place for a number, an id or a handle.
    pub(crate) fn get<T: Copy + Default>(&self, name: &str, args: &[usize]) -> Result<T, u32> {
        let mut place = T::default();
        let pointer = &raw mut place as usize;
        match self.call(name, &[args, &[pointer]].concat()) {
            SUCCESS => Ok(place),
            code => Err(code),
        }
    }

    /// The handle of a GPU.
    pub(crate) fn gpu(&self, index: usize) -> usize {
        self.get("nvmlDeviceGetHandleByIndex_v2", &[index]).unwrap()
    }

    /// Creates a GPU instance.
    pub(crate) fn create(&self, gpu: usize, profile: usize) -> Result<usize, u32> {
        self.get("nvmlDeviceCreateGpuInstance", &[gpu, profile])
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state.json")
    }

    pub(crate) fn fleet(&self) -> &str {
        &self.fleet
    }

    /// The world as the state file has it.
    pub(crate) fn world(&self) -> World {
        let text = std::fs::read_to_string(self.state()).unwrap();
        state::load(&self.state(), &text, &self.fleet, "fleet.toml").unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        while self.call("nvmlShutdown", &[]) == SUCCESS {}
    }
}

/// Room for any struct of NVML's, filled with what it would never write.
pub(crate) struct Room([u32; 128]);

const EMPTY: u32 = 0xa5a5_a5a5;

impl Room {
    pub(crate) fn new() -> Self {
        Room([EMPTY; 128])
    }

    /// With a version in front.
    pub(crate) fn version(version: u32) -> Self {
        let mut room = Room::new();
        room.0[0] = version;
        room
    }

    pub(crate) fn pointer(&mut self) -> usize {
        self.0.as_mut_ptr() as usize
    }

    /// The words that were written, from the first.
    pub(crate) fn words(&self, bytes: usize) -> &[u32] {
        assert!(self.0[bytes.div_ceil(4)..].iter().all(|word| *word == EMPTY), "more than {bytes} bytes were written");
        &self.0[..bytes / 4]
    }

    /// A handle that begins at a word.
    pub(crate) fn handle(&self, word: usize) -> usize {
        self.0[word] as usize | (self.0[word + 1] as usize) << 32
    }

    /// The text that begins at a word.
    pub(crate) fn text(&self, word: usize) -> String {
        let bytes = self.0[word..].iter().flat_map(|word| word.to_le_bytes());
        String::from_utf8(bytes.take_while(|byte| *byte != 0).collect()).unwrap()
    }
}
