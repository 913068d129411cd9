//! A policy file: settings, each with its place, so that files merge key by key.

use toml::de::{DeTable, DeValue};

use super::At;
use super::reader::{Fields, Node, Reader, Reason, nearest};
use super::selector::{self, NodeSelector};
use super::values;
use super::workload;
use crate::config::diagnostic::{Code, quote};
use crate::model::policy::{
    Allocation, Amount, ApplyMode, ClientCommand, DaemonSets, ModeChange, PodSelector, Processes, RebootRule,
    ResetRule, Span, WriterRule,
};

/// A policy file.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// The path below the tree, with `/`.
    pub path: String,
    /// The nodes it speaks of.
    pub selector: NodeSelector,
    /// Its keys, each once.
    pub settings: Vec<At<Setting>>,
    /// `[protect] pods`, which add up.
    pub protect: Vec<PodSelector>,
}

macro_rules! settings {
    ($($variant:ident($type:ty) = $key:literal),* $(,)?) => {
        /// One key of a policy.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Setting {
            $(#[doc = concat!("`", $key, "`.")] $variant($type)),*
        }
        impl Setting {
            /// The key, with its table.
            pub fn key(&self) -> &'static str { match self { $(Setting::$variant(_) => $key),* } }
        }
    };
}

settings! {
    Mode(ApplyMode) = "apply.mode",
    Timeout(u64) = "drain.timeout",
    GracePeriod(u64) = "drain.grace_period",
    Force(bool) = "drain.force",
    DeleteEmptydirData(bool) = "drain.delete_emptydir_data",
    DaemonSets(DaemonSets) = "drain.daemonsets",
    MaxNodes(Amount) = "budget.max_nodes",
    Canary(u32) = "budget.canary",
    MaxPods(u32) = "budget.max_pods",
    Splays(bool) = "budget.uncoordinated",
    Splay(u64) = "budget.splay",
    Open(Vec<Span>) = "window.open",
    Timezone(String) = "window.timezone",
    Annotations(bool) = "protect.annotations",
    Processes(Processes) = "protect.processes",
    ModeChange(ModeChange) = "gpu.mode_change",
    Reset(ResetRule) = "gpu.reset",
    Reboot(RebootRule) = "gpu.reboot",
    Allocation(Allocation) = "clients.allocation",
    Units(Vec<String>) = "clients.systemd",
    Commands(Vec<ClientCommand>) = "clients.commands",
    MigManager(WriterRule) = "writers.mig_manager",
    Rollback(bool) = "failure.rollback",
    Retries(u32) = "failure.retries",
}

const FILE: [&str; 11] =
    ["nodes", "labels", "apply", "drain", "budget", "window", "protect", "gpu", "clients", "writers", "failure"];

pub(super) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> PolicyFile {
    let root = reader.fields(root, 0..0, "a policy file", &FILE);
    let selector = selector::nodes(reader, &root);
    let mut keys = Keys { reader, settings: Vec::new() };
    if let Some(table) = keys.section(&root, "apply", "[apply]", &["mode"]) {
        keys.word(&table, "mode", ApplyMode::WORDS, |word| ApplyMode::from_word(word).map(Setting::Mode));
    }
    drain(&mut keys, &root);
    budget(&mut keys, &root);
    window(&mut keys, &root);
    let protect = protect(&mut keys, &root);
    if let Some(table) = keys.section(&root, "gpu", "[gpu]", &["mode_change", "reset", "reboot"]) {
        let mode_change = |word: &str| ModeChange::from_word(word).map(Setting::ModeChange);
        keys.word(&table, "mode_change", ModeChange::WORDS, mode_change);
        keys.word(&table, "reset", ResetRule::WORDS, |word| ResetRule::from_word(word).map(Setting::Reset));
        keys.word(&table, "reboot", RebootRule::WORDS, |word| RebootRule::from_word(word).map(Setting::Reboot));
    }
    clients(&mut keys, &root);
    if let Some(table) = keys.section(&root, "writers", "[writers]", &["mig_manager"]) {
        let rule = |word: &str| WriterRule::from_word(word).map(Setting::MigManager);
        keys.word(&table, "mig_manager", WriterRule::WORDS, rule);
    }
    if let Some(table) = keys.section(&root, "failure", "[failure]", &["rollback", "retries"]) {
        keys.boolean(&table, "rollback", Setting::Rollback);
        keys.number(&table, "retries", 0, Setting::Retries);
    }
    let settings = keys.settings;
    if settings.is_empty() && !FILE.iter().skip(2).any(|key| root.has(key)) {
        let help = "where a policy matches, what disturbs somebody may be done, with the defaults";
        reader.warn(Code::EmptyFile, "this policy sets nothing", help);
    }
    PolicyFile { path: reader.file().to_owned(), selector, settings, protect }
}

/// Collects settings.
struct Keys<'k, 'a> {
    reader: &'k mut Reader<'a>,
    settings: Vec<At<Setting>>,
}

impl Keys<'_, '_> {
    fn section<'r, 'i>(
        &mut self,
        root: &Fields<'r, 'i>,
        key: &str,
        what: &'static str,
        known: &[&'static str],
    ) -> Option<Fields<'r, 'i>> {
        self.reader.table(root.get(key)?, what, known)
    }

    fn word(&mut self, table: &Fields<'_, '_>, key: &str, words: &[&str], make: impl Fn(&str) -> Option<Setting>) {
        let Some(node) = table.get(key) else { return };
        let found = self.reader.parsed(node, &format!("`{key}`"), |text| {
            let reason = Reason::new(format!("one of {}", words.join(", ")));
            make(text).ok_or_else(|| match nearest(text, words.iter().copied()) {
                Some(near) => reason.help(format!("did you mean \"{near}\"?")),
                None => reason,
            })
        });
        self.settings.extend(found);
    }

    fn boolean(&mut self, table: &Fields<'_, '_>, key: &str, make: impl Fn(bool) -> Setting) {
        let found = table.get(key).and_then(|node| self.reader.boolean(node, &format!("`{key}`")));
        self.settings.extend(found.map(|found| found.map(make)));
    }

    fn number(&mut self, table: &Fields<'_, '_>, key: &str, least: u32, make: impl Fn(u32) -> Setting) {
        let found = table.get(key).and_then(|node| self.reader.integer(node, &format!("`{key}`"), least..=u32::MAX));
        self.settings.extend(found.map(|found| found.map(make)));
    }

    fn duration(&mut self, table: &Fields<'_, '_>, key: &str, least: u64, make: impl Fn(u64) -> Setting) {
        let Some(node) = table.get(key) else { return };
        if let DeValue::Integer(number) = node.get_ref() {
            let help = format!("write \"{number}s\" for seconds or \"{number}m\" for minutes");
            let message = format!("`{key}` needs a unit");
            self.reader.report(Code::WrongType, node.span(), message, |d| d.label("of what?").help(help));
            return;
        }
        let found = self.reader.parsed(node, &format!("`{key}`"), |text| match values::duration(text)? {
            seconds if seconds < least => Err(Reason::new(format!("must be {least}s or more"))),
            seconds => Ok(make(seconds)),
        });
        self.settings.extend(found);
    }
}

fn drain(keys: &mut Keys<'_, '_>, root: &Fields<'_, '_>) {
    let known = ["timeout", "grace_period", "force", "delete_emptydir_data", "daemonsets"];
    let Some(table) = keys.section(root, "drain", "[drain]", &known) else { return };
    keys.duration(&table, "timeout", 1, Setting::Timeout);
    keys.duration(&table, "grace_period", 0, Setting::GracePeriod);
    keys.boolean(&table, "force", Setting::Force);
    keys.boolean(&table, "delete_emptydir_data", Setting::DeleteEmptydirData);
    keys.word(&table, "daemonsets", DaemonSets::WORDS, |word| DaemonSets::from_word(word).map(Setting::DaemonSets));
}

fn budget(keys: &mut Keys<'_, '_>, root: &Fields<'_, '_>) {
    let known = ["max_nodes", "canary", "max_pods", "uncoordinated", "splay"];
    let Some(table) = keys.section(root, "budget", "[budget]", &known) else { return };
    match table.get("max_nodes") {
        Some(node) if node.get_ref().is_integer() => {
            keys.number(&table, "max_nodes", 1, |count| Setting::MaxNodes(Amount::Count(count)));
        }
        Some(node) if node.get_ref().is_str() => {
            let found = keys.reader.parsed(node, "`max_nodes`", values::share);
            keys.settings.extend(found.map(|found| found.map(Setting::MaxNodes)));
        }
        Some(node) => {
            let help = "write a number, such as 2, or a share, such as \"10%\"";
            let message = "`max_nodes` must be a whole number or a share";
            keys.reader.report(Code::WrongType, node.span(), message, |d| d.label("neither").help(help));
        }
        None => {}
    }
    keys.number(&table, "canary", 0, Setting::Canary);
    keys.number(&table, "max_pods", 1, Setting::MaxPods);
    keys.word(&table, "uncoordinated", &["refuse", "splay"], |word| match word {
        "refuse" => Some(Setting::Splays(false)),
        "splay" => Some(Setting::Splays(true)),
        _ => None,
    });
    keys.duration(&table, "splay", 1, Setting::Splay);
}

fn window(keys: &mut Keys<'_, '_>, root: &Fields<'_, '_>) {
    let Some(table) = keys.section(root, "window", "[window]", &["open", "timezone"]) else { return };
    if let Some(node) = table.get("open")
        && let Some(items) = keys.reader.list(node, "`open`", "spans")
    {
        if items.is_empty() {
            keys.reader.report(Code::BadValue, node.span(), "`open` is empty", |d| {
                d.label("never opens")
                    .help("for always write [\"Mon-Sun 00:00-24:00\"], for never apply.mode = \"undisruptive\"")
            });
        }
        let spans = items.iter().filter_map(|item| keys.reader.parsed(item, "`open`", values::window));
        let spans = spans.map(|span| span.value).collect();
        keys.settings.push(keys.reader.at(node.span(), Setting::Open(spans)));
    }
    if let Some(node) = table.get("timezone") {
        let found = keys.reader.parsed(node, "`timezone`", values::time_zone);
        keys.settings.extend(found.map(|found| found.map(Setting::Timezone)));
    }
}

fn protect(keys: &mut Keys<'_, '_>, root: &Fields<'_, '_>) -> Vec<PodSelector> {
    let Some(table) = keys.section(root, "protect", "[protect]", &["pods", "annotations", "processes"]) else {
        return Vec::new();
    };
    keys.boolean(&table, "annotations", Setting::Annotations);
    keys.word(&table, "processes", Processes::WORDS, |word| Processes::from_word(word).map(Setting::Processes));
    let items = table.get("pods").and_then(|node| keys.reader.list(node, "`pods`", "tables"));
    items.unwrap_or_default().iter().filter_map(|item| pods(keys.reader, item)).collect()
}

fn pods(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<PodSelector> {
    let fields = reader.table(node, "an entry of `pods`", &["namespace", "labels"])?;
    if !fields.has("namespace") && !fields.has("labels") {
        reader.report(Code::MissingKey, node.span(), "this entry of `pods` selects nothing in particular", |d| {
            d.label("no `namespace` and no `labels`").help("to protect every pod write { namespace = \"*\" }")
        });
    }
    let namespace = fields.get("namespace").and_then(|node| {
        reader.parsed(node, "`namespace`", |text| match text {
            // The planner's globs know these two wildcards only.
            _ if text.contains(['[', ']', '{', '}', '\\']) => Err(Reason::new("only * and ? are wildcards here")),
            _ if text.is_empty() => Err(Reason::new("no namespace has an empty name")),
            _ => Ok(text.to_owned()),
        })
    });
    let labels = fields.get("labels").map(|node| selector::labels(reader, node, false)).unwrap_or_default();
    let source = reader.at(node.span(), ()).source(reader.file());
    Some(PodSelector { namespace: namespace.map(|namespace| namespace.value), labels, source })
}

fn clients(keys: &mut Keys<'_, '_>, root: &Fields<'_, '_>) {
    let Some(table) = keys.section(root, "clients", "[clients]", &["allocation", "systemd", "commands"]) else {
        return;
    };
    keys.word(&table, "allocation", Allocation::WORDS, |word| Allocation::from_word(word).map(Setting::Allocation));
    if let Some(node) = table.get("systemd")
        && let Some(units) = keys.reader.texts(node, "`systemd`", "units")
    {
        let units = units.into_iter().filter_map(|unit| workload::unit_at(keys.reader, unit)).map(|unit| unit.value);
        let units = units.collect();
        keys.settings.push(keys.reader.at(node.span(), Setting::Units(units)));
    }
    if let Some(node) = table.get("commands")
        && let Some(items) = keys.reader.list(node, "`commands`", "tables")
    {
        let commands = items.iter().filter_map(|item| client(keys.reader, item)).collect();
        keys.settings.push(keys.reader.at(node.span(), Setting::Commands(commands)));
    }
}

fn client(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<ClientCommand> {
    let fields = reader.table(node, "an entry of `commands`", &["pause", "paused", "resume"])?;
    let mut words = |key: &str, required: bool| {
        let node = match required {
            true => reader.required(&fields, key, "[\"/usr/bin/scontrol\", …]"),
            false => fields.get(key),
        };
        values::command(reader, node?, &quote(key)).map(|words| words.value)
    };
    let (pause, paused, resume) = (words("pause", true), words("paused", false), words("resume", true));
    Some(ClientCommand { pause: pause?, paused: paused.unwrap_or_default(), resume: resume? })
}
