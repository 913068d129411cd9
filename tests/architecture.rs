//! The house's rules, held by reading the source as text: who may import whom, what a pure room never touches, who
//! prints, how long a file may be, and that everything public is explained.
//!
//! Each rule is a function from a file's path and text to what breaks it, and is shown a text that does.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do; clippy.toml's exceptions cover only the tests themselves"
)]

#[path = "architecture/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::Source;

/// The longest file: whoever must scroll further than this doesn't see what it is about.
const MOST_LINES: usize = 600;
/// The only longer one: a table of facts, in which nobody reads on.
const TABLE: &str = "src/model/catalogue/table.rs";
/// The only pure file that starts threads: it joins them, and what they compute does not depend on how many there are.
const THREADS: &str = "src/model/parallel.rs";
/// The only place that may hold what the compiler can't check.
const FFI: &str = "src/nvml/ffi.rs";

/// Which rooms a room may import besides itself, and which crates.
const ROOMS: &[(&str, &[&str], &[&str])] = &[
    ("model", &[], &["serde", "sha2"]),
    (
        "config",
        &["model"],
        &["annotate_snippets", "globset", "jiff", "serde", "strsim", "toml", "toml_edit", "toml_parser"],
    ),
    ("plan", &["model"], &["jiff", "serde_json"]),
    ("solve", &["model", "plan"], &["microlp"]),
    ("render", &["model", "plan"], &["anstream", "anstyle", "jiff", "serde", "serde_json", "similar", "unicode_width"]),
    ("ports", &["model"], &["jiff"]),
    ("gpu", &["ports", "model"], &[]),
    ("nvml", &["ports", "model"], &["nvml_wrapper", "nvml_wrapper_sys", "tracing"]),
    (
        "cluster",
        &["ports", "model"],
        &[
            "futures_util",
            "http",
            "http_body_util",
            "jiff",
            "k8s_openapi",
            "kube",
            "prost",
            "serde",
            "serde_json",
            "tokio",
            "tonic",
            "tonic_prost",
        ],
    ),
    (
        "host",
        &["ports", "model"],
        &["futures_util", "jiff", "rustix", "serde", "serde_json", "tokio", "tracing", "zbus"],
    ),
    (
        "sim",
        &["ports", "model"],
        &["annotate_snippets", "jiff", "serde", "serde_json", "sha2", "strsim", "toml", "toml_parser"],
    ),
    ("execute", &["ports", "plan", "gpu", "model"], &["jiff", "serde", "serde_json", "tokio"]),
];
/// They may import whatever is below them, and nobody imports the last.
const TOPS: [&str; 2] = ["daemon", "cli"];

/// Crates that bring the outside with them, also where Cargo.toml has them for other rooms.
const IMPURE_CRATES: &[&str] = &[
    "clap",
    "fastrand",
    "getrandom",
    "kube",
    "notify",
    "nvml_wrapper",
    "nvml_wrapper_sys",
    "rand",
    "tokio",
    "tracing",
    "tracing_subscriber",
    "zbus",
];
/// Files, environment, network, processes and clocks of the standard library; `std::time::Duration` is but a number.
const IMPURE_PATHS: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
];
/// Clocks under whatever name their types were imported.
const CLOCKS: &[&str] = &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", "TimeZone::system"];
/// Methods of `Path` that look at the disk.
const DISK_METHODS: &[&str] = &[
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

/// Rooms import only what the table says.
fn rooms(source: &Source) -> Vec<String> {
    let room = source.room();
    if room.is_empty() || TOPS.contains(&room) {
        let below_cli = room == TOPS[0];
        let imports_cli = |path: &str| below_cli && path.starts_with("crate::cli");
        let wrong = source.paths().into_iter().filter(|(_, path)| imports_cli(path));
        return wrong.map(|(at, path)| source.told(at, format!("{path}: nothing imports cli"))).collect();
    }
    let Some((_, may, _)) = ROOMS.iter().find(|(name, ..)| *name == room) else {
        return vec![format!("{}: the room {room} is not in the table: say what it may use", source.path)];
    };
    let mut wrong = Vec::new();
    for (at, path) in source.paths() {
        let parts: Vec<&str> = path.split("::").collect();
        if parts[0] == "crate" && parts.get(1).is_none_or(|to| *to != room && !may.contains(to)) {
            wrong.push(source.told(at, format!("{path}: {room} may use {may:?}")));
        }
        if parts[0] == env!("CARGO_PKG_NAME") {
            wrong.push(source.told(at, format!("{path}: the library names itself `crate`")));
        }
    }
    wrong
}

/// Rooms use only the crates that the table says.
fn crates(source: &Source, known: &BTreeSet<String>) -> Vec<String> {
    let Some((room, _, may)) = ROOMS.iter().find(|(name, ..)| *name == source.room()) else { return vec![] };
    let shipped = source.paths().into_iter().filter(|(at, _)| !source.in_tests(*at));
    let wrong = shipped.filter(|(_, path)| {
        let first = path.split("::").next().unwrap_or_default();
        known.contains(first) && !may.contains(&first)
    });
    wrong.map(|(at, path)| source.told(at, format!("{path}: {room} may use the crates {may:?}"))).collect()
}

/// Whether a file is of those that only compute.
fn is_pure(path: &str) -> bool {
    let within = |folder: &str| path.starts_with(&format!("src/{folder}/")) || path == format!("src/{folder}.rs");
    ["model", "plan", "solve", "render", "execute/machine", "execute/journal"].into_iter().any(within)
        || within("config") && !within("config/load")
}

/// Pure rooms touch nothing outside: no files, environment, network, processes, clocks, randomness or logs.
fn purity(source: &Source) -> Vec<String> {
    if !is_pure(source.path) {
        return vec![];
    }
    let mut wrong = Vec::new();
    for (at, path) in source.paths() {
        let first = path.split("::").next().unwrap_or_default();
        let below = |impure: &&str| path == **impure || path.starts_with(&format!("{impure}::"));
        // A whole module under which the impure part would go unseen: `use std::time;`, `use std::time::*;`.
        let whole = |impure: &&str| impure.starts_with(&format!("{}::", path.trim_end_matches("::*")));
        let impure = IMPURE_CRATES.contains(&first)
            || IMPURE_PATHS.iter().any(|impure| below(impure) || whole(impure))
            || CLOCKS.iter().any(|clock| path == *clock || path.ends_with(&format!("::{clock}")));
        let threads = source.path == THREADS && path.starts_with("std::thread");
        if impure && !threads {
            wrong.push(source.told(at, format!("{path}: this room only computes")));
        }
    }
    for window in source.tokens.windows(3) {
        if window[0].1 == "." && DISK_METHODS.contains(&window[1].1) && window[2].1 == "(" {
            wrong.push(source.told(window[1].0, format!(".{}(): this room only computes", window[1].1)));
        }
    }
    wrong
}

/// What the compiler can't check stands in one file.
fn no_unsafe(source: &Source) -> Vec<String> {
    let found = source.tokens.iter().filter(|(_, word)| *word == "unsafe" && source.path != FFI);
    found.map(|(at, _)| source.told(*at, format!("unsafe belongs into {FFI}"))).collect()
}

/// What is tested is what ships: `cfg(test)` stands only before `mod tests`.
fn no_forks(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    for (i, (at, word)) in source.tokens.iter().enumerate() {
        if !matches!(*word, "cfg" | "cfg_attr") {
            continue;
        }
        let words: Vec<&str> = source.tokens[i..].iter().map(|t| t.1).take_while(|word| *word != "]").collect();
        let speaks = words.iter().take_while(|word| !matches!(**word, ";" | "{")).any(|word| *word == "test");
        let mut after = source.tokens[i..].iter().map(|t| t.1).skip(words.len() + 1).peekable();
        // Other attributes may stand between.
        while after.peek() == Some(&"#") {
            let _ = after.by_ref().find(|word| *word == "]");
        }
        let follows: Vec<&str> = after.take(2).collect();
        if speaks && (words != ["cfg", "(", "test", ")"] || follows != ["mod", "tests"]) {
            wrong.push(source.told(*at, "cfg(test) stands only before `mod tests`"));
        }
    }
    wrong
}

/// Only `cli` prints and exits.
fn quiet(source: &Source) -> Vec<String> {
    if source.room() == "cli" {
        return vec![];
    }
    let mut wrong = Vec::new();
    for window in source.tokens.windows(2) {
        let prints = ["print", "println", "eprint", "eprintln", "dbg"].contains(&window[0].1) && window[1].1 == "!";
        if prints && !source.in_tests(window[0].0) {
            wrong.push(source.told(window[0].0, format!("{}!: only cli prints", window[0].1)));
        }
    }
    for (at, path) in source.paths() {
        let ends = ["process::exit", "process::abort", "io::stdout", "io::stderr"];
        if !source.in_tests(at) && ends.iter().any(|end| path == *end || path.ends_with(&format!("::{end}"))) {
            wrong.push(source.told(at, format!("{path}: only cli prints and exits")));
        }
    }
    wrong
}

/// A file can be read in one sitting, and begins with what it is.
fn shape(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = source.text.lines().count();
    if lines > MOST_LINES && source.path != TABLE {
        wrong.push(format!("{}: {lines} lines, and {MOST_LINES} are the most", source.path));
    }
    if !source.text.starts_with("//! ") {
        wrong.push(format!("{}:1: a file begins with a //! comment", source.path));
    }
    wrong
}

/// Whatever is public has a doc comment.
fn explained(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut wrong = Vec::new();
    let mut at = 0;
    for (i, code) in source.code.split_inclusive('\n').enumerate() {
        let words: Vec<&str> = code.split_whitespace().collect();
        let item = match words.as_slice() {
            ["pub", "const" | "async" | "unsafe", "fn", name, ..] => Some(name),
            ["pub", "fn" | "struct" | "enum" | "trait", name, ..] => Some(name),
            _ => None,
        };
        // What a macro names gets its comment where the macro is called.
        let item = item.filter(|name| !name.starts_with('$'));
        if let Some(name) = item.filter(|_| !source.in_tests(at) && !has_doc(&lines[..i])) {
            wrong.push(source.told(at, format!("{name} has no doc comment")));
        }
        at += code.len();
    }
    wrong
}

/// Whether the lines above an item end in a doc comment, attributes left aside.
fn has_doc(above: &[&str]) -> bool {
    let mut inside = false;
    for line in above.iter().rev().map(|line| line.trim()) {
        if line.starts_with("///") {
            return true;
        }
        let attribute = line.starts_with("#[");
        // The last line of an attribute that spans several.
        inside = !attribute && (inside || line.ends_with(")]"));
        let comment = line.starts_with("// ");
        if !attribute && !inside && !comment {
            return false;
        }
    }
    false
}

fn files(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// The crates that Cargo.toml names, and those that are forbidden whether it does or not.
fn known_crates() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let dependencies = text.split("\n[").filter(|section| section.lines().next().unwrap().ends_with("dependencies]"));
    let names = dependencies.flat_map(|section| section.lines().skip(1)).filter_map(|line| line.split_once('='));
    let names = names.map(|(name, _)| name.trim().replace('-', "_"));
    names.chain(IMPURE_CRATES.iter().map(|name| (*name).to_owned())).collect()
}

fn hold(folder: &str, rule: impl Fn(&Source) -> Vec<String>) {
    let files = files(folder);
    let wrong: Vec<String> = files.iter().flat_map(|(path, text)| rule(&Source::new(path, text))).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What a rule finds in a text, without the place.
fn found(path: &str, text: &str, rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    let told = rule(&Source::new(path, text));
    told.iter().map(|line| line.trim_start_matches(path).trim_start_matches(':').to_owned()).collect()
}

#[test]
fn rooms_import_only_what_they_may() {
    hold("src", rooms);
}

#[test]
fn a_room_that_imports_another_is_found() {
    let wrong = |path: &str, text: &str| found(path, text, rooms).len();
    assert_eq!(wrong("src/model/plan.rs", "use crate::plan::check;"), 1);
    assert_eq!(wrong("src/model/plan.rs", "use super::observed::Known;\nuse crate::model::{Plan, geometry::*};"), 0);
    assert_eq!(wrong("src/model/plan.rs", "use super::super::config;"), 1);
    assert_eq!(wrong("src/model/plan.rs", "use crate::{model::Plan, gpu::{self, find}};"), 2);
    assert_eq!(wrong("src/gpu/mod.rs", "fn f(x: &crate::sim::world::World) {}"), 1);
    assert_eq!(wrong("src/sim/cluster.rs", "use crate::host::journal;"), 1);
    assert_eq!(wrong("src/host/mod.rs", "use crate::sim;"), 1);
    assert_eq!(wrong("src/cluster/mod.rs", "use crate::gpu;"), 1);
    assert_eq!(wrong("src/execute/drive.rs", "use crate::{gpu, model, plan, ports};"), 0);
    assert_eq!(wrong("src/execute/drive.rs", "use crate::sim;"), 1);
    assert_eq!(wrong("src/daemon/mod.rs", "use crate::cli::exit;"), 1);
    assert_eq!(wrong("src/daemon/mod.rs", "use crate::{execute, sim};"), 0);
    assert_eq!(wrong("src/cli/plan.rs", "use crate::{config, sim};"), 0);
    assert_eq!(wrong("src/attic/mod.rs", ""), 1);
    assert_eq!(wrong("src/render/mod.rs", "use sectile::cli;"), 1);
    // Inline modules are one deeper; comments and strings are no imports.
    assert_eq!(wrong("src/ports.rs", "mod tests { use super::*; }"), 0);
    assert_eq!(wrong("src/ports.rs", "mod tests { use super::super::sim; }"), 1);
    assert_eq!(wrong("src/ports.rs", "/// [`crate::sim`]\nconst A: &str = \"crate::sim\"; // crate::sim\n"), 0);
    assert_eq!(wrong("src/ports.rs", "const A: &str = r#\"\"crate::sim\"#; const B: char = '\"'; use crate::sim;"), 1);
}

#[test]
fn rooms_use_only_the_crates_they_may() {
    let known = known_crates();
    hold("src", |source| crates(source, &known));
}

#[test]
fn a_room_that_uses_another_crate_is_found() {
    let known = known_crates();
    assert!(known.contains("annotate_snippets") && known.contains("proptest") && known.contains("rand"));
    let wrong = |path: &str, text: &str| found(path, text, |source| crates(source, &known)).len();
    assert_eq!(wrong("src/model/plan.rs", "use serde::Serialize;\nuse std::fmt;"), 0);
    assert_eq!(wrong("src/model/plan.rs", "use tracing::info;"), 1);
    assert_eq!(wrong("src/plan/order.rs", "fn f() { tokio::spawn(g()); }"), 1);
    assert_eq!(wrong("src/plan/order.rs", "use {jiff::Zoned, toml::Value};"), 1);
    assert_eq!(wrong("src/gpu/mod.rs", "use nvml_wrapper::Nvml;"), 1);
    assert_eq!(wrong("src/render/gpu.rs", "#[cfg(test)]\nmod tests { use proptest::prelude::*; }"), 0);
}

#[test]
fn pure_rooms_touch_nothing_outside() {
    hold("src", purity);
    let pure = files("src").iter().filter(|(path, _)| is_pure(path)).count();
    assert!(pure > 30, "{pure}");
}

#[test]
fn an_impure_pure_room_is_found() {
    let wrong = |path: &str, text: &str| found(path, text, purity).len();
    for text in [
        "use tokio::time;",
        "use kube::Client;",
        "use nvml_wrapper::Nvml;",
        "use notify::Watcher;",
        "use clap::Parser;",
        "fn f() { tracing::info!(\"\") }",
        "use std::fs;",
        "use std::{fmt, fs::File};",
        "fn f() { std::env::var(\"HOME\") }",
        "use std::net::IpAddr;",
        "use std::process::Command;",
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime};",
        "use std::time;",
        "use std::time::*;",
        "fn f() { rand::random() }",
        "use jiff::Timestamp; fn f() { Timestamp::now() }",
        "fn f() { jiff::Zoned::now() }",
        "fn f(p: &Path) -> bool { p.exists() }",
    ] {
        for path in ["src/model/a.rs", "src/plan/check/a.rs", "src/render/a.rs", "src/execute/machine.rs"] {
            assert_eq!(wrong(path, text), 1, "{text} in {path}");
        }
        for path in ["src/config/load.rs", "src/config/load/walk.rs", "src/sim/state.rs", "src/execute/drive.rs"] {
            assert_eq!(wrong(path, text), 0, "{text} in {path}");
        }
    }
    assert_eq!(wrong("src/config/resolve.rs", "use std::time::Duration; const V: &str = env!(\"V\");"), 0);
    assert_eq!(wrong("src/execute/journal.rs", "use std::fs;"), 1);
    assert_eq!((wrong(THREADS, "use std::thread;"), wrong("src/plan/mod.rs", "use std::thread;")), (0, 1));
    assert_eq!(wrong(THREADS, "use std::fs;"), 1);
}

#[test]
fn unsafe_stands_in_one_file() {
    hold("src", no_unsafe);
}

#[test]
fn unsafe_elsewhere_is_found() {
    let text = "// unsafe\n#![deny(unsafe_code)]\nfn f() { unsafe { g() } }";
    assert_eq!(found("src/gpu/mod.rs", text, no_unsafe), ["3: unsafe belongs into src/nvml/ffi.rs"]);
    assert_eq!(found(FFI, text, no_unsafe), [""; 0]);
}

#[test]
fn what_ships_is_what_is_tested() {
    hold("src", no_forks);
}

#[test]
fn a_fork_for_tests_is_found() {
    let wrong = |text: &str| found("src/gpu/mod.rs", text, no_forks).len();
    assert_eq!(wrong("#[cfg(test)]\nmod tests {}"), 0);
    assert_eq!(wrong("#[cfg(test)]\n#[expect(clippy::panic, reason = \"x\")]\nmod tests {}"), 0);
    assert_eq!(wrong("#[cfg(unix)]\nfn f() {}\n#[test]\nfn g() {}"), 0);
    assert_eq!(wrong("#[cfg(test)]\nfn f() {}"), 1);
    assert_eq!(wrong("#[cfg(test)]\nmod fake {}"), 1);
    assert_eq!(wrong("#[cfg(not(test))]\nfn f() {}"), 1);
    assert_eq!(wrong("#[cfg(any(test, unix))]\nmod tests {}"), 1);
    assert_eq!(wrong("fn f() { if cfg!(test) { g(); } }"), 1);
    assert_eq!(wrong("#[cfg_attr(test, derive(Debug))]\nstruct S;"), 1);
}

#[test]
fn only_cli_prints_and_exits() {
    hold("src", quiet);
}

#[test]
fn whoever_else_prints_is_found() {
    let wrong = |path: &str, text: &str| found(path, text, quiet).len();
    for text in [
        "fn f() { println!(\"x\"); }",
        "fn f() { eprintln!(\"x\"); }",
        "fn f() { std::process::exit(1); }",
        "use std::process; fn f() { process::exit(1); }",
        "fn f() { anstream::println!(\"x\"); }",
        "fn f() { std::io::stdout().flush(); }",
    ] {
        assert_eq!(wrong("src/plan/mod.rs", text), 1, "{text}");
        assert_eq!(wrong("src/main.rs", text), 1, "{text}");
        assert_eq!(wrong("src/cli/mod.rs", text), 0, "{text}");
    }
    assert_eq!(wrong("src/plan/mod.rs", "#[cfg(test)] mod tests { fn f() { println!(); } }"), 0);
}

#[test]
fn files_are_short_and_begin_with_what_they_are() {
    hold("src", shape);
    hold("tests", shape);
}

#[test]
fn a_long_or_unexplained_file_is_found() {
    let long = "//! What it is.\n".repeat(MOST_LINES + 1);
    assert_eq!(found("src/a.rs", &long, shape), [" 601 lines, and 600 are the most"]);
    assert_eq!(found(TABLE, &long, shape), [""; 0]);
    assert_eq!(found("src/a.rs", "// What it is.\n", shape), ["1: a file begins with a //! comment"]);
    assert_eq!(found("src/a.rs", "//! What it is.\n", shape), [""; 0]);
}

#[test]
fn whatever_is_public_is_explained() {
    hold("src", explained);
}

#[test]
fn a_public_item_without_a_comment_is_found() {
    let wrong = |text: &str| found("src/a.rs", text, explained);
    assert_eq!(wrong("pub fn f() {}"), ["1: f() has no doc comment"]);
    assert_eq!(
        wrong("    /// Says.\n    pub const fn f() {}\n\n    pub async fn g() {}"),
        ["4: g() has no doc comment"]
    );
    assert_eq!(wrong("#[derive(Debug)]\npub struct S;\n"), ["2: S; has no doc comment"]);
    assert_eq!(wrong("#[derive(\n    Debug,\n)]\npub enum E {}\n"), ["4: E has no doc comment"]);
    assert_eq!(wrong("/// Says.\n#[derive(\n    Debug,\n)]\n#[repr(u8)]\npub enum E {}\n"), [""; 0]);
    assert_eq!(wrong("pub trait T {}"), ["1: T has no doc comment"]);
    assert_eq!(wrong("pub(super) fn f() {}\nfn g() {}\npub use a::b;\npub mod c;"), [""; 0]);
    assert_eq!(wrong("#[cfg(test)]\nmod tests {\n    pub fn f() {}\n}"), [""; 0]);
    assert_eq!(wrong("const A: &str = \"\npub fn f() {}\n\";"), [""; 0]);
}
