//! What the host keeps of its MIG devices beside the driver, and who makes that anew.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::model::observed::DeviceFiles;

/// Makes the device nodes of instances from files of the driver's, at most [`AT_ONCE`] in a call (nvidia-modprobe.c).
const MODPROBE: &str = "usr/bin/nvidia-modprobe";
const AT_ONCE: usize = 256;
/// Where the driver tells of instances (MIG user guide, device nodes and capabilities).
const CAPABILITIES: &str = "proc/driver/nvidia/capabilities";
/// Writes specifications of the Container Device Interface.
const TOOLKIT: &str = "usr/bin/nvidia-ctk";
/// Where these lie, after NVIDIA's documentation of the toolkit: by hand, and by its own service since 1.18.
const SPECIFICATIONS: [&str; 4] =
    ["etc/cdi/nvidia.yaml", "etc/cdi/nvidia.json", "var/run/cdi/nvidia.yaml", "var/run/cdi/nvidia.json"];

/// Who is told that there are other devices now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceTools {
    /// NVIDIA's tools, below this folder, for what the host has.
    Nvidia(PathBuf),
    /// A program that does everything; it gets the words of what is to be made anew.
    Program(String),
}

impl DeviceTools {
    /// What there is to be made anew, and somebody who can.
    pub fn files(&self) -> BTreeSet<DeviceFiles> {
        let DeviceTools::Nvidia(root) = self else { return DeviceFiles::ALL.iter().copied().collect() };
        let has = |files: &DeviceFiles| match files {
            DeviceFiles::DeviceNodes => root.join(MODPROBE).is_file(),
            DeviceFiles::Cdi => root.join(TOOLKIT).is_file() && specifications(root).next().is_some(),
        };
        DeviceFiles::ALL.iter().copied().filter(has).collect()
    }

    /// The commands that make these anew, each with its arguments.
    pub fn commands(&self, files: &[DeviceFiles]) -> Vec<Vec<OsString>> {
        match self {
            DeviceTools::Program(program) => {
                let words = files.iter().map(|files| files.word());
                vec![[program.as_str()].into_iter().chain(words).map(OsString::from).collect()]
            }
            DeviceTools::Nvidia(root) => files.iter().flat_map(|files| of(root, *files)).collect(),
        }
    }
}

fn of(root: &Path, files: DeviceFiles) -> Vec<Vec<OsString>> {
    match files {
        DeviceFiles::DeviceNodes => {
            let program = root.join(MODPROBE).into_os_string();
            let call = |some: &[PathBuf]| {
                let flags = some.iter().flat_map(|path| ["-f".into(), path.clone().into_os_string()]);
                [program.clone()].into_iter().chain(flags).collect()
            };
            capabilities(root).chunks(AT_ONCE).map(call).collect()
        }
        DeviceFiles::Cdi => {
            let call = |path: PathBuf| {
                let mut output = OsString::from("--output=");
                output.push(path);
                vec![root.join(TOOLKIT).into_os_string(), "cdi".into(), "generate".into(), output]
            };
            specifications(root).map(call).collect()
        }
    }
}

fn specifications(root: &Path) -> impl Iterator<Item = PathBuf> {
    SPECIFICATIONS.map(|path| root.join(path)).into_iter().filter(|path| path.is_file())
}

/// `gpu0/mig/gi1/access` and `gpu0/mig/gi1/ci0/access`, of all instances, ascending.
fn capabilities(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for gpu in begin(&root.join(CAPABILITIES), "gpu") {
        for gi in begin(&gpu.join("mig"), "gi") {
            let compute = begin(&gi, "ci");
            all.extend([gi].into_iter().chain(compute).map(|folder| folder.join("access")));
        }
    }
    all.retain(|path| path.is_file());
    all.sort();
    all
}

/// Folders whose names begin so. Without a driver there are none.
fn begin(folder: &Path, with: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(with)).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    fn told(root: &Path, files: &[DeviceFiles]) -> Vec<String> {
        let commands = DeviceTools::Nvidia(root.to_owned()).commands(files);
        let line = |argv: &Vec<OsString>| argv.join(std::ffi::OsStr::new(" ")).into_string().unwrap();
        commands.iter().map(|argv| line(argv).replace(root.to_str().unwrap(), "")).collect()
    }

    #[test]
    fn only_what_the_host_has_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let tools = DeviceTools::Nvidia(root.to_owned());
        assert!(tools.files().is_empty());
        // A toolkit whose specification nobody keeps has nothing to make anew.
        write(root, TOOLKIT);
        assert!(tools.files().is_empty());
        write(root, "etc/cdi/nvidia.yaml");
        assert_eq!(tools.files(), [DeviceFiles::Cdi].into());
        write(root, MODPROBE);
        assert!(tools.files().iter().eq(DeviceFiles::ALL));
    }

    #[test]
    fn every_instance_gets_its_device_node_and_every_specification_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for path in ["gi1/access", "gi1/ci0/access", "gi2/access", "gi2/ci0/access", "gi2/ci1/access", "status"] {
            write(root, &format!("{CAPABILITIES}/gpu0/mig/{path}"));
        }
        write(root, &format!("{CAPABILITIES}/mig/config"));
        write(root, "etc/cdi/nvidia.json");
        write(root, "var/run/cdi/nvidia.yaml");
        let of = |path: &str| format!("-f /{CAPABILITIES}/gpu0/mig/{path}");
        let all = ["gi1/access", "gi1/ci0/access", "gi2/access", "gi2/ci0/access", "gi2/ci1/access"].map(of).join(" ");
        assert_eq!(
            told(root, DeviceFiles::ALL),
            [
                format!("/{MODPROBE} {all}"),
                format!("/{TOOLKIT} cdi generate --output=/etc/cdi/nvidia.json"),
                format!("/{TOOLKIT} cdi generate --output=/var/run/cdi/nvidia.yaml"),
            ]
        );
        // Without instances there are no nodes to make.
        assert!(told(Path::new("/nowhere"), &[DeviceFiles::DeviceNodes]).is_empty());
    }

    #[test]
    fn more_instances_than_a_call_takes_are_several_calls() {
        let folder = tempfile::tempdir().unwrap();
        for gpu in 0..19 {
            for gi in 0..7 {
                write(folder.path(), &format!("{CAPABILITIES}/gpu{gpu}/mig/gi{gi}/access"));
                write(folder.path(), &format!("{CAPABILITIES}/gpu{gpu}/mig/gi{gi}/ci0/access"));
            }
        }
        let commands = DeviceTools::Nvidia(folder.path().to_owned()).commands(&[DeviceFiles::DeviceNodes]);
        let flags = commands.iter().map(|argv| (argv.len() - 1) / 2).collect::<Vec<_>>();
        assert_eq!(flags, [256, 10]);
    }

    #[test]
    fn a_program_of_ones_own_does_all_and_is_told_what() {
        let tools = DeviceTools::Program("/opt/refresh".to_owned());
        assert!(tools.files().iter().eq(DeviceFiles::ALL));
        let argv: Vec<OsString> = ["/opt/refresh", "device-nodes", "cdi"].map(OsString::from).to_vec();
        assert_eq!(tools.commands(DeviceFiles::ALL), [argv]);
    }
}
