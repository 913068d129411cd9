//! How the program ends, and what it says of itself.

use std::process::{Command, Output};

/// Runs the program with that command line and no settings from outside.
fn sectile(line: &str, env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
    command.env_clear().env("COLUMNS", "100").envs(env.iter().copied());
    command.args(line.split_whitespace()).output().unwrap()
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    let code = |line: &str, env: &[(&str, &str)]| sectile(line, env).status.code();
    assert_eq!(code("", &[]), Some(64));
    assert_eq!(code("plam", &[]), Some(64));
    assert_eq!(code("plan --shim", &[]), Some(64));
    assert_eq!(code("apply --override window", &[]), Some(64));
    assert_eq!(code("plan", &[("SECTILE_OUTPUT", "yaml")]), Some(64));
    for line in ["--help", "-h", "--version", "plan --help", "help apply", "completions zsh"] {
        assert_eq!(code(line, &[]), Some(0), "{line}");
    }
}

#[test]
fn settings_from_the_environment_are_read_as_the_flags_are() {
    for (name, value) in [
        ("SECTILE_SIM", ""),
        ("SECTILE_SIM", "1"),
        ("SECTILE_YES", "yes"),
        ("SECTILE_QUIET", "1"),
        ("SECTILE_VERBOSE", "2"),
    ] {
        let output = sectile("apply --sim-fresh /nowhere", &[(name, value)]);
        assert_ne!(output.status.code(), Some(64), "{name}={value}: {output:?}");
    }
}

#[test]
fn the_help_is_what_the_manual_prints() {
    let mut all = String::new();
    for line in ["--help", "validate -h", "plan -h", "apply -h", "status -h", "completions -h"] {
        let help = String::from_utf8(sectile(line, &[]).stdout).unwrap();
        all.push_str(&format!("$ sectile {line}\n{help}\n"));
    }
    insta::assert_snapshot!(all);
}
