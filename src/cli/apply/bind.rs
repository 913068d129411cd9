//! What belongs to no node: workloads get their requests, or what was set at them is taken back.

use super::super::context::Picture;
use super::super::error::{Context as _, Error};
use super::super::output;
use super::super::outside::Outside;
use super::super::trouble;
use super::{Work, fingerprints};
use crate::execute::bind::{Hands, Told};
use crate::model::{Digest, Step};
use crate::plan::bindings;
use crate::render;

impl<O: Outside> Work<'_, O> {
    /// The cluster's steps.
    pub(super) fn bind(&mut self, picture: &Picture) -> Result<(), Error> {
        let steps = &picture.plan.cluster.steps;
        let due = steps.iter().any(|step| step.waits.is_none());
        let Some(cluster) = self.fleet.cluster.as_ref().filter(|_| due && self.failures.is_empty()) else {
            return Ok(());
        };
        trouble::story(&self.fleet, trouble::CLUSTER)?;
        let mut journal = trouble::open(&self.fleet, trouble::CLUSTER)?;
        let plan = Digest::of(fingerprints(&picture.plan).iter().map(String::as_bytes));
        let revision = picture.plan.desired.to_string();
        let Picture { desired, observed, .. } = picture;
        let is_shut = |step: &Step| bindings::is_shut(step, desired, observed, self.fleet.time());
        let hands = Hands { cluster, clock: &self.fleet.clock, revision: &revision, plan, is_shut: &is_shut };
        let quiet = self.global.quiet;
        let sentence = |step: &Step| render::step(&step.kind, &render::Names::default());
        let mut tell = |told: Told<'_>| {
            let (word, step, more) = match &told {
                Told::Waits(step, why) => ("waits", *step, format!(": {why}")),
                Told::Done(step) => ("done", *step, String::new()),
                Told::Begun(_) | Told::Failed(..) => return,
            };
            if !quiet {
                output::tell(&format!("  {:<10} {word:<6} {}{more}\n", "cluster", sentence(step)));
            }
        };
        let interrupted = || self.stopped();
        let carried = self.fleet.outside.wait(hands.carry(steps, &mut journal, &interrupted, &mut tell));
        let Some(carried) = carried else { return Err(Error::failed("the simulator waited, which it must not")) };
        let failed = carried.context(|| "the journal can't be written".to_owned())?;
        for step in steps {
            self.failures.extend(failed.get(&step.id).map(|why| (sentence(step), why.clone())));
        }
        Ok(())
    }
}
