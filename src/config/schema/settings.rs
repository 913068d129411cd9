//! A node's own settings: what the tree may not decide.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use super::reader::{Fields, Node, Reader, Reason};
use super::{selector, values};
use crate::config::diagnostic::quote;

/// How often everything is looked at: more often would be a load on the cluster, more seldom would be forgotten.
const RESYNC_S: std::ops::RangeInclusive<u64> = 5..=24 * 60 * 60;

/// What the file says; of what it does not say, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `[node] name`.
    pub name: Option<String>,
    /// `[node] labels`, where no cluster tells them.
    pub labels: Option<BTreeMap<String, String>>,
    /// `[tree] path`.
    pub tree: Option<PathBuf>,
    /// `[tree] owners`: users whose trees count beside root's, by name or number.
    pub owners: Vec<String>,
    /// `[host] units`: globs over units that the tree may bind or pause.
    pub units: Vec<String>,
    /// `[host] commands`: programs that the tree may run.
    pub commands: Vec<String>,
    /// `[service] state`.
    pub state: Option<PathBuf>,
    /// `[service] resync`.
    pub resync: Option<Duration>,
}

pub(super) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> Settings {
    reader.of = "the settings";
    let root = reader.fields(root, 0..0, "the settings", &["node", "tree", "host", "service"]);
    let mut settings = Settings::default();
    if let Some(table) = section(reader, &root, "node", "[node]", &["name", "labels"]) {
        settings.name = table.get("name").and_then(|node| text(reader, node, "`name`", node_name));
        settings.labels = table.get("labels").map(|node| selector::labels(reader, node, false));
    }
    if let Some(table) = section(reader, &root, "tree", "[tree]", &["path", "owners"]) {
        settings.tree = table.get("path").and_then(|node| text(reader, node, "`path`", absolute)).map(PathBuf::from);
        settings.owners = list(reader, &table, "owners", user);
    }
    if let Some(table) = section(reader, &root, "host", "[host]", &["commands", "units"]) {
        settings.commands = list(reader, &table, "commands", absolute);
        settings.units = list(reader, &table, "units", units);
    }
    if let Some(table) = section(reader, &root, "service", "[service]", &["state", "resync"]) {
        settings.state = table.get("state").and_then(|node| text(reader, node, "`state`", absolute)).map(PathBuf::from);
        let resync = table.get("resync").and_then(|node| reader.parsed(node, "`resync`", resync));
        settings.resync = resync.map(|resync| resync.value);
    }
    settings
}

fn section<'r, 'i>(
    reader: &mut Reader<'_>,
    root: &Fields<'r, 'i>,
    key: &str,
    what: &'static str,
    known: &[&'static str],
) -> Option<Fields<'r, 'i>> {
    reader.table(root.get(key)?, what, known)
}

fn text(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    what: &str,
    parse: fn(&str) -> Result<String, Reason>,
) -> Option<String> {
    Some(reader.parsed(node, what, parse)?.value)
}

fn list(
    reader: &mut Reader<'_>,
    table: &Fields<'_, '_>,
    key: &str,
    parse: fn(&str) -> Result<String, Reason>,
) -> Vec<String> {
    let Some(node) = table.get(key) else { return Vec::new() };
    let items = reader.texts(node, &format!("`{key}`"), "texts").unwrap_or_default();
    let what = quote(key);
    items.into_iter().filter_map(|item| reader.parse_at(item, &what, parse)).map(|item| item.value).collect()
}

fn node_name(text: &str) -> Result<String, Reason> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && text.len() < 254 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not a node's name").help("letters, digits, '-', '_' and '.'")),
    }
}

fn user(text: &str) -> Result<String, Reason> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && text.len() < 64 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("no user's name or number").help("as in /etc/passwd")),
    }
}

/// A service has no folder that it is started in.
fn absolute(text: &str) -> Result<String, Reason> {
    match Path::new(text).is_absolute() && !text.contains('\0') {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not an absolute path").help("write where it lies, such as \"/usr/bin/virsh\"")),
    }
}

/// A unit, with wildcards perhaps.
fn units(text: &str) -> Result<String, Reason> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@' | '*' | '?');
    match !text.is_empty() && text.len() < 256 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("neither a unit nor a glob over units")
            .help("such as \"embedder*.service\"; * and ? are wildcards here")),
    }
}

fn resync(text: &str) -> Result<Duration, Reason> {
    match values::duration(text)? {
        seconds if RESYNC_S.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(Reason::new("must be 5s to 24h")),
    }
}
