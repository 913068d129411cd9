//! A folder with a tree and a state of its own, in which the program runs as a person runs it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The folder.
pub(crate) struct Sandbox {
    folder: TempDir,
}

/// What a command told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    /// Without a tree.
    pub(crate) fn empty() -> Self {
        Sandbox { folder: tempfile::tempdir().unwrap() }
    }

    /// With the repository's example tree, under a revision that lasts.
    pub(crate) fn example() -> Self {
        let sandbox = Sandbox::empty();
        for folder in ["layouts", "policies"] {
            for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                sandbox.write(&format!("{folder}/{name}"), &std::fs::read_to_string(&path).unwrap());
            }
        }
        sandbox.write("REVISION", "r1\n");
        sandbox
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Replaces a text that must be there.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name}");
        self.write(name, &text.replacen(from, to, 1));
    }

    /// Runs `sectile` with that command line, and no settings from outside.
    pub(crate) fn run(&self, line: &str) -> Told {
        self.run_with(line, &[])
    }

    pub(crate) fn run_with(&self, line: &str, env: &[(&str, &str)]) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sectile"));
        command.current_dir(self.folder.path()).env_clear().env("XDG_STATE_HOME", self.path("state"));
        let output = command.envs(env.iter().copied()).args(line.split_whitespace()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("{line}: {}", output.status));
        Told { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The standard output of a command that must do well.
    pub(crate) fn data(&self, line: &str) -> String {
        let told = self.run(line);
        assert_eq!(told.code, 0, "{line}: {told:?}");
        told.stdout
    }
}
