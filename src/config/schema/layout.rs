//! A layout file: which nodes, and what to make of their GPUs.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::At;
use super::reader::{Fields, Node, Reader, Reason};
use super::selector::{self, GpuKey, GpuSelector, NodeSelector};
use super::workload::{self, WorkloadEntry};
use crate::config::diagnostic::{Code, quote};
use crate::model::{ComputeName, Goal, ProfileName, Wanted};

/// A layout file.
#[derive(Clone, Debug)]
pub struct LayoutFile {
    /// The path below the tree, with `/`.
    pub path: String,
    /// The nodes it speaks of.
    pub selector: NodeSelector,
    /// What to make of their GPUs; empty: the file only binds workloads and competes for no node.
    pub gpus: Vec<GpuEntry>,
    /// Who gets which instances.
    pub workloads: Vec<WorkloadEntry>,
}

/// A `[[gpu]]`.
#[derive(Clone, Debug)]
pub struct GpuEntry {
    /// Which GPUs.
    pub select: GpuSelector,
    /// On how many of those that are left; `None`: on each.
    pub count: Option<At<u32>>,
    /// What to make of them.
    pub goal: Goal,
    /// Its header.
    pub at: At<()>,
}

const FILE: [&str; 4] = ["nodes", "labels", "gpu", "workload"];
const GPU: [&str; 8] = ["index", "uuid", "pci", "model", "count", "mig", "managed", "instances"];

pub(super) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> LayoutFile {
    let root = reader.fields(root, 0..0, "a layout file", &FILE);
    let selector = selector::nodes(reader, &root);
    let tables = reader.tables(&root, "gpu", "[[gpu]]", &GPU);
    if let Some(first) = tables.first()
        && !root.has("nodes")
    {
        reader.report(Code::MissingKey, first.span.clone(), "a layout needs `nodes`", |d| {
            d.label("for which nodes?").help("say so at the top of the file: nodes = [\"gpu-a-*\"]")
        });
    }
    let gpus = tables.iter().filter_map(|fields| gpu(reader, fields)).collect();
    let workloads = workload::read(reader, &root, &selector);
    if !root.has("gpu") && !root.has("workload") {
        let help = "add a [[gpu]] or a [[workload]], or remove the file";
        reader.warn(Code::EmptyFile, "this file has neither a [[gpu]] nor a [[workload]]", help);
    }
    LayoutFile { path: reader.file().to_owned(), selector, gpus, workloads }
}

fn gpu(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Option<GpuEntry> {
    let select = selector::gpus(reader, fields);
    // No node has a thousand GPUs.
    let count = fields.get("count").and_then(|node| reader.integer(node, "`count`", 1..=999));
    if fields.get("count").is_some() && !matches!(select.key, GpuKey::Any) {
        reader.report(Code::Contradiction, fields.span_of("count"), "`count` beside GPUs that are named", |d| {
            d.label("shares what is left, by `model` at most").help("remove `count`, or name no GPUs")
        });
    }
    let goal = goal(reader, fields)?;
    Some(GpuEntry { select, count, goal, at: reader.at(fields.span.clone(), ()) })
}

fn goal(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Option<Goal> {
    let mig = fields.get("mig").map(|node| reader.boolean(node, "`mig`"));
    let managed = fields.get("managed").map(|node| reader.boolean(node, "`managed`"));
    let wanted = fields.get("instances").map(|node| instances(reader, node));
    let mut contradiction = |key: &str, message: &str, label: &str| {
        reader.report(Code::Contradiction, fields.span_of(key), message, |d| {
            d.label(label).help("remove one of the two")
        });
    };
    let off = |key: &Option<Option<At<bool>>>| matches!(key, Some(Some(At { value: false, .. })));
    if off(&managed) {
        for key in ["instances", "mig", "count"].into_iter().filter(|key| fields.get(key).is_some()) {
            let message = format!("`{key}` beside `managed = false`");
            contradiction(key, &message, "Sectile keeps its hands off that GPU");
        }
        return Some(Goal::HandsOff);
    }
    if off(&mig) {
        if wanted.is_some() {
            contradiction("instances", "`instances` beside `mig = false`", "without MIG mode there are none");
        }
        return Some(Goal::MigOff);
    }
    if let Some(wanted) = wanted {
        return wanted.map(Goal::Instances);
    }
    // A key that is there and wrong has been reported already.
    if !fields.has("instances") && !matches!(mig, Some(None)) && !matches!(managed, Some(None)) {
        let help = "say `instances` (an empty list for none), `mig = false` or `managed = false`";
        let message = "[[gpu]] does not say what to make of the GPU";
        let label = if mig.is_some() { "MIG mode on, and with which `instances`?" } else { "no `instances`" };
        reader.report(Code::MissingKey, fields.span.clone(), message, |d| d.label(label).help(help));
    }
    None
}

/// `{ "3g.40gb" = 1 }`, or `["4g", { profile = "3g", start = 4 }]`.
fn instances(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Vec<Wanted>> {
    match node.get_ref() {
        DeValue::Table(table) => Some(counted(reader, table)),
        DeValue::Array(items) => Some(listed(reader, items)),
        _ => {
            reader.report(Code::WrongType, node.span(), "`instances` must be a table or a list", |d| {
                d.label("neither").help("write { \"3g.40gb\" = 2 } or [\"3g.40gb\", \"3g.40gb\"]")
            });
            None
        }
    }
}

fn counted(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<Wanted> {
    let mut found: Vec<(Range<usize>, Wanted, u32)> = Vec::new();
    for (key, value) in table {
        let text = key.get_ref().as_ref();
        if let DeValue::Table(_) = value.get_ref() {
            let message = "a profile's name needs quotes here";
            reader.report(Code::WrongType, key.span(), message, |d| {
                d.label("the dot makes this a table").help("write { \"3g.40gb\" = 1 }")
            });
            continue;
        }
        let name = reader.at(key.span(), text.to_owned());
        let profile = reader.parse_at(name, "a profile", parse_profile);
        // The largest number that any board takes is 7; a bound keeps slips from filling the memory.
        let count = reader.integer(value, &format!("the number of {}", quote(text)), 1..=64);
        if let (Some(profile), Some(count)) = (profile, count) {
            let wanted = Wanted { profile: profile.value, start: None, compute: None };
            found.push((profile.span, wanted, count.value));
        }
    }
    // As written, not by the alphabet.
    found.sort_by_key(|(span, ..)| span.start);
    found.into_iter().flat_map(|(_, wanted, count)| (0..count).map(move |_| wanted.clone())).collect()
}

fn listed(reader: &mut Reader<'_>, items: &[Node<'_>]) -> Vec<Wanted> {
    let mut found: Vec<Wanted> = Vec::new();
    let mut starts: Vec<At<u32>> = Vec::new();
    for item in items {
        let DeValue::Table(_) = item.get_ref() else {
            let profile = profile(reader, item);
            found.extend(profile.map(|profile| Wanted { profile: profile.value, start: None, compute: None }));
            continue;
        };
        let Some(fields) = reader.table(item, "an instance", &["profile", "start", "compute"]) else { continue };
        let name = reader.required(&fields, "profile", "\"3g.40gb\"").and_then(|node| profile(reader, node));
        let start = fields.get("start").and_then(|node| reader.integer(node, "`start`", 0..=63));
        if let Some(start) = &start {
            if let Some(first) = starts.iter().find(|first| first.value == start.value) {
                let file = reader.file();
                let message = format!("two instances can't both start at {}", start.value);
                reader.report(Code::Contradiction, start.span.clone(), message, |d| {
                    d.label("taken").also(file, first.span.clone(), "by this one")
                });
            }
            starts.push(start.clone());
        }
        let Some(name) = name else { continue };
        let compute = fields.get("compute").and_then(|node| compute(reader, node, name.value));
        found.push(Wanted { profile: name.value, start: start.map(|start| start.value), compute });
    }
    found
}

/// The compute instances of one instance.
fn compute(reader: &mut Reader<'_>, node: &Node<'_>, of: ProfileName) -> Option<Vec<ComputeName>> {
    let items = reader.list(node, "`compute`", "compute instances")?;
    let mut names = Vec::new();
    for item in items {
        let parse = |text: &str| {
            let help = format!("a compute instance of it is such as \"1c.{of}\"");
            let name: ComputeName =
                text.parse().map_err(|_| Reason::new("not a compute instance's name").help(&help))?;
            let memory = of.memory_gb.is_none() || name.of.memory_gb.is_none() || of.memory_gb == name.of.memory_gb;
            match name.of.slices == of.slices && memory {
                true => Ok(name),
                false => Err(Reason::new(format!("not a part of {of}")).help(help)),
            }
        };
        names.extend(reader.parsed(item, "`compute`", parse).map(|name| name.value));
    }
    let slices: u64 = names.iter().map(|name| u64::from(name.slices)).sum();
    if slices > u64::from(of.slices) {
        let message = format!("these compute instances don't fit into {of}");
        let label = format!("{slices} compute slices of {}", of.slices);
        reader.report(Code::Contradiction, node.span(), message, |d| {
            d.label(label).help("remove some, or take a larger profile")
        });
    }
    Some(names)
}

fn parse_profile(text: &str) -> Result<ProfileName, Reason> {
    let help = "a profile is such as \"3g.40gb\", \"1g.10gb+me\" or \"3g\"";
    text.parse().map_err(|_| Reason::new("not the name of a MIG profile").help(help))
}

/// A profile's name.
pub(super) fn profile(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<At<ProfileName>> {
    reader.parsed(node, "a profile", parse_profile)
}
