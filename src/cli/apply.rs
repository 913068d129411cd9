//! `sectile apply`: plan, ask, carry out, verify by observing again.

mod bind;
pub(super) mod boot;
mod report;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::MultiProgress;

use crate::config::{Loaded, Tree};
use crate::daemon::board::Board;
use crate::daemon::systemd;
use crate::execute::journal::Entry;
use crate::execute::{self, InTurn, News, Outcome, Ports, Rollback, carry, carry_in_turn};
use crate::host::clock::uptime;
use crate::model::plan::ClusterPlan;
use crate::model::policy::Shared;
use crate::model::{Desired, NodePlan, NodeState, ObservedNode, Plan, Source, StepKind};
use crate::plan::places::Waits;
use crate::{plan, render};

use super::args::{Apply, DryRun, Global, Output, Override};
use super::context::{self, Picture};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::{self, Accepted, Fleet, Purpose, on};
use super::input;
use super::output;
use super::outside::Outside;
use super::plan::blocked;
use super::progress::Progress;
use super::settings;
use super::shown;
use super::trouble;

pub(super) use serve::Service;

/// The outside of one node.
type NodePorts<'a, O> =
    Ports<'a, <O as Outside>::Driver, <O as Outside>::Cluster, <O as Outside>::Host, <O as Outside>::Clock>;

/// After so many plans of one apply, and one for each node, nothing will settle any more by planning again.
const PASSES: usize = 20;

/// What one apply works with.
struct Work<'a, O: Outside> {
    global: &'a Global,
    tree: Tree,
    units: BTreeSet<String>,
    loaded: Loaded,
    fleet: Fleet<O>,
    overrides: &'a [Override],
    /// The record of them, for each node's journal.
    overridden: Option<Entry>,
    interrupted: Arc<AtomicBool>,
    /// Steps that failed for good, told once each.
    failures: BTreeMap<String, String>,
    /// Nodes that got no place among those that share their budgets.
    waits: BTreeMap<String, Waits>,
    /// How often a guard held each node back, by the step.
    held: BTreeMap<(String, String), u32>,
    counts: Counts,
    /// Whether anything was begun.
    begun: bool,
    /// Where a service tells what it does.
    board: Option<&'a Board>,
}

/// What was done.
#[derive(Default)]
struct Counts {
    created: u32,
    destroyed: u32,
    moved: u32,
}

/// Carries the tree, or a saved plan of it, out.
pub(super) fn run(args: &Apply, global: &Global) -> Result<Exit, Error> {
    let path = args.path(global);
    let saved = if path.is_file() { Some(read(&path)?) } else { None };
    let tree_path = if saved.is_some() { args.tree_path(global) } else { path };
    let (tree, units, loaded) = context::load(&tree_path, global)?;
    let purpose = if args.dry_run.is_none() { Purpose::Change } else { Purpose::Look };
    on!(fleet::open(global, purpose)?, fleet => apply(args, global, saved, (tree, units, loaded), fleet))
}

fn apply<O: Outside>(
    args: &Apply,
    global: &Global,
    mut saved: Option<Plan>,
    (tree, units, loaded): (Tree, BTreeSet<String>, Loaded),
    mut fleet: Fleet<O>,
) -> Result<Exit, Error> {
    if !O::SIMULATED {
        settings::trusted(&args.path(global), global)?;
        if saved.is_some() {
            settings::trusted(&args.tree_path(global), global)?;
        }
    }
    fleet.accepted = Accepted { removal: args.accept_removal, inventory: args.accept_inventory };
    if let Some(plan) = saved.take() {
        saved = Some(same_nodes(plan, &mut fleet));
    }
    let interrupted = watch_signals(|| {}, fleet.outside.last_words())?;
    let mut work = Work::new(global, (tree, units, loaded), fleet, &args.overrides, interrupted);
    let mut picture = work.look()?;
    if args.dry_run.is_none() && work.recover(&picture)? {
        work.fleet.save()?;
        picture = work.look()?;
    }
    if let Some(saved) = &saved {
        refuse_stale(saved, &picture.plan)?;
    }
    if global.output == Output::Json {
        if args.dry_run.is_some() {
            output::print(&render::json::plan(&picture.plan));
        }
    } else {
        output::print(&render::text::plan(&picture.plan, context::style(global)));
    }
    if args.dry_run.is_some() {
        let refused =
            args.dry_run == Some(DryRun::Server) && shown::ask_server(&work.fleet, &picture.plan, global.quiet)?;
        work.fleet.save()?;
        let exit = blocked(&picture.plan);
        return Ok(if refused { exit.and(Exit::Blocked) } else { exit });
    }
    if let Some(reason) = args.reason.as_ref().filter(|_| !args.overrides.is_empty()) {
        let what: Vec<String> = args.overrides.iter().map(|o| format!("{o:?}").to_lowercase()).collect();
        tracing::warn!("overridden: {} ({reason})", what.join(", "));
        work.overridden = Some(Entry::Overridden { what, reason: reason.clone() });
    }
    if !O::SIMULATED && !args.yes && !work.idle(&picture.plan) && !asked()? {
        output::tell("Nothing was done.\n");
        return Ok(Exit::Error);
    }
    if !O::SIMULATED && !args.yes {
        // Whoever was asked has seen what was there then.
        let now = work.look()?;
        refuse_stale(&picture.plan, &now.plan)?;
        picture = now;
    }
    work.carry_out(picture)
}

/// Whether somebody at a terminal says yes.
fn asked() -> Result<bool, Error> {
    if !std::io::stdin().is_terminal() {
        let error = Error::usage("nobody is there to ask whether this shall be carried out");
        return Err(error.hint("--yes carries it out without asking; --dry-run only shows it"));
    }
    output::tell("\nCarry this out? [y/N] ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context(|| "the answer can't be read".to_owned())?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn read(path: &Path) -> Result<Plan, Error> {
    let text = input::text(path, "the plan")?;
    let plan = render::saved::read(&text).context(|| format!("{} is no saved plan", path.display()));
    plan.map_err(|error| error.hint("a plan is saved by `sectile plan --out plan.json`"))
}

/// Lets a saved plan and the fleet speak of the same nodes: a plan of one node, or the one node that is asked for.
fn same_nodes<O: Outside>(saved: Plan, fleet: &mut Fleet<O>) -> Plan {
    let of: BTreeSet<String> = saved.nodes.iter().map(|node| node.name.clone()).collect();
    match &fleet.only {
        Some(only) if only.is_subset(&of) => plan::narrow(saved, only),
        Some(_) => saved,
        None => {
            let all: BTreeSet<String> = fleet.nodes.keys().cloned().collect();
            // A plan of the only node there is leaves out what belongs to no node, too.
            let some = of != all || saved.cluster == ClusterPlan::default();
            fleet.only = some.then_some(of);
            saved
        }
    }
}

/// A saved plan holds as long as today's plan has the same steps.
fn refuse_stale(saved: &Plan, now: &Plan) -> Result<(), Error> {
    let steps = |plan: &Plan| {
        let nodes = plan.nodes.iter().map(|n| (n.name.clone(), n.steps.clone())).collect::<Vec<_>>();
        (plan.cluster.steps.clone(), nodes)
    };
    if steps(saved) == steps(now) {
        return Ok(());
    }
    output::tell(&render::difference::plans(saved, now));
    Err(Error::failed("the saved plan is stale: what it was made from has changed").hint("plan again, and look at it"))
}

/// SIGINT and SIGTERM once: the step in hand is finished, then a clean stop, of which `first` is told.
pub(super) fn watch_signals(
    first: impl Fn() + Send + 'static,
    last_words: Box<dyn Fn() + Send>,
) -> Result<Arc<AtomicBool>, Error> {
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context(|| "signals can't be watched".to_owned())?;
    let seen = Arc::clone(&flag);
    // Signal handlers are in place before this returns, so that no early signal kills the program half way.
    let (interrupt, terminate) = {
        let _inside = runtime.enter();
        use tokio::signal::unix::{SignalKind, signal};
        let watch = |kind| signal(kind).context(|| "signals can't be watched".to_owned());
        (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let (mut interrupt, mut terminate) = (interrupt, terminate);
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if seen.swap(true, Ordering::SeqCst) {
                    // The second one means at once.
                    last_words();
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
                output::tell("Stopping after the step in hand. Once more stops at once.\n");
                first();
            }
        });
    });
    Ok(flag)
}

impl<'a, O: Outside> Work<'a, O> {
    fn new(
        global: &'a Global,
        (tree, units, loaded): (Tree, BTreeSet<String>, Loaded),
        fleet: Fleet<O>,
        overrides: &'a [Override],
        interrupted: Arc<AtomicBool>,
    ) -> Self {
        let (failures, waits, held, counts, overridden) = Default::default();
        Work {
            global,
            tree,
            units,
            loaded,
            fleet,
            overrides,
            overridden,
            interrupted,
            failures,
            waits,
            held,
            counts,
            begun: false,
            board: None,
        }
    }
}

impl<O: Outside> Work<'_, O> {
    fn look(&self) -> Result<Picture, Error> {
        let adjust = |desired: &mut Desired| {
            for policy in desired.nodes.values_mut().filter_map(|node| node.policy.as_mut()) {
                let policy = Arc::make_mut(policy);
                if self.overrides.contains(&Override::Window) {
                    policy.window = None;
                }
                if self.overrides.contains(&Override::Budget) {
                    policy.budget = Default::default();
                }
            }
        };
        let mut picture = context::look(&self.tree, &self.units, &self.loaded, &self.fleet, &adjust)?;
        let Picture { desired, plan, .. } = &mut picture;
        for node in &mut plan.nodes {
            if let Some(Waits { why, comes, .. }) = self.waits.get(&node.name) {
                plan::turns::wait(desired, node, why.clone(), comes);
            }
        }
        Ok(picture)
    }

    /// Remembers the tree, unless it is held back, and the GPUs of nodes that are new here or whose GPUs were accepted:
    /// before the first effect, so that a run that is cut short need not be accepted again.
    fn take_up(&mut self, picture: &Picture) -> Result<(), Error> {
        let before = self.fleet.memory();
        self.fleet.remember(|memory| {
            if picture.desired.blocked.is_empty() {
                memory.tree = Some(self.tree.sum());
            }
            observed(picture, |node| node.source.is_some()).for_each(|node| memory.begun(node));
        });
        self.fleet.accepted = Accepted::default();
        if self.fleet.memory() == before { Ok(()) } else { self.fleet.save() }
    }

    /// Remembers how the nodes are that are as they should be, and keeps the state.
    fn keep(&self, picture: &Picture) -> Result<(), Error> {
        self.fleet.remember(|memory| {
            observed(picture, |node| node.state == NodeState::Converged).for_each(|node| memory.converged(node));
        });
        self.fleet.save()
    }

    /// Carries plans out until nothing is left that can be done now.
    fn carry_out(&mut self, mut picture: Picture) -> Result<Exit, Error> {
        self.take_up(&picture)?;
        let began = self.fleet.time();
        // The plan, its steps and the result stand apart where a person sees all three.
        if !self.global.quiet && !self.idle(&picture.plan) {
            output::tell("\n");
        }
        // Each pass may let as few as one node more change, where a budget says so.
        for _ in 0..PASSES.saturating_add(picture.plan.nodes.len()) {
            let before = fingerprints(&picture.plan);
            if self.idle(&picture.plan) || self.stopped() {
                break;
            }
            shown::begin(&self.fleet, &picture);
            self.begun = true;
            let passed = self.pass(&picture);
            // Whatever stopped it: what was done is done.
            self.fleet.save()?;
            passed?;
            picture = self.look()?;
            // What a whole pass did not change, another one won't.
            if fingerprints(&picture.plan) == before {
                break;
            }
        }
        shown::end(&self.fleet, &picture, &self.failures, self.begun);
        self.keep(&picture)?;
        self.settle(&picture);
        let seconds = self.fleet.time().duration_since(began).as_secs_f64();
        self.report(&picture, seconds)?;
        let mut exit = blocked(&picture.plan);
        if !self.failures.is_empty()
            || self.fleet.outside.ledger() > 0
            || (!self.idle(&picture.plan) && !self.stopped())
        {
            exit = exit.and(Exit::Error);
        }
        if self.stopped() {
            exit = exit.and(Exit::Interrupted);
        }
        Ok(exit)
    }

    /// Gives the places back of nodes that failed once and are as they should be.
    fn settle(&self, picture: &Picture) {
        let Some(cluster) = &self.fleet.cluster else { return };
        let is_well = |node: &NodePlan| matches!(node.state, NodeState::Converged | NodeState::Unmanaged);
        for node in observed(picture, is_well) {
            if plan::places::has_failed(&picture.observed.cluster, &node.name)
                && let Some(Err(error)) =
                    self.fleet.outside.wait(execute::turn::settle(&node.name, cluster, &self.fleet.clock))
            {
                tracing::warn!("{} keeps a place of its budgets, since it failed once: {error}", node.name);
            }
        }
    }

    fn stopped(&self) -> bool {
        // Asked between all that a run does and waits for.
        if let Some(board) = self.board {
            board.beat(uptime());
            systemd::beat();
        }
        let asked = || self.board.is_some() && self.fleet.outside.is_asked();
        self.interrupted.load(Ordering::SeqCst) || asked()
    }

    /// Whether nothing can be done now.
    fn idle(&self, plan: &Plan) -> bool {
        let due = |node: &NodePlan| {
            !self.failures.contains_key(&node.name) && node.steps.iter().any(|step| step.waits.is_none())
        };
        let binds = plan.cluster.steps.iter().any(|step| step.waits.is_none()) && self.failures.is_empty();
        !binds && !plan.nodes.iter().any(due)
    }

    /// Whether a failed node keeps the place of this one: of one canary's failure the others learn, and whoever failed
    /// counts among those that change at once, also where the plan lets others go before it.
    fn full(&self, node: &NodePlan, picture: &Picture) -> bool {
        let policy = |name: &str| picture.desired.nodes.get(name).and_then(|desired| desired.policy.as_ref());
        let Some(budget) = policy(&node.name).map(|policy| &policy.budget) else { return false };
        let failed = |over: &Source| {
            let of = |name: &&String| policy(name).is_some_and(|policy| policy.sources.contains(over));
            self.failures.keys().filter(of).count()
        };
        if budget.canary.as_ref().is_some_and(|canary| canary.limit > 0 && failed(&canary.over) > 0) {
            return true;
        }
        budget.max_nodes.as_ref().is_some_and(|Shared { limit, over }| {
            let nodes = picture.observed.nodes.values().filter(|node| node.cluster.is_some());
            let nodes = nodes.filter(|node| policy(&node.name).is_some_and(|policy| policy.sources.contains(over)));
            let most = plan::turns::places(*limit, u32::try_from(nodes.count()).unwrap_or(u32::MAX));
            failed(over) >= usize::try_from(most).unwrap_or(usize::MAX)
        })
    }

    /// One pass: all nodes whose turn it is, side by side as their agents would; then what belongs to no node, since pods
    /// that are made anew need the instances first.
    fn pass(&mut self, picture: &Picture) -> Result<(), Error> {
        let due = picture.plan.nodes.iter().filter(|node| {
            let due = node.steps.iter().any(|step| step.waits.is_none());
            due && !self.failures.contains_key(&node.name) && !self.full(node, picture)
        });
        let mut journals = Vec::new();
        for plan in due {
            journals.push((plan, trouble::open(&self.fleet, &plan.name)?));
        }
        let bars = MultiProgress::new();
        let runs = journals.iter_mut().filter_map(|(plan, journal)| {
            let ports = self.ports(&plan.name, picture)?;
            let run: Pin<Box<dyn Future<Output = _>>> = Box::pin(self.node(plan, picture, ports, journal, &bars));
            Some(run)
        });
        let outcomes = self.fleet.outside.wait_all(runs.collect());
        let outcomes = outcomes.ok_or_else(|| Error::failed("the simulator waited, which it must not"))?;
        for (plan, outcome, done) in outcomes {
            self.count(plan, &done);
            self.learn(plan, outcome);
        }
        self.bind(picture)
    }

    /// Carries the plan of a node out; what became of it, and the steps that were done.
    async fn node<'a>(
        &self,
        plan: &'a NodePlan,
        picture: &Picture,
        ports: NodePorts<'_, O>,
        journal: &mut O::Journal,
        bars: &MultiProgress,
    ) -> (&'a NodePlan, InTurn, Vec<u32>) {
        let mut progress = Progress::new(plan, bars, self.global.quiet, self.global.verbose > 0);
        let (mut done, mut back) = (Vec::new(), false);
        let interrupted = || self.stopped();
        let mut tell = |news: &News| {
            tracing::debug!(node = plan.name, ?news);
            self.measure(plan, news);
            match news {
                News::Done(id) if !back => done.push(*id),
                News::RollsBack(_) => back = true,
                _ => {}
            }
            progress.tell(news);
        };
        let overridden = self.overridden.as_ref();
        let of = execute::Picture { desired: &picture.desired, observed: &picture.observed, overridden };
        let sharing = (&self.fleet.watch, self.overrides.contains(&Override::Budget));
        let outcome = if O::SIMULATED {
            // All nodes of a simulated fleet are planned at once, so that their budgets are settled by then.
            InTurn::Carried(carry(plan, of, &ports, journal, &interrupted, &mut tell).await)
        } else {
            carry_in_turn(plan, of, &ports, sharing, journal, &interrupted, &mut tell).await
        };
        progress.finish();
        (plan, outcome, done)
    }

    /// Takes in what became of a node's plan.
    fn learn(&mut self, plan: &NodePlan, outcome: InTurn) {
        let outcome = match outcome {
            InTurn::Carried(outcome) => outcome,
            InTurn::Waits(waits) => {
                self.waits.insert(plan.name.clone(), waits);
                return;
            }
        };
        match outcome {
            Outcome::Done | Outcome::Interrupted => {}
            Outcome::Suspended(by) => output::tell(&format!("  {:<10} was suspended {by}\n", plan.name)),
            Outcome::Held { step, why } => {
                // Twice before the same step of the same instance, and planning anew leads nowhere by itself.
                let at = plan.steps.iter().find(|s| s.id == step).map(|s| match &s.kind {
                    StepKind::DestroyInstance { slot } => format!("destroy {slot:?}"),
                    other => other.word().to_owned(),
                });
                let held = self.held.entry((plan.name.clone(), at.unwrap_or_default())).or_default();
                *held += 1;
                if *held > 1 {
                    self.failures.insert(plan.name.clone(), format!("stopped twice before step {step}: {why}"));
                }
                if !self.global.quiet {
                    output::tell(&format!("  {:<10} stopped before step {step}: {why}; planning anew\n", plan.name));
                }
            }
            Outcome::Failed { step, why, left, rollback } => {
                let names = render::Names::of(plan);
                let what = plan.steps.iter().find(|s| s.id == step);
                let what = what.map(|s| format!(" ({})", render::step(&s.kind, &names))).unwrap_or_default();
                let left =
                    if left.is_empty() { String::new() } else { format!("; not taken back: {}", left.join(", ")) };
                let rollback = match rollback {
                    Rollback::None => String::new(),
                    Rollback::Unneeded => "; the layout is as it was".to_owned(),
                    Rollback::Whole => "; the layout was put back".to_owned(),
                    Rollback::Part(why) => format!("; the layout could not be put back: {why}"),
                };
                self.failures.insert(plan.name.clone(), format!("step {step}{what}: {why}{left}{rollback}"));
            }
        }
    }

    /// The outside of a node.
    fn ports<'a>(&'a self, name: &'a str, picture: &'a Picture) -> Option<NodePorts<'a, O>> {
        let node = self.fleet.nodes.get(name)?;
        let in_cluster = picture.observed.nodes.get(name).is_some_and(|n| n.cluster.is_some());
        Some(Ports {
            node: name,
            gpus: &node.gpus,
            cluster: self.fleet.cluster.as_ref().filter(|_| in_cluster),
            host: &node.host,
            clock: &self.fleet.clock,
            bindings: &picture.desired.bindings,
            units: &self.units,
            turn: None,
        })
    }

    /// Takes back what runs that were cut short left behind; whether there was any.
    fn recover(&mut self, picture: &Picture) -> Result<bool, Error> {
        let mut any = false;
        let bars = &MultiProgress::new();
        for plan in &picture.plan.nodes {
            let story = trouble::story(&self.fleet, &plan.name)?;
            if story.over && story.owed.is_empty() {
                continue;
            }
            if !self.global.quiet && !story.over {
                let step = story.open.as_ref().map(|(id, _)| format!(" in step {id}")).unwrap_or_default();
                let name = &plan.name;
                output::tell(&format!(
                    "  {name:<10} an earlier run was cut short{step}; what is there was observed anew\n"
                ));
            }
            let mut journal = trouble::open(&self.fleet, &plan.name)?;
            let Some(ports) = self.ports(&plan.name, picture) else { continue };
            let policy = picture.desired.nodes.get(&plan.name).and_then(|d| d.policy.clone()).unwrap_or_default();
            let mut progress = Progress::new(plan, bars, self.global.quiet, self.global.verbose > 0);
            let mut tell = |news: &News| progress.tell(news);
            let goes_on = || _ = self.stopped();
            let run = execute::carry::recover(plan, &policy, &story, &ports, &mut journal, &goes_on, &mut tell);
            let outcome = self.fleet.outside.wait(run);
            progress.finish();
            any |= !story.owed.is_empty();
            if let Some(Outcome::Failed { left, .. }) = outcome {
                let why = format!("what an earlier run left could not be taken back: {}", left.join(", "));
                self.failures.insert(plan.name.clone(), why);
            }
        }
        Ok(any)
    }

    fn count(&mut self, plan: &NodePlan, done: &[u32]) {
        for step in plan.steps.iter().filter(|s| done.contains(&s.id)) {
            match &step.kind {
                StepKind::CreateInstance { .. } => self.counts.created += 1,
                StepKind::DestroyInstance { .. } => self.counts.destroyed += 1,
                StepKind::EvictPod { .. } | StepKind::StopUnit { .. } | StepKind::DrainCommand { .. } => {
                    self.counts.moved += 1;
                }
                _ => {}
            }
        }
    }
}

/// The planned nodes of a kind, as they were observed.
fn observed(picture: &Picture, which: impl Fn(&NodePlan) -> bool) -> impl Iterator<Item = &ObservedNode> {
    let of = picture.plan.nodes.iter().filter(move |node| which(node));
    of.filter_map(|node| picture.observed.nodes.get(&node.name))
}

fn fingerprints(plan: &Plan) -> Vec<String> {
    plan.nodes.iter().map(|node| node.fingerprint.0.clone()).collect()
}
