//! Which simulated driver this is: the environment says so, since nobody else can.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sectile::sim::fleet;
use sectile::sim::state::door::Door;

/// The fleet file; `builtin`, or nothing, for the built-in fleet.
const FLEET: &str = "SECTILE_SIM";
/// The state file; without it there is no driver.
const STATE: &str = "SECTILE_SIM_STATE";
/// The node whose driver it is; without it the fleet's first.
const NODE: &str = "SECTILE_SIM_NODE";
/// Set, and neither empty nor `0` or `false`: the caller is not root.
const UNPRIVILEGED: &str = "SECTILE_SIM_UNPRIVILEGED";
/// How much of what a call takes is really waited for: 0, or nothing, for none of it, 1 for all.
const LATENCY: &str = "SECTILE_SIM_LATENCY";

/// The driver that the environment asks for, or why there is none.
pub(crate) fn driver() -> Result<Door, String> {
    let told = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty());
    let text = |value: OsString| value.to_string_lossy().into_owned();
    let state = told(STATE).map(PathBuf::from).ok_or_else(|| format!("{STATE} names no state file"))?;
    let (name, fleet) = match told(FLEET) {
        Some(path) if !["1", "true", "builtin"].iter().any(|builtin| path == *builtin) => {
            let read = std::fs::read_to_string(Path::new(&path));
            (text(path.clone()), read.map_err(|error| format!("{}: {error}", text(path)))?)
        }
        _ => (fleet::BUILTIN_NAME.to_owned(), fleet::BUILTIN.to_owned()),
    };
    let node = told(NODE).map(text);
    let unprivileged = told(UNPRIVILEGED).is_some_and(|value| value != "0" && value != "false");
    let latency = told(LATENCY).map_or(Ok(0.0), |value| {
        let told = value.to_str().and_then(|value| value.parse().ok()).filter(|pace| (0.0..=1000.0).contains(pace));
        told.ok_or_else(|| format!("{LATENCY} is a number from 0 to 1000, not {}", text(value)))
    })?;
    let door = Door::open(&state, &fleet, &name, node.as_deref(), !unprivileged, latency);
    let door = door.map_err(|error| error.to_string())?;
    door.ok_or_else(|| format!("{name} has no node {}", node.unwrap_or_default()))
}
