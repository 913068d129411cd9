//! An error is a kind, a sentence, its sources and its hints; the kind decides the exit code.

use std::error::Error as StdError;
use std::fmt;

use anstyle::{AnsiColor, Style};

use super::exit::Exit;

/// What sort of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line asks for what can't be.
    Usage,
    /// Something went wrong.
    Failed,
    /// Somebody must act first.
    Blocked,
    /// A signal stopped it.
    Interrupted,
}

/// Why a command failed.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    hints: Vec<String>,
}

impl Error {
    /// An error with a sentence that says what could not be done, without the reason: that is its source.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), source: None, hints: Vec::new() }
    }

    /// Of the kind that most are.
    pub fn failed(message: impl Into<String>) -> Self {
        Error::new(Kind::Failed, message)
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Error::new(Kind::Usage, message)
    }

    /// With what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        match self.kind {
            Kind::Usage => Exit::Usage,
            Kind::Failed => Exit::Error,
            Kind::Blocked => Exit::Blocked,
            Kind::Interrupted => Exit::Interrupted,
        }
    }

    /// The whole chain as it is printed, with colours.
    pub fn report(&self) -> String {
        const ERROR: Style = AnsiColor::Red.on_default().bold();
        const CAUSE: Style = Style::new().bold();
        const HINT: Style = AnsiColor::Cyan.on_default();
        let mut text = format!("{ERROR}error:{ERROR:#} {}\n", self.message);
        let mut source = self.source();
        while let Some(cause) = source {
            text.push_str(&format!("  {CAUSE}caused by:{CAUSE:#} {}\n", indented(&cause.to_string())));
            source = cause.source();
        }
        for hint in &self.hints {
            text.push_str(&format!("  {HINT}hint:{HINT:#} {}\n", indented(hint)));
        }
        text
    }
}

/// Lines after the first stand below it.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds what could not be done to whatever went wrong.
pub trait Context<T> {
    /// An error of the kind that most are, with this one as its source.
    fn context(self, message: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: StdError + Send + Sync + 'static> Context<T> for Result<T, E> {
    fn context(self, message: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::failed(message()).caused_by(source))
    }
}

/// Text as a sentence begins.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// An error with its causes, within a line.
pub(super) fn chain(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |error| (*error).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn the_chain_is_printed_once_each() {
        let inner = std::io::Error::other("disk full");
        let middle = Error::failed("the state could not be kept").caused_by(inner);
        let outer = Error::usage("apply needs --yes").caused_by(middle).hint("free some room\nor move it");
        assert_eq!(outer.exit().code(), 64);
        assert_eq!(
            strip_str(&outer.report()).to_string(),
            "error: apply needs --yes\n  caused by: the state could not be kept\n  caused by: disk full\n  \
             hint: free some room\n    or move it\n"
        );
    }
}
