//! Where it plays: a folder with a fleet of one node, its trees and the state that all programs on it share.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sectile::gpu::Gpus;
use sectile::sim::lock;
use sectile::sim::state::StateFile;
use sectile::sim::state::door::Door;
use sectile::sim::world::{SimCi, World};
use tempfile::TempDir;

/// The node's GPUs.
pub(crate) const GPUS: usize = 8;
/// Those whose last instance somebody uses from the beginning to the end.
const HELD: usize = 4;
/// So much of the log is shown where something is wrong.
const SHOWN: usize = 60;

/// What draws the deeds (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

pub(crate) struct Stage {
    folder: TempDir,
    fleet: String,
    pub(crate) random: Random,
    /// Trees so far: each is another folder, and `current` leads to one.
    pub(crate) trees: u32,
    /// The devices that somebody uses: none may go.
    pub(crate) used: Vec<String>,
    /// An address for metrics that nobody has.
    pub(crate) metrics: std::net::SocketAddr,
    counts: BTreeMap<&'static str, u32>,
}

impl Stage {
    pub(crate) fn new(seed: u64) -> Self {
        // Where no node is named, it is the one that is called like the host.
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let mut fleet = format!("[[node]]\nname = \"{}\"\ncluster = false\n", host.trim());
        for gpu in 0..GPUS {
            fleet.push_str("  [[node.gpu]]\n  model = \"h100-80gb-sxm\"\n  mig = true\n");
            if gpu < HELD {
                writeln!(
                    fleet,
                    "  instances = [{{ profile = \"1g.10gb\", start = 6, users = [\"process:train-{gpu}\"] }}]"
                )
                .unwrap();
            }
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stage = Stage {
            folder: tempfile::tempdir().unwrap(),
            fleet,
            random: Random(seed),
            trees: 0,
            used: Vec::new(),
            metrics: listener.local_addr().unwrap(),
            counts: BTreeMap::new(),
        };
        fs::write(stage.path("fleet.toml"), &stage.fleet).unwrap();
        let used = |world: &mut World| devices(world).map(|device| device.uuid.clone()).collect();
        stage.used = stage.world(used);
        stage
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn did(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// How often each deed was done.
    pub(crate) fn done(&self) -> String {
        self.counts.iter().map(|(what, times)| format!("{what} {times}")).collect::<Vec<_>>().join(", ")
    }

    /// Changes the world, which nobody else does meanwhile.
    pub(crate) fn world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let file = StateFile::open(&self.path("sim.json"), &self.fleet, "fleet.toml", false, true).unwrap();
        let done = change(&mut lock(&file.shared()));
        file.save().unwrap();
        done
    }

    /// The GPUs, as any program on the node has them.
    pub(crate) fn gpus(&self) -> Gpus<Door> {
        let door = Door::open(&self.path("sim.json"), &self.fleet, "fleet.toml", None, true, 0.0);
        Gpus::new(door.unwrap().unwrap())
    }

    /// Nobody has lost a device, and nobody tried to take one.
    pub(crate) fn untouched(&self) {
        self.world(|world| {
            assert!(world.ledger.is_empty(), "{:?}: {}", world.ledger, self.log());
            let held: Vec<_> = devices(world).filter(|device| !device.processes.is_empty()).collect();
            let held: Vec<_> = held.into_iter().map(|device| device.uuid.clone()).collect();
            assert!(self.used.iter().all(|used| held.contains(used)), "{:?}, not {held:?}: {}", self.used, self.log());
        });
    }

    /// The program on this node.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        let settings = [
            ("SECTILE_GPUS", "sim"),
            ("SECTILE_CLUSTER", "none"),
            ("SECTILE_SIM", "fleet.toml"),
            ("SECTILE_SIM_STATE", "sim.json"),
            ("SECTILE_STATE", "state"),
            ("SECTILE_SOCKET", "s.sock"),
        ];
        command.current_dir(self.folder.path()).env_clear().envs(settings);
        command
    }

    /// Runs a command line; its exit code, and all that it says.
    pub(crate) fn run(&self, line: &str) -> (i32, String) {
        let told = self.command().args(line.split_whitespace()).output().unwrap();
        let text = [told.stdout, told.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        let code = told.status.code().unwrap_or_else(|| panic!("{line}: {}: {text}", told.status));
        // It may be refused, and find nothing to do or too much; it does not break down.
        assert!((0..=3).contains(&code) && !text.contains("panicked"), "{line}: {code}: {text}: {}", self.log());
        (code, text)
    }

    /// The end of the service's log.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("its last words:\n{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"))
    }
}

/// The node's MIG devices.
pub(crate) fn devices(world: &mut World) -> impl Iterator<Item = &mut SimCi> {
    let gpus = world.nodes.values_mut().flat_map(|node| &mut node.gpus);
    gpus.flat_map(|gpu| &mut gpu.instances).flat_map(|gi| &mut gi.compute)
}
