//! The policy of a node: all files that match, merged key by key, the more specific over the less.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Ties;
use crate::config::precedence::{Index, Match, NodeRank};
use crate::config::resolve::NodeFacts;
use crate::config::schema::{At, PolicyFile, Setting};
use crate::model::policy::{Shared, Span, Uncoordinated, Window};
use crate::model::{Policy, Source};

/// What `uncoordinated = "splay"` spreads over, unless `splay` says otherwise.
const DEFAULT_SPLAY_S: u64 = 4 * 60 * 60;

/// The policy of a node, and the files of which it can't be known whether they match.
pub(super) struct Merged {
    pub(super) policy: Option<Arc<Policy>>,
    pub(super) undecided: Vec<Source>,
}

/// The policy files, and what they were merged to so far: nodes that the same files match alike share a policy.
pub(super) struct Merger<'t> {
    files: Index<'t, PolicyFile>,
    made: BTreeMap<Vec<(NodeRank, &'t str)>, Arc<Policy>>,
}

impl<'t> Merger<'t> {
    pub(super) fn new(files: &'t [PolicyFile]) -> Self {
        Merger { files: Index::new(files, |file| &file.selector), made: BTreeMap::new() }
    }

    pub(super) fn merge(&mut self, node: &NodeFacts, ties: &mut Ties) -> Merged {
        let mut files: Vec<(NodeRank, &'t PolicyFile)> = Vec::new();
        let mut undecided = Vec::new();
        for (file, matched) in self.files.about(node) {
            match matched {
                Match::No => {}
                Match::Maybe(_) => undecided.push(file.selector.at.source(&file.path)),
                Match::Yes(rank) => files.push((rank, file)),
            }
        }
        if files.is_empty() {
            return Merged { policy: None, undecided };
        }
        // Most specific first; the sort is stable, so equal ones stay in path order.
        files.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        let key: Vec<(NodeRank, &str)> = files.iter().map(|(rank, file)| (*rank, file.path.as_str())).collect();
        if let Some(policy) = self.made.get(&key) {
            return Merged { policy: Some(Arc::clone(policy)), undecided };
        }
        let (policy, tied) = one(&files, node, ties);
        let policy = Arc::new(policy);
        // A tie is told of every node that shows it.
        if !tied {
            self.made.insert(key, Arc::clone(&policy));
        }
        Merged { policy: Some(policy), undecided }
    }
}

/// The policy of files, the most specific first, and whether two of them are tied.
fn one(files: &[(NodeRank, &PolicyFile)], node: &NodeFacts, ties: &mut Ties) -> (Policy, bool) {
    let mut tied = false;
    let mut chosen: Vec<(NodeRank, &PolicyFile, &At<Setting>)> = Vec::new();
    for (rank, file) in files {
        for setting in &file.settings {
            let first = chosen.iter().find(|(_, _, first)| first.value.key() == setting.value.key());
            match first {
                None => chosen.push((*rank, file, setting)),
                Some((first_rank, first_file, first)) if first_rank == rank && first.value != setting.value => {
                    let message =
                        format!("two policies are equally specific and set `{}` differently", first.value.key());
                    let sides = [(first_file.path.as_str(), &first.span), (file.path.as_str(), &setting.span)];
                    let help = "make one of the two more specific, or let them agree";
                    ties.add(message, sides, help.to_owned(), node.name.clone());
                    tied = true;
                }
                Some(_) => {}
            }
        }
    }
    let mut policy = build(chosen.into_iter().map(|(_, file, setting)| (file, setting)));
    policy.sources = files.iter().map(|(_, file)| file.selector.at.source(&file.path)).collect();
    policy.protect.pods = files.iter().flat_map(|(_, file)| file.protect.iter().cloned()).collect();
    (policy, tied)
}

/// A policy of settings, each key at most once; the rest has its default.
fn build<'s>(settings: impl Iterator<Item = (&'s PolicyFile, &'s At<Setting>)>) -> Policy {
    let mut policy = Policy::default();
    let mut open: Option<&Vec<Span>> = None;
    let mut timezone = "UTC";
    let mut splays = false;
    let mut splay = DEFAULT_SPLAY_S;
    for (file, setting) in settings {
        let over = || file.selector.at.source(&file.path);
        match &setting.value {
            Setting::Mode(mode) => policy.mode = *mode,
            Setting::Timeout(seconds) => policy.drain.timeout_s = *seconds,
            Setting::GracePeriod(seconds) => policy.drain.grace_period_s = Some(*seconds),
            Setting::Force(force) => policy.drain.force = *force,
            Setting::DeleteEmptydirData(delete) => policy.drain.delete_emptydir_data = *delete,
            Setting::DaemonSets(rule) => policy.drain.daemonsets = *rule,
            Setting::MaxNodes(amount) => {
                policy.budget.max_nodes = Some(Shared { limit: *amount, over: over() });
            }
            Setting::Canary(nodes) => policy.budget.canary = Some(Shared { limit: *nodes, over: over() }),
            Setting::MaxPods(pods) => policy.budget.max_pods = Some(Shared { limit: *pods, over: over() }),
            Setting::Splays(value) => splays = *value,
            Setting::Splay(seconds) => splay = *seconds,
            Setting::Open(spans) => open = Some(spans),
            Setting::Timezone(zone) => timezone = zone,
            Setting::Annotations(honour) => policy.protect.annotations = *honour,
            Setting::Processes(rule) => policy.protect.processes = *rule,
            Setting::ModeChange(rule) => policy.gpu.mode_change = *rule,
            Setting::Reset(rule) => policy.gpu.reset = *rule,
            Setting::Reboot(rule) => policy.gpu.reboot = *rule,
            Setting::Allocation(way) => policy.clients.allocation = *way,
            Setting::Units(units) => policy.clients.systemd.clone_from(units),
            Setting::Commands(commands) => {
                policy.clients.commands.clone_from(commands);
                policy.clients.commands_at = Some(setting.source(&file.path));
            }
            Setting::MigManager(rule) => policy.mig_manager = *rule,
            Setting::Rollback(rollback) => policy.failure.rollback = *rollback,
            Setting::Retries(retries) => policy.failure.retries = *retries,
        }
    }
    policy.budget.uncoordinated = if splays { Uncoordinated::Splay(splay) } else { Uncoordinated::Refuse };
    policy.window = open.map(|open| Window { open: open.clone(), timezone: timezone.to_owned() });
    policy
}
