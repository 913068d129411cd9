//! A tree that is replaced again and again, and one that is edited while a plan is carried out: real files, and the real service.
#![expect(clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::sandbox::Sandbox;
use super::this_node::run;
use super::watched::{Watched, layout, stage};

/// Trees in a row: every other one is another layout.
const TURNS: usize = 1000;
/// So many of them before it is still for as long as it takes to be read, or nearly.
const BURST: usize = 80;

/// What it has open, and how many folders it watches.
fn held(service: &Watched<'_>) -> (usize, usize) {
    let process = format!("/proc/{}", service.child.id());
    let files: Vec<_> = fs::read_dir(format!("{process}/fd")).unwrap().flatten().collect();
    let info = |file: &fs::DirEntry| fs::read_to_string(format!("{process}/fdinfo/{}", file.file_name().display()));
    let watches = files.iter().map(|file| info(file).unwrap_or_default().matches("inotify wd:").count()).sum();
    (files.len(), watches)
}

fn profile(turn: usize) -> (&'static str, &'static str) {
    [("\"3g\"", "3g.40gb"), ("\"4g\"", "4g.40gb")][turn % 2]
}

/// One tree, in two folders.
fn write(sandbox: &Sandbox, folder: &str, turn: usize) {
    sandbox.write(&format!("{folder}/layouts/n.toml"), &(layout(profile(turn).0) + &format!("# {turn}\n")));
    sandbox.write(&format!("{folder}/policies/n.toml"), &format!("nodes = [\"*\"]\n# {turn}\n"));
}

/// Turns the tree to one after the other: `put` brings it there. The service reads each of them whole or not at all, ends
/// with the last one, and holds no more than at the beginning.
fn turned(sandbox: &Sandbox, tree: &str, put: impl Fn(usize)) {
    let name = || sectile::config::load(&sandbox.path(tree)).revision.to_string();
    let mut names = BTreeSet::new();
    let mut next = |turn: usize| {
        put(turn);
        names.insert(name());
    };
    next(0);
    let service = Watched::begin(sandbox, tree);
    service.becomes(&[profile(0).1]);
    let before = held(&service);
    for turn in 1..TURNS {
        next(turn);
        let nearly = 235 + u64::try_from(turn / BURST).unwrap() * 3;
        std::thread::sleep(Duration::from_millis(if turn % BURST == 0 { nearly } else { 1 }));
    }
    let last = name();
    service.until("the last tree", || service.ask("/metrics").1.contains(&last));
    service.becomes(&[profile(TURNS - 1).1]);
    let lets_go = || held(&service).0 <= before.0 && held(&service).1 == before.1;
    service.until(&format!("it to hold {before:?}"), lets_go);
    let log = service.end();
    let taken: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("The tree is ")?.1.strip_suffix(" now.")).collect();
    assert!(taken.len() > 2 && taken.iter().all(|name| names.contains(*name)), "{taken:?} of {names:?}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// Turns a link at once.
fn turn(sandbox: &Sandbox, to: &str, link: &str) {
    symlink(to, sandbox.path("new-link")).unwrap();
    fs::rename(sandbox.path("new-link"), sandbox.path(link)).unwrap();
}

#[test]
fn git_syncs_link_is_turned_a_thousand_times() {
    let sandbox = stage("unused", "");
    turned(&sandbox, "current", |at| {
        write(&sandbox, &format!("worktrees/{at}"), at);
        turn(&sandbox, &format!("worktrees/{at}"), "current");
        if let Some(old) = at.checked_sub(2) {
            fs::remove_dir_all(sandbox.path(&format!("worktrees/{old}"))).unwrap();
        }
    });
}

#[test]
fn a_config_map_is_swapped_a_thousand_times() {
    let sandbox = stage("unused", "");
    fs::create_dir(sandbox.path("map")).unwrap();
    for folder in ["layouts", "policies"] {
        symlink(format!("..data/{folder}"), sandbox.path("map").join(folder)).unwrap();
    }
    turned(&sandbox, "map", |at| {
        write(&sandbox, &format!("map/..{at}"), at);
        turn(&sandbox, &format!("..{at}"), "map/..data");
        if let Some(old) = at.checked_sub(1) {
            fs::remove_dir_all(sandbox.path(&format!("map/..{old}"))).unwrap();
        }
    });
}

/// As a deployment by `mv` leaves them.
#[test]
fn folders_that_were_moved_away_were_watched_for_ever() {
    let sandbox = stage("tree", "\"3g\"");
    let service = Watched::begin(&sandbox, "tree");
    service.becomes(&["3g.40gb"]);
    let before = held(&service);
    for at in 1..=5 {
        sandbox.write("new/layouts/n.toml", &layout(profile(at).0));
        fs::rename(sandbox.path("tree"), sandbox.path(&format!("old-{at}"))).unwrap();
        fs::rename(sandbox.path("new"), sandbox.path("tree")).unwrap();
        service.becomes(&[profile(at).1]);
    }
    assert_eq!(held(&service).1, before.1);
    service.end();
}

#[test]
fn a_tree_that_is_edited_while_a_plan_is_carried_out_is_planned_after_it() {
    let sandbox = stage("tree", "\"4g\"");
    let slow = "\n[[fault.call]]\nname = \"create_gi_at\"\nstalls = \"2s\"\n";
    sandbox.write("fleet.toml", &(sandbox.read("fleet.toml") + slow));
    let service = Watched::begin(&sandbox, "tree");
    service.until("the first plan", || service.ask("/v1/plan").1.contains("4g.40gb"));
    // It settles long before the plan is done.
    for profiles in ["\"1g\"", "\"3g\", \"1g\""] {
        sandbox.write("tree/layouts/n.toml", &layout(profiles));
    }
    service.becomes(&["1g.10gb", "3g.40gb"]);
    let log = service.end();
    // What was begun is done, and nothing is done twice or for the tree in between.
    let steps: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once(" done ")?.1.trim())).collect();
    let at = |step: &str| steps.iter().filter(|other| other.starts_with(step)).count();
    assert_eq!(["create 4g", "destroy 4g", "create 3g", "create 1g"].map(at), [1; 4], "{log}");
    assert!(log.find("create 4g").unwrap() < log.rfind("The tree is").unwrap(), "{log}");
}

/// It was refused for as long as the plan took.
#[test]
fn a_node_could_not_be_suspended_while_a_plan_was_carried_out() {
    let sandbox = stage("tree", "\"3g\", \"1g\", \"1g\"");
    let slow = "\n[[fault.call]]\nname = \"create_gi_at\"\nstalls = \"3s\"\n";
    sandbox.write("fleet.toml", &(sandbox.read("fleet.toml") + slow));
    let service = Watched::begin(&sandbox, "tree");
    service.until("the first step", || {
        sandbox.read("log").contains("It looks") && journal(&sandbox).contains("create_instance")
    });
    let suspended = run(&sandbox, "suspend --reason INC-4711");
    assert_eq!(suspended.code, 0, "{suspended:?}");
    assert!(suspended.stderr.contains("waiting until its step in hand is done"), "{suspended:?}");
    service.until("the node to be suspended", || service.ask("/v1/status").1.contains("INC-4711"));
    assert_eq!(service.profiles().len(), 2, "the step in hand is done, and no other: {}", service.log());
    let resumed = run(&sandbox, "resume");
    assert_eq!(resumed.code, 0, "{resumed:?}");
    service.becomes(&["1g.10gb", "1g.10gb", "3g.40gb"]);
    service.end();
}

fn journal(sandbox: &Sandbox) -> String {
    let files = fs::read_dir(sandbox.path("var")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let journal = files.filter(|path| path.extension().is_some_and(|end| end == "journal"));
    journal.filter_map(|path| fs::read_to_string(path).ok()).collect()
}
