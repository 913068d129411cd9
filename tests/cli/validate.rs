//! `validate`, and what every command says of a tree with errors.

use super::sandbox::Sandbox;

/// A tree in which several people were in a hurry.
fn broken() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("REVISION", "r1\n");
    sandbox.write(
        "layouts/a.toml",
        r#"nodes = ["gpu-a-*"]
node = 3

[[gpu]]
indx = [1]
mig = "off"

[[workload]]
name = "llama"
kubernetes = { kind = "Deploiment", namespace = "x", name = "llama" }
profile = "3g.40gb"
"#,
    );
    sandbox.write("layouts/b.toml", "nodes = [\"gpu-b-*\"\n[[gpu]]\n");
    sandbox.write(
        "policies/p.toml",
        "nodes = [\"*\"]\n[apply]\nmode = \"automatic\"\n[window]\nopen = [\"Mo-Fri 22:00\"]\n",
    );
    sandbox
}

#[test]
fn the_example_tree_is_sound() {
    let sandbox = Sandbox::example();
    let alone = sandbox.run("validate");
    assert_eq!((alone.code, alone.stderr.as_str()), (0, ""));
    let simulated = sandbox.run("validate --sim");
    assert_eq!((simulated.code, simulated.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(format!("{}\n{}", alone.stdout, simulated.stdout));
    let json = |line: &str| -> serde_json::Value { serde_json::from_str(&sandbox.data(line)).unwrap() };
    let none = serde_json::json!([]);
    // Without nodes nobody asked whether it fits them.
    assert_eq!((&json("validate -o json")["findings"], json("validate -o json")["blocked"].is_null()), (&none, true));
    assert_eq!(json("validate -o json --sim")["blocked"], none);
}

#[test]
fn every_error_is_told_at_once() {
    let sandbox = broken();
    let told = sandbox.run("validate");
    assert_eq!((told.code, told.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(told.stderr);
    for line in ["plan --sim", "apply --sim", "status --sim", "validate --sim", "plan --sim -q"] {
        let other = sandbox.run(line);
        assert_eq!((other.code, other.stdout.as_str(), other.stderr), (1, "", told.stderr.clone()), "{line}");
    }
}

#[test]
fn errors_are_also_told_to_programs() {
    let sandbox = broken();
    let told = sandbox.run("validate -o json");
    assert_eq!((told.code, told.stderr.as_str()), (1, ""));
    let findings: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert!(findings["blocked"].is_null());
    let findings: Vec<String> = findings["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| {
            format!("{} {}:{}:{}", f["code"].as_str().unwrap(), f["file"].as_str().unwrap(), f["line"], f["column"])
        })
        .collect();
    insta::assert_snapshot!(findings.join("\n"));
}

#[test]
fn what_does_not_fit_the_nodes_is_told_to_programs_with_3() {
    let sandbox = Sandbox::example();
    sandbox.edit("layouts/training.toml", "\"4g.40gb\", \"2g.20gb\"", "\"4g.40gb\", \"4g.40gb\"");
    for line in ["validate --sim", "validate -o json --sim"] {
        let told = sandbox.run(line);
        assert_eq!(told.code, 3, "{line}: {}", told.stderr);
        assert!(told.stdout.contains("does-not-fit"), "{line}: {}", told.stdout);
    }
}

#[test]
fn where_there_is_no_tree_that_is_said() {
    let sandbox = Sandbox::empty();
    let told = sandbox.run("plan nowhere --sim");
    assert_eq!(told.code, 1);
    insta::assert_snapshot!(told.stderr);
}

#[test]
fn the_trees_of_the_packaged_examples_are_sound() {
    for example in ["configmap", "four-models"] {
        let tree = format!("{}/packaging/examples/{example}", env!("CARGO_MANIFEST_DIR"));
        let told = Sandbox::empty().run(&format!("validate {tree}"));
        assert!(
            told.code == 0 && told.stdout.starts_with("The tree is sound: 1 layout and 1 policy files"),
            "{told:?}"
        );
    }
}
