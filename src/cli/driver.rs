//! `sectile driver`: runs a program on the simulated driver, through the library that NVML's clients load.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::args::{Driver, Global, SimFleet};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::Fleet;
use super::output;
use super::simulated::Simulated;
use super::trouble;

/// Settings of the real node and of this command, which are not the program's: Sectile itself may be what is run.
const NOT_PASSED_ON: [&str; 6] = [
    "SECTILE_CLUSTER",
    "SECTILE_GPU_RESET",
    "SECTILE_NODE",
    "SECTILE_NVML_LIBRARY",
    "SECTILE_SETTINGS",
    "SECTILE_SIM_FRESH",
];
/// Makes device nodes and CDI specifications anew by doing nothing: those of the host are not of simulated GPUs.
const NO_REFRESH: &str = "true";

/// What NVML's clients load.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The same as cargo builds it, below the folder of the program.
const BUILT: &str = "examples/libnvidia_ml.so";
/// Where it gets its name there, and where that leads: what is moved or copied as a whole stays whole.
const LINKS: &str = "examples/nvml";
const LEADS: &str = "../libnvidia_ml.so";
/// Where the package has it, seen from the program's folder.
const PACKAGED: &str = "../lib/sectile";

/// Becomes the program, so that its exit code and its signals are its own; returns only where that fails.
pub(super) fn run(args: &Driver, global: &Global) -> Result<Exit, Error> {
    let fleet = global.sim.clone().unwrap_or(SimFleet::Builtin);
    let global = Global { sim: Some(fleet.clone()), gpus: None, cluster: None, ..global.clone() };
    let (state, node, remembered) = {
        // The state is locked only until it is there: the program's calls take it one by one.
        let opened = Simulated::open(&global, &fleet)?;
        opened.save()?;
        let node = node(&opened, &global)?;
        let remembered = trouble::beside(&opened, &node, trouble::HOST);
        (absolute(opened.outside.path())?, node, absolute(&remembered)?)
    };
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Error::usage("there is no program to run"));
    };
    let fleet = match fleet {
        SimFleet::Builtin => OsString::from("builtin"),
        SimFleet::File(path) => absolute(&path)?.into_os_string(),
    };
    let mut command = Command::new(program);
    command.args(arguments).env("LD_LIBRARY_PATH", search_path(&library()?)?);
    command.env("SECTILE_SIM", fleet).env("SECTILE_SIM_STATE", state).env("SECTILE_SIM_NODE", node);
    command.env("SECTILE_SIM_LATENCY", args.sim_latency.to_string());
    command.env("SECTILE_STATE", remembered).env("SECTILE_DEVICE_REFRESH", NO_REFRESH);
    NOT_PASSED_ON.iter().for_each(|name| {
        command.env_remove(name);
    });
    match args.sim_unprivileged {
        true => command.env("SECTILE_SIM_UNPRIVILEGED", "1"),
        false => command.env_remove("SECTILE_SIM_UNPRIVILEGED"),
    };
    let name = program.to_string_lossy().into_owned();
    Err(Error::failed(format!("{name} can't be run")).caused_by(command.exec()))
}

/// The node that was asked for, or the first, which is told where it is a choice.
fn node(fleet: &Fleet<Simulated>, global: &Global) -> Result<String, Error> {
    if let Some(node) = &global.node {
        return Ok(node.clone());
    }
    let first = fleet.nodes.keys().next().ok_or_else(|| Error::usage("the fleet has no node"))?;
    if fleet.nodes.len() > 1 && !global.quiet {
        output::tell(&format!("on node {first}; --node NAME takes another\n"));
    }
    Ok(first.clone())
}

/// The folder in which the library has the name that clients ask for.
fn library() -> Result<PathBuf, Error> {
    let program = std::env::current_exe().context(|| "where this program lies can't be told".to_owned())?;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let named = [folder.to_owned(), folder.join(PACKAGED)];
    if let Some(found) = named.into_iter().find(|folder| folder.join(LIBRARY).is_file()) {
        return Ok(found);
    }
    let built = folder.join(BUILT);
    if !built.is_file() {
        let error = Error::failed(format!("the simulated driver's library {LIBRARY} is not there"));
        let error = error.hint(format!("the package has it in {}", folder.join(PACKAGED).display()));
        return Err(error.hint("in a checkout: cargo build --example nvidia-ml, with --release where this program is"));
    }
    // Cargo itself can't give it that name. Whoever found another file by it would be sent to that, and whoever found none
    // to the system's driver.
    let links = folder.join(LINKS);
    let link = links.join(LIBRARY);
    if !std::fs::read_link(&link).is_ok_and(|leads| leads == Path::new(LEADS)) {
        // At once, since others may be loading it.
        let new = links.join(format!(".{LIBRARY}.{}", std::process::id()));
        let _ = std::fs::remove_file(&new);
        let made = std::fs::create_dir_all(&links).and_then(|()| std::os::unix::fs::symlink(LEADS, &new));
        let made = made.and_then(|()| std::fs::rename(&new, &link));
        made.context(|| format!("{} can't be made", link.display()))?;
    }
    match link.is_file() {
        true => Ok(links),
        false => Err(Error::failed(format!("{} leads nowhere", link.display()))),
    }
}

/// That folder before all others.
fn search_path(folder: &Path) -> Result<OsString, Error> {
    let others = std::env::var_os("LD_LIBRARY_PATH").filter(|path| !path.is_empty());
    let others = others.iter().flat_map(std::env::split_paths);
    let all = [absolute(folder)?].into_iter().chain(others);
    std::env::join_paths(all).context(|| format!("{} can't stand in LD_LIBRARY_PATH", folder.display()))
}

/// The program may go elsewhere.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).context(|| format!("{} leads nowhere", path.display()))
}
