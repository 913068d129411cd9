//! What is wrong with a tree that the tree alone tells, without any node.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::diagnostic::{Code, Diagnostic, quote};
use super::precedence::every;
use super::schema::{At, GpuEntry, GpuKey, LayoutFile, NodeSelector, PolicyFile, Setting, Tree, WorkloadEntry};
use crate::model::{Attribute, Goal, Object, ProfileName, Target};

/// Checks the tree as a whole: names that are used twice, ties that don't hang on any node, entries that can never be
/// met. [`super::assemble()`] has called it for every tree that was loaded.
pub fn check_alone(tree: &Tree) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    names(tree, &mut found);
    objects(tree, &mut found);
    layouts(tree, &mut found);
    policies(tree, &mut found);
    for file in &tree.layouts {
        entries(file, &mut found);
    }
    bound(tree, &mut found);
    found
}

fn names(tree: &Tree, found: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<&str, (&str, &WorkloadEntry)> = BTreeMap::new();
    for file in &tree.layouts {
        for entry in &file.workloads {
            let name = entry.binding.name.as_str();
            match seen.get(name) {
                Some((path, first)) => {
                    let message = format!("the workload {} is there twice", quote(name));
                    let d = Diagnostic::error(Code::Duplicate, message).at(&file.path, entry.name.clone());
                    let d = d.label("again here").also(*path, first.name.clone(), "first here");
                    found.push(d.help("a workload's name is unique in the whole tree: rename or remove one"));
                }
                None => drop(seen.insert(name, (&file.path, entry))),
            }
        }
    }
}

/// What two bindings set at one object they would take back from each other for ever.
fn objects(tree: &Tree, found: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<(&str, &str, &str, &str), (&str, &WorkloadEntry)> = BTreeMap::new();
    for file in &tree.layouts {
        for entry in file.workloads.iter().filter(|entry| entry.binding.manage) {
            let Target::Kubernetes { object, .. } = &entry.binding.target else { continue };
            let Object { api_version, kind, namespace, name, path: _ } = object;
            match seen.get(&(api_version, kind, namespace, name)) {
                Some((path, first)) => {
                    let message = format!("{} sets what another binding sets", quote(&entry.binding.name));
                    let d = Diagnostic::error(Code::Duplicate, message).at(&file.path, entry.name.clone());
                    let d = d.label("the same object").also(*path, first.name.clone(), "first here");
                    found.push(d.help("keep `manage = true` in one of the two"));
                }
                None => drop(seen.insert((api_version, kind, namespace, name), (&file.path, entry))),
            }
        }
    }
}

/// What a selector says of some node: a pattern, with the labels. Who says the same is as specific about that node.
type Saying<'t> = (&'t str, &'t BTreeMap<String, String>);

/// All that a selector says, with places; `*` and no pattern at all are the same.
fn sayings(selector: &NodeSelector) -> Vec<(Saying<'_>, &Range<usize>)> {
    let text = |text| if every(text) { "*" } else { text };
    match &selector.nodes {
        None => vec![(("*", &selector.labels), &selector.at.span)],
        Some(items) => items.iter().map(|item| ((text(item.value.text()), &selector.labels), &item.span)).collect(),
    }
}

fn layouts(tree: &Tree, found: &mut Vec<Diagnostic>) {
    let mut said: BTreeMap<Saying<'_>, (&str, &Range<usize>)> = BTreeMap::new();
    // A layout without `nodes` has been reported, and would seem to be about every node.
    for file in tree.layouts.iter().filter(|file| !file.gpus.is_empty() && file.selector.nodes.is_some()) {
        for (saying, span) in sayings(&file.selector) {
            let (path, first) = *said.entry(saying).or_insert((&file.path, span));
            if path != file.path {
                let message = format!("two layouts are equally specific about {}", quote(saying.0));
                let d = Diagnostic::error(Code::Tie, message).at(&file.path, span.clone());
                let d = d.label("a tie").also(path, first.clone(), "as specific as this");
                found.push(d.help("exactly one layout holds for a node: make one of the two more specific"));
            }
        }
    }
}

fn policies(tree: &Tree, found: &mut Vec<Diagnostic>) {
    let mut said: BTreeMap<(Saying<'_>, &str), (&PolicyFile, &At<Setting>)> = BTreeMap::new();
    for file in &tree.policies {
        for setting in &file.settings {
            let key = setting.value.key();
            // One tie of a setting tells enough, however many patterns the two files share.
            let tie = sayings(&file.selector).into_iter().find_map(|(saying, _)| {
                let (first_file, first) = *said.entry((saying, key)).or_insert((file, setting));
                (first_file.path != file.path && first.value != setting.value).then_some((saying, first_file, first))
            });
            if let Some(((text, _), first_file, first)) = tie {
                let message =
                    format!("two policies are equally specific about {} and set `{key}` differently", quote(text));
                let d = Diagnostic::error(Code::Tie, message).at(&file.path, setting.span.clone());
                let d = d.label("a tie").also(&first_file.path, first.span.clone(), "as specific as this");
                found.push(d.help("make one of the two more specific, or let them agree"));
            }
        }
    }
}

/// What an entry's selector says in words: equal words select equally.
fn words(entry: &GpuEntry) -> Vec<(String, Range<usize>)> {
    let model = match &entry.select.model {
        Some(model) => format!(" model {}", model.value.text().to_lowercase()),
        None => String::new(),
    };
    let named = |name: String, span: &Range<usize>| (format!("{name}{model}"), span.clone());
    match &entry.select.key {
        GpuKey::Any => {
            let span = entry.select.model.as_ref().map_or(&entry.at.span, |model| &model.span);
            vec![named(String::new(), span)]
        }
        GpuKey::Index(items) => items.iter().map(|item| named(format!("index {}", item.value), &item.span)).collect(),
        GpuKey::Pci(items) => items.iter().map(|item| named(format!("pci {}", item.value), &item.span)).collect(),
        GpuKey::Uuid(items) => {
            items.iter().map(|item| named(format!("uuid {}", item.value.0.to_lowercase()), &item.span)).collect()
        }
    }
}

fn entries(file: &LayoutFile, found: &mut Vec<Diagnostic>) {
    // `managed = false` holds whatever else matches, so it ties with nothing.
    let claiming = file.gpus.iter().filter(|entry| entry.count.is_none() && entry.goal != Goal::HandsOff);
    let mut seen: BTreeMap<String, (usize, Range<usize>)> = BTreeMap::new();
    for (at, entry) in claiming.enumerate() {
        for (name, span) in words(entry) {
            let about = if name.is_empty() { "every GPU".to_owned() } else { quote(name.trim()) };
            let (owner, first) = seen.entry(name).or_insert((at, span.clone()));
            // The same twice in one list is reported where it is read.
            if *owner != at {
                let d = Diagnostic::error(Code::Tie, format!("two entries are equally specific about {about}"));
                let d = d.at(&file.path, span).label("a tie").also(&file.path, first.clone(), "as specific as this");
                found.push(d.help("one entry holds for a GPU: make one of the two more specific, or remove it"));
            }
        }
    }
    let model = |entry: &GpuEntry| entry.select.model.as_ref().map(|model| model.value.text().to_lowercase());
    let catch_all = file.gpus.iter().rev().filter(|e| e.count.is_none() && matches!(e.select.key, GpuKey::Any));
    // By model, `None` for all, the first of each.
    let catch_all: BTreeMap<Option<String>, &GpuEntry> = catch_all.map(|entry| (model(entry), entry)).collect();
    for entry in file.gpus.iter().filter(|entry| entry.count.is_some()) {
        let greedy = catch_all.get(&None).or_else(|| catch_all.get(&model(entry)));
        if let (Some(greedy), Some(count)) = (greedy, &entry.count) {
            let d = Diagnostic::error(Code::NothingLeft, "nothing can be left for this entry");
            let d = d.at(&file.path, count.span.clone()).label("`count` shares the GPUs that no other entry claims");
            let d = d.also(&file.path, greedy.at.span.clone(), "this one claims them all");
            found.push(d.help("give that entry a `count` too, or name its GPUs"));
        }
    }
}

/// Workloads whose profile no layout provides. How many are bound and provided only nodes and cluster tell.
fn bound(tree: &Tree, found: &mut Vec<Diagnostic>) {
    // Names drift in their memory between boards and drivers, so only what does not is compared.
    let kind = |profile: ProfileName| -> (u32, Attribute) { (profile.slices, profile.attribute) };
    let mut provided: BTreeSet<(u32, Attribute)> = BTreeSet::new();
    let entries = || tree.layouts.iter().flat_map(|file| &file.gpus);
    for entry in entries() {
        if let Goal::Instances(wanted) = &entry.goal {
            provided.extend(wanted.iter().map(|wanted| kind(wanted.profile)));
        }
    }
    // A tree without layouts is another matter: it manages nothing.
    if entries().next().is_none() {
        return;
    }
    for file in &tree.layouts {
        for entry in file.workloads.iter().filter(|entry| !provided.contains(&kind(entry.binding.profile))) {
            let message =
                format!("no layout provides {} for the workload {}", entry.binding.profile, quote(&entry.binding.name));
            // A Kubernetes workload may have no replicas; a unit or a command always takes its instances.
            let d = match entry.binding.target {
                Target::Kubernetes { .. } => Diagnostic::warning(Code::OverBound, message),
                Target::Systemd { .. } | Target::Command { .. } => Diagnostic::error(Code::OverBound, message),
            };
            let d = d.at(&file.path, entry.profile.clone()).label("wanted by no [[gpu]] of the tree");
            found.push(d.help("add it to the `instances` of a layout, or bind another profile"));
        }
    }
}
