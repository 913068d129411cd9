//! Finds and reads the files that count, whatever lies there: it never panics, hangs or fills the memory.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::diagnostic::{Code, Diagnostic};
use crate::model::visible;

/// The largest file: a thousand times what people write.
const LARGEST_FILE: u64 = 1 << 20;
/// The largest tree, in bytes.
const LARGEST_TREE: u64 = 64 << 20;
/// The most names that are looked at; linked folders could multiply without end.
const MOST_NAMES: u32 = 100_000;
/// So much is told of links and files that can't be read.
const MOST_FOUND: usize = 1000;
/// The deepest folder.
const DEEPEST: usize = 32;

/// A walk over a tree's folders.
pub(super) struct Walk {
    /// Without links: nothing outside of it is read, since who may write to the tree may not read the whole disk, and
    /// messages show the lines that they are about. It is settled once, so that a swapped link can't mix two versions.
    root: PathBuf,
    /// By path below the root: the bytes of every file that counts.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// By path below the root: the text of those that are UTF-8.
    pub(super) sources: BTreeMap<String, String>,
    /// By path below the root: which folder it is, since one that is being removed may be as empty as the next one: its
    /// device, its inode, and when that was made, for numbers are used again.
    folders: BTreeMap<String, (u64, u64, Option<SystemTime>)>,
    /// What could not be read.
    pub(super) found: Vec<Diagnostic>,
    /// Whether something went or was turned while the walk looked, so that what it found may be half of one version.
    pub(super) vanished: bool,
    /// Links that were followed: where, by which name, and where each led.
    links: Vec<(PathBuf, String, Option<PathBuf>)>,
    bytes: u64,
    names: u32,
    full: bool,
}

impl Walk {
    /// A walk that begins at a folder; its path has no links.
    pub(super) fn new(root: PathBuf) -> Self {
        let (files, sources) = (BTreeMap::new(), BTreeMap::new());
        let (folders, found, links) = Default::default();
        Walk { root, files, sources, folders, found, vanished: false, links, bytes: 0, names: 0, full: false }
    }

    /// Whether both have found the same, in the same folders.
    pub(super) fn same(&self, other: &Walk) -> bool {
        self.files == other.files && self.folders == other.folders
    }

    /// To be called in the end, with the path that was asked for: of two folders behind one link (a ConfigMap's) one may have
    /// been read before it was turned and the other after, and the tree's name may be that of another.
    pub(super) fn end(&mut self, asked: &Path) {
        let turned = |(path, _, led): &&(PathBuf, String, Option<PathBuf>)| fs::canonicalize(path).ok() != *led;
        let link = self.links.iter().find(turned).map(|(_, name, _)| name.clone());
        let root = fs::canonicalize(asked).is_ok_and(|real| real != self.root).then(|| ".".to_owned());
        if let Some(name) = link.or(root) {
            self.vanished = true;
            self.report(Code::Unreadable, &name, "this link was turned while the tree was read", "try again");
        }
    }

    /// Reads a file of the root, if it is there.
    pub(super) fn optional_file(&mut self, name: &str) {
        let path = self.root.join(name);
        if there(&path) {
            self.entry(&path, name, &mut Vec::new());
        }
    }

    /// Walks a folder of the root, if it is there.
    pub(super) fn folder(&mut self, name: &str) -> bool {
        let path = self.root.join(name);
        if !there(&path) {
            return false;
        }
        if let Some((real, meta)) = self.look(&path, name, true) {
            match meta.is_dir() {
                true => self.children((real, &meta), name, &mut Vec::new()),
                false => {
                    let help = "the tree's files lie in a folder of that name";
                    self.report(Code::NotAFile, name, "this is not a folder", help);
                }
            }
        }
        true
    }

    /// Walks a folder; `above` are the real paths of the folders that the walk is in, to notice circles.
    fn children(&mut self, (real, meta): (PathBuf, &Metadata), name: &str, above: &mut Vec<PathBuf>) {
        if above.contains(&real) {
            return self.report(Code::BrokenLink, name, "this link leads in a circle", "remove it");
        }
        if above.len() >= DEEPEST {
            return self.report(Code::TooLarge, name, "folders are nested too deep", "keep the tree flat");
        }
        self.folders.insert(name.to_owned(), (meta.dev(), meta.ino(), meta.created().ok()));
        let entries = match fs::read_dir(&real) {
            Ok(entries) => entries,
            Err(error) => return self.failed(&real, name, &error),
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
                    let file = file.to_string_lossy();
                    if !leftover(&file) {
                        self.entry(&entry.path(), &format!("{name}/{file}"), above);
                    }
                }
                Err(error) => {
                    self.failed(above.last().unwrap_or(&PathBuf::new()), name, &error);
                    break;
                }
            }
        }
        above.pop();
    }

    fn entry(&mut self, path: &Path, name: &str, above: &mut Vec<PathBuf>) {
        let toml = name.ends_with(".toml");
        let Some((real, meta)) = self.look(path, name, toml) else { return };
        let counts = toml || meta.is_dir();
        let spelled = path.file_name().is_some_and(|file| file.to_str().is_some());
        if counts && !(spelled && visible(name) == name) {
            let help = "rename it: plans and messages name it";
            return self.report(Code::BadName, &visible(name), "this name can't be shown as it is", help);
        }
        match () {
            () if meta.is_dir() && toml => {
                let help = "rename it, if the files in it shall count";
                self.report(Code::NotAFile, name, "a folder is named like a file of the tree", help);
            }
            () if meta.is_dir() => self.children((real, &meta), name, above),
            () if meta.is_file() && toml => self.read(&real, name),
            // Opening a pipe would wait for somebody to write to it.
            () if toml => {
                self.report(Code::NotAFile, name, "this is a pipe, a socket or a device", "the tree is made of files");
            }
            () => {}
        }
    }

    /// What lies at a path, and where it really lies; `None`: that was reported, or does not `count`.
    fn look(&mut self, path: &Path, name: &str, counts: bool) -> Option<(PathBuf, Metadata)> {
        let mut look = || -> io::Result<_> {
            let meta = fs::symlink_metadata(path)?;
            // The folder that it lies in is known to be within the tree.
            if !meta.is_symlink() {
                return Ok((path.to_owned(), meta));
            }
            let real = fs::canonicalize(path);
            self.links.push((path.to_owned(), visible(name), real.as_ref().ok().cloned()));
            let real = real?;
            let meta = fs::metadata(&real)?;
            Ok((real, meta))
        };
        match look() {
            Ok((real, meta)) if !real.starts_with(&self.root) => {
                // Other files of a tree may point wherever they like.
                if counts || meta.is_dir() {
                    let help = "copy what it leads to into the tree, or name the folder that holds both as the tree";
                    self.report(Code::OutsideLink, &visible(name), "this link leads out of the tree", help);
                }
                None
            }
            Ok(found) => Some(found),
            // A link that leads nowhere matters where it stands for a file, and where it may stand for a folder.
            Err(error) => {
                self.failed(path, &visible(name), &error);
                None
            }
        }
    }

    fn read(&mut self, real: &Path, name: &str) {
        let mut bytes = Vec::new();
        let read = File::open(real).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            return self.failed(real, name, &error);
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
                let at = error.valid_up_to();
                let line = bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
                let message = format!("this file is not UTF-8, from byte {at} on, in line {line}");
                let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
                let help = if wide { "it looks like UTF-16: save it as UTF-8" } else { "save it as UTF-8" };
                self.report(Code::NotUtf8, name, &message, help);
            }
        }
        self.files.insert(name.to_owned(), bytes);
    }

    fn failed(&mut self, path: &Path, name: &str, error: &io::Error) {
        let link = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        match error.kind() {
            ErrorKind::NotFound if link => {
                let help = "remove it, or restore what it points to";
                self.report(Code::BrokenLink, name, "this link leads nowhere", help);
            }
            ErrorKind::NotFound => {
                self.vanished = true;
                self.report(Code::Unreadable, name, "this vanished while the tree was read", "try again");
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
        match self.found.len() {
            ..MOST_FOUND => self.found.push(Diagnostic::error(code, message).file(name).help(help)),
            MOST_FOUND => {
                self.full = true;
                self.found.push(Diagnostic::error(Code::More, "more is wrong with the tree's files and links"));
            }
            _ => {}
        }
    }
}

/// Whether the name is there; a link that leads nowhere is, though its target is not.
fn there(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == ErrorKind::NotFound)
}

/// Dot-files (a ConfigMap's `..data` too) and what editors and merges leave behind.
fn leftover(name: &str) -> bool {
    name.starts_with('.')
        || (name.starts_with('#') && name.ends_with('#'))
        || ["~", ".swp", ".swo", ".orig", ".rej", ".bak", ".tmp"].iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vanishes_between_listing_and_reading_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let mut walk = Walk::new(root.clone());
        walk.entry(&root.join("a.toml"), "layouts/a.toml", &mut Vec::new());
        walk.read(&root.join("b.toml"), "layouts/b.toml");
        assert!(walk.vanished);
        assert_eq!(walk.found.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::Unreadable; 2]);
    }
}
