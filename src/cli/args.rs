//! The command line. Every flag is also an environment variable, `SECTILE_` and its name.

mod global;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use jiff::SignedDuration;

use crate::model::ProfileName;

pub use global::{Cluster, Color, Global, Gpus, Output, SimFleet};

/// Where the tree lies on a node.
const SYSTEM_TREE: &str = "/etc/sectile";

/// How often a service looks at everything.
const RESYNC: Duration = Duration::from_secs(60);

const EXIT_CODES: &str = "Exit codes:
  0    done, or nothing to do
  1    an error
  2    with --detailed-exitcode: changes, also those that wait for a window or a budget
  3    blocked, or suspended with something to do, until somebody acts (apply always, plan with
       --detailed-exitcode); what `fit` is asked for does not fit
  64   wrong usage, also no terminal and no --yes
  130  interrupted";

/// Keep the MIG partitions of NVIDIA GPUs, and the workloads on them, as a tree of TOML files says.
#[derive(Clone, Debug, Parser)]
#[command(name = "sectile", version, after_help = EXIT_CODES, arg_required_else_help = true)]
// Without it, `sectile --sim plan` would look for a fleet file named `plan`.
#[command(subcommand_precedence_over_arg = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Read and check the whole tree, and show every error at once
    #[command(after_help = "Examples:
  sectile validate                    # the tree here, alone
  sectile validate --sim              # and against the simulated GPUs")]
    Validate(Validate),
    /// Show the smallest plan from what is there to what the tree says
    #[command(after_help = "Examples:
  sectile plan --sim                  # on the built-in simulated fleet
  sectile plan -o wide                # every step, with its guards
  sectile plan --out plan.json        # save it for `sectile apply plan.json`
  sectile plan --detailed-exitcode    # exit with 2 where something would change
  sectile plan --fleet --context prod # every node of a cluster, with rights to read alone")]
    Plan(Plan),
    /// Plan, ask, carry out and verify
    #[command(after_help = "Examples:
  sectile apply --sim                 # on the built-in simulated fleet, without asking
  sectile apply --dry-run             # plan and check, change nothing
  sectile apply plan.json --yes       # a saved plan, refused where its steps no longer hold
  sectile apply --override window --reason \"INC-4711: no capacity\"
  sectile apply --accept-inventory    # a GPU fell off the bus, and that is right")]
    Apply(Apply),
    /// Show desired beside observed, GPU by GPU, with who uses what
    #[command(after_help = "Examples:
  sectile status --sim                # every node of the built-in simulated fleet
  sectile status --node gpu-a-01 -o json
  sectile status --fleet --context prod  # every node of a cluster, with rights to read alone")]
    Status(Status),
    /// Show what boards offer: their MIG profiles, and where each may lie
    #[command(
        after_help = "Without --sim or --node it tells what the catalogue knows of boards, and what of it nobody saw; with
them, what the drivers of the GPUs that are there say.

Examples:
  sectile profiles                    # every board of the catalogue
  sectile profiles h100-80gb-sxm      # a board with its profiles, by id or by NVML's name
  sectile profiles \"A100*\" -o wide    # ids, multiprocessors and engines, too
  sectile profiles --sim              # the GPUs of the built-in simulated fleet"
    )]
    Profiles(Profiles),
    /// Show whether and where a set of instances fits a GPU
    #[command(
        after_help = "A profile is written as in a layout; `=N` behind it asks for N of it, `@START` for a fixed place. It
exits with 3 where the set does not fit, and says why and what would.

Examples:
  sectile fit h100-80gb-sxm 3g.40gb 2g.20gb 1g.10gb=2
  sectile fit a30 2g@0 1g=2           # without the memory: the regular profile of that board
  sectile fit \"RTX PRO 6000*\" 2g 1g+gfx 1g -o json"
    )]
    Fit(Fit),
    /// Write what is there now as a layout file, one that plans to nothing
    #[command(
        after_help = "Into a layout file that is there, only what differs is written: comments, order and all else stay. With
several nodes, --out names a folder, and each node gets layouts/NAME.toml below it.

Examples:
  sectile export --sim --node gpu-a-01
  sectile export --node gpu-a-01 --out layouts/gpu-a-01.toml
  sectile export --sim --out tree/    # every node of the fleet"
    )]
    Export(Export),
    /// Stop reconciling nodes, with a reason: what would be done is still planned and shown
    #[command(
        after_help = "--fleet, and --node with the nodes' cluster, work from afar: every agent sees it before its
next step. Without them it is this node, and no cluster is asked.

Examples:
  sectile suspend --reason \"INC-4711: moving racks\" --for 2h
  sectile suspend --release --reason \"INC-4711: driver upgrade\"
  sectile suspend --node \"edge-*\" --sim --reason \"moving racks\"
  sectile suspend --fleet --context prod --reason \"INC-4712: pods hang\"
  sectile status --sim                # shows which nodes are suspended, since when and why"
    )]
    Suspend(Suspend),
    /// Go on reconciling nodes that were suspended
    #[command(after_help = "Examples:
  sectile resume                      # this node
  sectile resume --fleet --context prod --reason \"INC-4712 is fixed\"
  sectile resume --sim --fleet        # every node of the simulated fleet")]
    Resume(Resume),
    /// Run the node's service: keep this node as the tree says
    #[command(after_help = "It looks at the tree, the GPUs and the cluster again and again, and does what
`apply --yes` does. A tree with errors changes nothing: the last one without holds. What
failed is not tried again until something changes, or `sectile resume`. It ends with
SIGTERM or SIGINT, within the step in hand. A simulated fleet, whose clock stands still
meanwhile, has no service.

Examples:
  sectile run                         # as a service of the node
  sectile run tree/ --node gpu-a-01 --resync 5m")]
    Run(Run),
    /// Put the last layout back after a reboot, before anything uses the GPUs
    #[command(after_help = "GPUs that have lost all their instances get those back that they had when this node last
converged, each at its place; nothing else is touched, and no tree and no cluster is asked. It
refuses where the kubelet runs already. sectile-boot.service runs it at each start of the
node; what the tree wants now is the service's to do, later.

Example:
  sectile boot")]
    Boot,
    /// Run the cluster's part: what belongs to no node, done by one of several replicas
    #[command(after_help = "It reads the tree, what the nodes have published and the bound workloads, and carries out
what belongs to no node. Of several replicas one acts: it holds the Lease
sectile-controller in the namespace sectile. It ends with SIGTERM or SIGINT, within the
step in hand. A simulated cluster needs none: `sectile apply --sim` does its part, too.

Examples:
  sectile controller                  # in a pod, with the tree in /etc/sectile
  sectile controller tree/ --context prod --resync 5m")]
    Controller(Run),
    /// Run a program on the simulated driver: any that loads NVIDIA's libnvidia-ml.so.1
    #[command(
        after_help = "The program finds a library of that name that keeps NVML's rules over simulated GPUs. What it does to them is
kept in the simulation's state, where `sectile status --sim` and other programs see it. Its exit code is ours.

Examples:
  sectile driver --sim -- python3 list_mig.py
  sectile driver --sim FLEET.toml --node gpu-a-01 --sim-fresh -- ./run-tests.sh
  sectile driver --sim --sim-unprivileged -- gpustat"
    )]
    Driver(Driver),
    /// Write completions for a shell to stdout
    #[command(after_help = "Example:
  sectile completions bash > /etc/bash_completion.d/sectile")]
    Completions(Completions),
    /// Write a page of the manual to stdout, for `man`
    #[command(after_help = "Examples:
  sectile man | man -l -              # sectile(1)
  sectile man plan | man -l -         # sectile-plan(1)
  sectile man --out share/man/man1    # every page into a folder, as the packages have them")]
    Man(Man),
}

/// `sectile validate`.
#[derive(Clone, Debug, Args)]
pub struct Validate {
    /// The tree
    #[command(flatten)]
    pub tree: Tree,
}

/// `sectile plan`.
#[derive(Clone, Debug, Args)]
pub struct Plan {
    /// The tree
    #[command(flatten)]
    pub tree: Tree,
    /// Save the plan as JSON
    #[arg(long, env = "SECTILE_OUT", value_name = "plan.json", value_hint = ValueHint::FilePath)]
    pub out: Option<PathBuf>,
    /// Exit with 2 where something would change, and with 3 where something is blocked
    #[arg(long, env = "SECTILE_DETAILED_EXITCODE", value_parser = BoolishValueParser::new())]
    #[arg(action = ArgAction::SetTrue)]
    pub detailed_exitcode: bool,
    /// Every node that the tree covers, from what the nodes have published
    #[arg(long, env = "SECTILE_FLEET", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub fleet: bool,
    /// With --fleet: from the documents that `status -o json` printed, a folder of files *.json
    #[arg(long, env = "SECTILE_OBSERVED", value_name = "DIR", value_hint = ValueHint::DirPath, requires = "fleet")]
    pub observed: Option<PathBuf>,
}

/// `sectile apply`.
#[derive(Clone, Debug, Args)]
pub struct Apply {
    /// The tree, or a plan that `plan --out` saved [default: . where it holds layouts/, else /etc/sectile]
    #[arg(value_name = "TREE|plan.json", value_hint = ValueHint::AnyPath)]
    pub tree_or_plan: Option<PathBuf>,
    /// The tree that a saved plan was made from [default: as above]
    #[arg(long, env = "SECTILE_TREE", value_name = "TREE", value_hint = ValueHint::DirPath)]
    pub tree: Option<PathBuf>,
    /// Don't ask
    #[arg(short, long, env = "SECTILE_YES", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub yes: bool,
    /// Change nothing: plan and check, or also ask the API server about each eviction
    #[arg(long, env = "SECTILE_DRY_RUN", value_name = "SIDE", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "client")]
    pub dry_run: Option<DryRun>,
    /// Don't wait for these; what `protect` protects can't be overridden
    #[arg(long = "override", env = "SECTILE_OVERRIDE", value_name = "WHAT", value_delimiter = ',')]
    #[arg(requires = "reason")]
    pub overrides: Vec<Override>,
    /// Why, for the record
    #[arg(long, env = "SECTILE_REASON", value_name = "TEXT", value_parser = line)]
    pub reason: Option<String>,
    /// Take a tree up that lost all its layouts or most of its bindings
    #[arg(long, env = "SECTILE_ACCEPT_REMOVAL", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub accept_removal: bool,
    /// Take the GPUs that are there now for the right ones, so that `index` counts them
    #[arg(long, env = "SECTILE_ACCEPT_INVENTORY", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub accept_inventory: bool,
}

/// `sectile suspend`.
#[derive(Clone, Debug, Args)]
pub struct Suspend {
    /// Why: shown by plan and status until the node is resumed
    #[arg(long, env = "SECTILE_REASON", value_name = "TEXT", value_parser = line)]
    pub reason: String,
    /// Every node
    #[arg(long, env = "SECTILE_FLEET", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub fleet: bool,
    /// For how long; it then goes on by itself [default: until it is resumed]
    #[arg(long = "for", env = "SECTILE_FOR", value_name = "DURATION", value_parser = span)]
    pub span: Option<SignedDuration>,
    /// Let the service let go of the driver, so that it can be unloaded and upgraded; on this node, wait until it has
    #[arg(long, env = "SECTILE_RELEASE", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub release: bool,
}

/// What services have in common.
#[derive(Clone, Debug, Args)]
pub struct Service {
    /// The tree
    #[command(flatten)]
    pub tree: Tree,
    /// How often everything is looked at, also where nothing is known to have changed [default: 1m]
    #[arg(long, env = "SECTILE_RESYNC", value_name = "DURATION", value_parser = resync)]
    pub resync: Option<Duration>,
    /// How it tells what it does
    #[arg(long, env = "SECTILE_LOG", value_name = "FORMAT", default_value = "auto")]
    pub log: Log,
}

impl Service {
    /// How often everything is looked at.
    pub fn resync(&self, global: &Global) -> Duration {
        self.resync.or(global.own.resync).unwrap_or(RESYNC)
    }
}

/// How a service tells what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// To the journal where systemd runs it, else as text
    Auto,
    /// A line of text each on stderr
    Text,
    /// A line of JSON each on stderr
    Json,
    /// To systemd's journal, with fields
    Journal,
}

/// `sectile run` and `sectile controller`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// What services have in common.
    #[command(flatten)]
    pub service: Service,
    /// Where metrics and health are told over HTTP; `none`: nowhere
    #[arg(long, env = "SECTILE_METRICS", value_name = "ADDRESS", default_value = "127.0.0.1:9744", value_parser = listen)]
    pub metrics: Listen,
}

/// An address to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

fn listen(text: &str) -> Result<Listen, String> {
    if text == "none" {
        return Ok(Listen(None));
    }
    let wrong = |_| "it is an address and a port, as 127.0.0.1:9744 or [::]:9744, or `none`".to_owned();
    text.parse().map(|address| Listen(Some(address))).map_err(wrong)
}

/// Shorter would be a load on the cluster, longer would be forgotten.
fn resync(text: &str) -> Result<Duration, String> {
    let read = text.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    let bounds = Duration::from_secs(5)..=Duration::from_secs(24 * 60 * 60);
    read.filter(|span| bounds.contains(span)).ok_or_else(|| "it is a duration from 5s to 24h, as `1m`".to_owned())
}

/// Shorter would be over before anybody has done anything.
fn span(text: &str) -> Result<SignedDuration, String> {
    let bounds = SignedDuration::from_secs(1)..=SignedDuration::from_hours(24 * 365);
    let read = text.parse::<SignedDuration>().ok().filter(|span| bounds.contains(span));
    read.ok_or_else(|| "it is a duration from 1s to a year, as `2h` or `1h30m`".to_owned())
}

/// `sectile resume`.
#[derive(Clone, Debug, Args)]
pub struct Resume {
    /// Why, for the record: an event in the cluster
    #[arg(long, env = "SECTILE_REASON", value_name = "TEXT", value_parser = line)]
    pub reason: Option<String>,
    /// Every node
    #[arg(long, env = "SECTILE_FLEET", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub fleet: bool,
}

/// `sectile status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// The tree
    #[command(flatten)]
    pub tree: Tree,
    /// Every node at a glance, from what the nodes have published; and who controls them
    #[arg(long, env = "SECTILE_FLEET", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub fleet: bool,
    /// With --fleet: from the documents that `status -o json` printed, a folder of files *.json
    #[arg(long, env = "SECTILE_OBSERVED", value_name = "DIR", value_hint = ValueHint::DirPath, requires = "fleet")]
    pub observed: Option<PathBuf>,
}

/// `sectile profiles`.
#[derive(Clone, Debug, Args)]
pub struct Profiles {
    /// A board: its id, or NVML's name for it, or a glob over both
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
}

/// `sectile fit`.
#[derive(Clone, Debug, Args)]
pub struct Fit {
    /// A board: its id, or NVML's name for it, or a glob over both
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// What is to lie on it: 1g.10gb, 1g.10gb=2, 3g@4
    #[arg(value_name = "PROFILE", required = true)]
    pub pieces: Vec<Piece>,
}

/// A wanted profile: `3g.40gb`, `1g.10gb=2` or `3g@4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// As in a layout.
    pub profile: ProfileName,
    /// So many of it.
    pub count: u32,
    /// At this place.
    pub start: Option<u32>,
}

impl FromStr for Piece {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, count, start) = match (text.split_once('='), text.split_once('@')) {
            (None, None) => (text, None, None),
            (Some((name, count)), None) => (name, Some(count), None),
            (None, Some((name, start))) => (name, None, Some(start)),
            (Some(_), Some(_)) => return Err("one place takes one instance: write `=N` or `@START`".to_owned()),
        };
        let profile = name.parse::<ProfileName>().map_err(|error| error.to_string())?;
        // The bounds of a layout file.
        let number = |text: &str, what: &str, least: u32, most: u32| {
            let number = text.parse().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| format!("{what} is a number from {least} to {most}, not `{text}`"))
        };
        let count = count.map_or(Ok(1), |text| number(text, "how many there are", 1, 64))?;
        let start = start.map(|text| number(text, "a start", 0, 63)).transpose()?;
        Ok(Piece { profile, count, start })
    }
}

/// `sectile export`.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// Write into a layout file, or into the folder of a tree [default: to stdout, of one node]
    #[arg(long, env = "SECTILE_OUT", value_name = "FILE|TREE", value_hint = ValueHint::AnyPath)]
    pub out: Option<PathBuf>,
}

/// `sectile driver`.
#[derive(Clone, Debug, Args)]
pub struct Driver {
    /// The program is not root: what needs rights fails
    #[arg(long, env = "SECTILE_SIM_UNPRIVILEGED", value_parser = BoolishValueParser::new())]
    #[arg(action = ArgAction::SetTrue)]
    pub sim_unprivileged: bool,
    /// How much of the time that a call takes is really waited for: 0 for none, 1 for all
    #[arg(long, env = "SECTILE_SIM_LATENCY", value_name = "FACTOR", default_value = "0", value_parser = factor)]
    pub sim_latency: f64,
    /// The program and its arguments, behind `--`
    #[arg(value_name = "COMMAND", required = true, last = true, value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// The bounds that the library has, too.
fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (0.0..=1000.0).contains(factor));
    factor.ok_or_else(|| "a factor is a number from 0 to 1000".to_owned())
}

/// `sectile completions`.
#[derive(Clone, Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `sectile man`.
#[derive(Clone, Debug, Args)]
pub struct Man {
    /// The command that the page is about [default: sectile itself]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    pub command: Option<String>,
    /// Write every page into this folder
    #[arg(long, env = "SECTILE_OUT", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
}

/// The tree that a command reads.
#[derive(Clone, Debug, Args)]
pub struct Tree {
    /// The directory with layouts/ and policies/ [default: . where it holds layouts/, else /etc/sectile]
    #[arg(value_name = "TREE", env = "SECTILE_TREE", value_hint = ValueHint::DirPath)]
    pub tree: Option<PathBuf>,
}

impl Tree {
    /// The path that was given, or the default.
    pub fn path(&self, global: &Global) -> PathBuf {
        self.tree.clone().unwrap_or_else(|| default_tree(global))
    }
}

impl Apply {
    /// The tree or the saved plan that was given, or the tree of the settings.
    pub fn path(&self, global: &Global) -> PathBuf {
        self.tree_or_plan.clone().unwrap_or_else(|| self.tree_path(global))
    }

    /// The tree that a saved plan is compared with.
    pub fn tree_path(&self, global: &Global) -> PathBuf {
        self.tree.clone().unwrap_or_else(|| default_tree(global))
    }
}

/// `.` where it holds `layouts/`, else that of the node's settings, else the system's.
fn default_tree(global: &Global) -> PathBuf {
    match &global.own.tree {
        _ if Path::new("layouts").is_dir() => PathBuf::from("."),
        Some(tree) => tree.clone(),
        None => PathBuf::from(SYSTEM_TREE),
    }
}

/// A reason is told within a line, and is there to be read.
fn line(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a reason says something".to_owned()),
        text if text.contains(char::is_control) => Err("a reason is one line of text".to_owned()),
        text => Ok(text.to_owned()),
    }
}

/// How dry a dry run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Plan and check
    Client,
    /// Ask the API server about each eviction, too
    Server,
}

/// What an apply need not wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Override {
    /// The policy's window
    Window,
    /// The policy's budget
    Budget,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_simulated_fleet_is_built_in_or_a_file() {
        assert_eq!(parse("sectile plan").unwrap().global.sim, None);
        assert_eq!(parse("sectile plan --sim").unwrap().global.sim, Some(SimFleet::Builtin));
        assert_eq!(parse("sectile --sim plan").unwrap().global.sim, Some(SimFleet::Builtin));
        let cli = parse("sectile apply --sim fleet.toml --yes").unwrap();
        assert_eq!(cli.global.sim, Some(SimFleet::File("fleet.toml".into())));
        let Cli { command: Command::Apply(apply), global } =
            parse("sectile apply --sim=fleet.toml --dry-run saved.json").unwrap()
        else {
            panic!("not apply");
        };
        assert_eq!((apply.dry_run, apply.path(&global)), (Some(DryRun::Client), "saved.json".into()));
    }

    #[test]
    fn the_examples_of_the_help_are_command_lines() {
        let mut seen = 0;
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter_map(|line| line.strip_prefix("  ")) {
                let line = line.split(['#', '>', '|']).next().unwrap_or_default().trim();
                // Every other part is quoted.
                let parts = line.split('"').enumerate();
                let words = parts.flat_map(|(i, part)| match i % 2 {
                    0 => part.split_whitespace().collect(),
                    _ => vec![part],
                });
                assert!(Cli::try_parse_from(words).is_ok(), "{line}");
                seen += 1;
            }
        }
        assert!(seen > 8);
    }

    #[test]
    fn a_wanted_profile_has_a_number_or_a_place() {
        let read = |text: &str| text.parse::<Piece>().map(|p| (p.profile.to_string(), p.count, p.start));
        assert_eq!(read("3g.40gb"), Ok(("3g.40gb".to_owned(), 1, None)));
        assert_eq!(read("1g.10gb+me=2"), Ok(("1g.10gb+me".to_owned(), 2, None)));
        assert_eq!(read("3g@4"), Ok(("3g".to_owned(), 1, Some(4))));
        for text in ["", "3", "3g=0", "3g=65", "3g@64", "3g@-1", "3g=2@4", "3g@4=2", "3g=", "3g@"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn overrides_need_a_reason_and_protection_has_none() {
        assert!(parse("sectile apply --override window,budget --reason INC-4711").is_ok());
        assert!(parse("sectile apply --override window").is_err());
        assert!(parse("sectile apply --override protect --reason INC-4711").is_err());
        for reason in ["", " ", "two\nlines", "\x1b[31m"] {
            for command in ["sectile suspend --sim", "sectile apply --override window"] {
                let words = command.split(' ').chain(["--reason", reason]);
                assert!(Cli::try_parse_from(words).is_err(), "{command} {reason:?}");
            }
        }
    }
}
