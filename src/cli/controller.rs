//! `sectile controller`: what belongs to no node, done by the one replica that holds the lease.

mod elected;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::cluster::KubeCluster;
use crate::cluster::names::{ACCEPTED, RECORD};
use crate::config::{NodeFacts, Tree};
use crate::daemon::agenda::{Agenda, Cause, Next};
use crate::daemon::board::{Board, Documents};
use crate::daemon::serve::Sockets;
use crate::daemon::wakes::Wakes;
use crate::execute::bind::{Hands, Told, look_at};
use crate::execute::turn::sweep;
use crate::host::clock::{SystemClock, uptime};
use crate::model::memory::TakenUp;
use crate::model::plan::BlockCode;
use crate::model::{Bound, Desired, Digest, Known, Plan, Step};
use crate::plan::places::Watch;
use crate::plan::{bindings, guards};
use crate::ports::{Journal, Port};
use crate::render;

use super::apply::watch_signals;
use super::args::{Global, Run};
use super::context::{self, Picture};
use super::current::Current;
use super::error::{Context as _, Error, chain};
use super::exit::Exit;
use super::fleet::is_real_cluster;
use super::published::{self, Seen};
use super::run::listen;
use super::this_node::{client, runtime};
use elected::Lead;

/// How soon a signal is seen while nothing is done.
const SLICE: Duration = Duration::from_millis(100);

/// What a controller works with.
struct Work<'a> {
    kube: Arc<KubeCluster>,
    lead: Arc<Lead>,
    stop: Arc<AtomicBool>,
    wakes: Arc<Wakes>,
    board: Arc<Board>,
    tree: Current<'a>,
    /// What was told and still holds.
    told: BTreeSet<String>,
    /// What it has seen of who holds places of the budgets.
    watch: RefCell<Watch>,
}

/// Leads or follows until it is told to stop.
pub(super) fn run(args: &Run, global: &Global) -> Result<Exit, Error> {
    if !is_real_cluster(global) {
        let error = Error::usage("a simulated cluster needs no controller");
        return Err(error.hint("`sectile apply --sim` carries out what belongs to no node, too"));
    }
    let runtime = runtime()?;
    let kube = Arc::new(KubeCluster::new(client(global, &runtime)?, None));
    let stop = watch_signals(|| {}, Box::new(|| {}))?;
    let (wakes, board) = <(Arc<Wakes>, Arc<Board>)>::default();
    board.beat(uptime());
    // Whoever follows has nothing to tell, and is ready to lead.
    board.write(Documents::default());
    listen(&Sockets { metrics: args.metrics.0, socket: None }, &wakes, &board)?;
    let lead = Arc::new(Lead::new(identity()?));
    // On a thread of its own: a long look must not lose the lease.
    let electing = runtime.spawn(elected::elect(Arc::clone(&kube), Arc::clone(&lead)));
    let (told, watch) = Default::default();
    let tree = Current::new(args.service.tree.path(global), global, &wakes);
    let mut work = Work { kube, lead, stop, wakes, board, tree, told, watch };
    runtime.block_on(work.until_stopped(args.service.resync(global)));
    work.lead.close();
    runtime.block_on(electing).context(|| "the election ended by itself".to_owned())?;
    Ok(Exit::Done)
}

/// A name that no other replica has, nor had in an earlier life.
fn identity() -> Result<String, Error> {
    let read = |path: &str| std::fs::read_to_string(path).context(|| format!("{path} can't be read"));
    let (host, life) = (read("/proc/sys/kernel/hostname")?, read("/proc/sys/kernel/random/uuid")?);
    Ok(format!("{}_{}", host.trim(), life.trim()))
}

impl Work<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    async fn until_stopped(&mut self, resync: Duration) {
        let mut agenda = Agenda::new(resync, uptime());
        let (mut seen, mut led) = (0, false);
        while !self.stopped() {
            self.board.beat(uptime());
            for cause in self.wakes.wait(Duration::ZERO) {
                agenda.saw(cause, uptime());
            }
            if self.tree.is_unheard(uptime()) {
                agenda.saw(Cause::Tree, uptime());
            }
            let leads = self.lead.leads();
            // Who begins to lead looks at once.
            if leads && !led {
                agenda.saw(Cause::Asked, uptime());
            }
            led = leads;
            self.board.metrics.leads(leads);
            let changes = self.kube.changes();
            if std::mem::replace(&mut seen, changes) != changes {
                agenda.saw(Cause::Cluster, uptime());
            }
            if leads && let Next::Look(causes) = agenda.next(uptime()) {
                causes.iter().for_each(|cause| self.board.metrics.woke(*cause));
                let changed = !agenda.unsettled() && self.tree.read();
                let revision = self.tree.good().map(|(_, _, loaded)| loaded.revision.to_string());
                self.board.metrics.tree(revision.as_deref(), self.tree.error().is_none());
                self.board.wrong(self.tree.error().map(str::to_owned));
                if changed || causes.iter().any(|cause| *cause != Cause::Tree) {
                    seen = self.kube.changes();
                    let begin = uptime();
                    let well = self.pass().await;
                    let now = uptime();
                    self.board.metrics.looked(well, now.saturating_sub(begin), Timestamp::now().as_second());
                    agenda.passed(well, now, now.subsec_micros() % 100);
                }
            }
            tokio::time::sleep(SLICE).await;
        }
    }

    /// Looks at everything, tells what waits and what is blocked, and does what can be done: a step, then another look, so
    /// that each begins by what is so by then. Whether it could be looked at.
    async fn pass(&mut self) -> bool {
        let (mut says, mut tried) = (BTreeSet::new(), Vec::new());
        let well = loop {
            self.board.beat(uptime());
            let picture = match self.plan().await {
                Ok(Some(picture)) => picture,
                Ok(None) => return true,
                Err(error) => {
                    self.board.wrong(Some(chain(&error)));
                    says.insert(format!("Nothing is done: {}", chain(&error)));
                    break false;
                }
            };
            says.extend(standing(&picture.plan));
            says.extend(self.sweep(&picture).await);
            self.tell(&says);
            let due = |step: &&Step| step.waits.is_none() && !tried.contains(&step.kind);
            let Some(step) = picture.plan.cluster.steps.iter().find(due).filter(|_| !self.stops()) else { break true };
            tried.push(step.kind.clone());
            says.extend(self.carry_out(step, &picture).await);
            self.tell(&says);
            self.told.extend(says.iter().cloned());
        };
        self.tell(&says);
        self.told = says;
        well
    }

    /// Whether nothing more is to be begun.
    fn stops(&self) -> bool {
        self.stopped() || !self.lead.leads()
    }

    async fn plan(&mut self) -> Result<Option<Picture>, Error> {
        let Some((tree, _, loaded)) = self.tree.good() else { return Ok(None) };
        let asked = self.kube.fleet().await;
        let (mut cluster, nodes) =
            asked.map_err(|error| Error::failed("the cluster could not be asked").caused_by(error))?;
        look_at(&*self.kube, tree.bindings(), &mut cluster).await;
        published::look_at_places(&self.kube, &mut cluster).await;
        let Seen { observed, silent, .. } = published::seen(cluster, nodes);
        let silence: BTreeSet<String> = silent.iter().map(|facts| facts.name.clone()).collect();
        let facts = observed.nodes.values().map(NodeFacts::of).chain(silent).collect();
        let covered = |desired: &mut Desired| {
            desired.nodes.retain(|name, node| !silence.contains(name) || node.layout.is_some());
        };
        let before = recorded(&observed.cluster.bound, tree);
        let (name, sum) = (loaded.revision.to_string(), tree.sum());
        let lost = before.as_ref().is_some_and(|before| guards::removal(before, &sum).is_some());
        let accepted =
            lost && self.kube.accepted_removal().await.is_ok_and(|accepted| accepted.as_ref() == Some(&name));
        let before = before.filter(|_| !accepted);
        let mut picture = context::weigh(tree, loaded, observed, facts, before.as_ref(), Timestamp::now(), &covered)?;
        for block in picture.plan.cluster.blocked.iter_mut().filter(|block| block.code == BlockCode::MassRemoval) {
            let (namespace, object) = RECORD;
            block.hint = format!(
                "see whether it is the right tree and whole; `kubectl annotate --overwrite configmap {object} -n \
                 {namespace} {ACCEPTED}={name}` if that is meant"
            );
        }
        Ok(Some(picture))
    }

    /// Takes places out whose holders are gone; why not, where it can't.
    async fn sweep(&self, picture: &Picture) -> Option<String> {
        let mut watch = self.watch.take();
        let swept = sweep(&picture.observed.cluster, &mut watch, &*self.kube, &SystemClock).await;
        self.watch.replace(watch);
        match swept {
            Ok(gone) => {
                gone.iter()
                    .for_each(|holder| tracing::info!("{holder} is gone, and its place of the budgets with it."));
                None
            }
            Err(error) => Some(format!("The places of the budgets can't be looked after: {error}")),
        }
    }

    /// Carries a step of the cluster's out, while it leads; why not, or what failed.
    async fn carry_out(&self, step: &Step, picture: &Picture) -> Option<String> {
        let Picture { desired, observed, plan } = picture;
        let revision = plan.desired.to_string();
        let of = plan.nodes.iter().map(|node| node.fingerprint.0.as_bytes());
        let is_shut = |step: &Step| bindings::is_shut(step, desired, observed, Timestamp::now());
        let (cluster, plan) = (&*self.kube, Digest::of(of));
        let hands = Hands { cluster, clock: &SystemClock, revision: &revision, plan, is_shut: &is_shut };
        let sentence = |step: &Step| render::step(&step.kind, &render::Names::default());
        let mut failed = None;
        let mut tell = |told: Told<'_>| match told {
            Told::Begun(_) => {}
            Told::Waits(step, why) => tracing::info!("Waiting: {}: {why}", sentence(step)),
            Told::Done(step) => tracing::info!("Done: {}.", sentence(step)),
            Told::Failed(step, why) => failed = Some(format!("This could not be done: {}: {why}", sentence(step))),
        };
        let holder = (&self.watch, format!("{}+{}", self.lead.name(), uptime().as_nanos()));
        let stops = || self.stops();
        let carried = hands.carry_in_turn(step, (desired, observed), holder, &mut Logged, &stops, &mut tell).await;
        match carried {
            Ok(None) => failed,
            Ok(Some(why)) => Some(format!("This waits (budget): {}: {why}", sentence(step))),
            Err(error) => Some(format!("This could not be done: {}: {error}", sentence(step))),
        }
    }

    /// Tells what was not told already.
    fn tell(&self, says: &BTreeSet<String>) {
        says.difference(&self.told).for_each(|new| tracing::warn!("{new}"));
    }
}

/// The journal of who has no disk: the ConfigMap of the bindings tells what was begun, also to the next who leads.
struct Logged;

impl Journal for Logged {
    fn append(&mut self, line: &str) -> Port<()> {
        tracing::debug!("{line}");
        Ok(())
    }

    fn lines(&self) -> Port<Vec<String>> {
        Ok(Vec::new())
    }

    fn clear(&mut self) -> Port<()> {
        Ok(())
    }
}

/// What the last tree bound, as the cluster remembers it: also whoever leads only now must not take most of that back.
fn recorded(bound: &Known<Vec<Bound>>, tree: &Tree) -> Option<TakenUp> {
    let bindings: BTreeSet<String> = bound.known()?.iter().map(|bound| bound.bind.binding.clone()).collect();
    Some(TakenUp { bindings, layouts: 0, ..tree.sum() })
}

/// What waits, is blocked or deserves a look among what belongs to no node.
fn standing(plan: &Plan) -> Vec<String> {
    let cluster = &plan.cluster;
    let blocked =
        cluster.blocked.iter().map(|b| format!("Blocked ({}): {}: {} ({})", b.code, b.object, b.message, b.hint));
    let waits = cluster.steps.iter().filter_map(|step| {
        let sentence = render::step(&step.kind, &render::Names::default());
        Some(format!("This waits ({}): {sentence}", step.waits?))
    });
    blocked.chain(waits).chain(cluster.warnings.iter().cloned()).collect()
}
