//! A layout file that people wrote, of which only what must change is changed.

use toml_edit::{Array, ArrayOfTables, Decor, DocumentMut, Item, Table, Value, value};
use toml_parser::Source as Lexed;
use toml_parser::lexer::TokenKind;

use super::{counted, fresh, groups, quoted, said};
use crate::config::schema::selector::Pattern;
use crate::config::schema::{GpuEntry, GpuKey, LayoutFile};
use crate::model::{AsIs, DesiredNode, Goal, ProfileName};

/// Why a file is better left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What stands in the way, a sentence.
    pub message: String,
    /// A way out.
    pub hint: String,
}

impl Refused {
    fn new(message: impl Into<String>, hint: &str) -> Self {
        Refused { message: message.into(), hint: hint.to_owned() }
    }
}

/// How a file stands to a GPU as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It plans to nothing.
    Holds,
    /// It would change the GPU, or is blocked.
    Differs,
    /// It does not speak of it.
    Silent,
}

/// Brings a layout file that people wrote up to what is there: entries that hold stay as they are written, of the others
/// only what they say is changed, and GPUs that no entry speaks of get one. Every comment stays.
///
/// `file` is what `text` says, `desired` what it wants of the node, `gpus` each GPU with how the file stands to it.
///
/// # Errors
///
/// Where the file is about other nodes too, or what it says can't be told GPU by GPU, or a comment would be lost.
pub fn rewrite(
    text: &str,
    file: &LayoutFile,
    desired: &DesiredNode,
    gpus: &[(AsIs, Standing)],
) -> Result<String, Refused> {
    about_one(file, &desired.node)?;
    if let Some(block) = desired.blocked.first() {
        return Err(Refused { message: block.message.clone(), hint: block.hint.clone() });
    }
    if desired.layout.is_none() && !file.gpus.is_empty() {
        let message = format!("its labels are not those of {}", desired.node);
        return Err(Refused::new(message, "correct `labels`, or export into a new file"));
    }
    let mut document: DocumentMut =
        text.parse().map_err(|_| Refused::new("its form is not understood", "export into a new file"))?;
    if document.get("gpu").is_some_and(|item| !item.is_array_of_tables()) {
        return Err(Refused::new("`gpu` is a list in one value", "write its entries as [[gpu]] tables"));
    }
    let mut new: Vec<String> = Vec::new();
    for (at, entry) in file.gpus.iter().enumerate() {
        let held = gpus.iter().filter(|(gpu, _)| holds(desired, entry, gpu));
        let (right, wrong): (Vec<_>, Vec<_>) = held.partition(|(_, standing)| *standing == Standing::Holds);
        let wrong: Vec<AsIs> = wrong.into_iter().map(|(gpu, _)| gpu.clone()).collect();
        if let Some(gpu) = wrong.iter().find(|gpu| gpu.goal.is_none() || !gpu.note.is_empty()) {
            let why = if gpu.goal.is_none() { "it has no MIG" } else { &gpu.note };
            let message = format!("what is on GPU {} can't be told: {why}", gpu.index);
            return Err(Refused::new(message, "say `managed = false` for it, or export into a new file"));
        }
        let mut sorts = groups(&wrong).into_iter();
        // The entry stays with those that it is right about, else with the first sort of the others.
        if right.is_empty()
            && let Some(gpu) = sorts.next().and_then(|sort| sort.first().copied())
        {
            put(&mut document, at, gpu);
        }
        let sorts: Vec<Vec<&AsIs>> = sorts.collect();
        narrow(&mut document, at, entry, &sorts.concat());
        let by_uuid = matches!(entry.select.key, GpuKey::Uuid(_) | GpuKey::Pci(_));
        new.extend(sorts.iter().map(|sort| fresh(sort, by_uuid)));
    }
    let chosen =
        |(gpu, standing): &&(AsIs, Standing)| *standing == Standing::Differs && !desired.gpus.contains_key(&gpu.uuid);
    if let Some((gpu, _)) = gpus.iter().find(chosen) {
        let message = format!("GPU {} differs, and an entry with `count` chose it", gpu.index);
        return Err(Refused::new(message, "name the GPUs by `index` in place of `count`"));
    }
    let silent = gpus
        .iter()
        .filter(|(gpu, standing)| *standing == Standing::Silent && gpu.goal.is_some() && gpu.note.is_empty());
    let silent: Vec<AsIs> = silent.map(|(gpu, _)| gpu.clone()).collect();
    new.extend(groups(&silent).iter().map(|sort| fresh(sort, false)));
    for text in new {
        push(&mut document, &text);
    }
    let written = document.to_string();
    if let Some(comment) = lost(text, &written).first() {
        let message = format!("the comment `{comment}` would be lost");
        return Err(Refused::new(message, "move it above the header of its entry"));
    }
    // What a file's lines end with is not for us to change.
    Ok(if text.contains("\r\n") { written.replace("\r\n", "\n").replace('\n', "\r\n") } else { written })
}

/// A file is rewritten for one node only where it is about no other.
fn about_one(file: &LayoutFile, node: &str) -> Result<(), Refused> {
    let patterns = file.selector.nodes.as_deref();
    let hint = format!("export into a file of its own, which wins over this one: nodes = [{}]", quoted(node));
    match patterns {
        Some([only]) if matches!(&only.value, Pattern::Literal(name) if name == node) => Ok(()),
        None => Err(Refused { message: "it is about every node".to_owned(), hint }),
        Some(patterns) => {
            let names: Vec<&str> = patterns.iter().map(|pattern| pattern.value.text()).collect();
            Err(Refused { message: format!("it is about {}, and not about {node} alone", names.join(", ")), hint })
        }
    }
}

/// Whether an entry is the one that holds for a GPU.
fn holds(desired: &DesiredNode, entry: &GpuEntry, gpu: &AsIs) -> bool {
    desired.gpus.get(&gpu.uuid).is_some_and(|goal| goal.source.line == entry.at.line)
}

fn table(document: &mut DocumentMut, at: usize) -> Option<&mut Table> {
    document.get_mut("gpu")?.as_array_of_tables_mut()?.get_mut(at)
}

/// Takes GPUs out of an entry that names its GPUs; one that does not gives way to entries that do.
fn narrow(document: &mut DocumentMut, at: usize, entry: &GpuEntry, gone: &[&AsIs]) {
    let of = |names: &dyn Fn(&AsIs) -> bool| gone.iter().any(|gpu| names(gpu));
    let (key, gone): (&str, Vec<bool>) = match &entry.select.key {
        GpuKey::Index(items) => ("index", items.iter().map(|item| of(&|gpu| gpu.index == item.value)).collect()),
        GpuKey::Uuid(items) => ("uuid", items.iter().map(|item| of(&|gpu| item.value.matches(&gpu.uuid))).collect()),
        GpuKey::Any | GpuKey::Pci(_) => return,
    };
    let items = table(document, at).and_then(|table| table.get_mut(key)).and_then(Item::as_array_mut);
    if let Some(items) = items.filter(|_| gone.contains(&true)) {
        take(items, &gone);
    }
}

/// Takes items out of an array. A comment behind an item is kept by TOML before the next one, so what stands before an
/// item that goes is handed on.
fn take(items: &mut Array, gone: &[bool]) {
    if !items.to_string().contains('\n') {
        let mut gone = gone.iter();
        items.retain(|_| gone.next() != Some(&true));
        return items.fmt();
    }
    let mut kept = Array::new();
    let mut handed = String::new();
    for (item, gone) in items.iter().zip(gone) {
        let before = item.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
        let before = joined(&handed, before);
        handed.clear();
        if *gone {
            handed = before;
        } else {
            let mut item = item.clone();
            item.decor_mut().set_prefix(before);
            kept.push_formatted(item);
        }
    }
    kept.set_trailing(joined(&handed, items.trailing().as_str().unwrap_or_default()));
    kept.set_trailing_comma(items.trailing_comma());
    *kept.decor_mut() = items.decor().clone();
    *items = kept;
}

/// What stands before an item, behind comments that were handed on to it.
fn joined(handed: &str, own: &str) -> String {
    let rest = own.trim_start_matches(' ');
    if !handed.contains('#') {
        own.to_owned()
    } else if rest.starts_with('\n') {
        format!("{}{own}", handed.trim_end())
    } else {
        format!("{handed}{rest}")
    }
}

/// Adds an entry behind the others.
fn push(document: &mut DocumentMut, text: &str) {
    let Some(Item::ArrayOfTables(new)) = text.parse().ok().and_then(|mut one: DocumentMut| one.remove("gpu")) else {
        return;
    };
    let all = document.entry("gpu").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let Some(all) = all.as_array_of_tables_mut() else { return };
    for mut table in new {
        // Where it is printed follows from its neighbours.
        table.set_position(None);
        all.push(table);
    }
}

/// Makes an entry say what a GPU is; the key that says it keeps its place and its comment.
fn put(document: &mut DocumentMut, at: usize, gpu: &AsIs) {
    let before = document.to_string();
    let Some(goal) = &gpu.goal else { return };
    let (key, text) = said(goal);
    let Some(entry) = table(document, at) else { return };
    ["instances", "mig", "managed"]
        .into_iter()
        .filter(|other| *other != key)
        .for_each(|other| drop(entry.remove(other)));
    let counts = match goal {
        Goal::Instances(wanted) => counted(wanted),
        Goal::MigOff | Goal::HandsOff => None,
    };
    let old = entry.get_mut(key);
    match (old, counts) {
        (Some(old), Some(counts)) if old.is_table_like() => recount(old, &counts),
        (old, _) => {
            let Ok(mut new) = text.parse::<Value>() else { return };
            match old {
                Some(old) => {
                    if let Some(old) = old.as_value() {
                        *new.decor_mut() = old.decor().clone();
                    }
                    *old = Item::Value(new);
                }
                None => drop(entry.insert(key, Item::Value(new))),
            }
        }
    }
    let comments = lost(&before, &document.to_string());
    let Some(entry) = table(document, at) else { return };
    // A table with a header of its own has its comments before that.
    let headed = entry.get(key).and_then(Item::as_table).is_some_and(|table| !table.is_dotted());
    if let Some(table) = entry.get_mut(key).and_then(Item::as_table_mut).filter(|_| headed) {
        head(table.decor_mut(), &comments);
    } else if let Some(mut key) = entry.key_mut(key) {
        head(key.leaf_decor_mut(), &comments);
    }
}

/// Puts comments before what is decorated so.
fn head(decor: &mut Decor, comments: &[String]) {
    let prefix = decor.prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
    let indent = prefix.rsplit('\n').next().unwrap_or_default().to_owned();
    let lines: String = comments.iter().map(|comment| format!("{comment}\n{indent}")).collect();
    decor.set_prefix(format!("{prefix}{lines}"));
}

/// Changes the numbers of a table of profiles.
fn recount(item: &mut Item, counts: &[(ProfileName, i64)]) {
    let Some(table) = item.as_table_like_mut() else { return };
    let names: Vec<String> = table.iter().map(|(name, _)| name.to_owned()).collect();
    let mut same_keys = names.len() == counts.len();
    for name in &names {
        match counts.iter().find(|(profile, _)| profile.to_string() == *name) {
            None => {
                table.remove(name);
                same_keys = false;
            }
            Some((_, count)) => {
                if let Some(old) =
                    table.get_mut(name).filter(|old| old.as_integer() != Some(*count)).and_then(Item::as_value_mut)
                {
                    let decor = old.decor().clone();
                    *old = Value::from(*count);
                    *old.decor_mut() = decor;
                }
            }
        }
    }
    for (profile, count) in counts.iter().filter(|(profile, _)| !names.contains(&profile.to_string())) {
        table.insert(&profile.to_string(), value(*count));
    }
    if let Some(inline) = item.as_inline_table_mut().filter(|_| !same_keys) {
        inline.fmt();
    }
}

/// Comments that are in one text and not in the other.
fn lost(before: &str, after: &str) -> Vec<String> {
    let mut there = comments(after);
    let mut gone = comments(before);
    gone.retain(|comment| match there.iter().position(|kept| kept == comment) {
        Some(at) => {
            there.swap_remove(at);
            false
        }
        None => true,
    });
    gone
}

fn comments(text: &str) -> Vec<String> {
    let tokens = Lexed::new(text).lex().filter(|token| token.kind() == TokenKind::Comment);
    let comments = tokens.filter_map(|token| text.get(token.span().start()..token.span().end()));
    comments.map(|comment| comment.trim_end().to_owned()).collect()
}
