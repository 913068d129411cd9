//! Saved plans: carried out as they are, refused where they no longer hold.

use super::sandbox::Sandbox;

/// The fleet wants one more of the small instances on its first training node.
fn change(sandbox: &Sandbox) {
    sandbox.edit("layouts/training.toml", "\"2g.20gb\", \"1g.10gb\"]", "\"1g.10gb\", \"1g.10gb\"]");
}

#[test]
fn a_saved_plan_is_carried_out() {
    let sandbox = Sandbox::example();
    let told = sandbox.run("plan --sim --out plan.json");
    assert_eq!(told.stderr, "Saved. `sectile apply plan.json --sim` carries out exactly this.\n");
    let plan = told.stdout;
    assert!(sandbox.data("apply plan.json --sim").starts_with(&plan));
    assert_eq!(sandbox.run("plan --sim --detailed-exitcode").code, 0);
}

#[test]
fn a_stale_plan_is_refused_with_the_difference() {
    let sandbox = Sandbox::example();
    sandbox.data("plan --sim --out plan.json");
    change(&sandbox);
    let told = sandbox.run("apply plan.json --sim");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(told.stderr);
    // Nothing was done: the old tree's plan still holds.
    sandbox.edit("layouts/training.toml", "\"1g.10gb\", \"1g.10gb\"]", "\"2g.20gb\", \"1g.10gb\"]");
    assert_eq!(sandbox.run("apply plan.json --sim").code, 0);
    // Done once, it holds no longer.
    assert_eq!(sandbox.run("apply plan.json --sim").code, 1);
}

#[test]
fn the_plan_of_one_node_is_carried_out_on_that_node() {
    let sandbox = Sandbox::example();
    sandbox.data("plan --sim --node ws-01 --out plan.json");
    sandbox.data("apply plan.json --sim");
    assert_eq!(sandbox.run("plan --sim --node ws-01 --detailed-exitcode").code, 0);
    assert_eq!(sandbox.run("plan --sim --node edge-01 --detailed-exitcode").code, 2);
    // And of a plan of all nodes, one may be carried out.
    sandbox.data("plan --sim --out plan.json");
    sandbox.data("apply plan.json --sim --node edge-01");
    assert_eq!(sandbox.run("plan --sim --node edge-01 --detailed-exitcode").code, 0);
    assert_eq!(sandbox.run("plan --sim --detailed-exitcode").code, 2);
}

/// What belongs to no node was missing in the one plan, and not in the other.
#[test]
fn the_plan_of_the_only_node_of_a_fleet_was_stale_at_once() {
    let sandbox = Sandbox::empty();
    let workload = "[[workload]]\nkind = \"Deployment\"\nnamespace = \"x\"\nname = \"w\"\nprofile = \"2g.20gb\"\n";
    let gpu = "[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\ninstances = [{ profile = \"2g.20gb\" }]\n";
    sandbox.write("fleet.toml", &format!("[[node]]\nname = \"n\"\n{gpu}{workload}"));
    let target = "kubernetes = { kind = \"Deployment\", namespace = \"x\", name = \"w\" }\nmanage = true\n";
    let binding = format!("[[workload]]\nname = \"w\"\nprofile = \"1g.10gb\"\n{target}");
    let layout = "nodes = [\"n\"]\n[[gpu]]\ninstances = [\"2g.20gb\", \"1g.10gb\"]\n";
    sandbox.write("layouts/n.toml", &format!("{layout}{binding}"));
    sandbox.write("policies/p.toml", "nodes = [\"*\"]\n[apply]\nmode = \"auto\"\n");
    for (plan, apply) in [("--node n", ""), ("", "--node n"), ("--node n", "--node n")] {
        sandbox.data(&format!("plan --sim fleet.toml --sim-fresh {plan} --out plan.json"));
        let told = sandbox.run(&format!("apply plan.json --sim fleet.toml {apply}"));
        assert_eq!(told.code, 0, "{told:?}");
        assert!(!told.stderr.contains("bind Deployment"), "{told:?}");
    }
}

#[test]
fn the_plan_of_a_tree_elsewhere_is_compared_with_that_tree() {
    let (tree, sandbox) = (Sandbox::example(), Sandbox::empty());
    let path = tree.path("").display().to_string();
    let told = sandbox.run(&format!("plan {path} --sim --out plan.json"));
    let line = format!("apply plan.json --tree {path} --sim");
    assert!(told.stderr.contains(&line), "{told:?}");
    assert_eq!(sandbox.run("apply plan.json --sim").code, 1);
    assert_eq!(sandbox.run_with("apply plan.json --sim --dry-run", &[("SECTILE_TREE", &path)]).code, 0);
    assert_eq!(sandbox.run(&line).code, 0);
}

#[test]
fn what_is_no_plan_is_refused() {
    let sandbox = Sandbox::example();
    let told = sandbox.run("apply layouts/edge.toml --sim");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(told.stderr);
    sandbox.data("plan --sim --out plan.json");
    sandbox.edit("plan.json", "\"format_version\": \"1\"", "\"format_version\": \"9\"");
    let told = sandbox.run("apply plan.json --sim");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("caused by: it has format 9, and this version reads 1"), "{told:?}");
    std::fs::write(sandbox.path("bytes"), b"\xff").unwrap();
    let told = ["apply bytes --sim", "plan --sim bytes", "plan --sim nowhere", "plan --sim layouts"].map(|line| {
        let told = sandbox.run(line);
        assert_ne!(told.code, 0, "{line}");
        format!("$ sectile {line}\n{}", told.stderr)
    });
    insta::assert_snapshot!("what_is_no_file_of_text_is_refused", told.join("\n"));
}

#[test]
fn a_name_from_a_file_is_not_obeyed_by_the_terminal() {
    let sandbox = Sandbox::example();
    sandbox.write("layouts/x\u{1b}[2J.toml", "");
    sandbox.write("layouts/edge.toml", "\"\u{9b}2J\" = 1\n");
    let told = sandbox.run("plan --sim");
    assert_eq!(told.code, 1);
    let obeyed = |c: char| c.is_control() && c != '\n';
    assert!(!told.stderr.contains(obeyed), "{told:?}");
    assert!(told.stderr.contains("layouts/x\\u{1b}[2J.toml") && told.stderr.contains("\\u{9b}2J"), "{told:?}");
}
