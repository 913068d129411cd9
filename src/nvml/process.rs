//! Who a process is: its name, and the container or unit that `/proc` says it runs in.

use std::path::Path;

use crate::model::visible;
use crate::ports::{Nvml, NvmlCode};

/// How many letters of a container's id people use.
const SHORT_ID: usize = 12;

/// A process in words: `python3`, `python3 (embedder.service)`, `python3 (container 3f2a1b4c5d6e)`.
///
/// # Errors
///
/// NVML's, where `/proc` does not know the process either.
pub(super) fn describe(proc: &Path, pid: u32, told: Nvml<String>) -> Nvml<String> {
    let read = |file: &str| std::fs::read_to_string(proc.join(pid.to_string()).join(file)).ok();
    let name = match told {
        Ok(name) if !name.is_empty() => name,
        told => read("comm").ok_or_else(|| told.err().unwrap_or(NvmlCode::NotFound))?,
    };
    let name = visible(name.trim().rsplit('/').next().unwrap_or_default());
    Ok(match read("cgroup").and_then(|text| place(&text)) {
        Some(place) => format!("{name} ({})", visible(&place)),
        None => name,
    })
}

/// What a `/proc/PID/cgroup` says: the container, by an id of 64 hexadecimal digits as every runtime makes them; else
/// the unit of systemd.
fn place(text: &str) -> Option<String> {
    let paths: Vec<&str> = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    let mut words = paths.iter().flat_map(|path| path.split(|c: char| !c.is_ascii_hexdigit()));
    if let Some(id) = words.rfind(|word| word.len() == 64) {
        return id.get(..SHORT_ID).map(|id| format!("container {id}"));
    }
    let unit = |part: &&str| [".service", ".scope"].iter().any(|end| part.ends_with(end));
    paths.iter().find_map(|path| path.rsplit('/').find(unit)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f2a1b4c5d6e7f80913f2a1b4c5d6e7f80913f2a1b4c5d6e7f80913f2a1b4c5d";

    #[test]
    fn the_container_or_else_the_unit_is_told() {
        let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0f2c_11.slice";
        let container = Some("container 3f2a1b4c5d6e".to_owned());
        for text in [
            format!("0::/{pod}/cri-containerd-{ID}.scope\n"),
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("12:devices:/docker/{ID}\n11:cpu:/\n"),
            format!("0::/system.slice/docker-{ID}.scope/init.service\n"),
        ] {
            assert_eq!(place(&text), container, "{text}");
        }
        assert_eq!(place("0::/system.slice/embedder.service\n"), Some("embedder.service".to_owned()));
        assert_eq!(place("0::/system.slice/a.service/payload\n"), Some("a.service".to_owned()));
        let session = "0::/user.slice/user-1000.slice/session-3.scope\n";
        assert_eq!(place(session), Some("session-3.scope".to_owned()));
        assert_eq!((place("0::/\n"), place(""), place("no cgroup")), (None, None, None));
    }

    #[test]
    fn a_process_is_described_by_whoever_knows_it() {
        let proc = tempfile::tempdir().unwrap();
        let of = |told| describe(proc.path(), 7, told);
        assert_eq!(of(Err(NvmlCode::NotFound)), Err(NvmlCode::NotFound));
        assert_eq!(of(Ok("/usr/bin/python3".to_owned())), Ok("python3".to_owned()));
        std::fs::create_dir(proc.path().join("7")).unwrap();
        std::fs::write(proc.path().join("7/comm"), "trainer\n").unwrap();
        std::fs::write(proc.path().join("7/cgroup"), "0::/system.slice/embedder.service\n").unwrap();
        assert_eq!(of(Err(NvmlCode::NotFound)), Ok("trainer (embedder.service)".to_owned()));
        assert_eq!(of(Ok("python3".to_owned())), Ok("python3 (embedder.service)".to_owned()));
    }
}
