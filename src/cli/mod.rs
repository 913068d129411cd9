//! The commands, a file each; the only room that prints or exits.

mod apply;
pub mod args;
mod ask;
mod boards;
mod completions;
mod context;
mod controller;
mod current;
mod driver;
pub mod error;
pub mod exit;
pub mod export;
mod fit;
mod fleet;
mod input;
mod man;
mod output;
mod outside;
mod plan;
mod profiles;
mod progress;
mod published;
mod run;
mod settings;
mod shown;
mod simulated;
mod status;
mod suspend;
mod this_node;
mod trouble;
mod validate;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use args::{Cli, Command};
use error::Error;
use exit::Exit;

/// Reads the command line, does what it says, and tells how it went.
pub fn main() -> ExitCode {
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A reader who left needs no message, and a wrong command line is told as clap tells it.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    anstream::ColorChoice::from(cli.global.color).write_global();
    log(&cli);
    match settle(&mut cli).and_then(|()| run(&cli)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let _ = anstream::stderr().write_all(error.report().as_bytes());
            error.exit().into()
        }
    }
}

/// The log goes to stderr: warnings, more with `-v`, errors alone with `-q`. A service has nobody who looks on, so that it
/// tells what it does, and where systemd runs it into the journal.
fn log(cli: &Cli) {
    let service = match &cli.command {
        Command::Controller(args::Run { service, .. }) | Command::Run(args::Run { service, .. }) => Some(service),
        _ => None,
    };
    let level = match (cli.global.quiet, cli.global.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) if service.is_none() => LevelFilter::WARN,
        (false, 0 | 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    // systemd says so where stderr is the journal.
    let by_systemd = || std::env::var_os("JOURNAL_STREAM").is_some();
    let format = match service.map(|service| service.log) {
        None => args::Log::Text,
        Some(args::Log::Auto) if by_systemd() => args::Log::Journal,
        Some(other) => other,
    };
    let journal = (format == args::Log::Journal).then(tracing_journald::layer).and_then(Result::ok);
    let registry = tracing_subscriber::registry().with(level);
    let stderr = || tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // Another subscriber is there only where a test put it.
    let _ = match (journal, format) {
        (Some(journal), _) => registry.with(journal).try_init(),
        (None, args::Log::Json) => registry.with(stderr().json()).try_init(),
        (None, _) => registry.with(stderr().without_time()).try_init(),
    };
}

/// Takes in the node's own settings, for what works on this node.
fn settle(cli: &mut Cli) -> Result<(), Error> {
    use Command::*;
    let on_nodes = match &cli.command {
        Validate(_) | Plan(_) | Apply(_) | Status(_) | Export(_) | Suspend(_) | Resume(_) | Run(_) => true,
        Boot | Profiles(_) | Fit(_) => true,
        Completions(_) | Man(_) | Driver(_) | Controller(_) => false,
    };
    if on_nodes && !fleet::is_simulated(&cli.global) {
        cli.global.own = settings::read(&cli.global)?;
    }
    Ok(())
}

fn run(cli: &Cli) -> Result<Exit, Error> {
    match &cli.command {
        Command::Completions(completions) => completions::run(completions),
        Command::Man(page) => man::run(page),
        Command::Validate(args) => validate::run(args, &cli.global),
        Command::Plan(args) => plan::run(args, &cli.global),
        Command::Apply(args) => apply::run(args, &cli.global),
        Command::Status(args) => status::run(args, &cli.global),
        Command::Profiles(args) => profiles::run(args, &cli.global),
        Command::Fit(args) => fit::run(args, &cli.global),
        Command::Export(args) => export::run(args, &cli.global),
        Command::Driver(args) => driver::run(args, &cli.global),
        Command::Suspend(args) => suspend::suspend(args, &cli.global),
        Command::Resume(args) => suspend::resume(args, &cli.global),
        Command::Controller(args) => controller::run(args, &cli.global),
        Command::Run(args) => run::run(args, &cli.global),
        Command::Boot => apply::boot::run(&cli.global),
    }
}
