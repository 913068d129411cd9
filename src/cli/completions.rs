//! `sectile completions`: completions for a shell.

use clap::CommandFactory as _;

use super::args::{Cli, Completions};
use super::error::Error;
use super::exit::Exit;

/// The script, for whoever prints.
pub(super) fn script(completions: &Completions) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "sectile", &mut script);
    script
}

/// Writes it to stdout.
pub(super) fn run(completions: &Completions) -> Result<Exit, Error> {
    use std::io::Write as _;
    let written = std::io::stdout().write_all(&script(completions));
    match written {
        // Whoever reads has enough: `sectile completions bash | head`.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::failed("the completions could not be written").caused_by(error))
        }
        _ => Ok(Exit::Done),
    }
}
