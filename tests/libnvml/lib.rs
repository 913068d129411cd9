//! `libnvidia-ml.so.1` for programs that are not ours: NVML's C interface over the simulated driver.
//!
//! It only marshals. What a call does and which code it gives is `sectile::sim::driver`'s, over a state file that
//! processes share (`sectile::sim::state::door`). The environment says which: see `settings`.
#![expect(unsafe_code, reason = "C functions, and the places that C programs give them")]

mod device;
mod events;
mod handles;
mod library;
mod mig;
mod place;
mod process;
mod rest;
mod settings;
mod structs;
mod system;

/// Exports functions of NVML: `fn name(arguments) = |library| result;`. Each gives `UNINITIALIZED` before the library
/// is initialized, and `UNKNOWN` where it panics.
macro_rules! nvml {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) = |$library:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        // SAFETY: no other library of a program that loads an NVML has functions of NVML's names.
        #[unsafe(no_mangle)]
        extern "C" fn $name($($arg: $type),*) -> u32 {
            super::library::guarded(|$library: &super::library::Library| $body)
        }
    )*};
}
use nvml;
