//! How single things are written: users, instances, GPUs, blocks.

use super::paint::{ALARM, CHANGE, FAINT, HINT, paint};
use super::step::Names;
use crate::model::plan::{NodeState, PlanInstance};
use crate::model::{Block, Gap, NodePlan, ProfileName, Source, User};

/// A GPU's UUID with its first four digits: enough beside an index.
pub(super) fn uuid(uuid: &str) -> String {
    const SHOWN: usize = "GPU-1b3c".len();
    match uuid.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", uuid.get(..end).unwrap_or(uuid).trim_end_matches('…')),
        None => uuid.to_owned(),
    }
}

/// A user as people name it: a pod by `namespace/name`, a unit by its name.
pub(super) fn user(user: &User) -> String {
    match user {
        User::Pod { namespace, name } => format!("{namespace}/{name}"),
        User::Unit(name) | User::Command(name) => name.clone(),
        User::Process { pid, name } if name.is_empty() => format!("process {pid}"),
        User::Process { pid, name } => format!("process {pid} ({name})"),
    }
}

/// Users, comma between; nothing for nobody, and the unknown is said.
pub(super) fn users(users: Option<&[User]>) -> String {
    match users {
        Some(users) => users.iter().map(user).collect::<Vec<_>>().join(", "),
        None => "users unknown".to_owned(),
    }
}

/// `2g.20gb at 0`.
pub(super) fn at(profile: ProfileName, start: u32) -> String {
    format!("{profile} at {start}")
}

/// `2g.20gb at 0`, and how it is cut where that is not one compute instance that fills it.
pub(super) fn instance(instance: &PlanInstance) -> String {
    let text = at(instance.profile, instance.start);
    let fills = |slices: u32| slices == instance.profile.slices;
    match instance.compute.as_slice() {
        [one] if fills(one.profile.slices) => text,
        // An instance that comes may leave out what goes without saying.
        [] if instance.gi_id.is_none() => text,
        [] => format!("{text} (no compute instance)"),
        parts => {
            let parts: Vec<String> = parts.iter().map(|part| part.profile.to_string()).collect();
            format!("{text} ({})", parts.join(", "))
        }
    }
}

/// The entry that won, and what it shadows: `layouts/a.toml:4 over layouts/b.toml:1`.
pub(super) fn source(source: Option<&Source>, shadows: &[Source]) -> String {
    let Some(source) = source else {
        return "no layout".to_owned();
    };
    if shadows.is_empty() {
        return source.to_string();
    }
    let shadows: Vec<String> = shadows.iter().map(Source::to_string).collect();
    format!("{source} over {}", shadows.join(", "))
}

/// `1 pod`, `2 pods`; `one` and `many` are the noun.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The state in its colour.
pub(super) fn state(state: NodeState) -> String {
    let style = match state {
        NodeState::Converged => super::paint::CREATE,
        NodeState::Pending | NodeState::Waiting | NodeState::Changing | NodeState::Suspended => CHANGE,
        NodeState::Blocked | NodeState::Failed | NodeState::Unknown => ALARM,
        NodeState::Unmanaged => FAINT,
    };
    paint(style, state.word())
}

/// A sentence without its full stop, to stand inside another.
pub(super) fn clause(sentence: &str) -> &str {
    sentence.strip_suffix('.').unwrap_or(sentence)
}

/// What is not done and why, with what to do about it.
pub(super) fn blocks(indent: usize, names: &Names, waiting: &[Block], blocked: &[Block]) -> String {
    let blank = " ".repeat(indent);
    let mut text = String::new();
    let all = waiting.iter().map(|b| ("waiting", CHANGE, b)).chain(blocked.iter().map(|b| ("blocked", ALARM, b)));
    for (word, style, block) in all {
        let Block { code, message, object, hint } = block;
        let about = if object.is_empty() { String::new() } else { format!("{}: ", names.object(object)) };
        text.push_str(&format!("{blank}{} ({code})  {about}{message}\n", paint(style, word)));
        if !hint.is_empty() {
            text.push_str(&format!("{blank}  {} {hint}\n", paint(HINT, "hint:")));
        }
    }
    text
}

/// Who suspended a node, since when and why; nothing where nobody did.
pub(super) fn suspended(node: &NodePlan) -> String {
    let Some(suspended) = &node.suspended else { return String::new() };
    format!("  {}  {suspended}\n", paint(CHANGE, "suspended"))
}

/// What is blocked on a node and not told already for all of them.
pub(super) fn own(node: &NodePlan, shared: &[Block]) -> Vec<Block> {
    node.blocked.iter().filter(|block| !shared.contains(block)).cloned().collect()
}

/// What could not be seen, and what deserves a look.
pub(super) fn remarks(indent: usize, gaps: &[Gap], warnings: &[String]) -> String {
    let blank = " ".repeat(indent);
    let mut text = String::new();
    for Gap { object, message } in gaps {
        text.push_str(&format!("{blank}{}  {object}: {message}\n", paint(CHANGE, "unknown")));
    }
    for warning in warnings {
        text.push_str(&format!("{blank}{}  {warning}\n", paint(CHANGE, "warning")));
    }
    text
}

/// How long ago something was, in the largest unit that tells something: `3 min`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => count(usize::try_from(seconds / 86_400).unwrap_or(usize::MAX), "day", "days"),
    }
}
