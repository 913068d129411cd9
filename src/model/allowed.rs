//! What a node lets the tree touch of its host. Whoever may write to git must not thereby become root, so that it is the
//! node's own settings that list it, and by default nothing.

use super::text::glob_matches;

/// Units and commands that the tree may name on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Where that is told.
    pub file: String,
    /// Globs over units that may be stopped and started.
    pub units: Vec<String>,
    /// Programs that may be run, by absolute path.
    pub commands: Vec<String>,
}

impl Allowed {
    /// Whether a unit may be stopped and started.
    pub fn unit(&self, unit: &str) -> bool {
        self.units.iter().any(|glob| glob_matches(glob, unit))
    }

    /// Whether a command may be run, with whatever arguments.
    pub fn command(&self, argv: &[String]) -> bool {
        argv.first().is_some_and(|program| self.commands.contains(program))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_that_is_not_listed() {
        let argv = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let none = Allowed::default();
        assert!(!none.unit("sshd.service") && !none.command(&argv("/usr/bin/virsh list")) && !none.command(&[]));
        let units = vec!["embedder*.service".to_owned(), "one@?.service".to_owned()];
        let some = Allowed { units, commands: vec!["/usr/bin/virsh".to_owned()], ..none };
        assert!(some.unit("embedder.service") && some.unit("embedder@b.service") && some.unit("one@1.service"));
        for other in ["sshd.service", "embedder.socket", "my-embedder.service", "one@.service", "one@12.service", ""] {
            assert!(!some.unit(other), "{other}");
        }
        assert!(some.command(&argv("/usr/bin/virsh shutdown vm7")));
        for other in ["/usr/bin/virsh2", "virsh", "/usr/bin/../bin/virsh", "/bin/sh -c /usr/bin/virsh", ""] {
            assert!(!some.command(&argv(other)), "{other}");
        }
    }
}
