//! What a file or an entry speaks of: nodes by name, glob and label; GPUs by uuid, pci, index and model.

use std::collections::BTreeMap;
use std::ops::Range;

use globset::{GlobBuilder, GlobMatcher};
use toml::de::DeValue;

use super::At;
use super::reader::{Fields, Node, Reader, Reason};
use crate::config::diagnostic::{Code, quote};

/// What makes a glob of a name.
const WILDCARDS: [char; 6] = ['*', '?', '[', ']', '{', '}'];

/// A name or a shell glob.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// No wildcard in it.
    Literal(String),
    /// With wildcards.
    Glob {
        /// As written.
        text: String,
        /// How many of its characters stand for themselves: what it is ranked by.
        literal: usize,
        /// Compiled.
        matcher: GlobMatcher,
    },
}

/// A pattern over node names.
pub type NodePattern = Pattern;

/// A pattern over models.
pub type ModelPattern = Pattern;

impl Pattern {
    /// As written.
    pub fn text(&self) -> &str {
        match self {
            Pattern::Literal(text) | Pattern::Glob { text, .. } => text,
        }
    }

    /// Whether a name is one of those.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::Literal(text) => text == name,
            Pattern::Glob { matcher, .. } => matcher.is_match(name),
        }
    }

    /// What stands before the first wildcard: every name that it matches begins so (but for the case, where that does
    /// not count).
    pub fn beginning(&self) -> &str {
        let text = self.text();
        text.find(WILDCARDS).and_then(|end| text.get(..end)).unwrap_or(text)
    }

    fn new(text: &str, any_case: bool) -> Result<Self, Reason> {
        // 253 is the longest name of a Kubernetes node.
        if text.is_empty() || text.len() > 253 || text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(Reason::new("neither a name nor a glob"));
        }
        if !text.contains(WILDCARDS) {
            return Ok(Pattern::Literal(text.to_owned()));
        }
        let glob =
            GlobBuilder::new(text).case_insensitive(any_case).backslash_escape(false).empty_alternates(true).build();
        let glob = glob.map_err(|error| Reason::new(error.kind().to_string()))?;
        Ok(Pattern::Glob { text: text.to_owned(), literal: literal(text), matcher: glob.compile_matcher() })
    }
}

/// Characters that stand for themselves: outside of brackets and braces, and no wildcard.
fn literal(glob: &str) -> usize {
    let mut inside = 0_usize;
    let mut count = 0;
    for c in glob.chars() {
        match c {
            '[' | '{' => inside += 1,
            ']' | '}' => inside = inside.saturating_sub(1),
            '*' | '?' => {}
            _ if inside == 0 => count += 1,
            _ => {}
        }
    }
    count
}

/// Which nodes.
#[derive(Clone, Debug)]
pub struct NodeSelector {
    /// Names and globs, any of which may match; `None`: every node.
    pub nodes: Option<Vec<At<NodePattern>>>,
    /// Labels, all of which must match.
    pub labels: BTreeMap<String, String>,
    /// Where it stands: the `nodes` line, else the `labels` line, else the beginning.
    pub at: At<()>,
}

/// `nodes` and `labels` of a file, a policy or a workload.
pub(super) fn nodes(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> NodeSelector {
    let patterns = fields.get("nodes").and_then(|node| patterns(reader, node));
    let labels = fields.get("labels").map(|node| labels(reader, node, true)).unwrap_or_default();
    let key = ["nodes", "labels"].into_iter().find(|key| fields.get(key).is_some());
    let span = key.map_or_else(|| fields.span.clone(), |key| fields.span_of(key));
    NodeSelector { nodes: patterns, labels, at: reader.at(span, ()) }
}

fn patterns(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Vec<At<NodePattern>>> {
    let items = reader.list(node, "`nodes`", "names or globs")?;
    if items.is_empty() {
        reader.report(Code::BadValue, node.span(), "`nodes` is empty", |d| {
            d.label("matches no node").help("name nodes, or write [\"*\"] for all")
        });
    }
    let parse = |text: &str| match text {
        _ if text.starts_with('!') => Err(Reason::new("a selector can't exclude").help("name what it is about")),
        _ if text.contains(char::is_whitespace) => Err(Reason::new("no node's name has a space in it")),
        _ => Pattern::new(text, false),
    };
    let found: Vec<_> = items.iter().filter_map(|item| reader.parsed(item, "`nodes`", parse)).collect();
    unique(reader, &found, "`nodes`", |pattern| pattern.text().to_owned());
    Some(found)
}

/// Labels that a change of the partitions itself rewrites (GPU feature discovery and the MIG manager set them, and
/// Sectile its own): selecting by them would make the tree depend on its own effect.
const REWRITTEN: [&str; 4] = ["nvidia.com/gpu.product", "nvidia.com/gpu.count", "nvidia.com/mig-*", "sectile.dev/*"];

/// A table of labels; `of_nodes`: those of nodes, where rewritten ones are refused.
pub(super) fn labels(reader: &mut Reader<'_>, node: &Node<'_>, of_nodes: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let DeValue::Table(table) = node.get_ref() else {
        reader.report(Code::WrongType, node.span(), "`labels` must be a table", |d| {
            d.label("keys and values are needed").help("for example: labels = { pool = \"inference\" }")
        });
        return found;
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        if let DeValue::Table(_) = value.get_ref() {
            let message = format!("the value of the label {} must be text", quote(name));
            reader.report(Code::WrongType, key.span(), message, |d| {
                d.label("this is a table").help("a key with dots or a slash needs quotes: \"example.com/zone\" = \"a\"")
            });
            continue;
        }
        let Some(text) = reader.text(value, &format!("the value of the label {}", quote(name))) else { continue };
        let rewritten = REWRITTEN.iter().find(|known| match known.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == **known,
        });
        if !label_key(name) {
            let message = format!("{} is no label's key", quote(name));
            reader.report(Code::BadValue, key.span(), message, |d| {
                d.label("not a Kubernetes label")
                    .help("letters, digits, '-', '_' and '.', with a domain and '/' before it")
            });
        } else if let (true, Some(rewritten)) = (of_nodes, rewritten) {
            let message = format!("{} can't select nodes", quote(name));
            reader.report(Code::RewrittenLabel, key.span(), message, |d| {
                d.label(format!("{rewritten} is rewritten by the very change that it would select"))
                    .help("select by a label of your own, by node names, or by `model` in [[gpu]]")
            });
        } else if !text.value.is_empty() && !label_name(&text.value) {
            let message = format!("{} is no label's value", quote(&text.value));
            reader.report(Code::BadValue, text.span, message, |d| {
                d.label("letters, digits, '-', '_' and '.', at most 63")
            });
        } else {
            found.insert(name.to_owned(), text.value);
        }
    }
    found
}

fn label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => domain.len() <= 253 && domain.split('.').all(label_name) && label_name(name),
        None => label_name(key),
    }
}

/// Kubernetes' rule for the name of a label's key and for its value.
fn label_name(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A PCI address: domain, bus, device, function. NVML writes the domain with eight digits, lspci with four or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress(pub u32, pub u8, pub u8, pub u8);

impl std::fmt::Display for PciAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PciAddress(domain, bus, device, function) = self;
        write!(f, "{domain:08X}:{bus:02X}:{device:02X}.{function:X}")
    }
}

impl std::str::FromStr for PciAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = |digits: &str, most: usize| match digits.is_empty() || digits.len() > most {
            false if digits.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(digits, 16).map_err(|_| ()),
            _ => Err(()),
        };
        let byte = |digits: &str, most: usize| u8::try_from(hex(digits, most)?).map_err(|_| ());
        let (front, function) = text.rsplit_once('.').unwrap_or((text, "0"));
        let (front, device) = front.rsplit_once(':').ok_or(())?;
        let (domain, bus) = front.rsplit_once(':').unwrap_or(("0", front));
        Ok(PciAddress(hex(domain, 8)?, byte(bus, 2)?, byte(device, 2)?, byte(function, 1)?))
    }
}

/// A GPU's UUID, or its beginning as plans print it: `GPU-1b3c…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UuidPattern(pub String);

impl UuidPattern {
    fn parse(text: &str) -> Result<Self, Reason> {
        let help = "`nvidia-smi -L` lists them; a beginning must end in '…'";
        let Some(digits) = text.strip_prefix("GPU-") else {
            let mig = text.starts_with("MIG-");
            let label = if mig { "this names an instance, not a GPU" } else { "a GPU's UUID begins with GPU-" };
            return Err(Reason::new(label).help(help));
        };
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        let fits = match digits.strip_suffix('…') {
            Some(beginning) => (4..36).contains(&beginning.len()) && hex(beginning),
            None => digits.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && hex(digits),
        };
        fits.then(|| UuidPattern(text.to_owned())).ok_or_else(|| Reason::new("not a GPU's whole UUID").help(help))
    }

    /// Whether it means that GPU.
    pub fn matches(&self, uuid: &str) -> bool {
        match self.0.strip_suffix('…') {
            Some(beginning) => uuid.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning)),
            None => uuid.eq_ignore_ascii_case(&self.0),
        }
    }
}

/// By what GPUs are named.
#[derive(Clone, Debug)]
pub enum GpuKey {
    /// By nothing: every GPU.
    Any,
    /// By index in PCI order.
    Index(Vec<At<u32>>),
    /// By PCI address.
    Pci(Vec<At<PciAddress>>),
    /// By UUID.
    Uuid(Vec<At<UuidPattern>>),
}

/// Which GPUs of a node.
#[derive(Clone, Debug)]
pub struct GpuSelector {
    /// By name.
    pub key: GpuKey,
    /// And by model.
    pub model: Option<At<ModelPattern>>,
}

/// `index`, `uuid`, `pci` and `model` of a `[[gpu]]`.
pub(super) fn gpus(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> GpuSelector {
    let named: Vec<&str> = ["uuid", "pci", "index"].into_iter().filter(|key| fields.get(key).is_some()).collect();
    if let [first, second, ..] = named[..] {
        let message = format!("`{first}` and `{second}` both name the GPUs");
        let span = fields.span_of(second);
        reader.report(Code::Contradiction, span, message, |d| {
            d.label("one of them must go").help("write an entry for each")
        });
    }
    let mut key = GpuKey::Any;
    if let Some(node) = fields.get("index") {
        let items = reader.list(node, "`index`", "numbers").unwrap_or_default();
        // No node has a thousand GPUs.
        let found = items.iter().filter_map(|item| reader.integer(item, "a GPU's index", 0..=999)).collect();
        key = GpuKey::Index(checked(reader, node, found, "`index`", |index| index.to_string()));
    }
    if let Some(node) = fields.get("pci") {
        let parse = |text: &str| {
            let help = "write it as `nvidia-smi` does, such as \"00000000:3B:00.0\"";
            text.parse::<PciAddress>().map_err(|()| Reason::new("not a PCI address").help(help))
        };
        let items = reader.list(node, "`pci`", "addresses").unwrap_or_default();
        let found = items.iter().filter_map(|item| reader.parsed(item, "`pci`", parse)).collect();
        key = GpuKey::Pci(checked(reader, node, found, "`pci`", |pci| pci.to_string()));
    }
    if let Some(node) = fields.get("uuid") {
        let items = reader.list(node, "`uuid`", "UUIDs").unwrap_or_default();
        let found = items.iter().filter_map(|item| reader.parsed(item, "`uuid`", UuidPattern::parse)).collect();
        key = GpuKey::Uuid(checked(reader, node, found, "`uuid`", |uuid| uuid.0.to_lowercase()));
    }
    let model = fields.get("model").and_then(|node| {
        reader.parsed(node, "`model`", |text| {
            let bare = text.get(..7).filter(|start| start.eq_ignore_ascii_case("nvidia ")).and_then(|_| text.get(7..));
            Pattern::new(bare.unwrap_or(text), true)
        })
    });
    GpuSelector { key, model }
}

fn checked<T>(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    found: Vec<At<T>>,
    what: &str,
    name: impl Fn(&T) -> String,
) -> Vec<At<T>> {
    if node.get_ref().as_array().is_some_and(|items| items.is_empty()) {
        reader.report(Code::BadValue, node.span(), format!("{what} names no GPU"), |d| {
            d.label("matches nothing").help("leave the key out for every GPU, or remove the entry")
        });
    }
    unique(reader, &found, what, name);
    found
}

fn unique<T>(reader: &mut Reader<'_>, found: &[At<T>], what: &str, name: impl Fn(&T) -> String) {
    let mut seen: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for item in found {
        if let Some(first) = seen.insert(name(&item.value), item.span.clone()) {
            let file = reader.file();
            reader.report(Code::Duplicate, item.span.clone(), format!("{what} names the same twice"), |d| {
                d.label("again here").also(file, first, "first here")
            });
        }
    }
}
