//! What earlier runs left in their journals: what is to be taken back, what is not tried again, and the tale of it.

use std::path::{Path, PathBuf};

use crate::execute::Rollback;
use crate::execute::carry;
use crate::execute::journal::{self, Story};
use crate::host::journal::FileJournal;
use crate::model::{Desired, Digest, NodePlan, Observed, Plan, StepKind};
use crate::ports::Journal as _;
use crate::render::tale::{Ended, Tale};
use crate::render::{self, Names};

use super::error::{Context as _, Error};
use super::fleet::Fleet;
use super::outside::Outside;

/// Whose the journal of what belongs to no node is; no node is called so.
pub(super) const CLUSTER: &str = "";
/// What else lies beside a simulation's state: a journal for each node, and what Sectile remembers that was itself run on
/// its driver.
const JOURNAL: &str = "journal";
pub(super) const HOST: &str = "host";
/// A longer name stands in no file's name: there are 255 bytes, and the state's name takes some.
const LONGEST: usize = 100;

/// A journal beside the state.
pub(super) fn open<O: Outside>(fleet: &Fleet<O>, of: &str) -> Result<O::Journal, Error> {
    let file = FileJournal::open(&beside(fleet, of, JOURNAL)).context(|| "the journal can't be opened".to_owned())?;
    Ok(fleet.outside.journal(file))
}

/// Where it lies.
pub(super) fn beside<O: Outside>(fleet: &Fleet<O>, of: &str, what: &str) -> PathBuf {
    // A name may hold what leads to another folder, or be longer than a file's may.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    fleet.outside.journal_path(&match of {
        CLUSTER => format!(".{what}"),
        of if of.len() <= LONGEST && of.chars().all(plain) => format!(".{of}.{what}"),
        of => format!(".{}.{what}", Digest::of([of.as_bytes()]).short()),
    })
}

/// What a node's journal tells; the default where there is none. Nothing is written.
pub(super) fn story<O: Outside>(fleet: &Fleet<O>, of: &str) -> Result<Story, Error> {
    let path = beside(fleet, of, JOURNAL);
    let unreadable = || "the journal can't be read".to_owned();
    if !path.try_exists().context(unreadable)? {
        return Ok(journal::story(&[]));
    }
    let journal = open(fleet, of)?;
    let lines = fleet.again(async || journal.lines()).context(unreadable)?;
    read(&lines, of, &path)
}

/// Empties the journals of a world that is no more; one that is not ours is left as it is, and told of when it is read.
/// What was remembered on its nodes goes with it.
pub(super) fn forget<O: Outside>(fleet: &Fleet<O>) -> Result<(), Error> {
    let all = fleet.nodes.keys().map(String::as_str).chain([CLUSTER]);
    let mut old = Vec::new();
    for (of, path) in all.map(|of| (of, beside(fleet, of, JOURNAL))).filter(|(_, path)| path.exists()) {
        let journal = FileJournal::open(&path).and_then(|journal| Ok((journal.lines()?, journal)));
        old.extend(journal.ok().filter(|(lines, _)| !lines.is_empty() && read(lines, of, &path).is_ok()));
    }
    let hosts = fleet.nodes.keys().map(|node| beside(fleet, node, HOST)).filter(|path| path.is_dir());
    let hosts: Vec<PathBuf> = hosts.collect();
    if !old.is_empty() || !hosts.is_empty() {
        // First the new world: the old one is not to be without its journals.
        fleet.save()?;
    }
    let cleared = old.iter_mut().try_for_each(|(_, journal)| journal.clear());
    cleared.context(|| "the journal can't be begun".to_owned())?;
    let removed = hosts.iter().try_for_each(std::fs::remove_dir_all);
    removed.context(|| "what was remembered can't be removed".to_owned())
}

fn read(lines: &[String], of: &str, path: &Path) -> Result<Story, Error> {
    let records = journal::read(lines, of).map_err(|unusable| {
        let hint = unusable.hint();
        let error = Error::failed(format!("the journal {} can't be gone by", path.display()));
        error.caused_by(unusable).hint(hint)
    })?;
    Ok(journal::story(&records))
}

/// Holds back what failed for good while nothing that it depends on has changed.
pub(super) fn hold<O: Outside>(
    plan: &mut Plan,
    desired: &Desired,
    observed: &Observed,
    fleet: &Fleet<O>,
) -> Result<(), Error> {
    for node in &mut plan.nodes {
        let Some((wanted, seen)) = desired.nodes.get(&node.name).zip(observed.nodes.get(&node.name)) else { continue };
        let story = story(fleet, &node.name)?;
        if let Some(failure) = journal::failed(&story, &carry::inputs(wanted, seen)).filter(|_| !node.steps.is_empty())
        {
            carry::hold(node, failure);
            plan.summary.blocked += 1;
        }
    }
    Ok(())
}

/// What became of each node's last run, where it did not come to a good end.
pub(super) fn tales<O: Outside>(fleet: &Fleet<O>, plan: &Plan) -> Result<Vec<Tale>, Error> {
    plan.nodes.iter().filter_map(|node| tale(fleet, node).transpose()).collect()
}

fn tale<O: Outside>(fleet: &Fleet<O>, node: &NodePlan) -> Result<Option<Tale>, Error> {
    let Story { over, done, open, undone, back, owed, failure } = story(fleet, &node.name)?;
    let ended = match (&failure, over) {
        (Some(_), _) => Ended::Failed,
        (None, false) => Ended::CutShort,
        (None, true) if !owed.is_empty() => Ended::LeftSomething,
        (None, true) => return Ok(None),
    };
    let names = Names::of(node);
    let each = |kinds: &[StepKind]| kinds.iter().map(|kind| render::step(kind, &names)).collect::<Vec<_>>();
    let failed = failure.as_ref().map(|failure| {
        let what = failure.what.as_ref().map(|kind| format!(", {}", render::step(kind, &names))).unwrap_or_default();
        format!("step {}{what}: {}", failure.step, failure.why)
    });
    let begun = open
        .filter(|_| failure.is_none())
        .map(|(id, kind)| format!("{} (step {id}; whether it took effect is observed)", render::step(&kind, &names)));
    let now = failure.as_ref().map(|failure| match &failure.rollback {
        Rollback::None => "the layout was left as it is (failure.rollback = false)".to_owned(),
        Rollback::Unneeded => "the layout is as it was before".to_owned(),
        Rollback::Whole => "the layout was put back as it was before".to_owned(),
        Rollback::Part(why) => format!("the layout could not be put back: {why}"),
    });
    Ok(Some(Tale {
        node: node.name.clone(),
        ended,
        failed,
        done: each(&done),
        begun,
        undone: each(&undone),
        put_back: each(&back),
        left: each(&owed),
        now,
    }))
}
