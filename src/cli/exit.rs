//! The exit codes, and which one wins where several things happened.

use std::process::ExitCode;

/// How a command ended; ascending by which wins, so that the greatest is the one that is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, or nothing to do.
    #[default]
    Done,
    /// With `--detailed-exitcode`: changes or drift, also those that wait for a window or a budget.
    Changes,
    /// Blocked for good until somebody acts.
    Blocked,
    /// An error.
    Error,
    /// Stopped by a signal.
    Interrupted,
    /// Wrong usage, also no terminal and no `--yes`.
    Usage,
}

impl Exit {
    /// Every way to end, in order.
    pub const ALL: &'static [Exit] =
        &[Exit::Done, Exit::Changes, Exit::Blocked, Exit::Error, Exit::Interrupted, Exit::Usage];

    /// The number that the shell sees. 64 is `EX_USAGE` of sysexits.h, 130 a shell's own for SIGINT.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Changes => 2,
            Exit::Blocked => 3,
            Exit::Error => 1,
            Exit::Interrupted => 130,
            Exit::Usage => 64,
        }
    }

    /// The one that is told where both happened: 1 before 3 before 2.
    #[must_use]
    pub fn and(self, other: Exit) -> Exit {
        self.max(other)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_told() {
        assert_eq!(Exit::Changes.and(Exit::Blocked).code(), 3);
        assert_eq!(Exit::Error.and(Exit::Blocked).code(), 1);
        assert_eq!(Exit::Blocked.and(Exit::Error).code(), 1);
        assert_eq!(Exit::Done.and(Exit::Changes).code(), 2);
        assert_eq!(Exit::Error.and(Exit::Interrupted).code(), 130);
        for exit in Exit::ALL {
            assert_eq!(exit.and(Exit::Done), *exit);
        }
    }
}
