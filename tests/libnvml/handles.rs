//! Handles as C has them: tokens of a table, which nobody ever follows.

use std::collections::BTreeMap;
use std::sync::Mutex;

use sectile::ports::{Ci, Device, Gi, Nvml, NvmlCode};

use super::library::locked;

/// Tokens look like addresses in a part of the address space where nothing lies: Go's runtime takes small numbers for
/// broken pointers, and those within its heap for its own.
const FIRST: usize = 0x1000_0000_0000;
const STEP: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Handle {
    Device(Device),
    Gi(Gi),
    Ci(Ci),
    Events(u64),
}

struct Table {
    handles: Vec<Handle>,
    tokens: BTreeMap<Handle, usize>,
}

/// It only grows, so that a token never comes to mean something else: what it stands for is or is not there.
static TABLE: Mutex<Table> = Mutex::new(Table { handles: Vec::new(), tokens: BTreeMap::new() });

fn token(handle: Handle) -> usize {
    let mut table = locked(&TABLE);
    let Table { handles, tokens } = &mut *table;
    *tokens.entry(handle).or_insert_with(|| {
        handles.push(handle);
        FIRST + (handles.len() - 1) * STEP
    })
}

fn handle(token: usize) -> Nvml<Handle> {
    let behind = token.checked_sub(FIRST).filter(|behind| behind % STEP == 0);
    let found = behind.and_then(|behind| locked(&TABLE).handles.get(behind / STEP).copied());
    found.ok_or(NvmlCode::InvalidArgument)
}

macro_rules! tokens {
    ($($(#[$doc:meta])* $token:ident: $kind:ident($real:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(crate) struct $token(usize);

        impl $token {
            pub(crate) fn of(real: $real) -> Self {
                $token(token(Handle::$kind(real)))
            }

            /// What it stands for; an invalid argument where it is a token of another kind, or none.
            pub(crate) fn real(self) -> Nvml<$real> {
                match handle(self.0)? {
                    Handle::$kind(real) => Ok(real),
                    _ => Err(NvmlCode::InvalidArgument),
                }
            }
        }
    )*};
}

tokens! {
    /// `nvmlDevice_t`: a GPU or a MIG device.
    DeviceToken: Device(Device);
    /// `nvmlGpuInstance_t`.
    GiToken: Gi(Gi);
    /// `nvmlComputeInstance_t`.
    CiToken: Ci(Ci);
    /// `nvmlEventSet_t`.
    EventsToken: Events(u64);
}
