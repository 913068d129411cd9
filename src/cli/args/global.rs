//! Options of every command.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum, ValueHint};

use crate::config::Settings;

/// Where a node keeps what lasts.
const STATE: &str = "/var/lib/sectile";

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Use simulated GPUs and a simulated cluster: the built-in fleet, or that of a file
    #[arg(long, global = true, env = "SECTILE_SIM", value_name = "FLEET.toml", value_hint = ValueHint::FilePath)]
    #[arg(num_args = 0..=1, default_missing_value = "builtin")]
    pub sim: Option<SimFleet>,
    /// Where the simulated fleet's state is kept between calls [default: in the user's state folder]
    #[arg(long, global = true, env = "SECTILE_SIM_STATE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub sim_state: Option<PathBuf>,
    /// Forget the simulated fleet's state and start over
    #[arg(long, global = true, env = "SECTILE_SIM_FRESH", value_parser = BoolishValueParser::new())]
    #[arg(action = ArgAction::SetTrue)]
    pub sim_fresh: bool,
    /// Whose driver the library is that `sectile driver` gives its program
    #[arg(long, global = true, env = "SECTILE_SIM_NODE", hide = true)]
    pub sim_node: Option<String>,
    /// Where the GPUs are seen; wins over --sim
    #[arg(long, global = true, env = "SECTILE_GPUS", value_name = "SOURCE")]
    pub gpus: Option<Gpus>,
    /// Where the cluster is seen; wins over --sim
    #[arg(long, global = true, env = "SECTILE_CLUSTER", value_name = "SOURCE")]
    pub cluster: Option<Cluster>,
    /// How the API server is reached [default: KUBECONFIG, the user's, or the pod's service account]
    #[arg(long, global = true, env = "SECTILE_KUBECONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: its current one]
    #[arg(long, global = true, env = "SECTILE_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// The socket at which the kubelet tells which pod holds which device
    #[arg(long, global = true, env = "SECTILE_POD_RESOURCES", value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    #[arg(default_value = crate::cluster::kubelet::SOCKET)]
    pub pod_resources: PathBuf,
    /// NVIDIA's library [default: the system's libnvidia-ml.so.1]
    #[arg(long, global = true, env = "SECTILE_NVML_LIBRARY", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub nvml_library: Option<PathBuf>,
    /// Program that resets the GPU with the PCI bus id behind it [default: nvidia-smi --gpu-reset -i]
    #[arg(long, global = true, env = "SECTILE_GPU_RESET", value_name = "PROGRAM", value_hint = ValueHint::CommandName)]
    pub gpu_reset: Option<String>,
    /// Program that makes device nodes and CDI specification anew after a change [default: NVIDIA's, where installed]
    #[arg(long, global = true, env = "SECTILE_DEVICE_REFRESH", value_name = "PROGRAM")]
    #[arg(value_hint = ValueHint::CommandName)]
    pub device_refresh: Option<String>,
    /// This node's own settings [default: /etc/sectile/sectile.toml, where there is one]
    #[arg(long, global = true, env = "SECTILE_SETTINGS", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub settings: Option<PathBuf>,
    /// What they say; read by the commands that work on this node.
    #[arg(skip)]
    pub own: Settings,
    /// Where it is kept what is remembered of this node, and its journal [default: /var/lib/sectile]
    #[arg(long, global = true, env = "SECTILE_STATE", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// Where systemd keeps what lasts until the next boot
    #[arg(long, global = true, env = "SECTILE_SYSTEMD", value_name = "DIR", hide = true)]
    #[arg(default_value = "/run/systemd")]
    pub systemd: PathBuf,
    /// The socket of the node's service, which tells its status and plan to whoever has no rights on the GPUs; `none`: no one
    #[arg(long, global = true, env = "SECTILE_SOCKET", value_name = "SOCKET", value_hint = ValueHint::FilePath)]
    #[arg(default_value = "/run/sectile/sectile.sock")]
    pub socket: PathBuf,
    /// The node; of suspend and resume also a glob [default: this one; with --sim every node of the fleet]
    #[arg(long, global = true, env = "SECTILE_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// What is written to stdout
    #[arg(short, long, global = true, env = "SECTILE_OUTPUT", value_name = "FORMAT", default_value = "text")]
    pub output: Output,
    /// When to colour; NO_COLOR counts for auto
    #[arg(long, global = true, env = "SECTILE_COLOR", value_name = "WHEN", default_value = "auto")]
    pub color: Color,
    /// Say more on stderr; twice: everything
    #[arg(short, long, global = true, env = "SECTILE_VERBOSE", action = ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, env = "SECTILE_QUIET", value_parser = BoolishValueParser::new())]
    #[arg(action = ArgAction::SetTrue)]
    pub quiet: bool,
}

impl Global {
    /// Where it is kept what is remembered of this node.
    pub fn state(&self) -> &Path {
        self.state.as_deref().or(self.own.state.as_deref()).unwrap_or(Path::new(STATE))
    }
}

/// Which simulated fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimFleet {
    /// The one that is built in.
    Builtin,
    /// A fleet file.
    File(PathBuf),
}

impl FromStr for SimFleet {
    type Err = Infallible;

    /// `SECTILE_SIM=1`, or empty, means the built-in fleet, as the bare flag does.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "" | "1" | "true" | "builtin" => SimFleet::Builtin,
            path => SimFleet::File(PathBuf::from(path)),
        })
    }
}

/// Where the GPUs are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gpus {
    /// NVML, else an error that says what is missing
    Auto,
    /// The driver's library
    Nvml,
    /// The simulated fleet
    Sim,
}

/// Where the cluster is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cluster {
    /// Kubernetes' API server
    Kube,
    /// The simulated fleet
    Sim,
    /// Nowhere: the node is in no cluster
    None,
}

/// What is written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For people who want to see everything
    Wide,
    /// For programs
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Where a terminal shows it
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        }
    }
}
