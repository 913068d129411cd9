//! Saved plans and states of a simulation that are none, as people read of them.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use sectile::render::json;
use sectile::render::saved::read as read_plan;
use sectile::sim::fleet::BUILTIN;
use sectile::sim::state::{StateError, StateFile};

use super::fleets::Run;

const TREE: &[(&str, &str)] = &[("layouts/a.toml", "nodes = [\"*\"]\n[[gpu]]\ninstances = [\"1g\"]\n")];

#[test]
fn what_is_no_plan() {
    let (_, _, plan) = Run::new(BUILTIN, TREE).plan();
    let whole = json::plan(&plan);
    assert_eq!(read_plan(&whole).unwrap(), plan);
    let other = |from: &str, to: &str| whole.replacen(from, to, 1);
    let version = "\"format_version\": \"1\"";
    let mut out = String::new();
    for (title, text) in [
        ("empty", String::new()),
        ("TOML", "nodes = [\"a\"]\n".to_owned()),
        ("cut off", whole.chars().take(whole.len() / 2).collect()),
        ("a list", "[]".to_owned()),
        ("a number", "1".to_owned()),
        ("of another kind", "{ \"kind\": \"Pod\" }".to_owned()),
        ("status", other("\"nodes\"", "\"node\"")),
        ("newer", other(version, "\"format_version\": \"2\"")),
        ("newer, and otherwise unknown", "{ \"format_version\": \"2\\u001b[2J\", \"nodes\": { \"a\": 1 } }".to_owned()),
        ("a version that is a number", other(version, "\"format_version\": 1")),
        ("a key twice", other(version, &format!("{version}, {version}"))),
        ("an unknown word", other("\"state\": \"", "\"state\": \"\\u001b[2J")),
        ("too deep", format!("{{ {version}, \"nodes\": {}", "[".repeat(100_000))),
    ] {
        writeln!(out, "{title}: {}", read_plan(&text).unwrap_err()).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_plan_cut_off_or_changed_anywhere_is_no_other_plan_by_mistake() {
    let (_, _, plan) = Run::new("[[node]]\nname = \"a\"\n[[node.gpu]]\nmodel = \"a30-24gb\"\n", TREE).plan();
    let whole = json::plan(&plan);
    for end in 0..whole.trim_end().len() {
        assert!(read_plan(&whole[..end]).is_err(), "{end}");
    }
}

#[test]
fn what_is_no_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let open = |fleet: &str| StateFile::open(&path, fleet, "FLEET.toml", false, false);
    open(BUILTIN).unwrap().save().unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let mut out = String::new();
    let mut tell = |title: &str, error: &StateError| {
        let hint = error.hint().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
        let cause = error.source().map(|cause| format!("\n  caused by: {cause}")).unwrap_or_default();
        let told = error.to_string().replace(&folder.path().display().to_string(), "FOLDER");
        // How long a state is differs with whatever it comes to hold.
        let told = told.split(" column ").next().unwrap();
        writeln!(out, "{title}: {told}{cause}{hint}").unwrap();
    };
    for (title, bytes) in [
        ("empty", Vec::new()),
        ("cut off", whole.as_bytes()[..whole.len() / 2].to_vec()),
        ("a list", b"[]".to_vec()),
        ("no text", b"\xff".to_vec()),
        ("of another kind", b"{\"kind\":\"Pod\\u001b[2J\",\"format_version\":1}".to_vec()),
        ("newer", whole.replacen("\"format_version\":4", "\"format_version\":5", 1).into_bytes()),
        ("without a world", whole.replacen("\"world\"", "\"word\"", 1).into_bytes()),
        ("a word that is unknown", whole.replacen("\"phase\":\"", "\"phase\":\"\\u001b", 1).into_bytes()),
    ] {
        fs::write(&path, bytes).unwrap();
        tell(title, &open(BUILTIN).unwrap_err());
    }
    let uuids: BTreeSet<&str> = whole.match_indices("\"GPU-").map(|(at, _)| &whole[at..at + 42]).collect();
    let (one, other) = (uuids.first().unwrap(), uuids.last().unwrap());
    fs::write(&path, whole.replace(one, other)).unwrap();
    tell("a GPU twice", &open(BUILTIN).unwrap_err());
    fs::write(&path, &whole).unwrap();
    tell("another fleet", &open("[[node]]\nname = \"a\"\n").unwrap_err());
    tell("a fleet with errors", &StateFile::open(&path, "nodes = 1\n", "FLEET.toml", true, false).unwrap_err());
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    tell("a pipe", &open(BUILTIN).unwrap_err());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    tell("a folder", &open(BUILTIN).unwrap_err());
    let below = folder.path().join("state.json.lock/state.json");
    tell("below a file", &StateFile::open(&below, BUILTIN, "FLEET.toml", false, false).unwrap_err());
    let path = PathBuf::from("FOLDER/state.json");
    let since = Some(jiff::Timestamp::UNIX_EPOCH);
    tell("in use", &StateError::Locked { path: path.clone(), pid: Some(7), since });
    tell("in use by whoever", &StateError::Locked { path, pid: None, since: None });
    insta::assert_snapshot!(out);
}
