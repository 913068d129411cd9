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
    assert!(told.stderr.contains("the saved plan has format 9, and this version writes 1"), "{told:?}");
}
