//! A fleet at a glance: a line a node with what it waits for or why it failed, who controls it, and its bindings.

use std::collections::BTreeMap;

use serde::Serialize;

use super::paint::{STRONG, paint, table};
use super::words;
use crate::model::plan::{BindingReport, NodeState};
use crate::model::{Known, NodePlan, Place, Places, Plan};

/// What is known of a fleet beside its plan.
#[derive(Clone, Debug, Default)]
pub struct Whole<'a> {
    /// How its nodes say that they stand, by name.
    pub nodes: BTreeMap<&'a str, Stands>,
    /// Who controls it; `None`: there is no cluster to ask.
    pub controller: Option<Controller>,
    /// Who holds which places of the budgets, as far as that was asked.
    pub places: Option<&'a Places>,
}

/// How a node says that it stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stands {
    /// A state of the closed list.
    pub state: Option<String>,
    /// Which tree it was compared with.
    pub revision: Option<String>,
    /// Why it does not go on.
    pub message: Option<String>,
}

/// Who controls the fleet.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Controller {
    /// Who holds the lease; `None`: nobody does.
    pub holder: Option<String>,
    /// Since when, RFC 3339.
    pub since: Option<String>,
    /// When it was last renewed.
    pub renewed: Option<String>,
    /// Why it is not known.
    pub unknown: Option<String>,
}

/// A fleet as text, with colours.
pub fn status(plan: &Plan, whole: &Whole<'_>) -> String {
    let none = Stands::default();
    let rows: Vec<Vec<String>> = plan
        .nodes
        .iter()
        .map(|node| {
            let stands = whole.nodes.get(node.name.as_str()).unwrap_or(&none);
            let revision = stands.revision.clone();
            let revision = revision.unwrap_or_else(|| if node.age_s.is_some() { "-" } else { "?" }.to_owned());
            let seen = node.age_s.map_or("-".to_owned(), |age_s| format!("{} ago", words::age(age_s)));
            vec![node.name.clone(), state(node, stands), revision, seen, reason(node, stands)]
        })
        .collect();
    let mut text = table(0, &["NODE", "STATE", "REVISION", "SEEN", "REASON"], &rows);
    text.push_str(&format!("\nThe tree is {}.\n", plan.desired));
    text.push_str(&controller(whole));
    text.push_str(&places(whole));
    text.push_str(&bindings(&plan.cluster.bindings));
    text.push_str(&words::blocks(0, &super::Names::default(), &[], &plan.cluster.blocked));
    text
}

/// What only the node itself knows goes before what follows from its view.
fn state(node: &NodePlan, stands: &Stands) -> String {
    let own = [NodeState::Failed, NodeState::Changing].map(NodeState::word);
    let told = stands.state.as_deref().filter(|told| own.contains(told) && node.suspended.is_none());
    told.unwrap_or(node.state.word()).to_owned()
}

fn reason(node: &NodePlan, stands: &Stands) -> String {
    if let Some(suspended) = &node.suspended {
        return format!("suspended {suspended}");
    }
    let failed = stands.state.as_deref() == Some(NodeState::Failed.word());
    if let Some(message) = stands.message.as_ref().filter(|_| failed) {
        // It is told within a line.
        return message.replace(char::is_control, " ");
    }
    let first = node.blocked.iter().chain(&node.waiting).next();
    let block = first.map(|block| format!("{}: {}: {}", block.code, block.object, block.message));
    block.or_else(|| node.warnings.first().cloned()).unwrap_or_default()
}

fn controller(whole: &Whole<'_>) -> String {
    let Some(Controller { holder, since, renewed, unknown }) = &whole.controller else { return String::new() };
    let who = match (holder, unknown) {
        (_, Some(why)) => format!("unknown ({why})"),
        (None, None) => "none: nobody holds its lease".to_owned(),
        (Some(holder), None) => {
            let since = since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
            let renewed = renewed.as_ref().map(|renewed| format!(", last heard of at {renewed}")).unwrap_or_default();
            format!("{holder}{since}{renewed}")
        }
    };
    format!("{}  {who}\n", paint(STRONG, "controller"))
}

fn bindings(all: &[BindingReport]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let row = |binding: &BindingReport| {
        let BindingReport { name, target, profile, provided, bound, matches, manage, source: _ } = binding;
        let bound = bound.map_or("?".to_owned(), |bound| bound.to_string());
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let (profile, provided) = (profile.to_string(), provided.to_string());
        vec![name.clone(), target.clone(), profile, bound, provided, yes(*matches), yes(*manage)]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let heading = ["BINDING", "WORKLOAD", "PROFILE", "BOUND", "PROVIDED", "MATCHES", "MANAGED"];
    format!("\n{}", table(0, &heading, &rows))
}

/// Who holds places of budgets. One that can't be read counts as held.
fn places(whole: &Whole<'_>) -> String {
    let Some(all) = whole.places.filter(|all| !all.is_empty()) else { return String::new() };
    let row = |(holder, place): (&String, &Known<Place>)| match place {
        Known::Known(Place { state, nodes, pods, reserved, over, since, .. }) => {
            let each =
                reserved.iter().flat_map(|(node, all)| all.iter().map(move |(of, n)| format!("{n} × {of} on {node}")));
            let reserved: Vec<String> = each.collect();
            let reserved = if reserved.is_empty() { "-".to_owned() } else { reserved.join(", ") };
            let over: Vec<&str> = over.iter().map(String::as_str).collect();
            vec![
                holder.clone(),
                state.to_string(),
                nodes.to_string(),
                pods.to_string(),
                reserved,
                over.join(", "),
                since.clone(),
            ]
        }
        Known::Unknown => {
            let unknown = ["unreadable", "?", "?", "?", "?", "?"].map(str::to_owned);
            [holder.clone()].into_iter().chain(unknown).collect()
        }
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let heading = ["HOLDS A PLACE", "STATE", "NODES", "PODS", "RESERVED", "BUDGETS OF", "SINCE"];
    format!("\n{}", table(0, &heading, &rows))
}
