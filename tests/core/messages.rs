//! Every message stands in a golden, and every code in the manual's table, with an example of its message.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sectile::config::Code;
use sectile::config::diagnostic::Severity;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PAGE: &str = "packaging/doc/diagnostics.md";

/// What reads other people's files, and tells what is wrong with them.
const READERS: [&str; 4] = ["src/config", "src/sim/fleet", "src/sim/state.rs", "src/render/saved.rs"];

/// Sentences that no golden can have: what vanishes or becomes another does so between two calls, no simulated GPU is without
/// MIG, and what is rewritten was read before.
const UNSEEN: [&str; 7] = [
    "this vanished while the tree was read",
    "this link was turned while the tree was read",
    "try again",
    "the tree was another one each time that it was read",
    "try again when nobody writes to it",
    "it has no MIG",
    "its form is not understood",
];
/// What writes: its texts are TOML.
const WRITER: &str = "src/config/write.rs";

fn files(path: &Path, suffix: &str) -> Vec<PathBuf> {
    if path.is_dir() {
        let mut inside: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        inside.sort();
        return inside.iter().flat_map(|path| files(path, suffix)).collect();
    }
    let named = path.to_string_lossy().ends_with(suffix) && path.exists();
    named.then(|| path.to_owned()).into_iter().collect()
}

/// All goldens, with their paths.
fn goldens() -> Vec<(PathBuf, String)> {
    let all = ["core", "cli"].map(|suite| files(&Path::new(ROOT).join("tests").join(suite).join("snapshots"), ".snap"));
    all.into_iter().flatten().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The texts in a Rust source, without comments, characters and its tests.
fn texts(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap();
    let mut found = Vec::new();
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => drop(rest.by_ref().find(|c| *c == '\n')),
            // A character, or the name of a lifetime, which no quote ends.
            '\'' => match rest.next() {
                Some('\\') => drop((rest.next(), rest.find(|c| *c == '\''))),
                _ => drop(rest.next_if_eq(&'\'')),
            },
            '"' => {
                let mut text = String::new();
                while let Some(c) = rest.next().filter(|c| *c != '"') {
                    match c {
                        '\\' => match rest.next() {
                            Some('\n') => while rest.next_if(|c| c.is_whitespace()).is_some() {},
                            Some(other) => text.push(other),
                            None => {}
                        },
                        _ => text.push(c),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

/// The parts of a format that stand in what it makes.
fn parts(format: &str) -> Vec<String> {
    let (mut parts, mut inside) = (vec![String::new()], false);
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.next_if_eq(&c).is_some() => parts.last_mut().unwrap().push(c),
            // What looks like a place in a format, and is TOML, has a space behind the brace.
            '{' if rest.peek() != Some(&' ') => inside = true,
            '}' if inside => {
                inside = false;
                parts.push(String::new());
            }
            _ if inside => {}
            _ => parts.last_mut().unwrap().push(c),
        }
    }
    let parts = parts.iter().map(|part| part.trim().to_owned());
    parts.filter(|part| part.len() >= 4).collect()
}

#[test]
fn every_sentence_of_the_readers_stands_in_a_golden() {
    let goldens: String = goldens().into_iter().map(|(_, text)| text).collect();
    let mut missing = BTreeSet::new();
    let mut count = 0;
    let files = READERS.iter().flat_map(|path| files(&Path::new(ROOT).join(path), ".rs"));
    for path in files.filter(|path| *path != Path::new(ROOT).join(WRITER)) {
        // Words alone are keys; what has a space is for people.
        for text in texts(&fs::read_to_string(&path).unwrap()).iter().filter(|text| text.contains(' ')) {
            count += 1;
            let seen =
                UNSEEN.contains(&text.as_str()) || parts(text).iter().all(|part| goldens.contains(part.as_str()));
            if !seen {
                missing.insert(format!("{}: {text}", path.strip_prefix(ROOT).unwrap().display()));
            }
        }
    }
    assert!(count > 150, "{count} sentences were found");
    assert!(missing.is_empty(), "add cases that show these to tests/core:\n{missing:#?}");
}

#[test]
fn a_sentence_is_found_wherever_it_stands() {
    let source = "// \"no\"\nfn f<'a>(c: char) { g('\"', '\\'', \"a {b} c {{ d }}\", \"x\\\n  y \\\"z\\\"\"); }\n#[cfg(test)] \"no\"";
    assert_eq!(texts(source), ["a {b} c {{ d }}", "xy \"z\""]);
    assert_eq!(parts("one two {b:?} three {{ d }}"), ["one two", "three { d }"]);
    assert_eq!(parts("write { a = 1 } for {}"), ["write { a = 1 } for"]);
}

/// By code: how bad it is, and the shortest of its messages, so that the order of tests and files is no matter.
fn shown() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (_, golden) in goldens() {
        for line in golden.lines() {
            let Some((head, message)) = line.split_once("]: ") else { continue };
            let Some((severity, code)) = head.split_once('[') else { continue };
            if Severity::ALL.iter().all(|s| s.word() != severity) || message.contains("TREE") {
                continue;
            }
            let shortest = found.entry(code.to_owned()).or_default().entry(severity.to_owned()).or_default();
            if shortest.is_empty() || (message.len(), message) < (shortest.len(), shortest) {
                *shortest = message.to_owned();
            }
        }
    }
    found
}

/// The first sentences of the codes' comments in the source.
fn meanings() -> BTreeMap<String, String> {
    let source = include_str!("../../src/config/diagnostic.rs");
    let (mut comment, mut found) = (String::new(), BTreeMap::new());
    for line in source.lines().map(str::trim).skip_while(|line| *line != "Code {") {
        match (line.strip_prefix("/// "), line.split('"').nth(1)) {
            (Some(text), _) => comment = text.trim_end_matches('.').to_owned(),
            (None, Some(word)) if line.ends_with("\",") => drop(found.insert(word.to_owned(), comment.clone())),
            _ if line == "}" => break,
            _ => {}
        }
    }
    found
}

/// The manual's page.
fn page() -> String {
    let (shown, meanings) = (shown(), meanings());
    let mut page = String::from(
        "# What may be wrong with a tree\n\n\
        <!-- Written by `SECTILE_WRITE_MANUAL=1 cargo test --test core messages`, from src/config/diagnostic.rs and the goldens. -->\n\n\
        `validate` and every command that reads a tree tell all of it at once, each with file, line, column, the reason and a way\n\
        out; `validate -o json` tells it to programs. The words in the first column are a closed list. An error holds the whole\n\
        tree back: nothing is changed by a tree with errors. A warning holds back nothing. What a tree wants and a node can't give\n\
        holds back that node alone; those codes are told in [plan.md](plan.md).\n\n\
        | code | severity | meaning | holds back | an example |\n|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let word = code.word();
        let shown = shown.get(word).unwrap_or_else(|| panic!("no golden in tests/core shows {word}"));
        for (severity, message) in shown {
            let holds = if severity == Severity::Error.word() { "the whole tree" } else { "nothing" };
            let message = message.replace('|', "\\|");
            page += &format!("| `{word}` | {severity} | {} | {holds} | {message} |\n", meanings[word]);
        }
    }
    page
}

#[test]
fn every_code_stands_in_the_manual_as_the_source_has_it() {
    let path = Path::new(ROOT).join(PAGE);
    let page = page();
    if std::env::var_os("SECTILE_WRITE_MANUAL").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let told = fs::read_to_string(&path).unwrap_or_default();
    let again = "`SECTILE_WRITE_MANUAL=1 cargo test --test core messages` writes it";
    assert!(told == page, "{PAGE} is not what the source and the goldens say; {again}");
}
