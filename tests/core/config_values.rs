//! Values at the ends of what they may be, and beyond: numbers, spans, shares, globs, and what contradicts itself.

use sectile::config::{diagnostic, resolve};

use super::config_bad::{golden, layouts, policies};
use super::config_good::{assemble, node, sources};

#[test]
fn numbers() {
    let ends = "[-1, 9223372036854775807, -9223372036854775808, 99999999999999999999, 0xff, 1e3, 1.0, true, \"1\"]";
    let (index, start) = (format!("index = {ends}\nmig = false\n"), "start = 4294967296".to_owned());
    let texts = [
        ("an index", index),
        ("infinities", "index = [inf, nan, -0]\nmig = false\n".to_owned()),
        ("counts", "count = -9223372036854775808\ninstances = { \"1g\" = 9223372036854775807 }\n".to_owned()),
        ("a start", format!("instances = [{{ profile = \"1g\", {start} }}, {{ profile = \"1g\", start = -1 }}]\n")),
        ("a date", "instances = 1979-05-27T07:32:00Z\nmodel = 07:32:00\n".to_owned()),
    ];
    let texts = texts.map(|(title, text)| (title, format!("nodes = [\"a\"]\n[[gpu]]\n{text}")));
    let cases: Vec<_> = texts.iter().map(|(title, text)| (*title, text.as_str())).collect();
    layouts("numbers", &cases);
}

#[test]
fn spans_and_shares() {
    policies(
        "spans",
        &[
            ("shares", "[budget]\nmax_nodes = \"101%\"\n"),
            ("a share with a space", "[budget]\nmax_nodes = \"10 %\"\n"),
            ("a share that overflows", "[budget]\nmax_nodes = \"4294967296%\"\n"),
            ("a signed share", "[budget]\nmax_nodes = \"+10%\"\n"),
            ("half a node", "[budget]\nmax_nodes = 0.5\n"),
            ("a duration that overflows", "[drain]\ntimeout = \"18446744073709551615d\"\ngrace_period = \"-5m\"\n"),
            ("a duration in another order", "[drain]\ntimeout = \"5m1h\"\ngrace_period = \"1h1h\"\n"),
            ("a number too large", "[failure]\nretries = 4294967296\n"),
            (
                "windows",
                "[window]\nopen = [\"Mon-Fri 25:00-26:00\", \"Mon 22:60-23:00\", \"Mon 1:00-2:00\", \"Mon,,Tue 01:00-02:00\", \"Mon-Tue-Wed 01:00-02:00\", \"\"]\n",
            ),
            ("zones", "[window]\nopen = [\"Mon 01:00-02:00\"]\ntimezone = \"europe/berlim\"\n"),
            ("a zone of nowhere", "[window]\nopen = [\"Mon 01:00-02:00\"]\ntimezone = \"../../etc/passwd\"\n"),
            ("namespaces", "[protect]\npods = [{ namespace = \"\" }, { labels = { a = 1979-05-27 } }]\n"),
            ("a NUL", "[clients]\ncommands = [{ pause = [\"/bin/a\\u0000\"], resume = [\"/bin/a\", 1] }]\n"),
        ],
    );
    // Days that go on over the end of the week are no slip.
    let (tree, found) = assemble(&[("policies/a.toml", "[window]\nopen = [\"Fri-Mon 22:00-06:00\"]\n")]);
    assert!(tree.is_some() && found.is_empty());
}

#[test]
fn globs_and_empty_names() {
    let gpu = "[[gpu]]\nmig = false\n";
    let texts = [
        ("globs", "nodes = [\"[\", \"{a\", \"a}\", \"[z-a]\", \"a**b\", \"{{a},b}\", \"[!]\", \"a\\\\*\"]\n"),
        ("long", &format!("nodes = [\"{}*\"]\n", "a".repeat(253))),
        ("labels", "nodes = [\"a\"]\nlabels = { \"\" = \"a\", \"/a\" = \"b\", \"a/b/c\" = \"d\", a = \"é\" }\n"),
    ]
    .map(|(title, text)| (title, format!("{text}{gpu}")));
    let cases: Vec<_> = texts.iter().map(|(title, text)| (*title, text.as_str())).collect();
    layouts("globs", &cases);
}

#[test]
fn what_contradicts_itself() {
    let texts = [
        ("three names", "index = [0]\nuuid = [\"GPU-1b3c…\"]\npci = [\"3b:00.0\"]\nmig = false\n"),
        ("off and wanted", "mig = false\nmanaged = false\ninstances = []\n"),
        ("count and index", "index = [0]\ncount = 1\ninstances = []\n"),
        ("nothing of a model", "model = \"\"\nmig = false\n"),
    ]
    .map(|(title, text)| (title, format!("nodes = [\"a\"]\n[[gpu]]\n{text}")));
    let cases: Vec<_> = texts.iter().map(|(title, text)| (*title, text.as_str())).collect();
    layouts("contradictions", &cases);
    let job = |name: &str, file: &str| {
        format!(
            "[[workload]]\nname = \"{name}\"\nprofile = \"1g\"\nmanage = true\nkubernetes = {{ kind = \"Job\", namespace = \"x\", name = \"w\" }}\n{file}"
        )
    };
    let (one, other) = (job("one", ""), job("other", ""));
    golden("one_object", &[("managed twice", &[("layouts/a.toml", &one), ("layouts/b.toml", &other)])]);
    let many: String = (0..102).map(|at| format!("k{at} = 1\n")).collect();
    let (_, mut found) = assemble(&[("layouts/a.toml", &many)]);
    let more = found.split_off(100);
    insta::assert_snapshot!("more", diagnostic::render(&more, &sources(&[]), false));
}

#[test]
fn a_long_line_is_cut_around_its_caret() {
    let names = |word: &str, from: usize| (from..from + 200).map(|at| format!("\"{word}-{at}\", ")).collect::<String>();
    let (before, behind) = (names("name-of-a-node", 0), names("name-of-a-node", 200));
    let text = format!("nodes = [{before}3, {behind}]\n[[gpu]]\nmig = false\n");
    let wide = format!("nodes = [{}3]\n[[gpu]]\nmig = false\n", names("名前", 0));
    let apart = format!("nodes = [\"a\"]\n[[gpu]]\nindex = [7, {}7]\nmig = false\n", " ".repeat(600));
    let far = format!(
        "nodes = [\"a\"]\n[[gpu]]\nindex = [7]\nmig = false\n{}[[gpu]]\nindex = [7]\nmig = false\n",
        format!("#{}\n", "x".repeat(78)).repeat(200)
    );
    let long = format!("nodes = [\"{}\"]\n", "x".repeat(1000));
    layouts(
        "long_lines",
        &[("long", &text), ("wide", &wide), ("apart", &apart), ("far", &far), ("one long word", &long)],
    );
}

#[test]
fn what_only_the_nodes_show() {
    let files = [
        (
            "layouts/a.toml",
            "nodes = [\"n\"]\n[[gpu]]\nindex = [0, 7]\nmig = false\n[[gpu]]\ncount = 2\nmig = false\n[[gpu]]\ncount = 3\nmig = false\n",
        ),
        ("layouts/b.toml", "nodes = [\"u\"]\nlabels = { a = \"b\" }\n[[gpu]]\nmig = false\n"),
        (
            "layouts/c.toml",
            "nodes = [\"u\"]\n[[workload]]\nname = \"w\"\nprofile = \"1g\"\nlabels = { a = \"b\" }\nkubernetes = { kind = \"Job\", namespace = \"x\", name = \"w\" }\n",
        ),
        ("policies/b.toml", "nodes = [\"u\"]\nlabels = { a = \"b\" }\n[apply]\nmode = \"manual\"\n"),
    ];
    let (tree, _) = assemble(&files);
    let mut unknown = node("u", &[], 1);
    unknown.labels = sectile::model::Known::Unknown;
    let resolved = resolve(&tree.unwrap(), &[node("n", &[], 4), unknown]);
    let blocks = resolved.desired.nodes.values().flat_map(|node| &node.blocked);
    let told: Vec<String> =
        blocks.map(|b| format!("{}: {}: {}\n  hint: {}\n", b.code, b.object, b.message, b.hint)).collect();
    insta::assert_snapshot!("blocks", told.concat());
}
