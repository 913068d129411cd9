//! Four models on one GPU by four bindings, and one of them is recut while the other three serve on: the example of the
//! README.

use std::path::Path;

use super::sandbox::Sandbox;

const FILES: [&str; 3] = ["layouts/inference.toml", "policies/default.toml", "fleet.toml"];

fn example() -> Sandbox {
    let sandbox = Sandbox::empty();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/four-models");
    FILES.iter().for_each(|file| sandbox.write(file, &std::fs::read_to_string(from.join(file)).unwrap()));
    sandbox.write("REVISION", "r1\n");
    sandbox
}

/// Each instance with who is on it: `1g.10gb at 0   models/embed-…`.
fn users(sandbox: &Sandbox) -> Vec<String> {
    let status = sandbox.data("status --sim fleet.toml");
    let lines = status.lines().filter(|line| line.contains("models/"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn four_models_share_a_gpu_and_one_is_recut_while_three_serve_on() {
    let sandbox = example();
    let first = sandbox.run("apply --sim fleet.toml");
    assert!(first.code == 0 && first.stderr.matches(" done   bind Deployment models/").count() == 4, "{first:?}");
    let before = users(&sandbox);
    assert_eq!(before.len(), 4, "{before:?}");
    sandbox.edit("layouts/inference.toml", "\"1g.10gb\" = 3 }", "\"1g.10gb\" = 2, \"2g.20gb\" = 1 }");
    let guard = "name = \"guard\" }\nprofile = \"";
    sandbox.edit("layouts/inference.toml", &format!("{guard}1g.10gb"), &format!("{guard}2g.20gb"));
    let plan = sandbox.data("plan --sim fleet.toml");
    assert!(plan.contains("Plan: 1 to create, 1 to destroy, 1 workload to bind, 3 kept, 1 pod to move"), "{plan}");
    let second = sandbox.run("apply --sim fleet.toml");
    assert!(second.code == 0 && second.stdout.contains("Done: 1 created, 1 destroyed, 1 moved in"), "{second:?}");
    let after = users(&sandbox);
    let kept = |all: &[String]| all.iter().filter(|line| !line.contains("guard")).cloned().collect::<Vec<_>>();
    // The same pods, by name, at the same places.
    assert_eq!((kept(&before).len(), kept(&before)), (3, kept(&after)));
    assert!(after.iter().any(|line| line.starts_with("2g.20gb at 2") && line.contains("models/guard-")), "{after:?}");
    assert_eq!(sandbox.run("plan --sim fleet.toml --detailed-exitcode").code, 0);
}
