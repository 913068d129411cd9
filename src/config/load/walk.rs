//! Finds and reads the files that count, whatever lies there: it never panics, hangs or fills the memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::config::diagnostic::{Code, Diagnostic};

/// The largest file: a thousand times what people write.
const LARGEST_FILE: u64 = 1 << 20;
/// The largest tree, in bytes.
const LARGEST_TREE: u64 = 64 << 20;
/// The most names that are looked at; linked folders could multiply without end.
const MOST_NAMES: u32 = 100_000;
/// The deepest folder.
const DEEPEST: usize = 32;

/// A walk over a tree's folders.
pub(super) struct Walk<'r> {
    root: &'r Path,
    /// By path below the root: the bytes of every file that counts.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// By path below the root: the text of those that are UTF-8.
    pub(super) sources: BTreeMap<String, String>,
    /// What could not be read.
    pub(super) found: Vec<Diagnostic>,
    bytes: u64,
    names: u32,
    full: bool,
}

impl<'r> Walk<'r> {
    pub(super) fn new(root: &'r Path) -> Self {
        let (files, sources) = (BTreeMap::new(), BTreeMap::new());
        Walk { root, files, sources, found: Vec::new(), bytes: 0, names: 0, full: false }
    }

    /// Reads a file of the root, if it is there.
    pub(super) fn optional_file(&mut self, name: &str) {
        let path = self.root.join(name);
        // A link that leads nowhere is there, though its target is not.
        if !matches!(fs::symlink_metadata(&path), Err(error) if error.kind() == ErrorKind::NotFound) {
            self.entry(&path, name, &mut Vec::new());
        }
    }

    /// Walks a folder of the root, if it is there.
    pub(super) fn folder(&mut self, name: &str) -> bool {
        let path = self.root.join(name);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => self.children(&path, name, &mut Vec::new()),
            Ok(_) => self.report(
                Code::NotAFile,
                name,
                "this is not a folder",
                "the tree's files lie in a folder of that name",
            ),
            Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => return false,
            Err(error) => self.failed(&path, name, &error),
        }
        true
    }

    /// Walks a folder; `above` are the real paths of the folders that the walk is in, to notice circles.
    fn children(&mut self, path: &Path, name: &str, above: &mut Vec<PathBuf>) {
        let real = match fs::canonicalize(path) {
            Ok(real) => real,
            Err(error) => return self.failed(path, name, &error),
        };
        if above.contains(&real) {
            return self.report(Code::BrokenLink, name, "this link leads in a circle", "remove it");
        }
        if above.len() >= DEEPEST {
            return self.report(Code::TooLarge, name, "folders are nested too deep", "keep the tree flat");
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.failed(path, name, &error),
        };
        above.push(real);
        for entry in entries {
            self.names += 1;
            if self.names > MOST_NAMES && !self.full {
                self.full = true;
                self.report(Code::TooLarge, name, "the tree has too many names", "keep other files elsewhere");
            }
            if self.full {
                break;
            }
            match entry {
                Ok(entry) => {
                    let file = entry.file_name();
                    // A name that is no UTF-8 is shown as well as it can be.
                    let file = file.to_string_lossy();
                    if !leftover(&file) {
                        self.entry(&entry.path(), &format!("{name}/{file}"), above);
                    }
                }
                Err(error) => {
                    self.failed(path, name, &error);
                    break;
                }
            }
        }
        above.pop();
    }

    fn entry(&mut self, path: &Path, name: &str, above: &mut Vec<PathBuf>) {
        let toml = name.ends_with(".toml");
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() && toml => {
                let help = "rename it, if the files in it shall count";
                self.report(Code::NotAFile, name, "a folder is named like a file of the tree", help);
            }
            Ok(meta) if meta.is_dir() => self.children(path, name, above),
            Ok(meta) if meta.is_file() && toml => self.read(path, name),
            Ok(_) if toml => {
                // Opening a pipe would wait for somebody to write to it.
                self.report(Code::NotAFile, name, "this is a pipe, a socket or a device", "the tree is made of files");
            }
            Ok(_) => {}
            // What vanished while we looked is no error, unless it is a link to nowhere.
            Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {}
            // A link that leads nowhere matters only where it stands for a file or may stand for a folder.
            Err(error) => self.failed(path, name, &error),
        }
    }

    fn read(&mut self, path: &Path, name: &str) {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return self.failed(path, name, &error);
        }
        let size = bytes.len() as u64;
        if size > LARGEST_FILE {
            return self.report(Code::TooLarge, name, "this file is larger than 1 MiB", "split it");
        }
        self.bytes += size;
        if self.bytes > LARGEST_TREE {
            if !self.full {
                self.full = true;
                self.report(Code::TooLarge, name, "the tree is larger than 64 MiB", "keep other files elsewhere");
            }
            return;
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => drop(self.sources.insert(name.to_owned(), text.to_owned())),
            Err(error) => {
                let message = format!("this file is not UTF-8, from byte {} on", error.valid_up_to());
                self.report(Code::NotUtf8, name, &message, "save it as UTF-8");
            }
        }
        self.files.insert(name.to_owned(), bytes);
    }

    fn failed(&mut self, path: &Path, name: &str, error: &io::Error) {
        let link = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        match error.kind() {
            ErrorKind::NotFound if link => {
                self.report(
                    Code::BrokenLink,
                    name,
                    "this link leads nowhere",
                    "remove it, or restore what it points to",
                );
            }
            // Too many levels of symbolic links; the kind has no stable name yet.
            _ if link && error.raw_os_error() == Some(40) => {
                self.report(Code::BrokenLink, name, "this link leads in a circle", "remove it");
            }
            _ => {
                let message = format!("this can't be read: {error}");
                self.report(Code::Unreadable, name, &message, "see that sectile may read it");
            }
        }
    }

    fn report(&mut self, code: Code, name: &str, message: &str, help: &str) {
        self.found.push(Diagnostic::error(code, message).file(name).help(help));
    }
}

/// Dot-files (a ConfigMap's `..data` too) and what editors and merges leave behind.
fn leftover(name: &str) -> bool {
    name.starts_with('.')
        || (name.starts_with('#') && name.ends_with('#'))
        || ["~", ".swp", ".swo", ".orig", ".rej", ".bak", ".tmp"].iter().any(|suffix| name.ends_with(suffix))
}
