//! Budgets over a whole fleet, from the command line.

use super::sandbox::{Sandbox, Told};

/// Three nodes that each lack an instance; on the first a pod without a controller is in the way.
fn sandbox(policy: &str) -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.write("REVISION", "r1\n");
    let layout = "nodes = [\"*\"]\n[[gpu]]\ninstances = [\"4g.40gb\", \"1g.10gb\"]\n";
    sandbox.write("layouts/all.toml", layout);
    sandbox.write("policies/all.toml", &format!("nodes = [\"*\"]\n{policy}"));
    let node = |name: &str, instance: &str| {
        format!(
            "[[node]]\nname = \"{name}\"\n[[node.gpu]]\nmodel = \"h100-80gb-sxm\"\nmig = true\ninstances = [{instance}]\n"
        )
    };
    let stuck = "{ profile = \"2g.20gb\", start = 0, users = [\"pod:lab/notebook\"] }";
    let fleet = node("n1", stuck) + &node("n2", "") + &node("n3", "");
    sandbox.write("fleet.toml", &fleet);
    sandbox
}

/// Which nodes had a step done, in order.
fn changed(told: &Told) -> Vec<String> {
    let done = told.stderr.lines().filter(|line| line.contains(" done "));
    let mut names: Vec<String> = done.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    names.dedup();
    names
}

#[test]
fn nodes_go_one_after_the_other_and_one_apply_takes_all_of_them() {
    let sandbox = sandbox("[budget]\nmax_nodes = 1\n[drain]\nforce = true\n");
    let plan = sandbox.run("plan --sim fleet.toml --detailed-exitcode");
    assert_eq!(plan.code, 2);
    let states: Vec<&str> = plan
        .stdout
        .lines()
        .filter(|line| line.starts_with('n'))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(states, ["changing", "waiting", "waiting"]);
    let apply = sandbox.run("apply --sim fleet.toml");
    assert_eq!((apply.code, changed(&apply)), (0, ["n1", "n2", "n3"].map(str::to_owned).to_vec()), "{apply:?}");
    assert!(apply.stdout.contains("3 nodes converged"), "{apply:?}");
}

#[test]
fn nobody_goes_before_a_canary_that_is_blocked_unless_somebody_says_why() {
    let sandbox = sandbox("[budget]\ncanary = 1\n");
    let apply = sandbox.run("apply --sim fleet.toml");
    assert_eq!((apply.code, changed(&apply)), (3, vec![]), "{apply:?}");
    assert!(apply.stdout.contains("budget: n2: canary n1 converges first, and is blocked"), "{apply:?}");
    let override_it = "apply --sim fleet.toml --override budget --reason tested-by-hand";
    let told = sandbox.run(override_it);
    // Side by side.
    let names: std::collections::BTreeSet<String> = changed(&told).into_iter().collect();
    assert_eq!((told.code, names), (3, ["n2", "n3"].map(str::to_owned).into()), "{told:?}");
}

#[test]
fn what_is_protected_can_not_be_overridden() {
    let sandbox = sandbox("[drain]\nforce = true\n[protect]\npods = [{ namespace = \"lab\" }]\n");
    let told = sandbox.run("apply --sim fleet.toml --override protect --reason because");
    assert_eq!(told.code, 64, "{told:?}");
    let told = sandbox.run("apply --sim fleet.toml --override window,budget --reason because");
    assert_eq!(told.code, 3, "{told:?}");
    assert!(told.stdout.contains("protected: pod lab/notebook"), "{told:?}");
}
