//! A `[[workload]]`: who gets which instances.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::At;
use super::layout;
use super::reader::{Fields, Node, Reader, Reason, nearest};
use super::selector::{self, NodePattern, NodeSelector};
use super::values;
use crate::config::diagnostic::Code;
use crate::config::precedence::every;
use crate::model::{Affinity, Binding, Object, Target};

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

/// What CUDA reads.
const DEFAULT_ENV: &str = "CUDA_VISIBLE_DEVICES";

/// The bindings of a file that speaks of these nodes.
pub(super) fn read(reader: &mut Reader<'_>, root: &Fields<'_, '_>, file: &NodeSelector) -> Vec<WorkloadEntry> {
    let tables = reader.tables(root, "workload", "[[workload]]", &WORKLOAD);
    tables.iter().filter_map(|fields| workload(reader, fields, file)).collect()
}

fn workload(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, file: &NodeSelector) -> Option<WorkloadEntry> {
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
    let managed = manage.as_ref().is_some_and(|manage| manage.value);
    let target = match (fields.get("kubernetes"), fields.get("systemd"), fields.get("command")) {
        (Some(node), ..) => kubernetes(reader, node, managed),
        (None, Some(node), _) => systemd(reader, node),
        (None, None, Some(node)) => command(reader, node),
        (None, None, None) => None,
    };
    let mut place = Affinity::default();
    if managed && fields.get("kubernetes").is_some() {
        match affinity(file, &selector) {
            Ok(affinity) => place = affinity,
            Err((label, help)) => {
                let message = "`manage = true` needs nodes that a scheduler can be told";
                reader.report(Code::Contradiction, fields.span_of("manage"), message, |d| d.label(label).help(help));
            }
        }
    }
    let (name, profile) = (name?, profile?);
    let source = reader.at(fields.span.clone(), ()).source(reader.file());
    let binding = Binding {
        name: name.value,
        target: target?,
        profile: profile.value,
        per_replica: per_replica?,
        manage: managed,
        affinity: place,
        source,
    };
    Some(WorkloadEntry { binding: Arc::new(binding), selector, name: name.span, profile: profile.span })
}

fn kubernetes(reader: &mut Reader<'_>, node: &Node<'_>, manage: bool) -> Option<Target> {
    let keys = ["kind", "namespace", "name", "container", "api_version", "path"];
    let fields = reader.table(node, "`kubernetes`", &keys)?;
    let other = fields.has("api_version");
    let kind = if other { any_kind } else { known_kind };
    let mut word = |key: &str, example: &str, parse: fn(&str) -> Result<String, Reason>| {
        let node = reader.required(&fields, key, example)?;
        Some(reader.parsed(node, &format!("`{key}`"), parse)?.value)
    };
    let kind = word("kind", "\"Deployment\"", kind);
    let namespace = word("namespace", "\"inference\"", object_name);
    let name = word("name", "\"llama-chat\"", object_name);
    let api_version = if other { word("api_version", "\"ray.io/v1\"", api_version) } else { Some(String::new()) };
    let mut optional = |key: &str, parse: fn(&str) -> Result<String, Reason>| match fields.get(key) {
        Some(node) => Some(Some(reader.parsed(node, &format!("`{key}`"), parse)?.value)),
        None => Some(None),
    };
    let (container, path) = (optional("container", object_name), optional("path", template_path));
    let (kind, given, path) = (kind?, api_version?, path?);
    let known = Object::known(&kind).filter(|(version, _)| !other || *version == given);
    let api_version = known.map_or(given, |(version, _)| version.to_owned());
    let path = path.or_else(|| known.map(|(_, path)| path.to_owned()));
    if path.is_none() && manage {
        reader.report(
            Code::MissingKey,
            fields.span.clone(),
            "`kubernetes` does not say where the pod template is",
            |d| {
                d.label(format!("{kind} of {api_version} is not known here"))
                    .help("add where it stands in the object: path = \"spec.headGroupSpec.template\"")
            },
        );
        return None;
    }
    let path = path.unwrap_or_default();
    let object = Object { api_version, kind, namespace: namespace?, name: name?, path };
    Some(Target::Kubernetes { object, container: container? })
}

/// Where a managed workload's pods may run: what its file and its entry say, as far as a scheduler can be told. It knows
/// labels and names, but no globs.
fn affinity(file: &NodeSelector, entry: &NodeSelector) -> Result<Affinity, (&'static str, &'static str)> {
    let mut labels = file.labels.clone();
    for (key, value) in &entry.labels {
        if labels.insert(key.clone(), value.clone()).is_some_and(|other| other != *value) {
            return Err(NOWHERE);
        }
    }
    let patterns = |selector: &NodeSelector| -> Vec<NodePattern> {
        let all = selector.nodes.iter().flatten().map(|at| at.value.clone()).collect::<Vec<_>>();
        if all.iter().any(|pattern| every(pattern.text())) { Vec::new() } else { all }
    };
    let names = |patterns: &[NodePattern]| -> Option<BTreeSet<String>> {
        let literal = |pattern: &NodePattern| match pattern {
            NodePattern::Literal(name) => Some(name.clone()),
            NodePattern::Glob { .. } => None,
        };
        patterns.iter().map(literal).collect()
    };
    let (file, entry) = (patterns(file), patterns(entry));
    let matched = |names: BTreeSet<String>, others: &[NodePattern]| -> BTreeSet<String> {
        let matches = |name: &String| match others {
            [] => true,
            others => others.iter().any(|pattern| pattern.matches(name)),
        };
        names.into_iter().filter(matches).collect()
    };
    let names = match (names(&file), names(&entry)) {
        _ if file.is_empty() && entry.is_empty() => return Ok(Affinity { labels, names: BTreeSet::new() }),
        (_, Some(names)) if !entry.is_empty() => matched(names, &file),
        (Some(names), _) if !file.is_empty() => matched(names, &entry),
        // The labels alone tell: they are what whoever wrote them selects by.
        _ if !labels.is_empty() => return Ok(Affinity { labels, names: BTreeSet::new() }),
        _ => return Err(GLOB),
    };
    if names.is_empty() { Err(NOWHERE) } else { Ok(Affinity { labels, names }) }
}

/// What is wrong, and the way out.
const NOWHERE: (&str, &str) =
    ("its file and its entry have no node in common", "let them agree, or leave one of the two out");
const GLOB: (&str, &str) = (
    "no scheduler can be told to keep its pods on nodes of a glob",
    "select by `labels` too, name the nodes, or set `manage = false`",
);

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

fn known_kind(text: &str) -> Result<String, Reason> {
    let kinds = Object::kinds();
    if kinds.contains(&text) {
        return Ok(text.to_owned());
    }
    let help = match nearest(text, kinds) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("the kinds are {}; any other needs `api_version` and `path`", kinds.join(", ")),
    };
    Err(Reason::new("not a kind with a pod template that Sectile knows").help(help))
}

fn any_kind(text: &str) -> Result<String, Reason> {
    let begins = text.chars().next().is_some_and(|c| c.is_ascii_uppercase());
    match begins && text.len() < 64 && text.chars().all(|c| c.is_ascii_alphanumeric()) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not a kind").help("a kind is such as \"RayCluster\"")),
    }
}

fn api_version(text: &str) -> Result<String, Reason> {
    let version = |text: &str| text.starts_with('v') && text.chars().all(|c| c.is_ascii_alphanumeric());
    let fits = match text.split_once('/') {
        Some((group, of)) => object_name(group).is_ok() && version(of),
        None => version(text),
    };
    match fits {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not an API version").help("group and version, such as \"ray.io/v1\"")),
    }
}

fn template_path(text: &str) -> Result<String, Reason> {
    let key = |key: &str| !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    match text.len() < 254 && text.split('.').all(key) {
        true => Ok(text.to_owned()),
        false => Err(Reason::new("not a path").help("keys with dots between them: \"spec.headGroupSpec.template\"")),
    }
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
