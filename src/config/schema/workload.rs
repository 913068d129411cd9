//! A `[[workload]]`: who gets which instances.

use std::ops::Range;
use std::sync::Arc;

use super::At;
use super::layout;
use super::reader::{Fields, Node, Reader, Reason, nearest};
use super::selector::{self, NodeSelector};
use super::values;
use crate::config::diagnostic::Code;
use crate::model::{Binding, Target};

/// A `[[workload]]`.
#[derive(Clone, Debug)]
pub struct WorkloadEntry {
    /// What it says.
    pub binding: Arc<Binding>,
    /// Only on such nodes, of those that the file speaks of.
    pub selector: NodeSelector,
    /// Where its name stands.
    pub name: Range<usize>,
    /// Where its profile stands.
    pub profile: Range<usize>,
}

const WORKLOAD: [&str; 9] =
    ["name", "kubernetes", "systemd", "command", "profile", "per_replica", "manage", "nodes", "labels"];
const TARGETS: [&str; 3] = ["kubernetes", "systemd", "command"];

/// The kinds whose pod template Sectile knows.
const KINDS: [&str; 6] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"];

/// What CUDA reads.
const DEFAULT_ENV: &str = "CUDA_VISIBLE_DEVICES";

pub(super) fn read(reader: &mut Reader<'_>, root: &Fields<'_, '_>) -> Vec<WorkloadEntry> {
    let tables = reader.tables(root, "workload", "[[workload]]", &WORKLOAD);
    tables.iter().filter_map(|fields| workload(reader, fields)).collect()
}

fn workload(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Option<WorkloadEntry> {
    let name =
        reader.required(fields, "name", "\"llama-chat\"").and_then(|node| reader.parsed(node, "`name`", plain_name));
    let profile = reader.required(fields, "profile", "\"3g.40gb\"").and_then(|node| layout::profile(reader, node));
    let per_replica = match fields.get("per_replica") {
        Some(node) => reader.integer(node, "`per_replica`", 1..=999).map(|count| count.value),
        None => Some(1),
    };
    let manage = fields.get("manage").and_then(|node| reader.boolean(node, "`manage`"));
    let selector = selector::nodes(reader, fields);
    let named: Vec<&str> = TARGETS.into_iter().filter(|key| fields.get(key).is_some()).collect();
    if let [first, second, ..] = named[..] {
        let message = format!("`{first}` and `{second}` in one [[workload]]");
        reader.report(Code::Contradiction, fields.span_of(second), message, |d| {
            d.label("a workload is one of them").help("write a [[workload]] for each")
        });
    } else if !TARGETS.iter().any(|key| fields.has(key)) {
        reader.report(Code::MissingKey, fields.span.clone(), "[[workload]] does not say what it binds", |d| {
            d.label("no `kubernetes`, `systemd` or `command`").help("add one of the three")
        });
    }
    if manage.is_some() && fields.get("kubernetes").is_none() {
        reader.report(Code::Contradiction, fields.span_of("manage"), "`manage` is for `kubernetes` only", |d| {
            d.label("units and commands are always handed their instances").help("remove `manage`")
        });
    }
    let target = match (fields.get("kubernetes"), fields.get("systemd"), fields.get("command")) {
        (Some(node), ..) => kubernetes(reader, node),
        (None, Some(node), _) => systemd(reader, node),
        (None, None, Some(node)) => command(reader, node),
        (None, None, None) => None,
    };
    let (name, profile) = (name?, profile?);
    let source = reader.at(fields.span.clone(), ()).source(reader.file());
    let binding = Binding {
        name: name.value,
        target: target?,
        profile: profile.value,
        per_replica: per_replica?,
        manage: manage.is_some_and(|manage| manage.value),
        source,
    };
    Some(WorkloadEntry { binding: Arc::new(binding), selector, name: name.span, profile: profile.span })
}

fn kubernetes(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Target> {
    let fields = reader.table(node, "`kubernetes`", &["kind", "namespace", "name", "container"])?;
    let mut word = |key: &str, example: &str, parse: fn(&str) -> Result<String, Reason>| {
        let node = reader.required(&fields, key, example)?;
        Some(reader.parsed(node, &format!("`{key}`"), parse)?.value)
    };
    let kind = word("kind", "\"Deployment\"", kind);
    let namespace = word("namespace", "\"inference\"", object_name);
    let name = word("name", "\"llama-chat\"", object_name);
    let container = match fields.get("container") {
        Some(node) => Some(reader.parsed(node, "`container`", object_name)?.value),
        None => None,
    };
    Some(Target::Kubernetes { kind: kind?, namespace: namespace?, name: name?, container })
}

fn systemd(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Target> {
    let fields = reader.table(node, "`systemd`", &["unit", "env"])?;
    let parse = |text: &str| match unit(text) {
        Ok(unit) if unit.ends_with(".service") => Ok(unit),
        Ok(_) => Err(Reason::new("only a service can be handed instances").help("name the .service unit")),
        Err(reason) => Err(reason),
    };
    let unit = reader.required(&fields, "unit", "\"embedder.service\"");
    let unit = unit.and_then(|node| reader.parsed(node, "`unit`", parse));
    let env = match fields.get("env") {
        Some(node) => reader.parsed(node, "`env`", variable).map(|env| env.value),
        None => Some(DEFAULT_ENV.to_owned()),
    };
    Some(Target::Systemd { unit: unit?.value, env: env? })
}

fn command(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Target> {
    let fields = reader.table(node, "[workload.command]", &["drain", "drained", "resume", "ready"])?;
    let mut words = |key: &str| {
        let node = reader.required(&fields, key, "[\"/usr/bin/virsh\", …]")?;
        Some(values::command(reader, node, &format!("`{key}`"))?.value)
    };
    let (drain, drained, resume, ready) = (words("drain"), words("drained"), words("resume"), words("ready"));
    Some(Target::Command { drain: drain?, drained: drained?, resume: resume?, ready: ready? })
}

fn kind(text: &str) -> Result<String, Reason> {
    if KINDS.contains(&text) {
        return Ok(text.to_owned());
    }
    let help = match nearest(text, KINDS) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("the kinds are {}", KINDS.join(", ")),
    };
    Err(Reason::new("not a kind with a pod template that Sectile knows").help(help))
}

/// A unit's name with its suffix.
pub(super) fn unit(text: &str) -> Result<String, Reason> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    let suffix = text.rsplit_once('.').is_some_and(|(name, suffix)| {
        !name.is_empty() && matches!(suffix, "service" | "socket" | "target" | "timer" | "path" | "mount")
    });
    match suffix && text.len() < 256 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not a unit's name").help("write it with its suffix, such as \"embedder.service\"")),
    }
}

fn variable(text: &str) -> Result<String, Reason> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = text.chars().next().is_some_and(|c| !c.is_ascii_digit());
    match begins && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not an environment variable's name")),
    }
}

fn object_name(text: &str) -> Result<String, Reason> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    match text.len() < 254 && text.chars().all(inner) && ends(text.chars().next()) && ends(text.chars().next_back()) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not a Kubernetes name").help("small letters, digits, '-' and '.'")),
    }
}

fn plain_name(text: &str) -> Result<String, Reason> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@');
    match !text.is_empty() && text.len() < 254 && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not a name").help("letters, digits, '-', '_', '.', '/' and '@'")),
    }
}

/// A client's unit in a policy.
pub(super) fn unit_at(reader: &mut Reader<'_>, text: At<String>) -> Option<At<String>> {
    reader.parse_at(text, "a unit", unit)
}
