//! The driver that the core is tested on: the simulator in this process or, where `CORE_DRIVER=library` says so, the same
//! simulator behind NVML's C interface, loaded as the real library is. A world's state goes to the library's file
//! before a call and comes back after it.
#![expect(unsafe_code, reason = "the library reads its settings from the environment")]

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once, OnceLock};

use sectile::model::{Digest, Placement};
use sectile::nvml::Library;
use sectile::ports::*;
use sectile::sim::driver::SimDriver;
use sectile::sim::fault::{Fate, Fault};
use sectile::sim::fleet;
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

/// How many cases are drawn: through the library, which writes or reads its state for each call, a twentieth.
pub(crate) fn cases(many: u32) -> u32 {
    if by_library() { many / 20 } else { many }
}

/// From now on this thread uses the library, or not; `None`: as the environment says.
pub(crate) fn choose(library: Option<bool>) {
    CHOSEN.set(library);
}

/// This thread's next call, of that name, meets this fate within the library.
pub(crate) fn strike(call: &str, fate: Fate) {
    STRIKES.set(Some(Fault { call: call.to_owned(), nth: 1, times: 1, fate, seen: 0 }));
}

/// How many calls of NVML went to the library, in the whole process: whoever compares two doors tells by it that there
/// were two.
pub(crate) fn library_calls() -> u64 {
    CALLS.load(Ordering::SeqCst)
}

/// A copy of the library that one thread at a time may use: what is loaded has one state and one node.
struct Copy {
    folder: TempDir,
    library: PathBuf,
    /// So that it stays loaded while nobody uses it: what a library unloads it does not give back.
    loaded: libloading::Library,
}

/// What a thread has loaded: for whom, and the world as the library has it.
struct Loaded {
    copy: Option<Copy>,
    library: Option<Library>,
    user: Option<User>,
    world: Option<World>,
}

/// A world, which nobody takes for another as long as it is kept; the node; whether it is root.
type User = (Shared, String, bool);

/// What the library reads as its fleet file: the world is always there before it.
const NO_FLEET: &str = "";
static FLEET: LazyLock<Digest> = LazyLock::new(|| fleet::digest(NO_FLEET));

static CALLS: AtomicU64 = AtomicU64::new(0);
static COPIES: Mutex<Vec<Copy>> = Mutex::new(Vec::new());
/// Settings are the whole process's, and are read when the library is initialised.
static SETTINGS: Mutex<()> = Mutex::new(());

thread_local! {
    /// What this thread uses, whatever the environment says.
    static CHOSEN: Cell<Option<bool>> = const { Cell::new(None) };
    /// What this thread's next call meets.
    static STRIKES: Cell<Option<Fault>> = const { Cell::new(None) };
    static LOADED: RefCell<Loaded> = RefCell::new(Loaded::new());
}

impl Loaded {
    fn new() -> Self {
        Loaded { copy: None, library: None, user: None, world: None }
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
    static AT_EXIT: Once = Once::new();
    // SAFETY: the C library's, as it declares it; what it is to call neither panics nor needs anything of a thread.
    AT_EXIT.call_once(|| assert_eq!(unsafe { atexit(sweep_up) }, 0));
    COPIES.lock().unwrap().pop().unwrap_or_else(|| {
        // In memory, where there is such a place: the state is written for every change.
        let shared = Path::new("/dev/shm");
        let place = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("sectile-test-").tempdir_in(place).unwrap();
        let library = folder.path().join(format!("{}.so", COUNT.fetch_add(1, Ordering::SeqCst)));
        std::fs::copy(built(), &library).unwrap();
        // SAFETY: it does nothing when it is loaded.
        let loaded = unsafe { libloading::Library::new(&library) }.unwrap();
        Copy { folder, library, loaded }
    })
}

unsafe extern "C" {
    fn atexit(run: extern "C" fn()) -> c_int;
}

/// Takes the copies away: nothing drops what is static.
extern "C" fn sweep_up() {
    for Copy { folder, loaded, .. } in COPIES.lock().iter_mut().flat_map(|copies| copies.drain(..)) {
        let _ = folder.close();
        // Whatever else ends with the process may be in it.
        std::mem::forget(loaded);
    }
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
            let Copy { folder, library: path, .. } = mine.get_or_insert_with(copy);
            let file = folder.path().join("state.json");
            let mut now = lock(&self.sim.world);
            // What the fleet says is decided before the port; and whichever fleet it is, the file must be of one.
            let struck = STRIKES.take();
            let changes = CHANGES.contains(&call) || struck.is_some();
            let faults = std::mem::replace(&mut now.faults, struck.into_iter().collect());
            let fleet = std::mem::replace(&mut now.fleet, FLEET.clone());
            if world.as_ref() != Some(&*now) {
                write(&file, &now);
                *world = Some(now.clone());
            }
            (now.faults, now.fleet) = (faults, fleet);
            drop(now);
            let mine = |user: &User| {
                let (world, node, privileged) = user;
                let one = (&self.sim.node, &self.sim.privileged);
                Arc::ptr_eq(world, &self.sim.world) && (node, privileged) == one
            };
            if !user.as_ref().is_some_and(mine) {
                *library = None;
                *library = Some(open(path, &file, &self.sim, folder.path().join("proc")));
                *user = Some((self.sim.world.clone(), self.sim.node.clone(), self.sim.privileged));
            }
            let library = library.as_ref().unwrap();
            let before = library.calls();
            let done = run(library);
            let made = library.calls() - before;
            self.calls.fetch_add(made, Ordering::SeqCst);
            CALLS.fetch_add(made, Ordering::SeqCst);
            if changes {
                let then = read(&file);
                *world = Some(then.clone());
                let mut now = lock(&self.sim.world);
                let (faults, fleet) = (std::mem::take(&mut now.faults), now.fleet.clone());
                *now = World { faults, fleet, ..then };
            }
            done
        })
    }
}

/// Loads a copy of the library, over a state that was written to a file.
pub(crate) fn open(library: &Path, state: &Path, sim: &SimDriver, proc: PathBuf) -> Library {
    let _settings = SETTINGS.lock().unwrap();
    for (key, value) in [
        ("SECTILE_SIM", "/dev/null"),
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
    let [fleet, world] = [serde_json::to_string(&*FLEET), serde_json::to_string(world)].map(Result::unwrap);
    let state = format!(r#"{{"kind":"sectile-simulation","format_version":1,"fleet":{fleet},"world":{world}}}"#);
    let new = path.with_extension("new");
    std::fs::write(&new, state).unwrap();
    std::fs::rename(&new, path).unwrap();
}

fn read(path: &Path) -> World {
    let text = std::fs::read_to_string(path).unwrap();
    state::load(path, &text, NO_FLEET, "no fleet").unwrap()
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
