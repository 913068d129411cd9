//! `--sim FLEET.toml`: fleets of one's own, broken ones, and one on which something is blocked.

use super::sandbox::Sandbox;

/// One node whose GPU is to be one piece, while a pod that nobody would start again sits on a part of it.
fn blocked() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("REVISION", "r1\n");
    sandbox.write("layouts/n.toml", "nodes = [\"n1\"]\n\n[[gpu]]\ninstances = [\"7g.80gb\"]\n");
    sandbox.write("policies/p.toml", "nodes = [\"*\"]\n[drain]\nforce = false\n");
    sandbox.write(
        "fleet.toml",
        r#"[[node]]
name = "n1"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  instances = [{ profile = "3g.40gb", start = 4, users = ["pod:lab/notebook"] }]
"#,
    );
    sandbox
}

#[test]
fn what_is_blocked_is_3_and_says_what_to_do() {
    let sandbox = blocked();
    let plan = sandbox.run("plan --sim fleet.toml --detailed-exitcode");
    assert_eq!((plan.code, plan.stderr.as_str()), (3, ""));
    assert_eq!(sandbox.run("plan --sim fleet.toml").code, 0);
    let apply = sandbox.run("apply --sim fleet.toml");
    assert_eq!(apply.code, 3);
    assert_eq!(sandbox.run("validate --sim fleet.toml").code, 3);
    let status = sandbox.data("status --sim fleet.toml");
    insta::assert_snapshot!(format!("{}\n---- apply\n{}\n---- status\n{status}", plan.stdout, apply.stdout));
    // The hint is the way out.
    sandbox.write("policies/p.toml", "nodes = [\"*\"]\n[drain]\nforce = true\n");
    assert_eq!(sandbox.run("apply --sim fleet.toml").code, 0);
}

#[test]
fn a_fleet_file_has_a_state_of_its_own() {
    let sandbox = blocked();
    sandbox.data("plan --sim fleet.toml");
    sandbox.edit("fleet.toml", "start = 4", "start = 0");
    let told = sandbox.run("plan --sim fleet.toml");
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("hint: --sim-fresh starts over"), "{told:?}");
    assert_eq!(sandbox.run("plan --sim fleet.toml --sim-fresh").code, 0);
    assert_eq!(sandbox.run("plan --sim fleet.toml").code, 0);
    assert_eq!(sandbox.run("plan --sim fleet.toml --sim-state other.json").code, 0);
    assert!(sandbox.path("other.json").exists());
}

#[test]
fn a_broken_fleet_file_is_told_with_places() {
    let sandbox = blocked();
    sandbox.edit("fleet.toml", "h100-80gb-sxm", "h100-80gb-sxn");
    sandbox.edit("fleet.toml", "name = \"n1\"", "nam = \"n1\"");
    let told = sandbox.run("plan --sim fleet.toml");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    let missing = sandbox.run("plan --sim flet.toml");
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""));
    let folder = sandbox.run("plan --sim layouts");
    assert_eq!((folder.code, folder.stdout.as_str()), (64, ""));
    insta::assert_snapshot!([told.stderr, missing.stderr, folder.stderr].join("\n"));
}
