//! The tree as a service has it: watched before it is read, the last one without errors holds, and what is wrong with a newer
//! one is told once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Diagnostic, Loaded, Tree, diagnostic};
use crate::daemon::agenda::Cause;
use crate::daemon::wakes::Wakes;
use crate::daemon::watch::TreeWatch;
use crate::model::Revision;

use super::args::Global;
use super::error::{chain, sentence};
use super::settings;

/// How often a tree is read that the kernel tells no changes of.
const READ: Duration = Duration::from_secs(5);

/// The tree of a service.
#[derive(Debug)]
pub(super) struct Current<'a> {
    path: PathBuf,
    global: &'a Global,
    watch: TreeWatch,
    /// Why changes of the tree are not told, where they are not.
    deaf: Option<String>,
    /// When it was read last because of that.
    read: Duration,
    /// What was read last, whatever it was.
    last: Option<Revision>,
    good: Option<(Tree, BTreeSet<String>, Loaded)>,
    /// What is wrong with what was read last, a sentence.
    error: Option<String>,
}

impl<'a> Current<'a> {
    /// The tree in that folder, whose changes wake somebody; nothing is read yet.
    pub(super) fn new(path: PathBuf, global: &'a Global, wakes: &Arc<Wakes>) -> Self {
        let told = Arc::clone(wakes);
        let watch = TreeWatch::new(path.clone(), move || told.wake(Cause::Tree));
        Current { path, global, watch, deaf: None, read: Duration::ZERO, last: None, good: None, error: None }
    }

    /// Whether it is to be read since nobody tells of changes, and was not for a while.
    pub(super) fn is_unheard(&mut self, now: Duration) -> bool {
        let due = self.deaf.is_some() && now >= self.read.saturating_add(READ);
        if due {
            self.read = now;
        }
        due
    }

    fn arm(&mut self) {
        let deaf = self.watch.arm().err();
        if let Some(why) = deaf.as_ref().filter(|why| self.deaf.as_ref() != Some(*why)) {
            tracing::warn!("The tree is read every {} s: {why}.", READ.as_secs());
        }
        self.deaf = deaf;
    }

    /// Reads the tree; whether another one holds now.
    pub(super) fn read(&mut self) -> bool {
        // Another tree may come at any time.
        self.arm();
        if let Err(error) = settings::trusted(&self.path, self.global) {
            let why = chain(&error);
            if self.error.as_ref() != Some(&why) {
                tracing::error!("{}.", sentence(&why));
            }
            (self.error, self.last) = (Some(why), None);
            return false;
        }
        let loaded = config::load(&self.path);
        // Also under another name: by it nodes tell which tree they have.
        if self.last.as_ref() == Some(&loaded.revision) {
            return false;
        }
        self.last = Some(loaded.revision.clone());
        let told = diagnostic::render(&loaded.diagnostics, &loaded.sources, false);
        let wrong = loaded.diagnostics.iter().any(Diagnostic::is_error);
        match loaded.tree.clone().filter(|_| !wrong) {
            Some(tree) => {
                if !told.is_empty() {
                    tracing::warn!("The tree {} has warnings.\n{told}", loaded.revision);
                }
                tracing::info!("The tree is {} now.", loaded.revision);
                let units = tree.units();
                (self.good, self.error) = (Some((tree, units, loaded)), None);
                true
            }
            None => {
                let holds = match &self.good {
                    Some((_, _, good)) => format!("{} still holds", good.revision),
                    None => "nothing is done until it is mended".to_owned(),
                };
                let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
                let number = if errors == 1 { "an error".to_owned() } else { format!("{errors} errors") };
                let error = format!("the tree in {} has {number}; {holds}", self.path.display());
                tracing::error!("{}.\n{told}", sentence(&error));
                self.error = Some(error);
                false
            }
        }
    }

    /// What is wrong with the tree on the disk, a sentence; `None`: nothing.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The last tree without errors.
    pub(super) fn good(&self) -> Option<&(Tree, BTreeSet<String>, Loaded)> {
        self.good.as_ref()
    }
}
