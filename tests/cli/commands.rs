//! `profiles`, `fit` and `export`: what is printed, what is written, and what is refused.

use std::path::Path;

use super::sandbox::Sandbox;

/// Each command line with what it told and its exit code.
fn told(sandbox: &Sandbox, lines: &[&str]) -> String {
    let told = lines.iter().map(|line| {
        let told = sandbox.run(line);
        let code = if told.code == 0 { String::new() } else { format!("=> {}\n", told.code) };
        format!("$ sectile {line}\n{}{}{code}", told.stdout, told.stderr)
    });
    told.collect::<Vec<_>>().join("\n")
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap()
}

#[test]
fn what_boards_offer_is_drawn() {
    let sandbox = Sandbox::example();
    let lines = ["profiles", "profiles h100-80gb-sxm", "profiles rtx-pro-4500*", "profiles --sim"];
    insta::assert_snapshot!(told(&sandbox, &lines));
    let wide = ["profiles -o wide", "profiles H100-80GB-PCIe -o wide", "profiles a30* --sim -o wide"];
    insta::assert_snapshot!("wide", told(&sandbox, &wide));
    for board in sectile::model::catalogue::all() {
        let line = format!("profiles {}", board.id);
        assert!(widest(&sandbox.data(&line)) <= 80, "{line}");
        assert!(widest(&sandbox.data(&format!("{line} -o wide"))) <= 130, "{line}");
    }
    assert!(widest(&sandbox.data("profiles")) <= 80 && widest(&sandbox.data("profiles -o wide")) <= 130);
}

#[test]
fn an_unknown_board_is_wrong_usage_that_names_the_nearest() {
    let sandbox = Sandbox::example();
    let lines =
        ["profiles h100-80gb-sxn", "profiles [", "profiles v100", "fit h100-80gb-sxn 1g", "profiles a30x --sim"];
    insta::assert_snapshot!(told(&sandbox, &lines));
    // "NVIDIA " before a name makes none of its letters likelier.
    assert!(!sandbox.run("profiles zzz").stderr.contains("did you mean"));
}

#[test]
fn where_a_set_fits_is_drawn_and_where_not_the_reason_is_told() {
    let sandbox = Sandbox::example();
    let lines = [
        "fit h100-80gb-sxm 3g.40gb 2g.20gb 1g.10gb=2",
        "fit h100-80gb-sxm 1g=2 2g 1g.20gb",
        "fit a30 2g@2 1g",
        "fit h100-80gb-sxm 4g 3g=2",
        "fit h100-80gb-sxm 1g+me=2 3g",
        "fit h100-80gb-sxm 3g@0 2g=2",
        "fit h100-80gb-sxm 3g@1",
        "fit rtx-pro-6000-blackwell 1g+me.all 1g+me",
        "fit h100-80gb-sxm 3g.39gb",
        "fit h100-80gb-sxm 5g",
        "fit H100* 3g",
        "fit rtx-pro-4500-blackwell-32gb 1g",
        "fit h100-80gb-sxm",
        "fit a30 1g=2@1",
        "fit RTX* 2g 1g+gfx --sim",
        "fit a30 2g=3 -o json",
        "fit a30 2g 1g@3 -o json",
    ];
    insta::assert_snapshot!(told(&sandbox, &lines));
}

#[test]
fn boards_for_programs_have_the_source_of_each_figure() {
    let sandbox = Sandbox::example();
    let json = |line: &str| -> serde_json::Value { serde_json::from_str(&sandbox.data(line)).unwrap() };
    let boards = json("profiles -o json");
    assert_eq!(boards["boards"].as_array().unwrap().len(), sectile::model::catalogue::all().count());
    let board = &json("profiles h100-80gb-pcie -o json")["boards"][0];
    assert_eq!((&board["id"], &board["units"]), (&"h100-80gb-pcie".into(), &8.into()));
    let profile = &board["profiles"][0];
    assert_eq!((&profile["id"]["value"], &profile["id"]["from"]), (&19.into(), &"inferred".into()));
    assert_eq!(profile["memory_mib"], serde_json::json!({ "value": null, "from": "unknown" }));
    assert_eq!(profile["placements_from"], "inferred");
    let gpu = &json("profiles a30 --sim -o json")["nodes"][0]["gpus"][0];
    assert_eq!((&gpu["board"], &gpu["geometry"]["units"]), (&"a30-24gb".into(), &4.into()));
}

#[test]
fn the_manuals_outputs_are_what_is_printed() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/doc/commands.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let sandbox = Sandbox::example();
    let blocks: Vec<&str> = manual.split("```\n$ sectile ").skip(1).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let (line, rest) = block.split_once('\n').unwrap();
        assert_eq!(sandbox.run(line).stdout, rest.split("```").next().unwrap(), "{line}");
    }
    let layout = manual.split("# layouts/gpu-a-02.toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(sandbox.data("export --sim --node gpu-a-02").ends_with(layout), "{layout}");
}

/// A node on which something is odd of everything that a layout can say.
const FLEET: &str = r#"[[node]]
name = "n1"
cluster = false
  [[node.gpu]]
  model = "h100-80gb-sxm"
  count = 2
  instances = [{ profile = "3g.40gb", start = 4 }, { profile = "2g.20gb", start = 0 }]
  [[node.gpu]]
  model = "a100-80gb"
  mig = false
  [[node.gpu]]
  model = "h100-80gb-sxm"
  instances = [
    { profile = "1g.10gb", start = 3 },
    { profile = "3g.40gb", start = 4, compute = ["1c.3g.40gb", "2c.3g.40gb"] },
  ]
  [[node.gpu]]
  model = "a30-24gb"
  mig = true
"#;

/// The same node as somebody describes it who has not looked for a while.
const WRITTEN: &str = r#"# Who owns this: team inference.
nodes = ["n1"] # only this one

# The large models.
[[gpu]] # both alike
index = [
  0, # first
  1, # second
  4, # the small one
]
# as agreed in March
instances = { "3g.40gb" = 1,   "1g.10gb" = 2 } # do not touch
  # a word about the next one

[[gpu]]
model = "A100*" # old
[gpu.instances]
# one of each
"3g.40gb" = 1 # big
"2g.20gb" = 1

[[workload]]
name = "embedder"   # odd   spacing
kubernetes = { kind = "Job", namespace = "a", name = "b" }
profile = "3g.40gb"
# the end
"#;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("fleet.toml", FLEET);
    sandbox.write("tree/layouts/n.toml", WRITTEN);
    sandbox
}

#[test]
fn an_exported_node_is_a_layout_that_plans_to_nothing() {
    let sandbox = sandbox();
    let text = sandbox.data("export --sim fleet.toml");
    insta::assert_snapshot!(text);
    sandbox.write("new/layouts/n1.toml", &text);
    assert_eq!(sandbox.run("plan new --sim fleet.toml --detailed-exitcode").code, 0);
    assert_eq!(sandbox.data("export --sim fleet.toml -o json"), text, "TOML whatever is asked for");
}

#[test]
fn a_file_that_is_there_keeps_its_comments_and_its_order() {
    let sandbox = sandbox();
    let line = "export --sim fleet.toml --out tree/layouts/n.toml";
    assert_eq!(sandbox.run(line).stderr, "tree/layouts/n.toml: written\n");
    let text = sandbox.read("tree/layouts/n.toml");
    insta::assert_snapshot!(text);
    assert_eq!(sandbox.run("plan tree --sim fleet.toml --node n1 -o json").code, 0);
    assert_eq!(sandbox.run(line).stderr, "tree/layouts/n.toml: says so already\n");
    assert_eq!(sandbox.read("tree/layouts/n.toml"), text);
    let left: Vec<_> = std::fs::read_dir(sandbox.path("tree/layouts")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is left behind");
    // Edited by hand, planned and carried out, and exported again: what somebody wrote stays as they wrote it.
    sandbox.edit("tree/layouts/n.toml", "index = [4]", "index = [4] # mine");
    sandbox.edit("tree/layouts/n.toml", "instances = {}", "instances = [ \"1g\" ]");
    let edited = sandbox.read("tree/layouts/n.toml");
    sandbox.write("tree/policies/p.toml", "nodes = [\"*\"]\n");
    sandbox.run("apply tree --sim fleet.toml -q");
    assert_eq!(sandbox.run(line).stderr, "tree/layouts/n.toml: says so already\n");
    assert_eq!(sandbox.read("tree/layouts/n.toml"), edited);
}

#[test]
fn what_no_layout_can_tell_is_left_alone_with_the_reason() {
    let sandbox = sandbox();
    sandbox.write("fleet.toml", &FLEET.replace("cluster = false\n", ""));
    let text = sandbox.data("export --sim fleet.toml");
    let refused = sandbox.run("export --sim fleet.toml --out tree/layouts/n.toml");
    // Nobody's entry becomes `managed = false`; of a GPU that no entry speaks of nothing need be said.
    sandbox.edit("tree/layouts/n.toml", "model = \"A100*\" # old", "index = [2, 3]");
    let other = sandbox.run("export --sim fleet.toml --out tree/layouts/n.toml");
    insta::assert_snapshot!([text, refused.stderr, other.stderr].join("\n"));
    assert_eq!((refused.code, other.code), (0, 1));
}

#[test]
fn windows_line_ends_stay() {
    let sandbox = sandbox();
    sandbox.write("n.toml", &WRITTEN.replace('\n', "\r\n"));
    sandbox.data("export --sim fleet.toml --out n.toml");
    let text = sandbox.read("n.toml");
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    sandbox.data("export --sim fleet.toml --out tree/layouts/n.toml");
    assert_eq!(text.replace("\r\n", "\n"), sandbox.read("tree/layouts/n.toml"));
}

#[test]
fn a_file_that_would_come_to_harm_is_left_as_it_is() {
    let sandbox = sandbox();
    let files = [
        ("others", "nodes = [\"n1\", \"n2\"]\n[[gpu]]\ninstances = [\"7g\"]\n"),
        ("glob", "nodes = [\"n*\"]\n[[gpu]]\ninstances = [\"7g\"]\n"),
        (
            "every",
            "[[workload]]\nname = \"w\"\nprofile = \"1g\"\nkubernetes = { kind = \"Job\", namespace = \"a\", name = \"b\" }\n",
        ),
        ("labels", "nodes = [\"n1\"]\nlabels = { pool = \"x\" }\n[[gpu]]\ninstances = [\"7g\"]\n"),
        ("count", "nodes = [\"n1\"]\n[[gpu]]\nmodel = \"H100*\"\ncount = 1\ninstances = [\"7g\"]\n"),
        ("gone", "nodes = [\"n1\"]\n[[gpu]]\nindex = [7]\ninstances = [\"7g\"]\n"),
        ("inline", "nodes = [\"n1\"]\ngpu = [{ index = [0], instances = [\"7g\"] }]\n"),
        ("tie", "nodes = [\"n1\"]\n[[gpu]]\ninstances = [\"7g\"]\n[[gpu]]\nmig = false\n"),
        ("dotted", "nodes = [\"n1\"]\n[[gpu]]\ninstances.7g = 1 # all of it\n"),
        ("broken", "nodes = [\"n1\"]\n[[gpu]]\nindx = [7]\n"),
    ];
    let mut told = Vec::new();
    for (name, text) in files {
        sandbox.write(&format!("{name}.toml"), text);
        let answer = sandbox.run(&format!("export --sim fleet.toml --out {name}.toml"));
        assert_eq!((answer.code, answer.stdout.as_str()), (1, ""), "{name}");
        assert_eq!(sandbox.read(&format!("{name}.toml")), text);
        told.push(answer.stderr);
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn several_nodes_are_a_tree() {
    let sandbox = Sandbox::example();
    let told = sandbox.run("export --sim");
    assert_eq!((told.code, told.stdout.as_str()), (64, ""));
    let written = sandbox.run("export --sim --out new");
    assert_eq!((written.code, written.stdout.as_str()), (0, ""));
    insta::assert_snapshot!(format!("{}\n{}", told.stderr, written.stderr));
    assert_eq!(sandbox.run("plan new --sim --detailed-exitcode").code, 0);
    // Beside the tree that is there they win, and after it was carried out they say what it said.
    sandbox.data("apply --sim -q");
    sandbox.data("export --sim --out . -q");
    assert_eq!(sandbox.run("plan --sim --detailed-exitcode").code, 0);
    // One that names a node itself would tie.
    sandbox.write("layouts/mine.toml", "nodes = [\"ws-01\"]\n[[gpu]]\ninstances = []\n");
    std::fs::remove_file(sandbox.path("layouts/ws-01.toml")).unwrap();
    let tie = sandbox.run("export --sim --out .");
    assert_eq!(tie.code, 1);
    assert!(tie.stderr.contains("two layouts are equally specific"), "{tie:?}");
    assert!(!sandbox.path("layouts/ws-01.toml").exists());
}
