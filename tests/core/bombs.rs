//! Files that are built to overwhelm: they end in a message, soon, and with the stack and the memory that there are.

use sectile::config::diagnostic;
use sectile::config::{Diagnostic, schema};
use sectile::sim::fleet;

use super::config_good::{assemble, sources};

/// What is said of a layout, drawn.
fn drawn(text: &str) -> (Vec<Diagnostic>, String) {
    let files = [("layouts/a.toml", text)];
    let (_, found) = assemble(&files);
    let drawn = diagnostic::render(&found, &sources(&files), false);
    (found, drawn)
}

/// Up to a quarter of a megabyte of one thing after the other.
fn filled(head: &str, item: impl Fn(usize) -> String, tail: &str) -> String {
    let mut text = head.to_owned();
    for at in 0.. {
        let item = item(at);
        if text.len() + item.len() + tail.len() > 1 << 18 {
            break;
        }
        text.push_str(&item);
    }
    text + tail
}

/// Nested in every way that TOML has.
fn nested() -> Vec<String> {
    let dots = |n| "a.".repeat(n);
    let mut all = vec![
        "[".repeat(500_000),
        format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("a = {}1{}", "{ a = ".repeat(100_000), " }".repeat(100_000)),
        format!("a = {}1{}", "[{ a = ".repeat(100_000), " }]".repeat(100_000)),
        format!("{}a = 1\n", dots(100_000)),
        format!("[{}a]\n", dots(100_000)),
        format!("[[{}a]]\n", dots(100_000)),
        format!("a.\"{}\" = 1\n", "b.".repeat(100_000)),
    ];
    // Each as deep as the parser lets it, within each other.
    for (keys, tables) in [(15, 80), (79, 40), (79, 79), (79, 80)] {
        let header = format!("[{}a]\n", dots(keys));
        for line in ["", "\n"] {
            let open = format!("{}a = {{{line}", dots(keys)).repeat(tables);
            all.push(format!("{header}{open}{}{}", "b = 1", format!("{line}}}").repeat(tables)));
        }
    }
    all
}

#[test]
fn nothing_is_nested_deep_enough_to_end_the_stack() {
    for text in nested() {
        let (found, drawn) = drawn(&text);
        assert!(found.iter().any(Diagnostic::is_error), "{}", &text[..60]);
        assert!(drawn.len() < 10_000, "{}", &drawn[..1000]);
        let _ = schema::parse_policy("policies/a.toml", &text);
        let _ = schema::parse_tree_toml("tree.toml", &text, "0.1.0");
        let errors = fleet::parse("FLEET.toml", &text).unwrap_err();
        assert!(errors.render(false).len() < 10_000);
    }
}

/// Large files of things that are wrong, that repeat, or that take long to look at.
fn large() -> Vec<(&'static str, String)> {
    let gpu = "nodes = [\"a\"]\n[[gpu]]\n";
    let word = |at: usize| format!("k{at}");
    vec![
        ("unknown keys", filled("", |at| format!("{} = 1\n", word(at)), "")),
        ("one line", filled("k = [", |_| "1, ".to_owned(), "]\n")),
        ("one line of errors", filled("nodes = [", |at| format!("{at},"), "]\n")),
        ("one word", format!("nodes = [\"{}\"]\n", "x".repeat(1 << 20))),
        ("one key", format!("{} = 1\n", "x".repeat(1 << 20))),
        ("one comment", format!("#{}\nk = 1\n", "x".repeat(1 << 20))),
        ("wide letters", format!("k = \"{}\" 1\n", "名".repeat(1 << 18))),
        ("control characters", format!("\"{}\" = 1\n", "\\u001b".repeat(1 << 17))),
        ("carriage returns", format!("# {} x\nk = 1\n", "\r".repeat(1 << 12))),
        ("blank lines", format!("{}k = 1\n", "\n".repeat(1 << 20))),
        ("entries without a goal", filled("nodes = [\"a\"]\n", |_| "[[gpu]]\n".to_owned(), "")),
        ("ties of entries", filled("nodes = [\"a\"]\n", |_| "[[gpu]]\nmig = false\n".to_owned(), "")),
        (
            "counts beside models",
            filled(
                "nodes = [\"a\"]\n",
                |at| {
                    format!(
                        "[[gpu]]\nmodel = \"{at}\"\nmig = false\n[[gpu]]\nmodel = \"x{at}\"\ncount = 1\nmig = false\n"
                    )
                },
                "[[gpu]]\nx = 1\n",
            ),
        ),
        ("the same index", filled(&format!("{gpu}mig = false\nindex = ["), |_| "7,".to_owned(), "]\n")),
        (
            "the same start",
            filled(&format!("{gpu}instances = ["), |_| "{ profile = \"1g\", start = 1 },".to_owned(), "]\n"),
        ),
        ("globs", filled("nodes = [", |at| format!("\"*{{a,b}}[!a-z]?[0-9]*{at}\","), "]\n[[gpu]]\nx = 1\n")),
        (
            "managed objects",
            filled(
                "",
                |at| {
                    format!(
                        "[[workload]]\nname = \"a{at}\"\nprofile = \"1g\"\nmanage = true\nkubernetes = {{ kind = \"Job\", namespace = \"x\", name = \"w{at}\" }}\n"
                    )
                },
                "[[workload]]\nname = \"a0\"\n",
            ),
        ),
        ("zones", filled("[window]\nopen = [", |_| "\"Mon 25:00\",".to_owned(), "]\ntimezone = \"x\"\n")),
    ]
}

#[test]
fn a_large_file_is_told_of_in_few_words() {
    for (title, text) in large() {
        let (found, drawn) = drawn(&text);
        assert!(found.iter().any(Diagnostic::is_error), "{title}");
        assert!(found.len() <= 101, "{title}: {}", found.len());
        // A hundred messages with their lines, each cut to what fits on a screen.
        assert!(drawn.len() < 200_000, "{title}: {}", drawn.len());
    }
}
