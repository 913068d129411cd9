//! NVIDIA's own Python bindings over the library.

use std::path::Path;

use super::client::sectile;

const FLEET: &str = r#"
[[node]]
name = "n1"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  instances = [{ profile = "1g.10gb", start = 6, users = ["process:4711/train"] }]
  [[node.gpu]]
  model = "a100-80gb"
  processes = ["process:4712/notebook"]
"#;

const MANUAL: &str = include_str!("../../packaging/doc/driver.md");

/// What stands between such a line and the end of its code block.
fn block(begin: &str) -> &str {
    MANUAL.split(begin).nth(1).unwrap().split("```").next().unwrap()
}

/// It needs `SECTILE_TEST_PYTHON`: a Python with nvidia-ml-py. `.ci/run` makes one.
#[test]
#[ignore = "needs a Python with nvidia-ml-py"]
fn nvidias_python_bindings_do_all_of_mig() {
    let python = std::env::var_os("SECTILE_TEST_PYTHON").expect("SECTILE_TEST_PYTHON names a Python with nvidia-ml-py");
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet.toml");
    std::fs::write(&fleet, FLEET).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/session.py");
    for rights in [&[][..], &["--sim-unprivileged"]] {
        let mut program = sectile(env!("CARGO_BIN_EXE_sectile"));
        program.env("XDG_STATE_HOME", folder.path().join(format!("state{}", rights.len())));
        program.args(["driver", "--sim"]).arg(&fleet).args(rights).arg("--").arg(&python).arg(&script).args(rights);
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// It needs the same.
#[test]
#[ignore = "needs a Python with nvidia-ml-py"]
fn the_manuals_session_prints_what_the_manual_shows() {
    let python = std::env::var_os("SECTILE_TEST_PYTHON").expect("SECTILE_TEST_PYTHON names a Python with nvidia-ml-py");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("session.py"), block("```python\n")).unwrap();
    std::fs::write(folder.path().join("fleet.toml"), block("```toml\n")).unwrap();
    let mut program = sectile(env!("CARGO_BIN_EXE_sectile"));
    program.current_dir(folder.path()).env("XDG_STATE_HOME", folder.path());
    program.args(["driver", "--sim", "fleet.toml", "--"]).arg(&python).arg("session.py");
    let output = program.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), block("-- python3 session.py\n"));
}
