//! Whether files can be trusted: whoever may write the tree decides which pods are moved and what becomes of the GPUs.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::model::visible;

/// Folders within folders are looked at so far; deeper ones hold no tree.
const DEEP: usize = 32;
/// Where users' names and numbers stand.
const USERS: &str = "/etc/passwd";

/// The numbers of users by their names, or their numbers.
///
/// # Errors
///
/// A name that this machine does not know.
pub fn users(names: &[String]) -> Result<BTreeSet<u32>, String> {
    let known = fs::read_to_string(USERS).unwrap_or_default();
    let number = |name: &String| {
        let of = |line: &str| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        };
        let number = name.parse().ok().or_else(|| known.lines().find_map(of));
        number.ok_or_else(|| format!("this machine knows no user {name}"))
    };
    names.iter().map(number).collect()
}

/// Looks whether others than root, the one who runs this, and these owners may write a file or a folder, anything in it, or
/// what leads to it. `mounted`: what lies on a mount that can be read only is what somebody mounted there, as in a pod; for a
/// unit of systemd's everything is, whoever may write it elsewhere.
///
/// # Errors
///
/// What they may write, and how that is put right: a sentence.
pub fn check(path: &Path, owners: &BTreeSet<u32>, mounted: bool) -> Result<(), String> {
    let mut trusted = owners.clone();
    trusted.extend([0, rustix::process::geteuid().as_raw()]);
    let mut look = Look { trusted, mounted, seen: BTreeSet::new(), leads: BTreeSet::new(), turns: BTreeSet::new() };
    look.at(path, 0)
}

struct Look {
    trusted: BTreeSet<u32>,
    mounted: bool,
    /// What was looked at and is trusted.
    seen: BTreeSet<PathBuf>,
    /// Folders that lead to something, and are trusted for that.
    leads: BTreeSet<PathBuf>,
    /// Links that were followed, and that nobody else may turn.
    turns: BTreeSet<PathBuf>,
}

impl Look {
    /// What is not there, or vanishes meanwhile, is whoever's it is that reads it to tell.
    fn at(&mut self, path: &Path, deep: usize) -> Result<(), String> {
        let Ok(real) = fs::canonicalize(path) else { return Ok(()) };
        // Also where it leads to what was seen: it may be turned.
        self.links(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))?;
        if deep > DEEP || !self.seen.insert(real.clone()) {
            return Ok(());
        }
        let Ok(meta) = fs::metadata(&real) else { return Ok(()) };
        let fixed = self.mounted && statvfs(&real).is_ok_and(|on| on.f_flag.contains(StatVfsMountFlags::RDONLY));
        if !fixed {
            self.judge(&real, &meta, false)?;
            self.lead(&real)?;
        }
        if meta.is_dir() {
            for entry in fs::read_dir(&real).into_iter().flatten().flatten() {
                // Of git's own folder nothing is read but HEAD, which no more than names the tree.
                if entry.file_name() != ".git" {
                    self.at(&entry.path(), deep + 1)?;
                }
            }
        }
        Ok(())
    }

    /// The folders that lead to it.
    fn lead(&mut self, path: &Path) -> Result<(), String> {
        for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            let Ok(real) = fs::canonicalize(folder) else { continue };
            let Ok(meta) = fs::metadata(&real) else { continue };
            let fixed = self.mounted && statvfs(&real).is_ok_and(|on| on.f_flag.contains(StatVfsMountFlags::RDONLY));
            // Where all may make files, a sticky folder keeps others from replacing one.
            if !fixed && self.leads.insert(real.clone()) {
                self.judge(&real, &meta, true)?;
            }
        }
        Ok(())
    }

    /// The folders that hold the links on the way, be it the last or one in the middle: whoever may turn one decides where it
    /// leads.
    fn links(&mut self, path: &Path) -> Result<(), String> {
        self.lead(path)?;
        for at in path.ancestors() {
            let Ok(leads) = fs::read_link(at) else { continue };
            if self.turns.insert(at.to_owned()) {
                self.links(&at.parent().unwrap_or(Path::new("/")).join(leads))?;
            }
        }
        Ok(())
    }

    fn judge(&self, path: &Path, meta: &Metadata, leads: bool) -> Result<(), String> {
        let name = visible(&path.display().to_string());
        let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
        if !self.trusted.contains(&owner) {
            return Err(format!(
                "{name} belongs to user {owner}: chown it to root, or name that user in `[tree] owners` of the node's settings"
            ));
        }
        // A user's own group has nobody else in it.
        let group = mode & 0o020 != 0 && meta.gid() != owner;
        let sticky = leads && mode & 0o1000 != 0;
        if (group || mode & 0o002 != 0) && !sticky {
            return Err(format!("others than its owner may write {name} (mode {mode:o}): chmod go-w {name}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_write_is_told_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        fs::create_dir_all(root.join("layouts")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        let file = root.join("layouts/n.toml");
        fs::write(&file, "").unwrap();
        for folder in [&root, &root.join("layouts"), &root.join(".git")] {
            mode(folder, 0o755);
        }
        mode(&file, 0o644);
        let none = BTreeSet::new();
        assert_eq!(check(&root, &none, false), Ok(()));
        for path in [file.clone(), root.join("layouts"), root.clone()] {
            let before = fs::metadata(&path).unwrap().permissions();
            mode(&path, 0o777);
            let told = check(&root, &none, false).unwrap_err();
            assert!(told.contains(&format!("write {} (mode 777)", path.display())), "{told}");
            fs::set_permissions(&path, before).unwrap();
        }
        // What nobody reads.
        mode(&root.join(".git"), 0o777);
        assert_eq!(check(&root, &none, false), Ok(()));
        // What leads there.
        mode(folder.path(), 0o777);
        assert!(check(&root, &none, false).unwrap_err().contains(&folder.path().display().to_string()));
        mode(folder.path(), 0o1777);
        assert_eq!(check(&root, &none, false), Ok(()), "a sticky folder, as /tmp is");
        // Where a link leads.
        let other = tempfile::tempdir().unwrap();
        let target = other.path().join("x.toml");
        fs::write(&target, "").unwrap();
        mode(&target, 0o666);
        symlink(&target, root.join("layouts/x.toml")).unwrap();
        assert!(check(&root, &none, false).unwrap_err().contains("x.toml"));
        fs::remove_file(root.join("layouts/x.toml")).unwrap();
        // Where the link lies that leads to the tree.
        let link = other.path().join("current");
        symlink(&root, &link).unwrap();
        mode(other.path(), 0o755);
        assert_eq!(check(&link, &none, false), Ok(()));
        mode(other.path(), 0o777);
        assert!(check(&link, &none, false).unwrap_err().contains(&other.path().display().to_string()));
        // What is not there is not trusted nor distrusted.
        assert_eq!(check(&root.join("nowhere"), &none, false), Ok(()));
    }

    /// Folders: one with a file, one that others may write and that holds a link to the first, and one with a link to that link.
    fn linked() -> [tempfile::TempDir; 3] {
        let [tree, others, mine] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
        fs::create_dir(tree.path().join("layouts")).unwrap();
        fs::write(tree.path().join("layouts/n.toml"), "").unwrap();
        mode(&tree.path().join("layouts"), 0o755);
        mode(&tree.path().join("layouts/n.toml"), 0o644);
        mode(others.path(), 0o777);
        mode(mine.path(), 0o755);
        symlink(tree.path(), others.path().join("there")).unwrap();
        symlink(others.path().join("there"), mine.path().join("current")).unwrap();
        [tree, others, mine]
    }

    #[test]
    fn a_link_that_others_may_turn_was_trusted_where_it_led_to_what_had_been_seen() {
        let [tree, others, _mine] = linked();
        let link = tree.path().join("layouts/up");
        symlink(others.path().join("there"), &link).unwrap();
        let told = check(tree.path(), &BTreeSet::new(), false).unwrap_err();
        assert!(told.contains(&others.path().display().to_string()), "{told}");
        fs::remove_file(&link).unwrap();
        assert_eq!(check(tree.path(), &BTreeSet::new(), false), Ok(()));
    }

    #[test]
    fn a_link_that_others_may_turn_was_trusted_in_the_middle_of_a_path() {
        let [_tree, others, mine] = linked();
        for path in ["current", "current/layouts", "current/layouts/n.toml"] {
            let told = check(&mine.path().join(path), &BTreeSet::new(), false).unwrap_err();
            assert!(told.contains(&others.path().display().to_string()), "{path}: {told}");
        }
        mode(others.path(), 0o755);
        assert_eq!(check(&mine.path().join("current/layouts"), &BTreeSet::new(), false), Ok(()));
    }

    #[test]
    fn users_are_known_by_name_and_by_number() {
        assert_eq!(users(&["root".to_owned(), "4711".to_owned()]), Ok([0, 4711].into()));
        let told = users(&["nobody-of-this-name".to_owned()]).unwrap_err();
        assert_eq!(told, "this machine knows no user nobody-of-this-name");
    }
}
