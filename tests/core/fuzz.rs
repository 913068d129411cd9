//! The fuzz targets' entries on damaged seeds, so that every machine runs them; tests/fuzz goes on where this ends.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sectile::sim::fleet::BUILTIN;
use sectile::sim::state::StateFile;

use super::fleets::Run;

#[path = "../fuzz/entries.rs"]
mod entries;

const DICTIONARY: &str = include_str!("../fuzz/words.dict");

/// The bytes of the repository's examples, each file alone and all together.
fn trees() -> Vec<Vec<u8>> {
    let (mut alone, mut all) = (Vec::new(), Vec::new());
    for folder in ["layouts", "policies"] {
        let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let text = fs::read(&path).unwrap();
            all.extend(format!("#### {folder}/{}\n", path.file_name().unwrap().to_string_lossy()).into_bytes());
            all.extend(&text);
            alone.push(text);
        }
    }
    alone.push(all);
    alone
}

fn plans() -> Vec<Vec<u8>> {
    let tree = [("layouts/a.toml", "nodes = [\"*\"]\n[[gpu]]\ninstances = [\"1g\"]\n")];
    let (_, _, plan) = Run::new(BUILTIN, &tree).plan();
    vec![sectile::render::json::plan(&plan).into_bytes()]
}

fn states() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    StateFile::open(&path, BUILTIN, "FLEET.toml", false, false).unwrap().save().unwrap();
    vec![fs::read(&path).unwrap()]
}

/// The dictionary's words, without its escapes.
fn words() -> Vec<&'static str> {
    let quoted = DICTIONARY.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    quoted.filter(|word| !word.contains('\\')).collect()
}

/// One change: of what kind, where, how far, and with what.
type Change = (u8, u16, u8, u8);

/// Seeds with a few bytes changed, taken away, doubled or put in.
fn damaged(seeds: &[Vec<u8>], which: u8, changes: &[Change]) -> Vec<u8> {
    let mut bytes = seeds[usize::from(which) % seeds.len()].clone();
    let words = words();
    for (kind, at, length, with) in changes {
        let at = usize::from(*at) % (bytes.len() + 1);
        let end = (at + usize::from(*length)).min(bytes.len());
        let part = bytes[at..end].to_vec();
        match kind % 5 {
            0 => bytes.splice(at..end, []).count(),
            1 => bytes.splice(at..at, part).count(),
            2 => bytes.splice(at..at, words[usize::from(*with) % words.len()].bytes()).count(),
            3 => bytes.splice(at..(at + 1).min(bytes.len()), [*with]).count(),
            _ => bytes.splice(at..at, b"[]{}=,.\"'\n#-\\0"[usize::from(*with) % 14..].iter().take(1).copied()).count(),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned().into_bytes()
}

fn changes() -> impl Strategy<Value = (u8, Vec<Change>)> {
    (any::<u8>(), prop::collection::vec(any::<Change>(), 0..6))
}

#[test]
fn the_seeds_are_what_they_should_be() {
    for (entry, seeds) in entries_and_seeds() {
        seeds.iter().for_each(|seed| entry(seed));
    }
    // As they are they are taken, so that what is damaged comes near to that.
    for seed in plans() {
        sectile::render::saved::read(std::str::from_utf8(&seed).unwrap()).unwrap();
    }
}

type Entry = fn(&[u8]);

fn entries_and_seeds() -> [(Entry, Vec<Vec<u8>>); 4] {
    [
        (entries::tree, trees()),
        (entries::fleet, vec![BUILTIN.as_bytes().to_vec()]),
        (entries::plan_file, plans()),
        (entries::state_file, states()),
    ]
}

/// Runs an entry on so many damaged seeds.
fn withstands(target: usize, cases: u32) {
    let [tree, fleet, plan_file, state_file] = entries_and_seeds();
    let (entry, seeds) = [tree, fleet, plan_file, state_file].into_iter().nth(target).unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((which, changes) in changes())| {
        entry(&damaged(&seeds, which, &changes));
    });
}

#[test]
fn a_damaged_tree_is_planned_or_refused() {
    withstands(0, 256);
}

#[test]
fn a_damaged_fleet_file_is_simulated_or_refused() {
    withstands(1, 128);
}

#[test]
fn a_damaged_plan_is_read_or_refused() {
    withstands(2, 128);
}

#[test]
fn a_damaged_state_is_taken_up_or_refused() {
    withstands(3, 128);
}

/// A slip in `nodes`: then no node tells how it calls the profile, and the plan was taken for one that breaks its invariants.
#[test]
fn a_binding_on_no_node_whose_workload_is_as_it_says_could_not_be_planned() {
    let trees: Vec<String> = trees().into_iter().filter_map(|tree| String::from_utf8(tree).ok()).collect();
    let slips = trees.iter().filter(|tree| tree.contains("manage = true") && tree.contains("\"gpu-a-*\""));
    let slips: Vec<String> = slips.map(|tree| tree.replace("\"gpu-a-*\"", "\"gpua-*\"")).collect();
    assert!(!slips.is_empty());
    slips.iter().for_each(|tree| entries::tree(tree.as_bytes()));
}
