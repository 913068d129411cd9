//! A library that is older than the calls that are asked for first.

use sectile::gpu::Gpus;
use sectile::model::{Known, User};
use sectile::nvml::Library;
use sectile::sim::driver::SimDriver;
use sectile::sim::fleet::{self, BUILTIN};
use sectile::sim::lock;
use sectile::sim::world::{SimProcess, World};
use tempfile::TempDir;

use super::door::{built, open, write};
use super::support::{NODE, hardware};

/// The names of symbols lie in the first of the library's bytes.
const NAMES: usize = 1 << 18;

/// The simulated driver's library, in which no function's name ends so: who looks for one does not find it.
fn without(endings: &[&str], world: &World) -> (Gpus<Library>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(built()).unwrap();
    for ending in endings {
        let name = format!("{ending}\0");
        let found: Vec<usize> = (0..NAMES).filter(|at| bytes[*at..].starts_with(name.as_bytes())).collect();
        assert!(!found.is_empty(), "{ending}");
        found.into_iter().for_each(|at| bytes[at] = b'x');
    }
    let (library, state) = (folder.path().join("old.so"), folder.path().join("state.json"));
    std::fs::write(&library, bytes).unwrap();
    let mut world = world.clone();
    world.fleet = fleet::digest(BUILTIN);
    write(&state, &world);
    let sim = SimDriver::new(std::sync::Arc::new(std::sync::Mutex::new(world)), NODE);
    (Gpus::new(open(&library, &state, &sim, folder.path().join("proc"))), folder)
}

#[test]
fn who_uses_a_gpu_was_never_known_with_a_library_of_the_second_version() {
    let world = hardware(&[("a100-40gb", true)]);
    lock(&world).place(NODE, 0, "3g.20gb".parse().unwrap(), 4, None).unwrap();
    let process = SimProcess { pid: 7, name: "python3".to_owned() };
    lock(&world).nodes.get_mut(NODE).unwrap().gpus[0].instances[0].compute[0].processes.push(process);
    let world = lock(&world).clone();
    for endings in [&[][..], &["RunningProcesses_v3"], &["RunningProcessDetailList"]] {
        let (gpus, _folder) = without(endings, &world);
        let (seen, gaps, _) = gpus.observe().unwrap();
        let user: User = "process:7/python3".parse().unwrap();
        assert_eq!((seen[0].instances[0].all_users(), gaps), (Known::Known(vec![user]), vec![]), "{endings:?}");
    }
    // One that has neither does not tell, nor one whose third version may write past its room: nobody is taken for gone.
    for ending in ["RunningProcesses_v3", "RunningProcessDetailList"] {
        let (gpus, _folder) = without(&[ending, "RunningProcesses_v2"], &world);
        let (seen, gaps, _) = gpus.observe().unwrap();
        assert_eq!(seen[0].instances[0].all_users(), Known::Unknown);
        assert!(gaps[0].message.contains("Function Not Found"), "{gaps:?}");
    }
}
