//! The driver's trait over the real NVML library, `libnvidia-ml.so.1`.

mod convert;
mod ffi;
mod process;
mod watch;

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;

pub use self::ffi::Library;
pub use self::watch::{NotOpened, Watched};

/// After so long nobody waits for a call any more: under load NVML takes seconds for a list of devices (some 10 s were
/// seen), and for a mode switch 5 s a GPU; what takes longer hangs.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Opens NVML on a thread of its own: the library at that path, or the system's.
///
/// # Errors
///
/// Why it can't be reached, with what to do.
pub fn open(path: Option<OsString>) -> Result<Watched<Library>, Trouble> {
    Watched::open(LIMIT, move || Library::open(path.as_deref())).map_err(|error| match error {
        NotOpened::Failed(error) => Trouble::of(&error),
        NotOpened::Hangs => Trouble::Hangs,
    })
}

/// NVML, opened by the first call that is made: for who may have nothing to ask it.
pub fn closed(path: Option<OsString>) -> Watched<Library> {
    Watched::closed(LIMIT, move || Library::open(path.as_deref()))
}

/// Why NVML can't be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such library, or it can't be loaded: what the loader said.
    NoLibrary(String),
    /// A library that is no NVML: the function that it lacks.
    NotNvml(String),
    /// The kernel's part of the driver is not loaded.
    NoDriver,
    /// The kernel's part of the driver is of another version than the library.
    Mismatch,
    /// This user, or this container, may not talk to the driver.
    NoPermission,
    /// A GPU fell off the bus.
    GpuLost,
    /// It does not come back from its initialisation.
    Hangs,
    /// Anything else, in NVML's words.
    Other(String),
}

impl Trouble {
    fn of(error: &NvmlError) -> Trouble {
        match error {
            NvmlError::LibloadingError(error) => Trouble::NoLibrary(error.to_string()),
            NvmlError::LibraryNotFound => Trouble::NoLibrary(error.to_string()),
            NvmlError::FailedToLoadSymbol(what) => Trouble::NotNvml(what.clone()),
            NvmlError::FunctionNotFound => Trouble::NotNvml(error.to_string()),
            NvmlError::DriverNotLoaded => Trouble::NoDriver,
            NvmlError::LibRmVersionMismatch => Trouble::Mismatch,
            NvmlError::NoPermission | NvmlError::OperatingSystem => Trouble::NoPermission,
            NvmlError::GpuLost => Trouble::GpuLost,
            NvmlError::UnexpectedVariant(number) => Trouble::Other(format!("NVML answers {number}")),
            error => Trouble::Other(error.to_string()),
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Trouble::NoLibrary(_) => "install NVIDIA's driver, or name its library with --nvml-library PATH",
            Trouble::NotNvml(_) => "name the driver's own libnvidia-ml.so.1 with --nvml-library PATH",
            Trouble::NoDriver => "load it with `modprobe nvidia`, and see `dmesg` where that fails",
            Trouble::Mismatch => "the driver was upgraded while the old one is loaded: reload it, or reboot the node",
            Trouble::NoPermission => "run it as root, and in a container with the GPUs and /dev/nvidiactl given to it",
            Trouble::GpuLost => "see `dmesg` for an Xid, and reset the GPU or reboot the node",
            Trouble::Hangs => "see `dmesg` for what the driver waits for; a reboot of the node may be due",
            Trouble::Other(_) => "see whether `nvidia-smi` works here",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoLibrary(why) => write!(f, "NVIDIA's library can't be loaded: {why}"),
            Trouble::NotNvml(why) => write!(f, "the library is no NVML: {why}"),
            Trouble::NoDriver => f.write_str("NVIDIA's driver is not loaded"),
            Trouble::Mismatch => f.write_str("NVIDIA's library and the loaded driver are of different versions"),
            Trouble::NoPermission => f.write_str("the driver refuses this user"),
            Trouble::GpuLost => f.write_str("a GPU is lost"),
            Trouble::Hangs => write!(f, "the driver did not come up in {} s", LIMIT.as_secs()),
            Trouble::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Trouble {}
