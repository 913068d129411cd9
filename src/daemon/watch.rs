//! Watches a tree on the disk. An event says no more than that somebody should look: who reads the tree compares it.
//!
//! Every folder below the tree is watched, and for every symbolic link on the way to it or within it the folder that the
//! link lies in: git-sync and ConfigMaps replace a whole tree by turning one link. Where the kernel tells nothing of
//! changes (a network file system, or no watches left) the tree is to be read now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::EventKind;
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};

/// So many folders are watched at most: a tree has a few.
const MOST: usize = 4096;
/// Links that lead to links that lead to links are followed so far (Linux's own limit).
const DEEP: u32 = 40;
/// File systems on which others make changes that the kernel does not see, by their magic numbers (statfs(2)).
const FAR: [(u32, &str); 9] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x5346_414f, "AFS"),
];

/// Folders, and what is of interest in each: some names, or (`None`) everything.
type Folders = BTreeMap<PathBuf, Option<BTreeSet<OsString>>>;

/// A tree that is watched.
pub struct TreeWatch {
    path: PathBuf,
    watcher: Result<RecommendedWatcher, String>,
    folders: Arc<Mutex<Folders>>,
    /// The folders that are watched, by device and inode.
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
}

impl fmt::Debug for TreeWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeWatch").field("path", &self.path).field("folders", &self.folders).finish_non_exhaustive()
    }
}

impl TreeWatch {
    /// Watches nothing yet. `changed` is called whenever something may have changed, by another thread.
    pub fn new(path: PathBuf, changed: impl Fn() + Send + 'static) -> Self {
        let folders = Arc::<Mutex<Folders>>::default();
        let seen = Arc::clone(&folders);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let folders = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if event.as_ref().map_or(true, |event| concerns(event, &folders)) {
                changed();
            }
        });
        TreeWatch { path, watcher: watcher.map_err(|error| error.to_string()), folders, watched: BTreeMap::new() }
    }

    /// Watches the folders that there are now; to be called before the tree is read, so that no change in between is lost.
    ///
    /// # Errors
    ///
    /// Why not every change is told, a sentence: then the tree is to be read now and then.
    pub fn arm(&mut self) -> Result<(), String> {
        let watcher = self.watcher.as_mut().map_err(|why| format!("files can't be watched: {why}"))?;
        let wanted = folders(&self.path);
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&wanted);
        let number = |folder: &PathBuf| fs::metadata(folder).ok().map(|meta| (meta.dev(), meta.ino()));
        let now = wanted.keys().map(|folder| (folder.clone(), number(folder))).collect();
        let before = std::mem::replace(&mut self.watched, now);
        let mut trouble = None;
        // Under the same name there may be another one, and the one before was only moved away.
        for (folder, _) in before.iter().filter(|(folder, number)| self.watched.get(*folder) != Some(*number)) {
            // Of one that is gone the kernel has let go itself.
            let _ = watcher.unwatch(folder);
        }
        for folder in wanted.keys() {
            // The watcher itself may have let go of one: it is watched again.
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
                && folder.exists()
            {
                trouble = Some(format!("{} can't be watched: {error}", folder.display()));
            }
        }
        let far = wanted.keys().find_map(|folder| Some((folder, far(folder)?)));
        let far = far.map(|(folder, kind)| format!("{} lies on {kind}, which tells of no changes", folder.display()));
        let many = (wanted.len() >= MOST).then(|| format!("it has more than {MOST} folders"));
        trouble.or(far).or(many).map_or(Ok(()), Err)
    }
}

/// Whether an event is about the tree. Reading it makes events, too, which are not.
fn concerns(event: &Event, folders: &Folders) -> bool {
    if event.need_rescan() {
        return true;
    }
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    let of_interest = |path: &PathBuf| {
        // The folder itself is gone, or moved.
        folders.contains_key(path)
            || path.parent().zip(path.file_name()).is_some_and(|(folder, name)| {
                folders.get(folder).is_some_and(|names| names.as_ref().is_none_or(|names| names.contains(name)))
            })
    };
    event.paths.is_empty() || event.paths.iter().any(of_interest)
}

/// Where changes are made by others, unseen: what it is called.
fn far(folder: &Path) -> Option<&'static str> {
    // The kernel's magic numbers have 32 bits, whatever the field has.
    let magic = rustix::fs::statfs(folder).ok()?.f_type as u32;
    FAR.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// The folders to be watched for a tree.
fn folders(path: &Path) -> Folders {
    let mut folders = Folders::new();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    follow(&absolute, &mut folders, 0);
    if let Ok(root) = fs::canonicalize(&absolute) {
        below(&root, &mut folders);
    }
    folders
}

/// Every folder from here on, and where their links lead.
fn below(folder: &Path, folders: &mut Folders) {
    if folders.len() >= MOST || folders.insert(folder.to_owned(), None) == Some(None) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        // What begins with a dot does not count, but a ConfigMap's files lead through `..data`.
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if kind.is_symlink() {
            follow(&path, folders, 0);
            if let Ok(real) = fs::canonicalize(&path)
                && real.is_dir()
                && !hidden
            {
                below(&real, folders);
            }
        } else if kind.is_dir() && !hidden {
            below(&path, folders);
        }
    }
}

/// The folders in which the links lie that a path leads through, and the one in which the next part of it will be made.
fn follow(path: &Path, folders: &mut Folders, deep: u32) {
    if deep > DEEP {
        return;
    }
    let mut at = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                let lies_in = at.clone();
                at.push(name);
                let meta = fs::symlink_metadata(&at);
                if meta.as_ref().is_ok_and(|meta| !meta.is_symlink()) {
                    continue;
                }
                // A link, or nothing: whoever turns or makes it is to be seen.
                if let Some(names) = folders.entry(lies_in.clone()).or_insert_with(|| Some(BTreeSet::new())) {
                    names.insert(name.to_owned());
                }
                let Ok(leads) = fs::read_link(&at) else { return };
                let target = lies_in.join(leads);
                follow(&target, folders, deep + 1);
                match fs::canonicalize(&at) {
                    Ok(real) => at = real,
                    Err(_) => return,
                }
            }
            Component::ParentDir => _ = at.pop(),
            other => at.push(other),
        }
    }
    // The last part is a file: its folder tells of its changes.
    if at.is_file()
        && let Some((folder, name)) = at.parent().zip(at.file_name())
        && let Some(names) = folders.entry(folder.to_owned()).or_insert_with(|| Some(BTreeSet::new()))
    {
        names.insert(name.to_owned());
    }
}
