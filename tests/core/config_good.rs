//! What the product's page shows is read, and means what the page says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;
use sectile::config::diagnostic::{self, Diagnostic};
use sectile::config::schema::{self, Tree, values};
use sectile::config::{GpuFacts, NodeFacts, load, resolve};
use sectile::model::policy::{self, Amount, Uncoordinated};
use sectile::model::{Digest, Goal, Known, Revision, Target};

/// The layout of the product's page, with the UUID that it shortens.
pub(crate) const LAYOUT: &str = r#"nodes  = ["gpu-a-*"]                     # names or shell globs; required where there is a [[gpu]]
labels = { pool = "inference" }          # optional, and-ed: the node's Kubernetes labels

[[gpu]]
index = [0, 1]                           # or uuid = [..], pci = [..], model = "H100*"; none of them: every GPU
instances = { "3g.40gb" = 1, "2g.20gb" = 1, "1g.10gb" = 2 }

[[gpu]]
model = "H100*"                          # case-insensitive; NVML's name with or without "NVIDIA ", or a catalogue id
count = 2                                # on two of the GPUs that are left: the planner picks the two that cost least
instances = ["4g", { profile = "3g", start = 4 }]

[[gpu]]
uuid = ["GPU-1b3c…"]
mig = false                              # MIG mode off; managed = false: hands off, whatever else matches

[[workload]]                             # a binding: who gets which instances
name = "llama-chat"
kubernetes = { kind = "Deployment", namespace = "inference", name = "llama-chat", container = "server" }
profile = "3g.40gb"
per_replica = 1                          # instances for each pod; a training job may take more
manage = true                            # set its resource request and affinity; without it: check and report only
labels = { pool = "inference" }          # optional: only on such nodes (or nodes = ["gpu-a-01"])

[[workload]]
name = "embedder"
systemd = { unit = "embedder.service", env = "CUDA_VISIBLE_DEVICES" }   # stopped, given its MIG UUIDs, started
profile = "1g.10gb"

[[workload]]
name = "desktop-vm-7"                    # anything else: a VM, a container
profile = "2g.20gb"
  [workload.command]
  drain   = ["/usr/bin/virsh", "shutdown", "vm7"]
  drained = ["/usr/local/bin/vm-is-off", "vm7"]
  resume  = ["/usr/bin/virsh", "start", "vm7"]
  ready   = ["/usr/local/bin/vm-is-up", "vm7"]
"#;

/// The policy of the product's page; where it shortens commands to `…` there stands one.
pub(crate) const POLICY: &str = r#"nodes = ["*"]                            # policies that match a node merge key by key, the more specific over the less; protect adds up

[apply]
mode = "auto"                            # auto | undisruptive (only what disturbs nobody) | manual (plan only)

[drain]                                  # the words of kubectl drain
timeout = "15m"
# grace_period = "30s"                   # default: each pod's own
force = false                            # pods without a controller
delete_emptydir_data = false
daemonsets = "refuse"                    # a DaemonSet's pod on an instance that goes: refuse | delete

[budget]                                 # over the nodes that this file matches
max_nodes = "10%"                        # changing at once (a number or a share, at least 1); a failed node keeps its place
canary = 1                               # so many nodes converge first
max_pods = 20                            # pods down at once
uncoordinated = "refuse"                 # nodes with no cluster to coordinate by: refuse | splay (spread over `splay = "4h"`)

[window]                                 # disruptive plans start only then, and only if they are expected to end in it
open = ["Mon-Fri 22:00-06:00", "Sat,Sun 00:00-24:00"]
timezone = "Europe/Berlin"               # default UTC

[protect]                                # never moved: a plan that would have to is blocked, and says by what
pods = [{ namespace = "prod-*", labels = { tier = "critical" } }]
annotations = true                       # honour sectile.dev/do-not-disrupt, karpenter.sh/do-not-disrupt and cluster-autoscaler's safe-to-evict=false
processes = "refuse"                     # GPU processes that no binding explains: refuse | wait | terminate

[gpu]
mode_change = "idle"                     # refuse | idle (when nobody is on that GPU) | allow (drain it)
reset = "idle"                           # where a mode change needs one; a pending mode is never left behind
reboot = "refuse"                        # refuse | request (says so and waits) | allow (drains the node, once)

[clients]                                # what holds or advertises the GPUs, paused around a change
allocation = "auto"                      # device-plugin | dra | auto
systemd = ["nvidia-dcgm.service", "dcgm-exporter.service"]
commands = [{ pause = ["/usr/bin/scontrol", "…"], paused = ["/usr/bin/true"], resume = ["/usr/bin/scontrol"] }]     # Slurm and the like

[writers]
mig_manager = "refuse"                   # another tool that writes MIG state blocks us; take_over stands it down first

[failure]
rollback = true                          # put the old layout back when a step fails for good
retries = 5                              # then not again until the inputs change or `sectile resume`
"#;

pub(crate) fn revision() -> Revision {
    Revision { name: None, digest: Digest::of([]) }
}

pub(crate) fn sources(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

pub(crate) fn assemble(files: &[(&str, &str)]) -> (Option<Tree>, Vec<Diagnostic>) {
    sectile::config::assemble(revision(), files.iter().copied())
}

/// A tree without anything to say about it.
pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
    let (tree, found) = assemble(files);
    assert!(found.is_empty(), "{}", diagnostic::render(&found, &sources(files), false));
    tree.unwrap()
}

pub(crate) fn node(name: &str, labels: &[(&str, &str)], gpus: u32) -> NodeFacts {
    let gpu = |index: u32| GpuFacts {
        uuid: format!("GPU-{index:08x}-0000-0000-0000-000000000000"),
        pci: format!("00000000:{:02X}:00.0", 0x3b + index),
        index,
        model: "NVIDIA H100 80GB HBM3".to_owned(),
        board: Some("h100-80gb-sxm".to_owned()),
    };
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NodeFacts { name: name.to_owned(), labels: Known::Known(labels), gpus: (0..gpus).map(gpu).collect(), changed: None }
}

#[test]
fn the_products_layout_means_what_the_page_says() {
    let tree = tree(&[("layouts/inference.toml", LAYOUT)]);
    let mut facts = node("gpu-a-01", &[("pool", "inference")], 5);
    facts.gpus[4].uuid = "GPU-1b3c0000-1111-2222-3333-444444444444".to_owned();
    let resolved = resolve(&tree, &[facts]);
    assert!(resolved.diagnostics.is_empty());
    let desired = &resolved.desired.nodes["gpu-a-01"];
    assert_eq!(desired.blocked, []);
    assert_eq!(desired.layout.as_ref().unwrap().to_string(), "layouts/inference.toml:1");
    assert_eq!(desired.gpus.len(), 3);
    assert_eq!(desired.gpus["GPU-1b3c0000-1111-2222-3333-444444444444"].goal, Goal::MigOff);
    let goal = &desired.gpus["GPU-00000000-0000-0000-0000-000000000000"];
    assert_eq!(goal.source.to_string(), "layouts/inference.toml:4");
    let Goal::Instances(wanted) = &goal.goal else { panic!() };
    let names: Vec<String> = wanted.iter().map(|wanted| wanted.profile.to_string()).collect();
    assert_eq!(names, ["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"]);
    let shared = &desired.shared[0];
    assert_eq!((shared.count, shared.eligible.len(), shared.source.line), (2, 2, 8));
    let Goal::Instances(wanted) = &shared.goal else { panic!() };
    assert_eq!((wanted[0].start, wanted[1].start, wanted[1].profile.to_string()), (None, Some(4), "3g".to_owned()));
    let names: Vec<_> = desired.bindings.iter().map(|binding| binding.name.as_str()).collect();
    assert_eq!(names, ["llama-chat", "embedder", "desktop-vm-7"]);
    assert!(desired.bindings[0].manage);
    assert_eq!(desired.bindings[1].per_replica, 1);
    let Target::Command { drained, .. } = &desired.bindings[2].target else { panic!() };
    assert_eq!(drained.join(" "), "/usr/local/bin/vm-is-off vm7");
    assert_eq!(resolved.desired.bindings, desired.bindings);
    assert_eq!(desired.policy, None);
}

#[test]
fn the_products_policy_means_what_the_page_says() {
    let tree = tree(&[("policies/all.toml", POLICY)]);
    let resolved = resolve(&tree, &[node("gpu-a-01", &[], 1)]);
    let policy = resolved.desired.nodes["gpu-a-01"].policy.clone().unwrap();
    insta::assert_json_snapshot!(policy);
}

#[test]
fn every_word_of_a_policy_is_read() {
    for (section, key, words) in [
        ("apply", "mode", policy::ApplyMode::WORDS),
        ("drain", "daemonsets", policy::DaemonSets::WORDS),
        ("budget", "uncoordinated", &["refuse", "splay"]),
        ("protect", "processes", policy::Processes::WORDS),
        ("gpu", "mode_change", policy::ModeChange::WORDS),
        ("gpu", "reset", policy::ResetRule::WORDS),
        ("gpu", "reboot", policy::RebootRule::WORDS),
        ("clients", "allocation", policy::Allocation::WORDS),
        ("writers", "mig_manager", policy::WriterRule::WORDS),
    ] {
        for word in words {
            tree(&[("policies/a.toml", &format!("[{section}]\n{key} = \"{word}\"\n"))]);
        }
    }
}

#[test]
fn other_shapes_are_read_too() {
    tree(&[(
        "layouts/a.toml",
        r#"nodes = ["n"]
[[gpu]]
pci = ["3b:00.0", "0000:3C:00.0", "00000000:3D:00.0"]
mig = true
instances = [{ profile = "3g.40gb", compute = ["2c.3g.40gb", "1c.3g.40gb"] }, { profile = "1g", compute = [] }, "1g.10gb+me"]
[[gpu]]
model = "NVIDIA A100*"
instances = []
[[gpu]]
managed = false
"#,
    )]);
    tree(&[("layouts/crlf.toml", "nodes = [\"n\"]\r\n[[gpu]]\r\nmig = false\r\n")]);
    tree(&[("layouts/bom.toml", "\u{feff}nodes = [\"n\"]\n[[gpu]]\nmig = false\n")]);
    let tables = "[[workload]]\nname = \"w\"\nprofile = \"1g\"\nkubernetes.kind = \"Job\"\nkubernetes.namespace = \"a\"\nkubernetes.name = \"b\"\n";
    tree(&[("layouts/sub/w.toml", tables)]);
    let tree = tree(&[("policies/p.toml", "[budget]\nuncoordinated = \"splay\"\nmax_nodes = 2\n")]);
    let policy = resolve(&tree, &[node("n", &[], 0)]).desired.nodes["n"].policy.clone().unwrap();
    assert_eq!(policy.budget.uncoordinated, Uncoordinated::Splay(4 * 3600));
    assert_eq!(policy.budget.max_nodes.as_ref().map(|max| max.limit), Some(Amount::Count(2)));
}

#[test]
fn small_languages() {
    for (text, seconds) in [("15m", 900), ("4h30m", 16_200), ("30s", 30), ("0s", 0), ("1d", 86_400), ("90m", 5400)] {
        assert_eq!(values::duration(text), Ok(seconds));
    }
    for text in ["", "15", "m", "1m1h", "1m1m", "1.5h", "-1s", "1w", " 1s", "99999999999999999999s", "99999h", "1ß"] {
        assert!(values::duration(text).is_err(), "{text}");
    }
    let span = |text| values::window(text).map(|span| (span.days.map(u8::from), span.from, span.to));
    assert_eq!(span("Mon-Fri 22:00-06:00"), Ok(([1, 1, 1, 1, 1, 0, 0], 1320, 360)));
    assert_eq!(span("Sat,Sun 00:00-24:00"), Ok(([0, 0, 0, 0, 0, 1, 1], 0, 1440)));
    assert_eq!(span("fri-MON 08:00-00:00"), Ok(([1, 0, 0, 0, 1, 1, 1], 480, 1440)));
    for text in [
        "",
        "Mon",
        "Mon 8-9",
        "Mon 24:00-01:00",
        "Mon 00:00-24:01",
        "Mon 00:60-01:00",
        "Mo 00:00-01:00",
        "Mon-Tue-Wed 00:00-01:00",
        "Mon 00:00",
        "Mon, 00:00-01:00",
    ] {
        assert!(values::window(text).is_err(), "{text}");
    }
    assert_eq!(values::share("100%"), Ok(Amount::Percent(100)));
    for text in ["0%", "101%", "%", "10", "+5%", "1.5%"] {
        assert!(values::share(text).is_err(), "{text}");
    }
    assert_eq!(values::time_zone("europe/berlin").unwrap(), "Europe/Berlin");
    assert_eq!(values::time_zone("UTC").unwrap(), "UTC");
}

fn git(dir: &std::path::Path, arguments: &[&str]) -> bool {
    let mut command = std::process::Command::new("git");
    command.current_dir(dir).args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]);
    command.args(arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn a_folder_is_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("layouts/team/.hidden")).unwrap();
    let gpu = "nodes = [\"b\"]\n[[gpu]]\nmig = false\n";
    fs::write(root.join("layouts/team/b.toml"), gpu).unwrap();
    fs::write(root.join("layouts/a.toml"), gpu.replace('b', "a")).unwrap();
    for leftover in [
        ".#a.toml",
        "#a.toml#",
        "a.toml~",
        ".a.toml.swp",
        "a.toml.orig",
        "a.toml.rej",
        "README.md",
        "team/.hidden/c.toml",
    ] {
        fs::write(root.join("layouts").join(leftover), "?").unwrap();
    }
    let loaded = load(root);
    assert_eq!(loaded.diagnostics, []);
    let tree = loaded.tree.unwrap();
    let paths: Vec<_> = tree.layouts.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["layouts/a.toml", "layouts/team/b.toml"]);
    assert_eq!(loaded.revision.name, None);

    // A ConfigMap's files are links to links; only what they say counts.
    let other = tempfile::tempdir().unwrap();
    fs::create_dir_all(other.path().join("layouts/..2024")).unwrap();
    fs::create_dir_all(other.path().join("layouts/team")).unwrap();
    symlink("..2024", other.path().join("layouts/..data")).unwrap();
    fs::write(other.path().join("layouts/..2024/a.toml"), gpu.replace('b', "a")).unwrap();
    symlink("..data/a.toml", other.path().join("layouts/a.toml")).unwrap();
    fs::write(other.path().join("layouts/team/b.toml"), gpu).unwrap();
    fs::write(other.path().join("REVISION"), "v1.2.3\nmore\n").unwrap();
    let same = load(other.path());
    assert_eq!(same.diagnostics, []);
    assert_eq!(same.revision.name.as_deref(), Some("v1.2.3"));
    assert_eq!(same.revision.digest, loaded.revision.digest);
    fs::write(other.path().join("layouts/a.toml"), "# other bytes").unwrap();
    assert_ne!(load(other.path()).revision.digest, loaded.revision.digest);
}

#[test]
fn the_revision_is_gits() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("fleet/layouts")).unwrap();
    fs::write(root.join("fleet/layouts/a.toml"), "nodes = [\"a\"]\n[[gpu]]\nmig = false\n").unwrap();
    if !git(root, &["init"]) {
        return; // Without git there is nothing to compare with.
    }
    assert!(git(root, &["add", "."]) && git(root, &["commit", "-m", "a"]));
    let name = || load(&root.join("fleet")).revision.name.unwrap();
    let clean = name();
    let hash = fs::read_to_string(root.join(".git/refs/heads/main")).unwrap();
    assert_eq!(clean, format!("main@sha1:{}", &hash[..7]));
    assert!(git(root, &["pack-refs", "--all"]));
    assert_eq!(name(), clean);
    fs::write(root.join("unrelated"), "").unwrap();
    assert_eq!(name(), clean);
    fs::write(root.join("fleet/layouts/b.toml"), "").unwrap();
    assert_eq!(name(), format!("{clean}-dirty"));
    assert!(git(root, &["worktree", "add", "-b", "other", "elsewhere"]));
    assert_eq!(load(&root.join("elsewhere/fleet")).revision.name.unwrap(), clean.replace("main", "other"));
    assert!(git(root, &["checkout", "--detach"]));
    assert_eq!(name(), format!("sha1:{}-dirty", &hash[..7]));
}

#[test]
fn the_revision_is_git_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let hash = "1eabc9a0123456789012345678901234567890ab";
    fs::create_dir_all(dir.path().join(hash).join("layouts")).unwrap();
    symlink(hash, dir.path().join("current")).unwrap();
    assert_eq!(load(&dir.path().join("current")).revision.name.as_deref(), Some("sha1:1eabc9a"));
}

fn toml_ish() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "nodes",
        "labels",
        "[[gpu]]",
        "[[workload]]",
        "gpu",
        "instances",
        "index",
        "uuid",
        "model",
        "count",
        "mig",
        "name",
        "=",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "\n",
        "\"3g.40gb\"",
        "\"*\"",
        "'",
        "\"",
        "\"\"\"",
        "0",
        "1",
        "99999999999999999999999",
        "-1",
        "0x1f",
        "1e9",
        "true",
        "false",
        "1979-05-27",
        "[protect]",
        "pods",
        "[window]",
        "open",
        "\"Mon 00:00-01:00\"",
        "é",
        "\u{feff}",
        "\r",
        "\0",
        "# c",
        "[drain]",
        "timeout",
        "profile",
        "start",
        "compute",
        "\"GPU-1b3c…\"",
        "\"[a-\"",
        "\"{a,b}*\"",
        "\t",
        " ",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_panics(text in prop_oneof![toml_ish(), any::<String>()]) {
        for path in ["layouts/a.toml", "policies/a.toml"] {
            let files = [(path, text.as_str())];
            let (tree, found) = assemble(&files);
            prop_assert_eq!(tree.is_none(), found.iter().any(Diagnostic::is_error));
            for colour in [true, false] {
                diagnostic::render(&found, &sources(&files), colour);
            }
            diagnostic::findings(&found, &sources(&files));
            if let Some(tree) = tree {
                resolve(&tree, &[node("n", &[], 2)]);
            }
        }
        schema::parse_tree_toml("tree.toml", &text, "0.1.0");
    }

    #[test]
    fn a_cut_or_changed_example_does_not_panic(at in 0..LAYOUT.len(), len in 0..40_usize, with in any::<String>()) {
        for (path, text) in [("layouts/a.toml", LAYOUT), ("policies/a.toml", POLICY)] {
            let mut bytes = text.as_bytes().to_vec();
            let end = (at + len).min(bytes.len());
            bytes.splice(at.min(end)..end, with.bytes());
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let files = [(path, text.as_str())];
            let (_, found) = assemble(&files);
            diagnostic::render(&found, &sources(&files), false);
        }
    }

    #[test]
    fn no_value_panics(text in any::<String>(), like in "[0-9a-zA-Z%:, .-]{0,24}") {
        for text in [&text, &like] {
            let _ = values::duration(text);
            let _ = values::window(text);
            let _ = values::share(text);
            let _ = values::time_zone(text);
            let _ = text.parse::<schema::PciAddress>();
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("layouts")).unwrap();
        fs::write(dir.path().join("layouts/a.toml"), &bytes).unwrap();
        fs::write(dir.path().join("tree.toml"), &bytes).unwrap();
        let loaded = load(dir.path());
        diagnostic::render(&loaded.diagnostics, &loaded.sources, true);
    }
}
