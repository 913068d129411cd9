//! What belongs to no node: workloads get their requests.

use std::cell::RefCell;

use super::super::context::Picture;
use super::super::error::{Context as _, Error};
use super::super::fleet::Fleet;
use super::super::output;
use super::super::outside::Outside;
use super::super::trouble;
use super::{Work, fingerprints};
use crate::execute::journal::{Entry, Record};
use crate::model::Digest;
use crate::ports::{Cluster as _, Journal as _, Request};
use crate::render;

impl<O: Outside> Work<'_, O> {
    /// The cluster's steps, each recorded before and after.
    pub(super) fn bind(&mut self, picture: &Picture) -> Result<(), Error> {
        let due: Vec<_> = picture.plan.cluster.steps.iter().filter(|step| step.waits.is_none()).collect();
        if due.is_empty() || self.stopped() || !self.failures.is_empty() {
            return Ok(());
        }
        trouble::story(&self.fleet, trouble::CLUSTER)?;
        let journal = RefCell::new(trouble::open(&self.fleet, trouble::CLUSTER)?);
        let begun = self.fleet.again(async || journal.borrow_mut().clear());
        begun.context(|| "the journal can't be begun".to_owned())?;
        let plan = Digest::of(fingerprints(&picture.plan).iter().map(String::as_bytes));
        let record = |fleet: &Fleet<O>, entry| {
            let (plan, node, at) = (plan.clone(), trouble::CLUSTER.to_owned(), fleet.time().to_string());
            let line = Record { plan, node, at, entry }.line();
            let kept = fleet.again(async || journal.borrow_mut().append(&line));
            kept.context(|| "the journal can't be written".to_owned())
        };
        for step in due {
            let Some((request, cluster)) = Request::of(&step.kind).zip(self.fleet.cluster.as_ref()) else { continue };
            record(&self.fleet, Entry::Begin { step: step.id, what: Box::new(step.kind.clone()), owes: None })?;
            let bound = self.fleet.patiently(async || cluster.bind(&request).await);
            let sentence = render::step(&step.kind, &render::Names::default());
            let entry = match bound {
                Ok(()) => {
                    if !self.global.quiet {
                        output::tell(&format!("  {:<10} done   {sentence}\n", "cluster"));
                    }
                    Entry::End { step: step.id }
                }
                Err(error) => {
                    let why = chain(&error);
                    self.failures.insert(sentence, why.clone());
                    Entry::Failed { step: step.id, why }
                }
            };
            record(&self.fleet, entry)?;
        }
        record(&self.fleet, Entry::Over)
    }
}

fn chain(error: &Error) -> String {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
