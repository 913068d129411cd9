//! Layouts written back: a new file here; below, a file that people wrote, of which little is changed.

mod rewrite;

use std::collections::BTreeMap;

use toml_edit::Value;

use crate::model::{AsIs, Goal, ProfileName, Wanted};

pub use rewrite::{Refused, Standing, rewrite};

/// Longer values take several lines.
const LINE: usize = 100;

/// A layout file of one node. GPUs that are alike share an entry.
pub fn layout(node: &str, gpus: &[AsIs]) -> String {
    let mut text = format!("# What {node} is cut into, as `sectile export` found it.\nnodes = [{}]\n", quoted(node));
    for group in groups(gpus) {
        let Some(first) = group.first() else { continue };
        let indices: Vec<u32> = group.iter().map(|gpu| gpu.index).collect();
        if first.goal.is_none() {
            text.push_str(&format!("\n# {} ({}): no MIG.\n", numbered(&indices), first.model));
            continue;
        }
        text.push_str(&fresh(&group, false));
    }
    text
}

/// The same of GPUs that are to be as they were, which are meant by their UUIDs.
pub fn again(node: &str, gpus: &[AsIs]) -> String {
    let entries: String = groups(gpus).iter().map(|group| fresh(group, true)).collect();
    format!("# What {node} was cut into when it last converged.\nnodes = [{}]\n{entries}", quoted(node))
}

/// GPUs that are alike, in the order of the first of each.
fn groups(gpus: &[AsIs]) -> Vec<Vec<&AsIs>> {
    let mut groups: Vec<Vec<&AsIs>> = Vec::new();
    for gpu in gpus {
        let alike = |first: &&AsIs| (&first.model, &first.goal, &first.note) == (&gpu.model, &gpu.goal, &gpu.note);
        match groups.iter_mut().find(|group| group.first().is_some_and(alike)) {
            Some(group) => group.push(gpu),
            None => groups.push(vec![gpu]),
        }
    }
    groups
}

fn numbered(indices: &[u32]) -> String {
    let numbers: Vec<String> = indices.iter().map(u32::to_string).collect();
    format!("{} {}", if indices.len() == 1 { "GPU" } else { "GPUs" }, numbers.join(", "))
}

fn list(indices: &[u32]) -> String {
    let numbers: Vec<String> = indices.iter().map(u32::to_string).collect();
    format!("[{}]", numbers.join(", "))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The key that says a goal, and its value in TOML.
fn said(goal: &Goal) -> (&'static str, String) {
    match goal {
        Goal::HandsOff => ("managed", "false".to_owned()),
        Goal::MigOff => ("mig", "false".to_owned()),
        Goal::Instances(wanted) => ("instances", instances(wanted)),
    }
}

/// A table of profiles where nothing but their numbers is wanted, else a list.
fn instances(wanted: &[Wanted]) -> String {
    if let Some(counts) = counted(wanted) {
        let parts: Vec<String> = counts.iter().map(|(profile, count)| format!("\"{profile}\" = {count}")).collect();
        return if parts.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", parts.join(", ")) };
    }
    let parts: Vec<String> = wanted.iter().map(instance).collect();
    let line = format!("[{}]", parts.join(", "));
    let short = line.len() + "instances = ".len() <= LINE;
    if short { line } else { format!("[\n  {},\n]", parts.join(",\n  ")) }
}

/// The number of each profile, the largest first; `None` where more than the numbers is wanted.
fn counted(wanted: &[Wanted]) -> Option<Vec<(ProfileName, i64)>> {
    let mut counts: BTreeMap<ProfileName, i64> = BTreeMap::new();
    for Wanted { profile, start, compute } in wanted {
        if start.is_some() || compute.is_some() {
            return None;
        }
        *counts.entry(*profile).or_default() += 1;
    }
    Some(counts.into_iter().rev().collect())
}

fn instance(Wanted { profile, start, compute }: &Wanted) -> String {
    let start = start.map(|start| format!("start = {start}"));
    let compute = compute.as_ref().map(|names| {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!("compute = [{}]", names.join(", "))
    });
    if start.is_none() && compute.is_none() {
        return format!("\"{profile}\"");
    }
    let parts: Vec<String> = [Some(format!("profile = \"{profile}\"")), start, compute].into_iter().flatten().collect();
    format!("{{ {} }}", parts.join(", "))
}

/// An entry for GPUs that are alike.
fn fresh(sort: &[&AsIs], by_uuid: bool) -> String {
    let Some(first) = sort.first() else { return String::new() };
    let uuids: Vec<String> = sort.iter().map(|gpu| quoted(&gpu.uuid)).collect();
    let indices: Vec<u32> = sort.iter().map(|gpu| gpu.index).collect();
    let select = if by_uuid { format!("uuid = [{}]", uuids.join(", ")) } else { format!("index = {}", list(&indices)) };
    let note = if first.note.is_empty() { String::new() } else { format!("# {}.\n", first.note) };
    let (key, value) = said(first.goal.as_ref().unwrap_or(&Goal::HandsOff));
    format!("\n[[gpu]] # {}\n{select}\n{note}{key} = {value}\n", first.model)
}
