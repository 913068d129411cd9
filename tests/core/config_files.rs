//! What may lie where a tree is expected: links, pipes, names, bytes and sizes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sectile::config::diagnostic::{self, Code};
use sectile::config::load;

const GPU: &str = "[[gpu]]\nmig = false\n";

/// What is said of a folder that holds no sound tree.
fn shown(root: &Path) -> String {
    let loaded = load(root);
    assert!(loaded.tree.is_none());
    let drawn = diagnostic::render(&loaded.diagnostics, &loaded.sources, false);
    drawn.replace(&root.display().to_string(), "TREE")
}

/// An empty tree.
fn empty() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("layouts")).unwrap();
    dir
}

fn pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn what_lies_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mut out = shown(root);
    fs::write(root.join("file"), "").unwrap();
    for other in ["nowhere", "file"] {
        out += &format!("\n{}", shown(&root.join(other)).replace(&root.display().to_string(), "TREE"));
    }
    insta::assert_snapshot!("no_tree", out);
    let layouts = root.join("layouts");
    fs::create_dir_all(layouts.join("folder.toml")).unwrap();
    fs::create_dir_all(layouts.join("sub")).unwrap();
    fs::write(layouts.join("latin.toml"), b"# 1\n# \xe9").unwrap();
    fs::write(layouts.join("utf16.toml"), b"\xff\xfea\x00").unwrap();
    fs::write(layouts.join("large.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    // No disk is as large as this file says it is; it is not read to its end.
    fs::File::create(layouts.join("sparse.toml")).unwrap().set_len(1 << 42).unwrap();
    symlink("nowhere", layouts.join("dangling.toml")).unwrap();
    symlink("self.toml", layouts.join("self.toml")).unwrap();
    symlink("..", layouts.join("sub/up")).unwrap();
    symlink("x".repeat(300), layouts.join("unreadable.toml")).unwrap();
    pipe(&layouts.join("fifo.toml"));
    let _socket = UnixListener::bind(layouts.join("socket.toml")).unwrap();
    fs::write(root.join("policies"), "").unwrap();
    insta::assert_snapshot!("folder", shown(root));
    // What an older program can't read must not hide that it is too old.
    fs::write(root.join("tree.toml"), "requires = \">=99\"\n").unwrap();
    insta::assert_snapshot!("upgrade", shown(root));
}

#[test]
fn nothing_outside_of_the_tree_is_read_or_shown() {
    let (outside, dir) = (tempfile::tempdir().unwrap(), empty());
    let root = dir.path();
    let secret = outside.path().join("secret.toml");
    fs::write(&secret, "password\n").unwrap();
    symlink(&secret, root.join("layouts/file.toml")).unwrap();
    symlink(outside.path(), root.join("layouts/folder")).unwrap();
    symlink("/dev/zero", root.join("layouts/zero.toml")).unwrap();
    symlink(outside.path(), root.join("policies")).unwrap();
    symlink(&secret, root.join("tree.toml")).unwrap();
    symlink(&secret, root.join("REVISION")).unwrap();
    // What does not count may point anywhere.
    symlink(&secret, root.join("layouts/README")).unwrap();
    let told = shown(root);
    assert!(!told.contains("password"));
    insta::assert_snapshot!("outside", told);
    let loaded = load(root);
    assert_eq!((loaded.revision.name, loaded.sources.len()), (None, 0));
}

#[test]
fn links_within_the_tree_are_followed_however_it_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let version = dir.path().join("versions/1");
    fs::create_dir_all(version.join("layouts/team")).unwrap();
    fs::create_dir_all(version.join("shared")).unwrap();
    fs::write(version.join("shared/a"), format!("nodes = [\"a\"]\n{GPU}")).unwrap();
    fs::write(version.join("layouts/team/b.toml"), format!("nodes = [\"b\"]\n{GPU}")).unwrap();
    symlink("../shared/a", version.join("layouts/a.toml")).unwrap();
    // As git-sync swaps it, and with `layouts` itself a link, as a ConfigMap mounts it.
    symlink("versions/1", dir.path().join("current")).unwrap();
    symlink("current/layouts", dir.path().join("layouts")).unwrap();
    for root in [version.as_path(), &dir.path().join("current"), dir.path()] {
        let loaded = load(root);
        assert_eq!(loaded.diagnostics, [], "{}", root.display());
        let paths: Vec<&str> = loaded.sources.keys().map(String::as_str).collect();
        assert_eq!(paths, ["layouts/a.toml", "layouts/team/b.toml"]);
    }
}

/// Both folders of a ConfigMap's tree lead through the one link that the kubelet turns.
#[test]
fn a_tree_was_half_of_one_version_and_half_of_another_where_a_config_map_was_turned_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // No version comes twice.
    let turn = |version: u32| {
        for folder in ["layouts", "policies"] {
            let folder = at(&format!("..{version}")).join(folder);
            fs::create_dir_all(&folder).unwrap();
            let rest = if folder.ends_with("layouts") { GPU } else { "" };
            fs::write(folder.join("n.toml"), format!("# {version}\nnodes = [\"a\"]\n{rest}")).unwrap();
        }
        symlink(format!("..{version}"), at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
    };
    turn(0);
    for folder in ["layouts", "policies"] {
        symlink(format!("..data/{folder}"), at(folder)).unwrap();
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let goes_on = |_: &u32| !done.load(std::sync::atomic::Ordering::SeqCst);
            (1..).take_while(goes_on).for_each(turn);
        });
        let versions = (0..2000).map(|_| load(dir.path())).filter(|loaded| loaded.tree.is_some()).map(|loaded| {
            let version = |file: &str| loaded.sources.get(file).and_then(|text| text.lines().next()).map(str::to_owned);
            (version("layouts/n.toml"), version("policies/n.toml"))
        });
        let versions: Vec<_> = versions.collect();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(!versions.is_empty() && versions.iter().all(|(a, b)| a == b), "{versions:?}");
    });
}

#[test]
fn a_name_that_would_be_obeyed_or_mistaken_is_refused() {
    let dir = empty();
    let layouts = dir.path().join("layouts");
    // Two names that look the same once they are shown: neither may stand for the other.
    for name in [&b"a\xff.toml"[..], b"a\xfe.toml", b"b\x1b[31m.toml", b"c\n.toml", "d\u{202e}lmot.toml".as_bytes()] {
        fs::write(layouts.join(OsStr::from_bytes(name)), format!("nodes = [\"a\"]\n{GPU}")).unwrap();
    }
    fs::create_dir(layouts.join(OsStr::from_bytes(b"e\x07"))).unwrap();
    // What does not count is called what it likes.
    fs::write(layouts.join(OsStr::from_bytes(b"notes\xff")), "").unwrap();
    insta::assert_snapshot!("names", shown(dir.path()));
}

#[test]
fn a_mark_of_the_byte_order_and_other_line_ends_are_no_matter() {
    let dir = empty();
    let text = format!("\u{feff}nodes = [\"a\"]\n{GPU}");
    fs::write(dir.path().join("layouts/bom.toml"), &text).unwrap();
    fs::write(dir.path().join("layouts/crlf.toml"), text.replace("\"a\"", "\"b\"").replace('\n', "\r\n")).unwrap();
    let loaded = load(dir.path());
    assert_eq!(loaded.diagnostics, []);
    assert_eq!(loaded.tree.unwrap().layouts.len(), 2);
    // And what is wrong in them is shown where it is.
    fs::write(dir.path().join("layouts/bom.toml"), "\u{feff}node = []\r\nnodes = [\"\0\"]\r\n\tx\r\n").unwrap();
    fs::write(dir.path().join("layouts/crlf.toml"), "node = []\r\nnodes = [1]\r\n[[gpu]]\r\n\tmig = 1\r\n").unwrap();
    fs::write(dir.path().join("layouts/cr.toml"), "nodes = [\"a\"]\r[[gpu]]\r").unwrap();
    insta::assert_snapshot!("line_ends", shown(dir.path()));
}

#[test]
fn a_tree_has_bounds() {
    // Ten thousand files are none of them.
    let dir = empty();
    let layouts = dir.path().join("layouts");
    for at in 0..10_000 {
        fs::write(layouts.join(format!("{at}.toml")), format!("nodes = [\"n{at}\"]\n{GPU}")).unwrap();
    }
    let loaded = load(dir.path());
    assert_eq!((loaded.diagnostics.len(), loaded.tree.unwrap().layouts.len()), (0, 10_000));
    // Their bytes,
    let dir = empty();
    for at in 0..65 {
        let text = format!("{}\n", "#".repeat((1 << 20) - 1));
        fs::write(dir.path().join(format!("layouts/{at:02}.toml")), text).unwrap();
    }
    let of = |root: &Path, code: Code| {
        let mut loaded = load(root);
        loaded.diagnostics.retain(|d| d.code == code);
        // Which file comes last is the disk's choice.
        loaded.diagnostics.iter_mut().for_each(|d| d.file = None);
        diagnostic::render(&loaded.diagnostics, &loaded.sources, false)
    };
    let bytes = of(dir.path(), Code::TooLarge);
    // the depth of their folders,
    let dir = empty();
    fs::create_dir_all(dir.path().join("layouts").join("a/".repeat(40))).unwrap();
    let depth = of(dir.path(), Code::TooLarge);
    // and their names: a folder of a thousand with a hundred and one links to it.
    let dir = empty();
    let many = dir.path().join("layouts/many");
    fs::create_dir(&many).unwrap();
    for at in 0..1000 {
        fs::write(many.join(at.to_string()), "").unwrap();
    }
    for at in 0..101 {
        symlink("many", dir.path().join(format!("layouts/{at}"))).unwrap();
    }
    let names = of(dir.path(), Code::TooLarge);
    // Each of 17 folders has links to all the others: there is no end of circles, but of messages.
    let dir = empty();
    for at in 0..17 {
        let folder = dir.path().join(format!("layouts/{at}"));
        fs::create_dir(&folder).unwrap();
        for to in (0..17).filter(|to| *to != at) {
            symlink(format!("../{to}"), folder.join(to.to_string())).unwrap();
        }
    }
    assert_eq!(load(dir.path()).diagnostics.len(), 1001);
    let more = of(dir.path(), Code::More);
    insta::assert_snapshot!("bounds", format!("{bytes}\n{depth}\n{names}\n{more}"));
}

#[test]
fn a_file_that_may_not_be_read_holds_the_tree_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = empty();
    let path = dir.path().join("layouts/a.toml");
    fs::write(&path, format!("nodes = [\"a\"]\n{GPU}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        println!("skipped: root may read every file");
        return;
    }
    assert!(shown(dir.path()).contains("this can't be read: Permission denied"));
}

/// Layouts were read of one version and policies of the next; and of a version that was just being removed, the half.
#[test]
fn a_tree_that_was_replaced_while_it_was_read_was_a_mix_of_two() {
    const VERSIONS: u32 = 400;
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    // As the kubelet has it: two links through a third one that is turned.
    fs::create_dir(at("map")).unwrap();
    symlink("..data/layouts", at("map/layouts")).unwrap();
    symlink("..data/policies", at("map/policies")).unwrap();
    // What takes the place of the version before; that one is removed.
    let place = |name: &str, version: u32| {
        let folder = at(&format!("{name}-{version}"));
        for file in ["layouts/a.toml", "layouts/b.toml", "policies/a.toml", "policies/b.toml"] {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let what = if file.starts_with('l') { GPU } else { "[drain]\nforce = false\n" };
            fs::write(path, format!("# {version}\nnodes = [\"{}\"]\n{what}", &file[file.len() - 6..])).unwrap();
        }
        let old = at(&format!("{name}-old"));
        if name == "moved" {
            // As `mv` does it.
            let _ = fs::rename(at(name), &old);
            fs::rename(&folder, at(name)).unwrap();
        } else {
            symlink(folder.file_name().unwrap(), at("new")).unwrap();
            fs::rename(at("new"), at(name)).unwrap();
            let _ = fs::rename(at(&format!("{name}-{}", version - 1)), &old);
        }
        let _ = fs::remove_dir_all(&old);
    };
    for (name, tree) in [("map/..data", "map"), ("sync", "sync"), ("moved", "moved")] {
        place(name, 1);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (2..=VERSIONS).for_each(|version| place(name, version));
                done.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                let loaded = load(&at(tree));
                let versions: BTreeSet<_> = loaded.sources.values().filter_map(|text| text.lines().next()).collect();
                let files = loaded.sources.len();
                assert!(loaded.tree.is_none() || (versions.len(), files) == (1, 4), "{tree}: {files} of {versions:?}");
            }
        });
        let last = load(&at(tree));
        assert!(last.tree.is_some(), "{:?}", last.diagnostics);
        assert!(last.sources["policies/b.toml"].starts_with(&format!("# {VERSIONS}\n")));
    }
}
