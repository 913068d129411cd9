//! Initialization, versions and error strings.

use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

use sectile::ports::{Driver as _, NvmlCode};

use super::library;
use super::nvml;
use super::place::Out;

/// `NVML_API_VERSION`, which a driver's version stands behind.
const API: &str = "13.";
/// CUDA 13.2: what the simulated driver comes with.
const CUDA: i32 = 13020;

macro_rules! whole {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) = $body:expr;)*) => {$(
        $(#[$doc])*
        // SAFETY: no other library of a program that loads an NVML has functions of NVML's names.
        #[unsafe(no_mangle)]
        extern "C" fn $name($($arg: $type),*) -> u32 {
            $body
        }
    )*};
}

whole! {
    fn nvmlInit() = library::init();
    fn nvmlInit_v2() = library::init();
    /// No flag makes a difference to a simulation.
    fn nvmlInitWithFlags(_flags: u32) = library::init();
    fn nvmlShutdown() = library::shutdown();
}

/// The text of a code; those that the simulation never gives, too.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: u32) -> *const c_char {
    static WORDS: OnceLock<Vec<(u32, CString)>> = OnceLock::new();
    let all = || [NvmlCode::Success].iter().chain(NvmlCode::ERRORS);
    let words = WORDS.get_or_init(|| {
        let own = all().map(|code| (*code as u32, code.words()));
        own.chain(OTHERS.iter().copied()).filter_map(|(code, words)| Some((code, CString::new(words).ok()?))).collect()
    });
    let found = words.iter().find(|(known, _)| *known == code);
    found.map_or(c"Unknown Error" as &CStr, |(_, words)| words).as_ptr()
}

/// Codes that no call of the simulated driver gives.
const OTHERS: &[(u32, &str)] = &[
    (5, "Already Initialized"),
    (8, "Insufficient External Power"),
    (11, "Interrupt Request Issue"),
    (14, "Corrupted infoROM"),
    (17, "Operating System Error"),
    (18, "Driver/library version mismatch"),
    (20, "Insufficient Memory"),
    (21, "No data"),
    (22, "The requested vgpu operation is not available on target device, because ECC is enabled"),
    (24, "Frequency not supported"),
    (26, "Deprecated"),
    (27, "Not Ready"),
    (28, "GPU not found"),
];

nvml! {
    fn nvmlSystemGetDriverVersion(version: Out<c_char>, length: u32) = |it| {
        version.text(length, || it.call("driver_version", |driver| driver.driver_version()))
    };
    fn nvmlSystemGetNVMLVersion(version: Out<c_char>, length: u32) = |it| {
        version.text(length, || Ok(format!("{API}{}", it.look(|driver| driver.driver_version())?)))
    };
    fn nvmlSystemGetCudaDriverVersion(version: Out<i32>) = |_it| version.take(|| Ok(CUDA));
    fn nvmlSystemGetCudaDriverVersion_v2(version: Out<i32>) = |_it| version.take(|| Ok(CUDA));
    fn nvmlSystemGetProcessName(pid: u32, name: Out<c_char>, length: u32) = |it| {
        name.text(length, || it.call("process_name", |driver| driver.process_name(pid)))
    };
    /// S-class units are another thing, and there are none.
    fn nvmlUnitGetCount(count: Out<u32>) = |_it| count.take(|| Ok(0));
    fn nvmlDeviceGetCount(count: Out<u32>) = |it| count.take(|| it.call("device_count", |driver| driver.device_count()));
    fn nvmlDeviceGetCount_v2(count: Out<u32>) = |it| {
        count.take(|| it.call("device_count", |driver| driver.device_count()))
    };
}
