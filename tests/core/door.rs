//! The driver that the core is tested on: the simulator in this process or, where `CORE_DRIVER=library` says so, the same
//! simulator behind NVML's C interface, loaded as the real library is. A world's state goes to the library's file
//! before a call and comes back after it.
#![expect(unsafe_code, reason = "the library reads its settings from the environment")]

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use sectile::model::Placement;
use sectile::nvml::Library;
use sectile::ports::*;
use sectile::sim::driver::SimDriver;
use sectile::sim::fleet::{self, BUILTIN, BUILTIN_NAME};
use sectile::sim::world::World;
use sectile::sim::{Shared, lock, state};
use tempfile::TempDir;

/// The calls that change the world.
const CHANGES: &[&str] =
    &["set_mig_mode", "create_gi", "create_gi_at", "destroy_gi", "create_ci", "create_ci_at", "destroy_ci"];

/// The driver of one node, by whichever door.
#[derive(Clone, Debug)]
pub(crate) struct TestDriver {
    sim: SimDriver,
    calls: Arc<AtomicU64>,
}

/// Whether the library is meant.
#[expect(clippy::disallowed_methods, reason = "which driver is tested is told from outside, and no setting of ours")]
pub(crate) fn by_library() -> bool {
    static MEANT: OnceLock<bool> = OnceLock::new();
    let meant = || *MEANT.get_or_init(|| std::env::var("CORE_DRIVER").is_ok_and(|driver| driver == "library"));
    CHOSEN.get().unwrap_or_else(meant)
}

/// From now on this thread uses the library, or not; `None`: as the environment says.
pub(crate) fn choose(library: Option<bool>) {
    CHOSEN.set(library);
}

/// A copy of the library that one thread at a time may use: what is loaded has one state and one node.
struct Copy {
    folder: TempDir,
    library: PathBuf,
}

/// What a thread has loaded: for whom, and the world as the library has it.
struct Loaded {
    copy: Option<Copy>,
    library: Option<Library>,
    user: (usize, String, bool),
    world: Option<World>,
}

static COPIES: Mutex<Vec<Copy>> = Mutex::new(Vec::new());
/// Settings are the whole process's, and are read when the library is initialised.
static SETTINGS: Mutex<()> = Mutex::new(());

thread_local! {
    /// What this thread uses, whatever the environment says.
    static CHOSEN: Cell<Option<bool>> = const { Cell::new(None) };
    static LOADED: RefCell<Loaded> = RefCell::new(Loaded::new());
}

impl Loaded {
    fn new() -> Self {
        Loaded { copy: None, library: None, user: (0, String::new(), false), world: None }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.library = None;
        COPIES.lock().unwrap().extend(self.copy.take());
    }
}

/// What `cargo build --example nvidia-ml` makes, beside the folder of this test.
pub(crate) fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().and_then(Path::parent).unwrap().join("examples/libnvidia_ml.so");
    assert!(library.exists(), "{}: run `cargo build --example nvidia-ml` first", library.display());
    library
}

fn copy() -> Copy {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COPIES.lock().unwrap().pop().unwrap_or_else(|| {
        // In memory, where there is such a place: the state is written for every change.
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let library = folder.path().join(format!("{}.so", COUNT.fetch_add(1, Ordering::SeqCst)));
        std::fs::copy(built(), &library).unwrap();
        Copy { folder, library }
    })
}

impl TestDriver {
    /// The driver of that node, called by root.
    pub(crate) fn new(world: Shared, node: impl Into<String>) -> Self {
        TestDriver { sim: SimDriver::new(world, node), calls: Arc::default() }
    }

    /// The same, called by somebody without rights.
    pub(crate) fn unprivileged(world: Shared, node: impl Into<String>) -> Self {
        TestDriver { sim: SimDriver::unprivileged(world, node), calls: Arc::default() }
    }

    /// Calls of NVML so far; in this process each call of the port counts as one.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn through<T>(&self, call: &str, run: impl FnOnce(&Library) -> Nvml<T>) -> Nvml<T> {
        LOADED.with_borrow_mut(|loaded| {
            let Loaded { copy: mine, library, user, world } = loaded;
            let Copy { folder, library: path } = mine.get_or_insert_with(copy);
            let file = folder.path().join("state.json");
            let mut now = lock(&self.sim.world).clone();
            // What goes wrong is decided before the port; and whichever fleet it is, the file must be of one.
            let faults = std::mem::take(&mut now.faults);
            let fleet = std::mem::replace(&mut now.fleet, fleet::digest(BUILTIN));
            if world.as_ref() != Some(&now) {
                write(&file, &now);
                *world = Some(now.clone());
            }
            let me = (Arc::as_ptr(&self.sim.world) as usize, self.sim.node.clone(), self.sim.privileged);
            if library.is_none() || *user != me {
                *library = None;
                *library = Some(open(path, &file, &self.sim, folder.path().join("proc")));
                *user = me;
            }
            let library = library.as_ref().unwrap();
            let before = library.calls();
            let done = run(library);
            self.calls.fetch_add(library.calls() - before, Ordering::SeqCst);
            if CHANGES.contains(&call) {
                let mut then = read(&file);
                *world = Some(then.clone());
                (then.faults, then.fleet) = (faults, fleet);
                *lock(&self.sim.world) = then;
            }
            done
        })
    }
}

/// Loads a copy of the library, over a state that was written to a file.
pub(crate) fn open(library: &Path, state: &Path, sim: &SimDriver, proc: PathBuf) -> Library {
    let _settings = SETTINGS.lock().unwrap();
    for (key, value) in [
        ("SECTILE_SIM", "builtin"),
        ("SECTILE_SIM_STATE", state.to_str().unwrap()),
        ("SECTILE_SIM_NODE", &sim.node),
        ("SECTILE_SIM_UNPRIVILEGED", if sim.privileged { "0" } else { "1" }),
    ] {
        // SAFETY: whoever reads the environment in this process does so by the same standard library, which keeps
        // readers and writers apart; the library's own copy of it reads only while it is initialised, below.
        unsafe { std::env::set_var(key, value) };
    }
    Library::open(Some(library.as_os_str())).unwrap().with_proc(proc)
}

/// Writes the library's state.
pub(crate) fn write(path: &Path, world: &World) {
    let fleet = fleet::digest(BUILTIN);
    let state =
        serde_json::json!({ "kind": "sectile-simulation", "format_version": 1, "fleet": fleet, "world": world });
    let new = path.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(&state).unwrap()).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn read(path: &Path) -> World {
    let text = std::fs::read_to_string(path).unwrap();
    state::load(path, &text, BUILTIN, BUILTIN_NAME).unwrap()
}

macro_rules! doors {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Driver for TestDriver {
            $(fn $name(&self, $($arg: $type),*) -> Nvml<$result> {
                if by_library() {
                    return self.through(stringify!($name), |library| library.$name($($arg),*));
                }
                self.calls.fetch_add(1, Ordering::SeqCst);
                self.sim.$name($($arg),*)
            })*
        }
    };
}

sectile::ports::driver_calls!(doors);
