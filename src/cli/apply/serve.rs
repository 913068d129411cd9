//! What `sectile run` does again and again: an apply that nobody asked for, and that is not told of where nothing is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::host::clock::uptime;
use crate::model::plan::Block;
use crate::model::{NodePlan, NodeState, ObservedNode};

use super::super::args::{Global, Service};
use super::super::context::Picture;
use super::super::controller::{LOOK, SLICE, chain, jittered};
use super::super::current::Current;
use super::super::error::Error;
use super::super::fleet::Fleet;
use super::super::outside::Outside;
use super::super::shown;
use super::Work;

/// How often what is seen is published where it stays as it is (the kubelet's nodeStatusReportFrequency).
const PUBLISH: Duration = Duration::from_secs(300);
/// How soon a pass that went wrong is made again: doubling from this.
const AGAIN: Duration = Duration::from_secs(5);

/// What was told last, so that it is not told again while it stays so.
#[derive(Default)]
struct Told {
    error: Option<String>,
    states: (String, Vec<(NodeState, Vec<Block>)>),
    seen: Vec<ObservedNode>,
    published: Option<Duration>,
}

/// Serves until it is told to stop.
pub(in crate::cli) fn serve<O: Outside>(mut fleet: Fleet<O>, args: &Service, global: &Global, stop: &Arc<AtomicBool>) {
    let mut tree = Current::new(args.tree.path(global));
    let mut told = Told::default();
    let (mut looked, mut due, mut wrong) = (None::<Duration>, Duration::ZERO, 0u32);
    fleet.outside.leave();
    while !stop.load(Ordering::SeqCst) {
        if looked.is_none_or(|at| uptime() >= at.saturating_add(LOOK)) {
            looked = Some(uptime());
            if tree.read() {
                due = Duration::ZERO;
            }
        }
        if uptime() < due || tree.good().is_none() {
            std::thread::sleep(SLICE);
            continue;
        }
        let done;
        (fleet, done) = match fleet.outside.take_again() {
            Ok(()) => once(fleet, &tree, global, stop, &mut told),
            Err(error) => (fleet, Err(error)),
        };
        fleet.outside.leave();
        let pause = match done {
            Ok(()) => {
                (told.error, wrong) = (None, 0);
                args.resync(global)
            }
            Err(error) => {
                let why = chain(&error);
                if told.error.as_ref() != Some(&why) {
                    tracing::error!("Nothing more is done now: {why}.");
                    told.error = Some(why);
                }
                wrong = wrong.saturating_add(1);
                AGAIN.saturating_mul(1 << wrong.min(10)).min(args.resync(global))
            }
        };
        due = uptime().saturating_add(jittered(pause));
    }
}

fn once<O: Outside>(
    fleet: Fleet<O>,
    tree: &Current,
    global: &Global,
    stop: &Arc<AtomicBool>,
    told: &mut Told,
) -> (Fleet<O>, Result<(), Error>) {
    let Some(tree) = tree.good().cloned() else { return (fleet, Ok(())) };
    let mut work = Work::new(global, tree, fleet, &[], Arc::clone(stop));
    let done = work.serve(told);
    (work.fleet, done)
}

impl<O: Outside> Work<'_, O> {
    /// One pass. Where nothing is to be done, only what has changed is told.
    fn serve(&mut self, told: &mut Told) -> Result<(), Error> {
        let mut picture = self.look()?;
        if self.recover(&picture)? {
            self.fleet.save()?;
            picture = self.look()?;
        }
        if !self.idle(&picture.plan) {
            return self.carry_out(picture).map(|_| ());
        }
        self.take_up(&picture)?;
        self.keep(&picture)?;
        self.settle(&picture);
        self.publish(&picture, told);
        Ok(())
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
}
