//! The two streams: data to stdout, the rest to stderr. Colours are taken off where they are not wanted.

use std::io::Write as _;

/// Writes to stdout: data.
pub(super) fn print(text: &str) {
    // A reader who left needs no message.
    let _ = anstream::stdout().write_all(text.as_bytes());
}

/// Writes to stderr: everything else.
pub(super) fn tell(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}
