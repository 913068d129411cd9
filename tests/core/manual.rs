//! The manual against the source: closed lists, keys and defaults, examples.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::path::Path;

use sectile::cli::exit::Exit;
use sectile::config::diagnostic;
use sectile::config::schema::{parse_settings, parse_tree_toml};
use sectile::config::{Code, resolve};
use sectile::model::Policy;
use sectile::model::catalogue::{self, Provenance};
use sectile::model::plan::{BlockCode, DisruptionKind, Guard, NodeState, Scope, Verdict};
use sectile::model::policy::Uncoordinated;
use sectile::ports::Reason;
use sectile::sim::fault::CALLS;
use sectile::sim::fleet;

use crate::config_good::{assemble, node, sources, tree};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PLAN: &str = include_str!("../../packaging/doc/plan.md");
const TREE: &str = include_str!("../../packaging/doc/tree.md");
const COMMANDS: &str = include_str!("../../packaging/doc/commands.md");
const SIMULATOR: &str = include_str!("../../packaging/doc/simulator.md");
const DRIVER: &str = include_str!("../../packaging/doc/driver.md");
const KUBERNETES: &str = include_str!("../../packaging/doc/kubernetes.md");

/// The rows of the tables below the headings of that name, cell by cell, without the tables' heads.
fn table<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let under = |line: &&str| line.trim_start_matches('#').trim() == heading && line.starts_with('#');
    let mut lines = text.lines().skip_while(|line| !under(line));
    assert!(lines.next().is_some(), "the manual has no heading {heading}");
    let section = lines.take_while(|line| !line.starts_with('#'));
    let rows = section.filter(|line| line.starts_with('|')).map(|line| {
        let line = line.trim_start_matches('|').trim_end().trim_end_matches('|');
        line.split(" | ").map(str::trim).collect::<Vec<_>>()
    });
    let rows: Vec<Vec<&str>> = rows.collect();
    let body = rows.iter().skip_while(|row| !row[0].starts_with("---")).skip(1);
    body.cloned().collect()
}

/// The words in the first column.
fn words<'t>(text: &'t str, heading: &str) -> Vec<&'t str> {
    table(text, heading).into_iter().map(|row| row[0].trim_matches('`')).collect()
}

fn all<T: Display>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// What stands in quotes on the lines of a source behind one of them.
fn quoted<'t>(text: &'t str, from: &str) -> Vec<&'t str> {
    let lines = text.lines().skip_while(|line| !line.contains(from)).skip(1);
    lines.filter_map(|line| line.split('"').nth(1)).collect()
}

#[test]
fn the_closed_lists_are_those_of_the_source() {
    assert_eq!(words(PLAN, "Node states"), all(NodeState::ALL));
    assert_eq!(words(PLAN, "Guards"), all(Guard::ALL));
    assert_eq!(words(PLAN, "Block codes"), all(BlockCode::ALL));
    assert_eq!(words(PLAN, "Verdicts"), all(Verdict::ALL));
    assert_eq!(words(PLAN, "Disruption kinds"), all(DisruptionKind::ALL));
    assert_eq!(words(PLAN, "Scopes"), all(Scope::ALL));
    assert_eq!(words(COMMANDS, "Sources of figures"), all(Provenance::ALL));
    assert_eq!(words(PLAN, "Exit codes"), Exit::ALL.iter().map(|exit| exit.code().to_string()).collect::<Vec<_>>());
    let kinds = quoted(include_str!("../../src/model/plan.rs"), "impl StepKind {");
    assert!(kinds.len() > 10);
    assert_eq!(words(PLAN, "Step kinds"), kinds);
}

#[test]
fn what_waits_and_what_needs_somebody_is_told_as_the_source_has_it() {
    for (row, code) in table(PLAN, "Block codes").iter().zip(BlockCode::ALL) {
        assert_eq!(row[2], if code.waits() { "waits" } else { "act" }, "{code}");
        assert!(row.len() == 4 && !row[1].is_empty() && !row[3].is_empty(), "{code}");
    }
}

#[test]
fn every_key_of_a_board_stands_in_the_manual() {
    let board = catalogue::by_id("h100-80gb-sxm").unwrap();
    let board = serde_json::to_value(board).unwrap();
    let told: String = table(COMMANDS, "`profiles [MODEL]`").concat().concat();
    for key in board.as_object().unwrap().keys().chain(board["profiles"][0].as_object().unwrap().keys()) {
        assert!(told.contains(&format!("`{key}`")), "{key}");
    }
}

/// A duration as the tree writes it.
fn duration(seconds: u64) -> String {
    match seconds {
        s if s % 3600 == 0 => format!("\"{}h\"", s / 3600),
        s if s % 60 == 0 => format!("\"{}m\"", s / 60),
        s => format!("\"{s}s\""),
    }
}

#[test]
fn every_key_of_a_policy_stands_in_the_manual_with_its_default() {
    let quote = |word: &str| format!("\"{word}\"");
    let or = |none: &str, there: bool| if there { "?" } else { none }.to_owned();
    let splaying = tree(&[("policies/a.toml", "[budget]\nuncoordinated = \"splay\"\n")]);
    let splaying = resolve(&splaying, &[node("n", &[], 0)]).desired.nodes["n"].policy.clone().unwrap();
    let Uncoordinated::Splay(splay) = splaying.budget.uncoordinated else { panic!() };
    // An open window without a zone has the default one.
    let open = tree(&[("policies/a.toml", "[window]\nopen = [\"Mon 00:00-01:00\"]\n")]);
    let open = resolve(&open, &[node("n", &[], 0)]).desired.nodes["n"].policy.clone().unwrap();
    let Policy { sources: _, mode, drain, budget, window, protect, gpu, clients, mig_manager, failure } =
        Policy::default();
    let default = |key: &str| match key {
        "apply.mode" => quote(mode.word()),
        "drain.timeout" => duration(drain.timeout_s),
        "drain.grace_period" => or("each pod's own", drain.grace_period_s.is_some()),
        "drain.force" => drain.force.to_string(),
        "drain.delete_emptydir_data" => drain.delete_emptydir_data.to_string(),
        "drain.daemonsets" => quote(drain.daemonsets.word()),
        "budget.max_nodes" => or("no limit", budget.max_nodes.is_some()),
        "budget.canary" => or("none", budget.canary.is_some()),
        "budget.max_pods" => or("no limit", budget.max_pods.is_some()),
        "budget.uncoordinated" => quote(match budget.uncoordinated {
            Uncoordinated::Refuse => "refuse",
            Uncoordinated::Splay(_) => "splay",
        }),
        "budget.splay" => duration(splay),
        "window.open" => or("always open", window.is_some()),
        "window.timezone" => quote(&open.window.as_ref().unwrap().timezone),
        "protect.annotations" => protect.annotations.to_string(),
        "protect.processes" => quote(protect.processes.word()),
        "gpu.mode_change" => quote(gpu.mode_change.word()),
        "gpu.reset" => quote(gpu.reset.word()),
        "gpu.reboot" => quote(gpu.reboot.word()),
        "clients.allocation" => quote(clients.allocation.word()),
        "clients.systemd" => or("none", !clients.systemd.is_empty()),
        "clients.commands" => or("none", !clients.commands.is_empty()),
        "writers.mig_manager" => quote(mig_manager.word()),
        "failure.rollback" => failure.rollback.to_string(),
        "failure.retries" => failure.retries.to_string(),
        other => panic!("the default of {other} is not compared"),
    };
    let rows = table(TREE, "Policies");
    let told: BTreeMap<&str, &str> =
        rows.iter().map(|row| (row[0].trim_matches('`'), row[2].trim_matches('`'))).collect();
    let keys = quoted(include_str!("../../src/config/schema/policy.rs"), "settings! {");
    let keys: Vec<&str> = keys.into_iter().take_while(|key| key.contains('.')).collect();
    assert_eq!(keys.len(), 24);
    for key in keys {
        assert_eq!(told.get(key).copied(), Some(default(key).as_str()), "{key}");
    }
}

/// The keys that a place may have, as told to somebody who writes one that nothing is near to.
fn known(help: &str) -> BTreeSet<String> {
    let list = help.split_once(" are ").map_or(help, |(_, list)| list);
    list.split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_key_of_the_tree_stands_in_the_manual() {
    let layout = |text: &str| ("layouts/a.toml", format!("{text}qqqqqqqq = 1\n"));
    let command = "drain = [\"/a\"]\ndrained = [\"/a\"]\nresume = [\"/a\"]\nready = [\"/a\"]\n";
    let places = [
        ("Layouts", layout("")),
        ("`[[gpu]]`", layout("nodes = [\"a\"]\n[[gpu]]\n")),
        ("`[[workload]]`", layout("[[workload]]\n")),
        ("`[workload.kubernetes]`", layout("[[workload]]\n[workload.kubernetes]\n")),
        ("`[workload.systemd]`", layout("[[workload]]\n[workload.systemd]\n")),
        ("`[workload.command]`", layout(&format!("[[workload]]\n[workload.command]\n{command}"))),
        ("An instance", ("layouts/a.toml", "[[gpu]]\ninstances = [{ qqqqqqqq = 1 }]\n".to_owned())),
        ("`protect.pods`", ("policies/a.toml", "[protect]\npods = [{ qqqqqqqq = 1 }]\n".to_owned())),
        ("`clients.commands`", ("policies/a.toml", "[clients]\ncommands = [{ qqqqqqqq = 1 }]\n".to_owned())),
    ];
    for (heading, (path, text)) in places {
        let (_, found) = assemble(&[(path, &text)]);
        let unknown = found.iter().find(|d| d.code == Code::UnknownKey).expect(heading);
        let told: BTreeSet<String> = words(TREE, heading).into_iter().map(str::to_owned).collect();
        assert_eq!(told, known(unknown.help.as_deref().unwrap()), "{heading}");
    }
    let found = parse_tree_toml("tree.toml", "qqqqqqqq = 1\n", "0.1.0");
    assert_eq!(known(found[0].help.as_deref().unwrap()), BTreeSet::from(["requires".to_owned()]));
    assert!(TREE.contains("requires = \""));
}

#[test]
fn every_key_of_a_fleet_stands_in_the_manual() {
    for (heading, text) in [
        ("A fleet file", ""),
        ("`[[node]]`", "[[node]]\n"),
        ("`[[node.gpu]]`", "[[node]]\n[[node.gpu]]\n"),
        ("An instance", "[[node]]\n[[node.gpu]]\ninstances = [{ qqqqqqqq = 1 }]\n"),
        ("`[[workload]]`", "[[workload]]\n"),
        ("`[[budget]]`", "[[budget]]\n"),
        ("`[[fault.call]]`", "[[fault.call]]\n"),
    ] {
        let text = if text.contains('q') { text.to_owned() } else { format!("{text}qqqqqqqq = 1\n") };
        let errors = fleet::parse("FLEET.toml", &text).unwrap_err().errors;
        let unknown = errors.iter().find(|error| error.message.contains("has no key")).expect(heading);
        let told: BTreeSet<String> = words(SIMULATOR, heading).into_iter().map(str::to_owned).collect();
        assert_eq!(told, known(unknown.hint.as_deref().unwrap()), "{heading}");
    }
}

#[test]
fn every_call_that_can_fail_stands_in_the_manual_with_its_codes() {
    let rows = table(SIMULATOR, "Calls and codes");
    let told = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<String>>();
    assert_eq!(rows.len(), CALLS.len());
    for (row, (port, calls)) in rows.iter().zip(CALLS) {
        assert_eq!(told(row[1]), calls.to_vec(), "{port:?}");
        let codes = |again| port.codes().into_iter().filter(|(_, a)| *a == again).map(|(c, _)| c).collect::<Vec<_>>();
        assert_eq!(told(row[2]), codes(true), "{port:?}");
        assert_eq!(told(row[3]), codes(false), "{port:?}");
    }
}

#[test]
fn every_event_stands_in_the_manual() {
    let rows = table(KUBERNETES, "Events");
    let told: Vec<(&str, bool)> = rows.iter().map(|row| (row[0].trim_matches('`'), row[1] == "Warning")).collect();
    let all: Vec<(&str, bool)> = Reason::ALL.iter().map(|reason| (reason.word(), reason.warns())).collect();
    assert_eq!(told, all);
}

#[test]
fn every_setting_of_the_simulated_drivers_library_stands_in_the_manual() {
    let source = include_str!("../libnvml/settings.rs");
    let keys: Vec<&str> =
        source.lines().filter(|line| line.starts_with("const ")).map(|l| l.split('"').nth(1).unwrap()).collect();
    assert_eq!(words(DRIVER, "Settings"), keys);
}

/// The TOML examples of a page, each with the number of its first line.
fn examples(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = line.trim() == "```toml";
            found.extend(inside.then(|| (at + 2, String::new())));
        } else if let (true, Some((_, example))) = (inside, found.last_mut()) {
            example.push_str(line);
            example.push('\n');
        }
    }
    found
}

#[test]
fn every_example_says_what_it_is_and_is_read_without_a_word() {
    let mut pages = vec![Path::new(ROOT).join("README.md")];
    let manual = fs::read_dir(Path::new(ROOT).join("packaging/doc")).unwrap();
    pages.extend(manual.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md")));
    pages.sort();
    let mut count = 0;
    for page in pages {
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        for (line, example) in examples(&fs::read_to_string(&page).unwrap()) {
            count += 1;
            let place = format!("{name}:{line}");
            let first = example.lines().next().unwrap_or_default().trim_start_matches('#').trim();
            let path = first.split_whitespace().next().unwrap_or_default();
            let found = match path {
                "fleet" => match fleet::parse(&place, &example) {
                    Ok(_) => continue,
                    Err(errors) => panic!("{errors}"),
                },
                "tree.toml" => parse_tree_toml(path, &example, env!("CARGO_PKG_VERSION")),
                _ if path.ends_with("/sectile.toml") => parse_settings(path, &example).1,
                _ if path.starts_with("layouts/") || path.starts_with("policies/") => assemble(&[(path, &example)]).1,
                _ => {
                    panic!("{place} begins with no comment that says the file or `fleet`")
                }
            };
            let sources = sources(&[(path, &example)]);
            assert!(found.is_empty(), "{place}\n{}", diagnostic::render(&found, &sources, false));
        }
    }
    assert!(count >= 6, "{count} examples were found");
}
