//! Which version of the tree this is, as git, git-sync or a REVISION file tell. Failures only mean not knowing.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long `git status` may take; the tree is small, but its disk may hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// The version's name: git's HEAD, git-sync's target, or a REVISION file.
pub(super) fn name(root: &Path) -> Option<String> {
    git(root).or_else(|| git_sync(root)).or_else(|| file(root))
}

/// At most so much of a small file; `None` too where it is no plain file.
fn small(path: &Path, most: u64) -> Option<String> {
    let mut text = String::new();
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    File::open(path).ok()?.take(most).read_to_string(&mut text).ok()?;
    Some(text)
}

/// `main@sha1:1eabc9a`, with `-dirty`; `sha1:1eabc9a` where no branch is checked out.
fn git(root: &Path) -> Option<String> {
    let real = fs::canonicalize(root).ok()?;
    let dir = real.ancestors().find_map(|folder| git_dir(&folder.join(".git")))?;
    let head = small(&dir.join("HEAD"), 4096)?;
    let head = head.trim();
    let (branch, hash) = match head.strip_prefix("ref:").map(str::trim) {
        Some(reference) => {
            let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
            (Some(branch.to_owned()), find_ref(&dir, reference)?)
        }
        None => (None, head.to_owned()),
    };
    if !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let algorithm = match hash.len() {
        40 => "sha1",
        64 => "sha256",
        _ => return None,
    };
    let branch = branch.map(|branch| format!("{branch}@")).unwrap_or_default();
    let dirty = if dirty(&real) { "-dirty" } else { "" };
    Some(format!("{branch}{algorithm}:{}{dirty}", hash.get(..7)?))
}

/// The git folder that a `.git` is or, in a work tree of its own, names.
fn git_dir(dot: &Path) -> Option<PathBuf> {
    if dot.is_dir() {
        return dot.join("HEAD").is_file().then(|| dot.to_owned());
    }
    let text = small(dot, 4096)?;
    let target = dot.parent()?.join(text.strip_prefix("gitdir:")?.trim());
    target.join("HEAD").is_file().then_some(target)
}

fn find_ref(dir: &Path, reference: &str) -> Option<String> {
    // A reference is a path below the git folder; `..` in it would be no reference.
    if reference.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
        return None;
    }
    let common = match small(&dir.join("commondir"), 4096) {
        Some(text) => dir.join(text.trim()),
        None => dir.to_owned(),
    };
    let loose = small(&dir.join(reference), 4096).or_else(|| small(&common.join(reference), 4096));
    if let Some(text) = loose {
        return Some(text.trim().to_owned());
    }
    // Large repositories have tens of thousands of references, of some 60 bytes.
    let packed = small(&common.join("packed-refs"), 16 << 20)?;
    let found = packed.lines().find_map(|line| line.split_once(' ').filter(|(_, name)| *name == reference));
    found.map(|(hash, _)| hash.to_owned())
}

/// Whether git, if it is there, sees changes in the tree.
fn dirty(root: &Path) -> bool {
    let mut command = Command::new("git");
    // The tree's folder may belong to another user: nothing that its configuration names shall run.
    command.args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"]);
    command.arg("-C").arg(root).args(["status", "--porcelain", "--", "layouts", "policies", "tree.toml"]);
    // Looking must not write to the index, and another repository's variables must not lead elsewhere.
    command
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE");
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = piped else { return false };
    let (send, answer) = mpsc::channel();
    if let Some(mut out) = child.stdout.take() {
        // One byte tells enough, and reading may hang as the disk does.
        thread::spawn(move || send.send(matches!(out.read(&mut [0]), Ok(1))));
    }
    let answer = answer.recv_timeout(PATIENCE);
    // Killing what has ended already fails, which is as good.
    let _ended = child.kill();
    // One that did not answer may hang in the kernel, and then waiting for it would hang too.
    if answer.is_ok() {
        let _status = child.wait();
    }
    answer.unwrap_or(false)
}

/// git-sync points a link at a folder named by the commit, and swaps the link.
fn git_sync(root: &Path) -> Option<String> {
    let hash = |name: &str| matches!(name.len(), 40 | 64) && name.bytes().all(|b| b.is_ascii_hexdigit());
    let of = |link: &Path| {
        let target = fs::read_link(link).ok()?;
        let name = target.file_name()?.to_str()?.to_owned();
        hash(&name).then_some(name)
    };
    let name = root.ancestors().filter(|folder| !folder.as_os_str().is_empty()).find_map(of)?;
    let algorithm = if name.len() == 40 { "sha1" } else { "sha256" };
    Some(format!("{algorithm}:{}", name.get(..7)?))
}

/// The first line of a REVISION file. Like the tree's files it lies within the tree: the line is shown.
fn file(root: &Path) -> Option<String> {
    let path = fs::canonicalize(root.join("REVISION")).ok()?;
    let text = path.starts_with(fs::canonicalize(root).ok()?).then(|| small(&path, 4096))??;
    let line = text.lines().next()?.trim();
    let plain: String = line.chars().filter(|c| !c.is_control()).take(100).collect();
    (!plain.is_empty()).then_some(plain)
}
