//! What is wrong is told at its place, with the reason and the way out: each message as people read it.

use std::fmt::Write as _;

use sectile::config::diagnostic::{self, Code, Diagnostic, Severity};
use sectile::config::schema;

use super::config_good::{assemble, sources};

/// What is said of each case's files.
pub(crate) fn golden(name: &str, cases: &[(&str, &[(&str, &str)])]) {
    let mut out = String::new();
    for (title, files) in cases {
        let (tree, found) = assemble(files);
        assert!(!found.is_empty(), "{title}: nothing is said");
        assert_eq!(tree.is_none(), found.iter().any(Diagnostic::is_error));
        let drawn = diagnostic::render(&found, &sources(files), false);
        writeln!(out, "######## {title}\n{drawn}").unwrap();
    }
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(name, out) });
}

/// Cases of one layout file, each with what is needed to make it whole.
pub(crate) fn layouts(name: &str, cases: &[(&str, &str)]) {
    let files: Vec<[(&str, &str); 1]> = cases.iter().map(|(_, text)| [("layouts/a.toml", *text)]).collect();
    let cases: Vec<(&str, &[(&str, &str)])> =
        cases.iter().zip(&files).map(|((title, _), files)| (*title, files.as_slice())).collect();
    golden(name, &cases);
}

pub(crate) fn policies(name: &str, cases: &[(&str, &str)]) {
    let files: Vec<[(&str, &str); 1]> = cases.iter().map(|(_, text)| [("policies/a.toml", *text)]).collect();
    let cases: Vec<(&str, &[(&str, &str)])> =
        cases.iter().zip(&files).map(|((title, _), files)| (*title, files.as_slice())).collect();
    golden(name, &cases);
}

#[test]
fn form() {
    let deep = format!("nodes = [\"a\"]\n{}b = 1\n", "a.".repeat(100_000));
    let _ = schema::parse_layout("layouts/deep.toml", &deep);
    layouts(
        "form",
        &[
            ("not TOML: only the first", "nodes = [\"a\"\n[[gpu]]\nmig = flase\n"),
            ("a key twice", "nodes = [\"a\"]\nnodes = [\"b\"]\n"),
            ("too deep", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r = 1\n"),
            ("all at once", "node = [\"a\"]\n[[gpu]]\nmodle = \"H100*\"\ninstance = { \"3g.40gb\" = 1 }\n[[gpus]]\n"),
            ("a key of nothing", "xyzzy = 1\n[[gpu]]\nnodes = [\"a\"]\nmig = false\n"),
            ("one bracket", "nodes = [\"a\"]\n[gpu]\nmig = false\n"),
            (
                "types",
                "nodes = \"a\"\nlabels = 3\n[[gpu]]\nindex = 0\nmig = \"off\"\n[[gpu]]\ncount = 2.0\ninstances = 3\n",
            ),
            ("no list of tables", "nodes = [\"a\"]\ngpu = [1]\nworkload = 1979-05-27\n"),
            ("says nothing", "nodes = [\"a\"]\n"),
            ("tabs and wide letters", "nodes = [\"a\"]\n[[gpu]]\n\tmodel = \"名前\"\tmgi = false\n"),
            ("a control character", "nodes = [\"a\"]\n\"a\\u001b[31m\" = 1\n[[gpu]]\nmig = false\n"),
        ],
    );
}

#[test]
fn selectors() {
    let gpu = "[[gpu]]\nmig = false\n";
    let texts = [
        ("no nodes", String::new()),
        ("empty", "nodes = []\n".to_owned()),
        ("a bad glob", "nodes = [\"gpu-[a\", \"\", \"a b\", \"!a\"]\n".to_owned()),
        ("twice", "nodes = [\"a\", \"b\", \"a\"]\n".to_owned()),
        (
            "rewritten labels",
            "nodes = [\"*\"]\n[labels]\n\"nvidia.com/gpu.product\" = \"a\"\n\"nvidia.com/gpu.count\" = \"a\"\n\"nvidia.com/mig-1g.10gb.count\" = \"1\"\n\"sectile.dev/state\" = \"a\"\n".to_owned(),
        ),
        ("labels", "nodes = [\"*\"]\nlabels = { pool = 1, a.b = \"c\", \"-\" = \"x\", x = \"a b\" }\n".to_owned()),
    ];
    let texts: Vec<_> = texts.into_iter().map(|(title, text)| (title, text + gpu)).collect();
    let cases: Vec<_> = texts.iter().map(|(title, text)| (*title, text.as_str())).collect();
    layouts("selectors", &cases);
}

#[test]
fn gpus() {
    let entries = [
        ("two names", "uuid = [\"GPU-1b3c0000-0000-0000-0000-000000000000\"]\nindex = [0]\nmig = false\n"),
        ("count beside index", "index = [0]\ncount = 1\nmig = false\n"),
        ("count of nothing", "count = 0\nmig = false\n"),
        ("no goal", "index = [0]\n"),
        ("mig without instances", "mig = true\n"),
        ("mig off with instances", "mig = false\ninstances = [\"3g\"]\n"),
        ("hands off with the rest", "managed = false\nmig = true\ncount = 3\ninstances = [\"3g\"]\n"),
        ("no GPU", "index = []\nmig = false\n"),
        ("out of range", "index = [-1, 1000, 0x1_0000_0000_0000]\nmig = false\n"),
        ("the same twice", "index = [0, 1, 0]\nmig = false\n"),
        ("uuids", "uuid = [\"MIG-1b3c\", \"1b3c\", \"GPU-1b3c\", \"GPU-zzzz…\"]\nmig = false\n"),
        ("pci", "pci = [\"3b\", \"zz:00.0\", \"00000000:3B:00.0\", \"3b:00.0\"]\nmig = false\n"),
        ("a model", "model = \"H100[\"\nmig = false\n"),
        ("tie in a file", "index = [0]\nmig = false\n[[gpu]]\nindex = [1, 0]\ninstances = []\n"),
        ("tie of all", "mig = false\n[[gpu]]\ninstances = []\n"),
        ("tie of models", "model = \"H100*\"\nmig = false\n[[gpu]]\nmodel = \"NVIDIA h100*\"\ninstances = []\n"),
        ("nothing left", "mig = false\n[[gpu]]\ncount = 2\ninstances = []\n"),
    ];
    let texts: Vec<_> =
        entries.iter().map(|(title, text)| (*title, format!("nodes = [\"a\"]\n[[gpu]]\n{text}"))).collect();
    let cases: Vec<_> = texts.iter().map(|(title, text)| (*title, text.as_str())).collect();
    layouts("gpus", &cases);
}

#[test]
fn instances() {
    let entries = [
        ("no profile", "{ \"3g.40\" = 1, \"3g.40gb\" = 0, \"1g.10gb\" = 65 }"),
        ("without quotes", "{ 3g.40gb = 1 }"),
        ("a list", "[\"4q\", 4, { start = 4 }, { profile = \"3g\", strat = 4 }, { profile = \"3g\", start = 64 }]"),
        ("the same start", "[{ profile = \"3g\", start = 4 }, { profile = \"1g\", start = 4 }]"),
        ("compute", "[{ profile = \"3g.40gb\", compute = [\"1c.2g.20gb\", \"4c.3g.40gb\", \"c\", 1] }]"),
        ("too much compute", "[{ profile = \"3g.40gb\", compute = [\"2c.3g.40gb\", \"2c.3g.40gb\"] }]"),
    ];
    let texts: Vec<_> = entries
        .iter()
        .map(|(title, text)| (*title, format!("nodes = [\"a\"]\n[[gpu]]\ninstances = {text}\n")))
        .collect();
    let cases: Vec<_> = texts.iter().map(|(title, text)| (*title, text.as_str())).collect();
    layouts("instances", &cases);
}

#[test]
fn workloads() {
    layouts(
        "workloads",
        &[
            ("nothing in it", "[[workload]]\n"),
            (
                "two targets",
                "[[workload]]\nname = \"a\"\nprofile = \"1g\"\nsystemd = { unit = \"a.service\" }\nkubernetes = { kind = \"Job\", namespace = \"a\", name = \"b\" }\n",
            ),
            (
                "kubernetes",
                "[[workload]]\nname = \"a b\"\nprofile = \"1g\"\nkubernetes = { kind = \"deployment\", namespace = \"A\", nmae = \"b\" }\nper_replica = 0\n[[workload]]\nname = \"c\"\nprofile = \"1g\"\nkubernetes = { kind = \"Teapot\" }\n",
            ),
            (
                "systemd",
                "[[workload]]\nname = \"a\"\nprofile = \"1g\"\nsystemd = { unit = \"embedder\", env = \"1A\" }\nmanage = true\n[[workload]]\nname = \"b\"\nprofile = \"1g\"\nsystemd = { unit = \"a.socket\" }\n",
            ),
            (
                "command",
                "[[workload]]\nname = \"a\"\nprofile = \"1g\"\ncommand = { drain = [\"virsh\", \"shutdown\"], drained = [], resume = \"x\" }\n",
            ),
            (
                "a name twice",
                "[[workload]]\nname = \"a\"\nprofile = \"1g\"\nsystemd = { unit = \"a.service\" }\n[[workload]]\nname = \"a\"\nprofile = \"1g\"\nsystemd = { unit = \"b.service\" }\n",
            ),
            (
                "provided by none",
                "nodes = [\"a\"]\n[[gpu]]\ninstances = [\"3g.40gb\"]\n[[workload]]\nname = \"a\"\nprofile = \"1g.10gb\"\nsystemd = { unit = \"a.service\" }\n[[workload]]\nname = \"b\"\nprofile = \"1g.10gb+me\"\nkubernetes = { kind = \"Job\", namespace = \"a\", name = \"b\" }\n",
            ),
        ],
    );
}

#[test]
fn policy_files() {
    policies(
        "policies",
        &[
            ("sets nothing", "nodes = [\"*\"]\n"),
            ("words", "[apply]\nmode = \"autp\"\n[drain]\ndaemonsets = \"evict\"\n[gpu]\nreset = \"allow\"\n"),
            ("keys", "[drain]\ntime_out = \"15m\"\n[budgets]\n[failure]\nretry = 3\n"),
            ("drain", "[drain]\ntimeout = 15\nforce = \"no\"\ngrace_period = \"30\"\n"),
            ("durations", "[drain]\ntimeout = \"0s\"\ngrace_period = \"400d\"\n"),
            ("budget", "[budget]\nmax_nodes = \"ten\"\ncanary = -1\nmax_pods = 0\nsplay = \"\"\n"),
            ("shares", "[budget]\nmax_nodes = \"0%\"\n"),
            ("no nodes", "[budget]\nmax_nodes = 0\n"),
            (
                "windows",
                "[window]\nopen = [\"Mon-Fri 22:00\", \"Montag 22:00-23:00\", \"Mon 24:00-01:00\", \"Mon 25:00-01:00\", \"22:00-23:00\"]\ntimezone = \"Europe/Berln\"\n",
            ),
            ("never open", "[window]\nopen = []\ntimezone = \"Mars\"\n"),
            ("protect", "[protect]\npods = [{}, { namespace = \"a[b]\" }, { label = { a = \"b\" } }, 3]\n"),
            (
                "clients",
                "[clients]\nsystemd = [\"nvidia-dcgm\"]\ncommands = [{ pause = [\"scontrol\"] }, { pause = [\"/usr/bin/scontrol\"], resume = [\"\"] }]\n",
            ),
        ],
    );
}

#[test]
fn whole_trees() {
    let gpu = |nodes: &str| format!("nodes = [{nodes}]\n[[gpu]]\nmig = false\n");
    let (a, b, c) = (gpu("\"gpu-a-*\", \"x\""), gpu("\"y\", \"gpu-a-*\""), gpu("\"gpu-a-01\""));
    let unit = "[[workload]]\nname = \"a\"\nprofile = \"1g\"\nsystemd = { unit = \"a.service\" }\n";
    golden(
        "whole_trees",
        &[
            ("equal globs", &[("layouts/a.toml", &a), ("layouts/b.toml", &b), ("layouts/c.toml", &c)]),
            ("a name in two files", &[("layouts/a.toml", unit), ("layouts/b.toml", unit)]),
            (
                "policies that differ",
                &[
                    ("policies/a.toml", "[apply]\nmode = \"auto\"\n[failure]\nretries = 1\n"),
                    ("policies/b.toml", "nodes = [\"*\"]\n[apply]\nmode = \"manual\"\n[failure]\nretries = 1\n"),
                ],
            ),
        ],
    );
}

#[test]
fn labels_tell_layouts_apart() {
    let gpu = |value: &str| format!("nodes = [\"*\"]\nlabels = {{ pool = \"{value}\" }}\n[[gpu]]\nmig = false\n");
    let (_, found) = assemble(&[("layouts/a.toml", &gpu("a")), ("layouts/b.toml", &gpu("b"))]);
    assert_eq!(found, []);
}

#[test]
fn a_broken_file_is_not_judged_with_the_rest() {
    let unit = "[[workload]]\nname = \"a\"\nprofile = \"1g\"\nsystemd = { unit = \"a.service\" }\n";
    let whole = "nodes = [\"a\"]\n[[gpu]]\ninstances = [\"3g\"]\n";
    let broken = "nodes = [\"a\"]\n[[gpu]]\ninstances = [\"1g\"]\nmgi = true\n";
    let (_, found) = assemble(&[("layouts/a.toml", whole), ("layouts/b.toml", broken), ("layouts/u.toml", unit)]);
    assert_eq!(found.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::UnknownKey]);
}

#[test]
fn too_much_is_cut_off() {
    let text: String = (0..5000).map(|at| format!("k{at} = 1\n")).collect();
    let (_, found) = assemble(&[("layouts/a.toml", &text)]);
    assert_eq!(found.len(), 101);
    let last = found.last().unwrap();
    assert_eq!((last.code, last.severity), (Code::More, Severity::Error));
    assert_eq!(last.message, "4901 more problems in this file are not shown");
}

#[test]
fn a_large_file_takes_no_time() {
    let item = "{ profile = \"1g.10gb\", start = 1 },\n";
    let text = format!("nodes = [\"a\"]\n[[gpu]]\ninstances = [\n{}]\n", item.repeat(20_000));
    let (_, found) = assemble(&[("layouts/a.toml", &text)]);
    assert_eq!(found.len(), 101);
}

#[test]
fn for_programs() {
    let files = [("layouts/a.toml", "nodes = [\"é\"]\n[[gpu]]\n名 = 1\nmig = fasle\n")];
    let (_, found) = assemble(&files);
    insta::assert_json_snapshot!(diagnostic::findings(&found, &sources(&files)), @r#"
    [
      {
        "severity": "error",
        "code": "syntax",
        "file": "layouts/a.toml",
        "line": 3,
        "column": 1,
        "message": "this is not TOML",
        "reason": "invalid unquoted key, expected letters, numbers, `-`, `_`",
        "help": null
      }
    ]
    "#);
    let colour = diagnostic::render(&found, &sources(&files), true);
    assert!(colour.contains("\u{1b}["), "{colour}");
}

#[test]
fn versions() {
    let said = |text: &str, running: &str| schema::parse_tree_toml("tree.toml", text, running);
    for (text, running) in [(">=0.3", "0.3.0"), (">=0.3", "0.10.0"), (">=0.3.1", "1.0.0-rc.1"), (">= 0", "0.0.1")] {
        assert_eq!(said(&format!("requires = \"{text}\""), running), []);
    }
    let mut out = String::new();
    for text in [
        "requires = \">=0.3\"\n",
        "requires = \"0.3\"\n",
        "require = \">=0.3\"\n",
        "requires = \">=0.3.1.4\"\n",
        "requires = 3\n",
    ] {
        out += &diagnostic::render(&said(text, "0.2.9"), &sources(&[("tree.toml", text)]), false);
    }
    insta::assert_snapshot!("versions", out);
}
