//! What `sectile run` does again and again: an apply that nobody asked for, and that is not told of where nothing is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crate::daemon::agenda::{AGAIN, Agenda, Cause, Next};
use crate::daemon::board::{Board, Documents};
use crate::daemon::systemd;
use crate::daemon::wakes::Wakes;
use crate::execute::News;
use crate::host::clock::uptime;
use crate::model::plan::Block;
use crate::model::{NodePlan, NodeState, ObservedNode};
use crate::render;
use crate::render::tale::Tale;

use super::super::args::{self, Global, Output};
use super::super::context::{self, Picture};
use super::super::current::Current;
use super::super::error::{Error, chain, sentence};
use super::super::fleet::Fleet;
use super::super::outside::Outside;
use super::super::settings;
use super::super::shown;
use super::super::trouble;
use super::Work;

/// How often what is seen is published where it stays as it is (the kubelet's nodeStatusReportFrequency).
const PUBLISH: Duration = Duration::from_secs(300);
/// How often it is seen whether the cluster has told of a change: numbers are compared, no more.
const TICK: Duration = Duration::from_secs(1);
/// How often the GPUs are glanced at, for what others do to them. NVML could tell by events, but who has registered for them is
/// a client of the GPU, and a GPU that has clients may not change its MIG mode.
const GLANCE: Duration = Duration::from_secs(5);

/// Whoever asked it to stop sees that it has within so long.
const TURN: Duration = Duration::from_millis(50);
const TURNS: u32 = 40;

/// The node's service, whatever becomes of the outside.
pub(in crate::cli) struct Service<'a> {
    global: &'a Global,
    stop: Arc<AtomicBool>,
    wakes: Arc<Wakes>,
    board: Arc<Board>,
    agenda: Agenda,
    tree: Current<'a>,
    told: Told,
    /// What a glance at the GPUs showed last, and when.
    glance: Option<(Duration, Vec<(String, String)>)>,
    /// When what is remembered was changed last.
    stamp: Option<SystemTime>,
    /// Whether it has let go of the driver for somebody.
    released: bool,
}

/// What was told last, so that it is not told again while it stays so.
#[derive(Default)]
struct Told {
    error: Option<String>,
    states: (String, Vec<(NodeState, Vec<Block>)>),
    seen: Vec<ObservedNode>,
    published: Option<Duration>,
    status: String,
}

impl<'a> Service<'a> {
    pub(in crate::cli) fn new(
        args: &args::Service,
        global: &'a Global,
        stop: Arc<AtomicBool>,
        wakes: Arc<Wakes>,
        board: Arc<Board>,
    ) -> Self {
        let path = args.tree.path(global);
        let tree = Current::new(path, global, &wakes);
        let agenda = Agenda::new(args.resync(global), uptime());
        let (told, glance, stamp, released) = Default::default();
        Service { global, stop, wakes, board, agenda, tree, told, glance, stamp, released }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Nothing can be looked at yet: waits a little.
    pub(in crate::cli) fn waits(&mut self, error: &Error) {
        self.wrong(Some(format!("this node can't be looked at yet: {}", chain(error))));
        let until = uptime().saturating_add(AGAIN);
        while uptime() < until && !self.stopped() {
            self.wait(until);
        }
    }

    /// Waits until something happens, or then.
    fn wait(&mut self, until: Duration) {
        self.board.beat(uptime());
        systemd::beat();
        for cause in self.wakes.wait(until.saturating_sub(uptime()).min(TICK)) {
            self.agenda.saw(cause, uptime());
        }
    }

    /// Serves until it is told to stop.
    pub(in crate::cli) fn serve<O: Outside>(&mut self, mut fleet: Fleet<O>) {
        fleet.outside.leave();
        self.board.metrics.open(true);
        let changes = |fleet: &Fleet<O>| fleet.cluster.as_ref().map(O::changes);
        let mut seen = changes(&fleet);
        self.stamp = fleet.outside.stamp();
        while !self.stopped() {
            match self.agenda.next(uptime()) {
                Next::Wait(until) => {
                    self.wait(until);
                    self.glance(&fleet);
                    let now = changes(&fleet);
                    if std::mem::replace(&mut seen, now) != now {
                        self.agenda.saw(Cause::Cluster, uptime());
                    }
                    let now = fleet.outside.stamp();
                    if std::mem::replace(&mut self.stamp, now) != now {
                        self.agenda.saw(Cause::Asked, uptime());
                    }
                    if self.tree.is_unheard(uptime()) {
                        self.agenda.saw(Cause::Tree, uptime());
                    }
                }
                Next::Look(causes) => {
                    // What changes meanwhile is seen after.
                    let before = changes(&fleet);
                    let looked;
                    (fleet, looked) = self.look(fleet, &causes);
                    if looked {
                        seen = before;
                    }
                }
            }
        }
    }

    /// Sees cheaply whether somebody else has changed the GPUs.
    fn glance<O: Outside>(&mut self, fleet: &Fleet<O>) {
        if self.released || self.glance.as_ref().is_some_and(|(at, _)| uptime() < at.saturating_add(GLANCE)) {
            return;
        }
        let now: Vec<_> = fleet.nodes.values().flat_map(|node| node.gpus.glance()).collect();
        if self.glance.as_ref().is_some_and(|(_, before)| *before != now) {
            self.agenda.saw(Cause::Gpus, uptime());
        }
        self.glance = Some((uptime(), now));
    }

    /// Looks, and does what is to be done; whether it has looked at more than the tree.
    fn look<O: Outside>(&mut self, mut fleet: Fleet<O>, causes: &BTreeSet<Cause>) -> (Fleet<O>, bool) {
        let begin = uptime();
        causes.iter().for_each(|cause| self.board.metrics.woke(*cause));
        let changed = !self.agenda.unsettled() && self.tree.read();
        let revision = self.tree.good().map(|(_, _, loaded)| loaded.revision.to_string());
        self.board.metrics.tree(revision.as_deref(), self.tree.error().is_none());
        if !changed && causes.iter().all(|cause| *cause == Cause::Tree) {
            tracing::debug!("The tree is as it was.");
            self.told_of_tree();
            return (fleet, false);
        }
        let why: Vec<&str> = causes.iter().map(|cause| cause.why()).collect();
        match causes.iter().all(|cause| matches!(cause, Cause::Resync | Cause::Cluster)) {
            true => tracing::debug!("It looks, since {}.", why.join(", and ")),
            false => tracing::info!("It looks, since {}.", why.join(", and ")),
        }
        let done;
        (fleet, done) = match fleet.outside.take_again() {
            // Whoever needs it has not given it back yet, or another process is to take it.
            Ok(()) if self.released && (self.let_go(&fleet) || self.stopped()) => (fleet, Ok(())),
            Ok(()) => self.once(fleet),
            Err(error) => (fleet, Err(error)),
        };
        // Nobody else could change that meanwhile.
        self.stamp = fleet.outside.stamp();
        fleet.outside.leave();
        self.make_way(&fleet);
        // What it did itself is not somebody else's doing.
        self.glance = None;
        self.let_go(&fleet);
        self.glance(&fleet);
        let well = done.is_ok();
        match done {
            Ok(()) => self.told_of_tree(),
            Err(error) => self.wrong(Some(format!("nothing more is done now: {}", chain(&error)))),
        }
        let now = uptime();
        self.board.metrics.looked(well, now.saturating_sub(begin), jiff::Timestamp::now().as_second());
        self.agenda.passed(well, now, now.subsec_micros() % 100);
        // Also where nothing is new: whoever asked for a look waits for that.
        systemd::ready(self.told.error.as_ref().unwrap_or(&self.told.status));
        (fleet, true)
    }

    /// Lets whoever has asked it to stop have his turn, and then looks again.
    fn make_way<O: Outside>(&mut self, fleet: &Fleet<O>) {
        for _ in 0..TURNS {
            if !fleet.outside.is_asked() {
                return;
            }
            self.agenda.saw(Cause::Asked, uptime());
            std::thread::sleep(TURN);
        }
    }

    /// Lets go of the driver while somebody needs the node without it; whether somebody does. Where that can't be known it
    /// stays as it is.
    fn let_go<O: Outside>(&mut self, fleet: &Fleet<O>) -> bool {
        let release = fleet.released().unwrap_or(self.released);
        if release != std::mem::replace(&mut self.released, release) {
            if !release && settings::in_pod() {
                // The library of the new driver is given to a new container alone.
                tracing::info!("It ends, to be begun anew with the library of the driver that is there now.");
                self.stop.store(true, Ordering::SeqCst);
            }
            if release {
                fleet.nodes.values().for_each(|node| fleet.outside.release(&node.gpus));
                tracing::info!("It lets go of the driver, and looks at no GPU until the node is resumed.");
            }
            self.board.metrics.open(!release);
        }
        release
    }

    /// Tells what is wrong with the tree on the disk, if anything is.
    fn told_of_tree(&mut self) {
        self.wrong(self.tree.error().map(str::to_owned));
    }

    /// Tells what keeps the service from its work, once while it stays so.
    fn wrong(&mut self, why: Option<String>) {
        if why == self.told.error {
            return;
        }
        // What is wrong with a tree was told with its files and lines.
        if let Some(why) = why.as_ref().filter(|why| self.tree.error() != Some(why.as_str())) {
            tracing::error!("{}.", sentence(why));
        }
        self.board.wrong(why.clone());
        systemd::ready(why.as_ref().unwrap_or(&self.told.status));
        self.told.error = why;
    }

    fn once<O: Outside>(&mut self, fleet: Fleet<O>) -> (Fleet<O>, Result<(), Error>) {
        let Some(tree) = self.tree.good().cloned() else { return (fleet, Ok(())) };
        let mut work = Work::new(self.global, tree, fleet, &[], Arc::clone(&self.stop));
        work.board = Some(&self.board);
        let done = work.serve(&mut self.told);
        (work.fleet, done)
    }
}

impl<O: Outside> Work<'_, O> {
    /// One pass. Where nothing is to be done, only what has changed is told.
    fn serve(&mut self, told: &mut Told) -> Result<(), Error> {
        let mut picture = self.look()?;
        if self.recover(&picture)? {
            self.fleet.save()?;
            picture = self.look()?;
        }
        if self.idle(&picture.plan) {
            self.take_up(&picture)?;
            self.keep(&picture)?;
            self.settle(&picture);
            self.publish(&picture, told);
        } else {
            self.post(&picture, told)?;
            self.carry_out(picture)?;
            picture = self.look()?;
        }
        self.post(&picture, told)
    }

    fn publish(&self, picture: &Picture, told: &mut Told) {
        let nodes = &picture.plan.nodes;
        let blocks = |node: &NodePlan| node.blocked.iter().chain(&node.waiting).cloned().collect();
        // The tree's name, too: others wait until a canary tells it.
        let states = (picture.plan.desired.to_string(), nodes.iter().map(|node| (node.state, blocks(node))).collect());
        let seen: Vec<ObservedNode> = picture.observed.nodes.values().cloned().collect();
        let old = told.published.is_none_or(|at| uptime() >= at.saturating_add(PUBLISH));
        if states != told.states {
            for node in nodes {
                tracing::info!("{} is {}.", node.name, node.state);
            }
            shown::end(&self.fleet, picture, &self.failures, false);
        } else if old || seen != told.seen {
            shown::again(&self.fleet, picture);
        } else {
            return;
        }
        (told.states, told.seen, told.published) = (states, seen, Some(uptime()));
    }

    /// Tells whoever asks the service how the node stands.
    fn post(&self, picture: &Picture, told: &mut Told) -> Result<(), Error> {
        let Some(board) = self.board else { return Ok(()) };
        let Picture { desired, observed, plan } = picture;
        let state = |node: &NodePlan| match self.failures.contains_key(&node.name) {
            true => NodeState::Failed,
            false => node.state,
        };
        let seen = plan.nodes.iter().filter_map(|node| Some((node, state(node), observed.nodes.get(&node.name)?)));
        board.metrics.stands(seen);
        let tales = trouble::tales(&self.fleet, plan)?;
        let shown = |output| {
            let style = context::style(&Global { output, ..self.global.clone() });
            render::status::status(desired, observed, plan, style) + &tales.iter().map(Tale::text).collect::<String>()
        };
        board.write(Documents {
            status: shown(Output::Text),
            wide: shown(Output::Wide),
            json: render::json::status(desired, observed, plan, &tales),
            plan: render::json::plan(plan),
        });
        let stands = plan.nodes.iter().map(|node| {
            let why = self.failures.get(&node.name).cloned().or_else(|| shown::message(node));
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} is {} at {}{why}", node.name, state(node), plan.desired)
        });
        told.status = stands.collect::<Vec<_>>().join("; ");
        systemd::ready(&told.status);
        Ok(())
    }

    /// Counts what becomes of a plan's steps.
    pub(super) fn measure(&self, plan: &NodePlan, news: &News) {
        let Some(board) = self.board else { return };
        let (id, result) = match news {
            News::Done(id) => (id, "done"),
            News::Skipped(id) => (id, "skipped"),
            News::Retries(id, _) => (id, "again"),
            _ => return,
        };
        if let Some(step) = plan.steps.iter().find(|step| step.id == *id) {
            board.metrics.stepped(step.kind.word(), result);
        }
    }
}
