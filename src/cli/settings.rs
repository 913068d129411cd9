//! The settings of the node itself: what the tree may not decide.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::schema::parse_settings;
use crate::config::{Settings, diagnostic};
use crate::host::trust;
use crate::model::{Allowed, visible};

use super::args::Global;
use super::error::{Context as _, Error};
use super::output::tell;

/// Where they lie, unless somebody says otherwise.
const FILE: &str = "/etc/sectile/sectile.toml";
/// What the kubelet tells every pod of the cluster.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// Whether this program runs in a pod.
pub(super) fn in_pod() -> bool {
    std::env::var_os(IN_CLUSTER).is_some()
}
/// More is no settings file.
const LARGEST: u64 = 1 << 20;

/// What the node's settings say; without a file, nothing.
pub(super) fn read(global: &Global) -> Result<Settings, Error> {
    let path = path(global);
    let name = visible(&path.display().to_string());
    let unreadable = || format!("the settings {name} can't be read");
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && global.settings.is_none() => {
            return Ok(Settings::default());
        }
        opened => opened.context(unreadable)?,
    };
    let meta = file.metadata().context(unreadable)?;
    if !meta.is_file() {
        return Err(Error::failed(unreadable()).hint("it is no file"));
    }
    own(&meta, &name)?;
    let mut text = String::new();
    file.by_ref().take(LARGEST).read_to_string(&mut text).context(unreadable)?;
    if meta.len() > LARGEST {
        return Err(Error::failed(format!("the settings {name} are larger than 1 MiB")));
    }
    let (settings, found) = parse_settings(&name, &text);
    if found.iter().any(diagnostic::Diagnostic::is_error) {
        tell(&diagnostic::render(&found, &BTreeMap::from([(name.clone(), text)]), true));
        tell("\n");
        return Err(Error::failed(format!("the settings {name} have errors, and nothing was done")));
    }
    Ok(settings)
}

/// They tell which programs are run as root: who may write them must be who may do that anyway.
fn own(meta: &std::fs::Metadata, name: &str) -> Result<(), Error> {
    const OTHERS_WRITE: u32 = 0o022;
    let runs = rustix::process::geteuid().as_raw();
    if meta.uid() != 0 && meta.uid() != runs {
        let error = Error::failed(format!("the settings {name} belong to user {}, who is not root", meta.uid()));
        return Err(error.hint(format!("they tell what may be run as root: chown root {name}")));
    }
    if meta.mode() & OTHERS_WRITE != 0 {
        let mode = meta.mode() & 0o7777;
        let error = Error::failed(format!("others than their owner may write the settings {name} (mode {mode:o})"));
        return Err(error.hint(format!("they tell what may be run as root: chmod go-w {name}")));
    }
    Ok(())
}

/// An error where others than whoever may decide about the node may write its tree, or a plan of it.
pub(super) fn trusted(path: &Path, global: &Global) -> Result<(), Error> {
    let owners = trust::users(&global.own.owners);
    let owners =
        owners.map_err(|why| Error::failed(format!("`[tree] owners` of {}: {why}", self::path(global).display())))?;
    // What the kubelet mounts so that it can be read only.
    let mounted = in_pod();
    trust::check(path, &owners, mounted).map_err(|why| {
        Error::failed(format!("{} can't be trusted: {why}", visible(&path.display().to_string())))
            .hint("whoever may write it decides what becomes of the GPUs and of the pods on them")
    })
}

fn path(global: &Global) -> &Path {
    global.settings.as_deref().unwrap_or(Path::new(FILE))
}

/// What the tree may touch of this host.
pub(super) fn allowed(global: &Global) -> Allowed {
    let Settings { units, commands, .. } = &global.own;
    let file = visible(&path(global).display().to_string());
    Allowed { file, units: units.clone(), commands: commands.clone() }
}
