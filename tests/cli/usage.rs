//! The command line itself: what is wrong usage, what settings do, and the help.

use super::sandbox::Sandbox;

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    let sandbox = Sandbox::empty();
    let code = |line: &str, env: &[(&str, &str)]| sandbox.run_with(line, env).code;
    for line in [
        "",
        "controller --sim",
        "run --sim",
        "run --resync 1s",
        "plam",
        "plan --shim",
        "plan -o yaml",
        "apply --override window",
        "apply --override protect --reason x",
        "man plam",
        "man plan --out pages",
    ] {
        assert_eq!(code(line, &[]), 64, "{line}");
    }
    assert_eq!(code("plan", &[("SECTILE_OUTPUT", "yaml")]), 64);
    for line in ["--help", "-h", "--version", "plan --help", "help apply", "completions zsh"] {
        assert_eq!(code(line, &[]), 0, "{line}");
    }
    let told = sandbox.run("plan --sims");
    assert!(told.stderr.contains("tip: a similar argument exists: '--sim'"), "{told:?}");
    assert_eq!(told.stdout, "");
}

#[test]
fn settings_from_the_environment_are_read_as_the_flags_are() {
    let sandbox = Sandbox::empty();
    for (name, value) in [
        ("SECTILE_SIM", ""),
        ("SECTILE_SIM", "1"),
        ("SECTILE_YES", "yes"),
        ("SECTILE_QUIET", "1"),
        ("SECTILE_VERBOSE", "2"),
    ] {
        let told = sandbox.run_with("apply --sim-fresh /nowhere", &[(name, value)]);
        assert_eq!(told.code, 1, "{name}={value}: {told:?}");
    }
}

#[test]
fn the_help_is_what_the_manual_prints() {
    let sandbox = Sandbox::empty();
    let mut all = String::new();
    for line in [
        "--help",
        "validate -h",
        "plan -h",
        "apply -h",
        "status -h",
        "profiles -h",
        "fit -h",
        "export -h",
        "driver -h",
        "suspend -h",
        "resume -h",
        "run -h",
        "controller -h",
        "completions -h",
        "man -h",
    ] {
        // Without a terminal the help would be as wide as clap likes.
        let help = sandbox.run_with(line, &[("COLUMNS", "100")]).stdout;
        all.push_str(&format!("$ sectile {line}\n{help}\n"));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn every_command_has_a_page_with_what_its_help_says() {
    let sandbox = Sandbox::empty();
    assert_eq!(sandbox.data("man --out pages/man1"), "");
    let main = sandbox.data("man");
    let mut pages = 1;
    for line in sandbox.data("--help").lines().skip_while(|line| *line != "Commands:").skip(1) {
        let name = line.split_whitespace().next().unwrap_or_default();
        match name {
            "" => break,
            "help" => continue,
            _ => pages += 1,
        }
        let page = sandbox.data(&format!("man {name}"));
        assert_eq!(page, sandbox.read(&format!("pages/man1/sectile-{name}.1")));
        // Troff's hyphens are escaped.
        assert!(main.contains(&format!("sectile\\-{name}(1)")), "{name} is not in sectile(1)");
        for line in sandbox.data(&format!("help {name}")).lines().filter(|line| line.starts_with("  sectile ")) {
            assert!(page.contains(&line.trim().replace('-', "\\-").replace('\'', "\\*(Aq")), "{line}: {page}");
        }
    }
    assert_eq!(main, sandbox.read("pages/man1/sectile.1"));
    assert_eq!(std::fs::read_dir(sandbox.path("pages/man1")).unwrap().count(), pages);
}

#[test]
fn what_this_version_cannot_reach_is_an_error_and_no_wrong_usage() {
    let sandbox = Sandbox::example();
    let lines = [
        "plan --cluster kube",
        "plan --sim --gpus nvml",
        "plan --sim --cluster kube --node gpu-a-01 --kubeconfig no-such-file",
        "plan --fleet --cluster kube --kubeconfig no-such-file",
        "suspend --fleet --reason x --kubeconfig no-such-file",
        "resume --node gpu-* --kubeconfig no-such-file",
        "controller --kubeconfig no-such-file",
        "status --fleet --kubeconfig no-such-file",
    ];
    let told = lines.map(|line| {
        let told = sandbox.run(line);
        assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{line}: {told:?}");
        format!("$ sectile {line}\n{}", told.stderr)
    });
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn colours_are_for_terminals_unless_asked_for() {
    let sandbox = Sandbox::example();
    let colours = |line: &str, env: &[(&str, &str)]| sandbox.run_with(line, env).stdout.contains('\x1b');
    assert!(!colours("plan --sim", &[]));
    assert!(!colours("plan --sim --color never", &[("CLICOLOR_FORCE", "1")]));
    assert!(colours("plan --sim --color always", &[]));
    assert!(colours("plan --sim --color always", &[("NO_COLOR", "1")]));
    // What stands for a terminal where there is none.
    assert!(colours("plan --sim", &[("CLICOLOR_FORCE", "1")]));
    assert!(!colours("plan --sim", &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    let coloured = sandbox.run("plan --sim --color always").stdout;
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), sandbox.run("plan --sim").stdout);
}
