//! What people, other programs and bad luck do to a service.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use rustix::process::Signal;
use sectile::model::observed::ObservedGpu;
use sectile::model::plan::SlotRef;
use sectile::sim::fault::{CALLS, Fate, Fault, PortKind};
use sectile::sim::world::{SimCi, SimProcess};

use super::life::Life;
use super::stage::{GPUS, Stage, devices};

/// What a GPU may be wanted to be.
const LAYOUTS: [&str; 9] = [
    "\"1g\"",
    "\"3g\", \"1g\"",
    "\"2g\", \"1g\"",
    "\"2g\", \"2g\", \"1g\"",
    "\"1g\", \"1g\", \"1g\", \"1g\"",
    "\"4g\", \"1g\"",
    // Nothing of this leaves room for who uses the first GPUs.
    "\"7g\"",
    "\"4g\", \"3g\"",
    "",
];
/// What is no tree.
const BROKEN: [&str; 4] =
    ["qqq = 1\n", "[[gpu]\n", "nodes = [\"*\"]\n[[gpu]]\nindex = [0]\ninstances = [\"9g\"]\n", "\u{0}"];
/// The files of a tree.
const LAYOUT: &str = "layouts/n.toml";
const POLICY: &str = "policies/deep/n.toml";
const FILES: [&str; 3] = [LAYOUT, LAYOUT, POLICY];
/// Who comes and goes.
const VISITOR: &str = "visitor";

type Deed = fn(&mut Stage, &Life);

/// Each as often as it stands here.
const DEEDS: &[(&str, Deed)] = &[
    ("swap", |stage, _| swap(stage, &draw)),
    ("swap", |stage, _| swap(stage, &draw)),
    ("edit", |stage, _| edit(stage, |text| text)),
    ("edit", |stage, _| edit(stage, |text| text)),
    ("broken", |stage, _| {
        let broken = *stage.random.of(&BROKEN);
        edit(stage, |_| broken.to_owned());
    }),
    ("half", half),
    ("editor", |stage, _| editor(stage)),
    ("folder", |stage, _| folder(stage)),
    ("vanish", vanish),
    ("destroy", |stage, _| destroy(stage)),
    ("destroy", |stage, _| destroy(stage)),
    ("create", |stage, _| create(stage)),
    ("mode", |stage, _| mode(stage)),
    ("fault", |stage, _| fault(stage)),
    ("fault", |stage, _| fault(stage)),
    ("no fault", |stage, _| stage.world(|world| world.faults.clear())),
    ("no fault", |stage, _| stage.world(|world| world.faults.clear())),
    ("suspend", |stage, _| suspend(stage)),
    ("resume", |stage, _| drop(stage.run("resume"))),
    ("resume", |stage, _| drop(stage.run("resume"))),
    ("leave", |stage, _| leave(stage)),
    ("hup", |_, life| life.signal(Signal::HUP)),
    ("apply", |stage, _| drop(stage.run("apply current --yes"))),
    ("plan", |stage, _| drop(stage.run("plan current"))),
    ("status", |stage, _| drop(stage.run("status current"))),
    ("ask", ask),
    ("ask", ask),
    ("wait", |_, life| life.pause(Duration::from_millis(700))),
];

/// One of them, and the time until the next.
pub(crate) fn one(stage: &mut Stage, life: &mut Life) {
    let (name, deed) = *stage.random.of(DEEDS);
    stage.did(name);
    deed(stage, life);
    life.goes_on(stage);
    if stage.random.one_in(8) {
        stage.untouched();
    }
    let pause = [0, 5, 50, 260, 350][stage.random.below(5)];
    life.pause(Duration::from_millis(pause));
}

/// No more goes wrong, and who may go is gone.
pub(crate) fn mend(stage: &mut Stage) {
    stage.world(|world| world.faults.clear());
    leave(stage);
    swap(stage, &|_, file| if file == LAYOUT { layout(|| "\"3g\", \"1g\"") } else { policy("refuse") });
}

/// What each GPU is to be.
fn layout(mut each: impl FnMut() -> &'static str) -> String {
    let gpu = |gpu| format!("[[gpu]]\nindex = [{gpu}]\ninstances = [{}]\n", each());
    "nodes = [\"*\"]\n".to_owned() + &(0..GPUS).map(gpu).collect::<String>()
}

/// Whoever is there is left alone by either.
fn policy(processes: &str) -> String {
    format!("nodes = [\"*\"]\n[protect]\nprocesses = \"{processes}\"\n")
}

pub(crate) fn draw(stage: &mut Stage, file: &str) -> String {
    match file {
        LAYOUT => layout(|| *stage.random.of(&LAYOUTS)),
        _ => policy(stage.random.of::<&str>(&["refuse", "wait"])),
    }
}

/// git-sync's way: another folder, and the link is turned to it at once.
pub(crate) fn swap(stage: &mut Stage, text: &dyn Fn(&mut Stage, &str) -> String) {
    stage.trees += 1;
    let name = format!("trees/{}", stage.trees);
    for file in [LAYOUT, POLICY] {
        let path = stage.path(&name).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = text(stage, file);
        fs::write(path, text).unwrap();
    }
    symlink(&name, stage.path("link")).unwrap();
    fs::rename(stage.path("link"), stage.path("current")).unwrap();
    // The one before is kept for a while.
    if let Some(old) = stage.trees.checked_sub(2) {
        let _ = fs::remove_dir_all(stage.path(&format!("trees/{old}")));
    }
}

/// Writes a file of the tree where it lies.
fn edit(stage: &mut Stage, text: impl FnOnce(String) -> String) {
    let file = *stage.random.of(&FILES);
    let drawn = draw(stage, file);
    fs::write(stage.path("current").join(file), text(drawn)).unwrap();
}

/// A slow disk: the first half is there for a while.
fn half(stage: &mut Stage, life: &Life) {
    let file = *stage.random.of(&FILES);
    let text = draw(stage, file);
    let path = stage.path("current").join(file);
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let pause = [20, 200, 400][stage.random.below(3)];
    life.pause(Duration::from_millis(pause));
    fs::write(&path, &text).unwrap();
}

/// Another file, renamed.
fn editor(stage: &mut Stage) {
    let file = *stage.random.of(&FILES);
    let (text, tree) = (draw(stage, file), stage.path("current"));
    fs::write(tree.join("layouts/.x.swp"), text).unwrap();
    fs::rename(tree.join("layouts/.x.swp"), tree.join(file)).unwrap();
}

/// Another folder in the place of one, which is kept elsewhere.
fn folder(stage: &mut Stage) {
    stage.trees += 1;
    let (tree, new) = (stage.path("current"), stage.path("new"));
    fs::create_dir_all(&new).unwrap();
    let text = draw(stage, LAYOUT);
    fs::write(new.join("n.toml"), text).unwrap();
    fs::rename(tree.join("layouts"), stage.path(&format!("old-{}", stage.trees))).unwrap();
    fs::rename(new, tree.join("layouts")).unwrap();
}

/// It is away for a while.
fn vanish(stage: &mut Stage, life: &Life) {
    fs::rename(stage.path("current"), stage.path("away")).unwrap();
    let pause = [5, 300, 600][stage.random.below(3)];
    life.pause(Duration::from_millis(pause));
    fs::rename(stage.path("away"), stage.path("current")).unwrap();
}

/// A GPU as another program sees it, if it does: the driver's faults strike that, too.
fn gpu(stage: &mut Stage) -> Option<ObservedGpu> {
    let gpu = stage.random.below(GPUS);
    stage.gpus().observe().ok()?.0.into_iter().nth(gpu)
}

/// `nvidia-smi mig -dci` and `-dgi` of an instance that nobody uses.
fn destroy(stage: &mut Stage) {
    let Some(gpu) = gpu(stage) else { return };
    let free: Vec<_> = gpu
        .instances
        .iter()
        .filter(|instance| instance.compute.iter().all(|compute| !stage.used.contains(&compute.uuid)))
        .map(|instance| SlotRef { gpu: gpu.uuid.clone(), profile: instance.profile, placement: instance.placement })
        .collect();
    if !free.is_empty() {
        // It may fail, as the service's own calls do.
        let _ = stage.gpus().destroy(stage.random.of(&free));
    }
}

/// `nvidia-smi mig -cgi … -C` where there is room.
fn create(stage: &mut Stage) {
    let Some(gpu) = gpu(stage) else { return };
    let profile = "1g.10gb".parse().unwrap();
    let start = u32::try_from(stage.random.below(7)).unwrap();
    let placement = sectile::model::Placement { start, size: 1 };
    let _ = stage.gpus().create(&SlotRef { gpu: gpu.uuid, profile, placement }, &["1c.1g.10gb".parse().unwrap()]);
}

/// `nvidia-smi -mig 0` of a GPU without instances.
fn mode(stage: &mut Stage) {
    let Some(gpu) = gpu(stage) else { return };
    if gpu.instances.is_empty() {
        let _ = stage.gpus().set_mode(&gpu.uuid, false);
    }
}

/// A call of the driver that goes wrong from now on, for a few times.
fn fault(stage: &mut Stage) {
    let calls: Vec<&str> =
        CALLS.iter().filter(|(port, _)| *port == PortKind::Driver).flat_map(|(_, calls)| *calls).copied().collect();
    let (call, code) = (*stage.random.of(&calls), stage.random.of(&PortKind::Driver.codes()).0.clone());
    let fates = [Fate::Fails(code.clone()), Fate::Loses(code), Fate::Hangs, Fate::Swallows, Fate::Stalls(1)];
    let fate = stage.random.of(&fates).clone();
    let (nth, times) = (1 + stage.random.below(3), 1 + stage.random.below(4));
    let [nth, times] = [nth, times].map(|n| u32::try_from(n).unwrap());
    stage.world(|world| world.faults = vec![Fault { call: call.to_owned(), nth, times, fate, seen: 0 }]);
}

/// Whoever suspends the node has it for itself: meanwhile somebody may come.
fn suspend(stage: &mut Stage) {
    if stage.run("suspend --reason INC-4711").0 != 0 {
        return;
    }
    let at = stage.random.below(64);
    let came = stage.world(|world| {
        let pid = u32::try_from(world.serial()).unwrap() + 100_000;
        let free: Vec<&mut SimCi> = devices(world).filter(|device| device.processes.is_empty()).collect();
        let number = free.len().max(1);
        free.into_iter().nth(at % number).map(|device| {
            device.processes.push(SimProcess { pid, name: VISITOR.to_owned() });
            device.uuid.clone()
        })
    });
    stage.used.extend(came);
    // Else it is resumed some time later.
    if stage.random.one_in(2) {
        stage.run("resume");
    }
}

fn leave(stage: &mut Stage) {
    let gone: Vec<String> = stage.world(|world| {
        let visited = devices(world).filter(|device| device.processes.iter().any(|process| process.name == VISITOR));
        visited
            .map(|device| {
                device.processes.clear();
                device.uuid.clone()
            })
            .collect()
    });
    stage.used.retain(|used| !gone.contains(used));
}

/// What it says is whole.
fn ask(stage: &mut Stage, life: &Life) {
    let json = *stage.random.of(&["/v1/status?output=json", "/v1/plan"]);
    let (code, text) = life.ask(stage, json, true);
    let whole = serde_json::from_str::<serde_json::Value>(&text).is_ok();
    assert!(code == 503 || (code == 200 && whole), "{json}: {code}: {text}: {}", stage.log());
    let (code, text) = life.ask(stage, "/metrics", false);
    assert!(code == 200 && text.ends_with("# EOF\n"), "{code}: {text}");
    assert_eq!(life.ask(stage, "/healthz", false).0, 200);
}
