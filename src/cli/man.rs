//! `sectile man`: the manual's pages, one for each command, made from what the help says.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::{self, Cli};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::output::print;

/// Not 8: whoever may only look runs it, too.
const SECTION: &str = "1";

/// Writes a page to stdout, or all of them into a folder.
pub(super) fn run(args: &args::Man) -> Result<Exit, Error> {
    let cli = command();
    let made = || "the page can't be made".to_owned();
    match (&args.out, &args.command) {
        (Some(folder), _) => {
            write_all(&cli, folder).context(|| format!("the pages can't be written to {}", folder.display()))?;
        }
        (None, None) => print(&page(&cli).context(made)?),
        (None, Some(name)) => {
            let known = cli.get_subcommands().find(|command| command.get_name() == name);
            let known = known.ok_or_else(|| {
                Error::usage(format!("there is no command {name}")).hint("`sectile --help` lists the commands")
            })?;
            print(&page(known).context(made)?);
        }
    }
    Ok(Exit::Done)
}

/// The command line with all that its pages need.
fn command() -> Command {
    let mut cli = Cli::command().disable_help_subcommand(true).subcommand_help_heading("COMMANDS");
    cli.build();
    cli
}

fn write_all(cli: &Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for command in cli.get_subcommands().chain([cli]) {
        fs::write(folder.join(format!("{}.{SECTION}", title(command))), page(command)?)?;
    }
    Ok(())
}

/// `sectile-plan`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// A page as troff reads it.
fn page(command: &Command) -> io::Result<String> {
    let main = command.has_subcommands();
    // What holds everywhere is told once, in sectile(1).
    let told = command.clone().mut_args(|arg| if arg.is_global_set() && !main { arg.hide(true) } else { arg });
    let source = concat!("sectile ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(told).title(title(command)).section(SECTION).source(source).manual("Sectile");
    let (prose, lists) = below(command);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    prose.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    if main {
        man.render_subcommands_section(&mut page)?;
    }
    lists.to_writer(&mut page)?;
    see_also(main).to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// What the help says below the options: its sentences, and its lists (`Examples:`), whose lines stay as they are.
fn below(command: &Command) -> (Roff, Roff) {
    let (mut prose, mut lists) = (Roff::new(), Roff::new());
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut listed = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
            let heading = if heading == "Exit codes" { "EXIT STATUS".to_owned() } else { heading.to_uppercase() };
            if listed {
                lists.control("fi", []);
            }
            lists.control("SH", [heading.as_str()]).control("nf", []);
            listed = true;
        } else if listed {
            lists.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        } else if line.is_empty() {
            prose.control("PP", []);
        } else {
            if prose == Roff::new() {
                prose.control("PP", []);
            }
            prose.text([roman(line)]);
        }
    }
    if listed {
        lists.control("fi", []);
    }
    (prose, lists)
}

fn see_also(main: bool) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    if !main {
        roff.text([bold("sectile"), roman("(1) for the options of every command and the exit codes")])
            .control("PP", []);
    }
    roff.text([roman("The manual: /usr/share/doc/sectile")]);
    roff
}
