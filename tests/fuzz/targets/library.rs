//! The simulated driver's C library, called from several threads.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use sectile::sim::state;

#[path = "../library.rs"]
mod calls;
/// Compiled in, so that the fuzzer sees its ways and the sanitizer its memory.
#[path = "../../libnvml/lib.rs"]
mod libnvml;

const FLEET: &str = r#"
[[node]]
name = "n1"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  [[node.gpu]]
  model = "a30-24gb"
  instances = [{ profile = "1g.6gb", start = 0, users = ["process:4711/train"] }]
"#;

/// C functions as `tests/fuzz/library.rs` calls them: with machine words.
macro_rules! functions {
    ($($name:ident)*) => {
        #[allow(clashing_extern_declarations, reason = "each takes as many of the words as it wants")]
        mod c {
            unsafe extern "C" {
                $(pub(crate) fn $name(a: usize, b: usize, c: usize, d: usize) -> u32;)*
            }
        }

        fn call(name: &str, args: &[usize]) -> u32 {
            let at = |n: usize| args.get(n).copied().unwrap_or(0);
            match name {
                // SAFETY: pointers are NULL, or point to more room than any of them needs.
                $(stringify!($name) => unsafe { c::$name(at(0), at(1), at(2), at(3)) },)*
                _ => panic!("{name} is not in the list"),
            }
        }
    };
}

functions! {
    nvmlInit_v2 nvmlShutdown nvmlSystemGetDriverVersion nvmlSystemGetProcessName nvmlDeviceGetCount_v2
    nvmlDeviceGetHandleByIndex_v2 nvmlDeviceGetHandleByUUID nvmlDeviceGetHandleByUUIDV
    nvmlDeviceGetHandleByPciBusId_v2 nvmlDeviceGetName nvmlDeviceGetUUID nvmlDeviceGetIndex nvmlDeviceGetMinorNumber
    nvmlDeviceGetPciInfo_v3 nvmlDeviceGetPciInfoExt nvmlDeviceGetMemoryInfo nvmlDeviceGetMemoryInfo_v2
    nvmlDeviceGetArchitecture nvmlDeviceGetCudaComputeCapability nvmlDeviceGetAttributes_v2 nvmlDeviceGetFieldValues
    nvmlDeviceSetMigMode nvmlDeviceGetMigMode nvmlDeviceGetGpuInstanceProfileInfo
    nvmlDeviceGetGpuInstanceProfileInfoV nvmlDeviceGetGpuInstanceProfileInfoByIdV
    nvmlDeviceGetGpuInstancePossiblePlacements_v2 nvmlDeviceGetGpuInstanceRemainingCapacity
    nvmlDeviceCreateGpuInstance nvmlDeviceCreateGpuInstanceWithPlacement nvmlGpuInstanceDestroy
    nvmlDeviceGetGpuInstances nvmlDeviceGetGpuInstanceById nvmlGpuInstanceGetInfo
    nvmlGpuInstanceGetComputeInstanceProfileInfo nvmlGpuInstanceGetComputeInstanceProfileInfoV
    nvmlGpuInstanceGetComputeInstanceRemainingCapacity nvmlGpuInstanceGetComputeInstancePossiblePlacements
    nvmlGpuInstanceCreateComputeInstance nvmlGpuInstanceCreateComputeInstanceWithPlacement nvmlComputeInstanceDestroy
    nvmlGpuInstanceGetComputeInstances nvmlGpuInstanceGetComputeInstanceById nvmlComputeInstanceGetInfo_v2
    nvmlDeviceIsMigDeviceHandle nvmlDeviceGetGpuInstanceId nvmlDeviceGetMaxMigDeviceCount
    nvmlDeviceGetMigDeviceHandleByIndex nvmlDeviceGetDeviceHandleFromMigDeviceHandle
    nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetRunningProcessDetailList nvmlEventSetCreate
    nvmlDeviceRegisterEvents nvmlEventSetWait_v2 nvmlEventSetFree nvmlDeviceGetBoardId
}

/// Where the state lies; the environment says so from the first call on.
fn place() -> &'static PathBuf {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("sectile-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("fleet.toml"), FLEET).expect("a fleet");
        for (name, file) in [("SECTILE_SIM", "fleet.toml"), ("SECTILE_SIM_STATE", "state.json")] {
            // SAFETY: there are no threads yet.
            unsafe { std::env::set_var(name, folder.join(file)) };
        }
        folder.join("state.json")
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let place = place();
    let _ = std::fs::remove_file(place);
    calls::run(&call, data);
    let text = std::fs::read_to_string(place).expect("a state");
    calls::sound(&state::load(place, &text, FLEET, "fleet.toml").expect("a whole state"));
});
