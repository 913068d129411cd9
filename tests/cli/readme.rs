//! The README's outputs are what the program prints.

use std::path::Path;

use super::sandbox::Sandbox;

/// Lines without what differs from checkout to checkout: the revision.
fn comparable(line: &str) -> String {
    match line.split(" · ").collect::<Vec<_>>().as_slice() {
        [first, _, rest @ ..] if rest.first().is_some_and(|rest| rest.starts_with("layouts/")) => {
            format!("{first} · {}", rest.join(" · "))
        }
        _ => line.trim_end().to_owned(),
    }
}

/// The code block after the one that is this command.
fn output_of(readme: &str, command: &str) -> String {
    let after = readme.split(&format!("```\n$ {command}\n")).nth(1).unwrap();
    after.split("```").next().unwrap().to_owned()
}

/// Whether the lines shown were printed, in this order; `…` stands for those left out.
fn assert_shown(command: &str, printed: &str) {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut printed = printed.lines().map(comparable);
    for line in output_of(&readme, &format!("cargo run --release -- {command}")).lines().filter(|line| *line != "…") {
        let line = comparable(line);
        assert!(printed.any(|printed| printed == line), "not printed, or not in this order: {line}");
    }
}

#[test]
fn the_main_job_prints_what_the_readme_shows() {
    let told = Sandbox::example().run("apply --sim");
    // On a terminal the steps stand between the plan and the result.
    let (plan, result) = told.stdout.split_once("\nDone: ").unwrap();
    assert_shown("apply --sim", &format!("{plan}{}\nDone: {result}", told.stderr));
}

#[test]
fn the_plan_that_the_readme_explains_is_one() {
    assert_shown("plan --sim --node gpu-a-01", &Sandbox::example().data("plan --sim --node gpu-a-01"));
}

#[test]
#[should_panic(expected = "not printed")]
fn another_output_is_noticed() {
    assert_shown("plan --sim --node gpu-a-01", &Sandbox::example().data("plan --sim --node ws-01"));
}
