//! The journal as it is read after a crash: whole, torn, damaged, another's.

use proptest::prelude::*;
use sectile::execute::Rollback;
use sectile::execute::journal::{Entry, Failure, Record, Unusable, read, story};
use sectile::model::{Digest, StepKind};

fn line(entry: Entry) -> String {
    record(entry).line()
}

fn record(entry: Entry) -> Record {
    Record { plan: Digest::of([]), node: "n".into(), at: "2026-11-22T00:00:00Z".into(), entry }
}

fn begin(step: u32, what: StepKind, owes: Option<StepKind>) -> Entry {
    Entry::Begin { step, what: Box::new(what), owes: owes.map(Box::new) }
}

fn pause() -> StepKind {
    StepKind::PauseClients { units: vec!["dcgm.service".to_owned()], commands: Vec::new() }
}

fn resume() -> StepKind {
    StepKind::ResumeClients { units: vec!["dcgm.service".to_owned()], commands: Vec::new() }
}

/// A run that fails in its third step, and takes everything back.
fn whole() -> Vec<Entry> {
    let failure = Failure {
        step: 3,
        what: Some(Box::new(StepKind::RefreshClients)),
        why: "a call: 503".to_owned(),
        left: Vec::new(),
        rollback: Rollback::Unneeded,
        inputs: Digest::of([b"inputs".as_slice()]),
    };
    vec![
        begin(1, StepKind::Taint, Some(StepKind::Untaint)),
        Entry::End { step: 1 },
        begin(2, pause(), Some(resume())),
        Entry::End { step: 2 },
        begin(3, StepKind::RefreshClients, None),
        Entry::Undo { what: Box::new(resume()) },
        Entry::Undone { what: Box::new(resume()) },
        Entry::Undo { what: Box::new(StepKind::Untaint) },
        Entry::Undone { what: Box::new(StepKind::Untaint) },
        Entry::Failed { step: 3, why: "a call: 503".to_owned() },
        Entry::GaveUp(failure),
    ]
}

fn lines() -> Vec<String> {
    whole().into_iter().map(line).collect()
}

#[test]
fn what_is_owed_is_what_was_begun_and_neither_settled_nor_taken_back() {
    let owed = |records: usize| story(&whole()[..records].iter().cloned().map(record).collect::<Vec<_>>()).owed;
    assert_eq!(owed(0), []);
    assert_eq!(owed(1), [StepKind::Untaint], "it may have taken effect");
    assert_eq!(owed(3), [resume(), StepKind::Untaint], "the last first");
    assert_eq!(owed(6), [resume(), StepKind::Untaint], "it may not be taken back yet");
    assert_eq!(owed(7), [StepKind::Untaint]);
    assert_eq!(owed(9), []);
    let settled = [begin(1, pause(), Some(resume())), Entry::End { step: 1 }, begin(2, resume(), None)];
    let told = |entries: &[Entry]| story(&entries.iter().cloned().map(record).collect::<Vec<_>>()).owed;
    assert_eq!(told(&settled), [resume()]);
    assert_eq!(told(&[&settled[..], &[Entry::End { step: 2 }]].concat()), []);
}

#[test]
fn a_story_tells_what_was_done_what_was_begun_and_how_it_ended() {
    let records: Vec<Record> = whole().into_iter().map(record).collect();
    let cut = story(&records[..5]);
    assert!(!cut.over && cut.failure.is_none());
    assert_eq!((cut.done.len(), cut.open), (2, Some((3, StepKind::RefreshClients))));
    let end = story(&records);
    assert!(end.over);
    assert_eq!(end.undone, [resume(), StepKind::Untaint]);
    assert_eq!(end.failure.unwrap().step, 3);
    let forgiven: Vec<Record> = records.iter().cloned().chain([record(Entry::Forgiven)]).collect();
    assert_eq!(story(&forgiven).failure, None);
    let anew: Vec<Record> = records.into_iter().chain([record(begin(1, StepKind::Taint, None))]).collect();
    assert_eq!((story(&anew).failure, story(&anew).done.len()), (None, 0), "another run has begun");
}

#[test]
fn a_newer_a_foreign_and_another_nodes_journal_are_told_apart() {
    assert_eq!(read(&[], "n"), Ok(vec![]));
    assert_eq!(read(&lines(), "m"), Err(Unusable::OtherNode("n".to_owned())));
    assert_eq!(read(&["[Unit]".to_owned()], "n"), Err(Unusable::Foreign));
    let json = "{\"v\":2,\"what\":\"nobody knows\"}";
    let newer = format!("{} {json}", Digest::of([json.as_bytes()]).short());
    assert_eq!(read(&[lines(), vec![newer]].concat(), "n"), Err(Unusable::Newer(2)));
    // The first record of all may be torn, also several times over.
    let first = &lines()[0];
    for end in 0..first.len() {
        let zeros = "\0".repeat(first.len() - end);
        let torn = [first[..end].to_owned(), first[..end / 2].to_owned(), first[..end].to_owned() + &zeros];
        assert_eq!(read(&torn, "n"), Ok(vec![]), "{end}");
    }
}

#[test]
fn a_run_that_was_killed_while_it_put_the_layout_back_is_over_once_it_was_recovered() {
    let mut entries = whole();
    entries.pop();
    entries.extend([Entry::RollBack, begin(1, StepKind::Taint, Some(StepKind::Untaint))]);
    let told = |entries: &[Entry]| story(&entries.iter().cloned().map(record).collect::<Vec<_>>());
    assert_eq!((told(&entries).over, told(&entries).owed), (false, vec![StepKind::Untaint]));
    entries.extend([
        Entry::Undo { what: Box::new(StepKind::Untaint) },
        Entry::Undone { what: Box::new(StepKind::Untaint) },
    ]);
    entries.extend([Entry::Over]);
    assert!(!told(&entries).over, "one of the plans back is over, and not the last");
    entries.extend([Entry::Recovered]);
    assert!(told(&entries).over && told(&entries).owed.is_empty());
}

proptest! {
    #[test]
    fn a_journal_cut_anywhere_is_the_journal_so_far(at in 0usize..10_000) {
        let text = lines().join("\n") + "\n";
        let cut = &text[..at % (text.len() + 1)];
        let given: Vec<String> = cut.split_terminator('\n').map(str::to_owned).collect();
        let records = read(&given, "n").unwrap();
        let all: Vec<Record> = whole().into_iter().map(record).collect();
        prop_assert_eq!(&records[..], &all[..records.len()]);
        // Only the line that was cut may be lacking.
        prop_assert!(records.len() + 1 >= given.len());
    }

    #[test]
    fn a_flipped_bit_loses_its_line_and_no_other_and_makes_up_nothing(at in 0usize..10_000, bit in 0u8..7) {
        let mut bytes = (lines().join("\n") + "\n").into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let given: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
        let records = read(&given, "n").unwrap();
        let all: Vec<Record> = whole().into_iter().map(record).collect();
        prop_assert!(records.iter().all(|record| all.contains(record)));
        // A flipped end of a line takes two with it.
        prop_assert!(records.len() + 2 >= all.len());
        story(&records);
    }
}
