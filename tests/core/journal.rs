//! Journals: what survives, and what a crash leaves.

use std::io::Write;

use sectile::host::journal::FileJournal;
use sectile::ports::Journal;
use sectile::sim::journal::MemoryJournal;

#[test]
fn lines_last_and_clear_forgets_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("var/lib/sectile/journal");
    let mut journal = FileJournal::open(&path).unwrap();
    assert_eq!(journal.lines().unwrap(), Vec::<String>::new());
    journal.append("one").unwrap();
    journal.append("zwei ☃").unwrap();
    let again = FileJournal::open(&path).unwrap();
    assert_eq!(again.lines().unwrap(), ["one", "zwei ☃"]);
    journal.clear().unwrap();
    assert_eq!(again.lines().unwrap(), Vec::<String>::new());
    journal.append("three").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
}

#[test]
fn a_torn_last_line_is_returned_and_stays_a_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    FileJournal::open(&path).unwrap().append("whole").unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    // Torn inside the three bytes of a character.
    file.write_all(b"to\xe2\x98").unwrap();
    let mut journal = FileJournal::open(&path).unwrap();
    assert_eq!(journal.lines().unwrap(), ["whole", "to\u{fffd}"]);
    journal.append("after").unwrap();
    assert_eq!(journal.lines().unwrap(), ["whole", "to\u{fffd}", "after"]);
}

#[test]
fn a_record_of_several_lines_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = FileJournal::open(&folder.path().join("journal")).unwrap();
    let error = journal.append("a\nb").unwrap_err();
    assert!(!error.transient);
    assert_eq!(error.code, std::io::ErrorKind::InvalidInput.to_string());
    assert_eq!(journal.lines().unwrap(), Vec::<String>::new());
}

#[test]
fn errors_bear_the_kind_of_io_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = FileJournal::open(folder.path()).unwrap_err();
    assert_eq!(error.code, std::io::ErrorKind::IsADirectory.to_string());
    assert!(error.message.starts_with("can't open the journal "), "{}", error.message);
}

#[test]
fn a_pipe_in_place_of_a_journal_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let error = FileJournal::open(&path).unwrap_err();
    assert_eq!((error.code.as_str(), error.transient), ("it is no file", false));
}

#[test]
fn the_journal_in_memory_can_be_damaged() {
    let mut journal = MemoryJournal::default();
    journal.tear_last();
    journal.lose_last();
    for line in ["one", "two", "☃☃☃"] {
        journal.append(line).unwrap();
    }
    journal.tear_last();
    assert_eq!(journal.lines().unwrap(), ["one", "two", "☃"]);
    journal.lose_last();
    assert_eq!(journal.lines().unwrap(), ["one", "two"]);
    journal.clear().unwrap();
    assert_eq!(journal, MemoryJournal::default());
}
