//! Random fleets and trees, drawn from a tape of bytes so that proptest shrinks them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sectile::model::{Geometry, catalogue};
use sectile::plan::placement::Occupancy;

const BOARDS: [&str; 5] = ["h100-80gb-sxm", "a100-80gb", "a30-24gb", "rtx-pro-6000-blackwell", "h200-141gb"];

/// Choices; behind its end every choice is the first.
pub(crate) struct Tape<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Tape<'_> {
    pub(crate) fn new(bytes: &[u8]) -> Tape<'_> {
        Tape { bytes, at: 0 }
    }

    /// One of `n`.
    pub(crate) fn pick(&mut self, n: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % n.max(1)
    }
}

/// A fleet file and the files of a tree.
pub(crate) struct Case {
    pub(crate) fleet: String,
    pub(crate) files: Vec<(String, String)>,
}

impl Case {
    pub(crate) fn files(&self) -> Vec<(&str, &str)> {
        self.files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect()
    }
}

/// Up to `n` instances that lie on the board together: profile name and start.
pub(crate) fn instances(tape: &mut Tape<'_>, geometry: &Geometry, n: usize) -> Vec<(String, u32)> {
    let mut occupancy = Occupancy::new(geometry);
    let mut all = Vec::new();
    for _ in 0..n {
        let profile = tape.pick(geometry.profiles.len());
        let p = &geometry.profiles[profile];
        let start = p.starts[tape.pick(p.starts.len())];
        if occupancy.admits(profile, start) {
            occupancy.put(profile, start);
            all.push((p.name.to_string(), start));
        }
    }
    all.sort_by_key(|(_, start)| *start);
    all
}

/// A layout with all of `needed`, and with those of `more` that still fit.
fn around(
    tape: &mut Tape<'_>,
    geometry: &Geometry,
    needed: &[String],
    more: &[(String, u32)],
) -> Option<Vec<(String, u32)>> {
    let mut occupancy = Occupancy::new(geometry);
    let mut all = Vec::new();
    let index = |name: &str| geometry.profiles.iter().position(|p| p.name.to_string() == name);
    for name in needed {
        let profile = index(name)?;
        let starts = &geometry.profiles[profile].starts;
        let first = tape.pick(starts.len());
        let turned = starts.iter().cycle().skip(first).take(starts.len());
        let start = *turned.into_iter().find(|start| occupancy.admits(profile, **start))?;
        occupancy.put(profile, start);
        all.push((name.clone(), start));
    }
    for (name, start) in more {
        let profile = index(name)?;
        if occupancy.admits(profile, *start) {
            occupancy.put(profile, *start);
            all.push((name.clone(), *start));
        }
    }
    Some(all)
}

/// Draws a case.
pub(crate) fn draw(tape: &mut Tape<'_>) -> Case {
    let mut fleet = String::new();
    let mut files = Vec::new();
    // How many pods each profile's workload has.
    let mut pods: BTreeMap<String, u32> = BTreeMap::new();
    let mut boards: BTreeMap<String, &str> = BTreeMap::new();
    for n in 0..1 + tape.pick(3) {
        let cluster = tape.pick(4) != 3;
        let kept = if n % 2 == 1 { "device_files = [\"cdi\"]\n" } else { "" };
        let _ = write!(fleet, "[[node]]\nname = \"n{n}\"\ncluster = {cluster}\n{kept}");
        let mut layout = format!("nodes = [\"n{n}\"]\n");
        let mut bindings = String::new();
        let mut bound = 0;
        for g in 0..1 + tape.pick(3) {
            let board = BOARDS[tape.pick(BOARDS.len())];
            let geometry = catalogue::by_id(board).unwrap().geometry().unwrap();
            let mig = tape.pick(5) != 4;
            let swapped = tape.pick(2) == 1;
            let _ = writeln!(fleet, "  [[node.gpu]]\n  model = \"{board}\"\n  mig = {mig}\n  half_swapped = {swapped}");
            let now = if mig {
                let n = tape.pick(9);
                instances(tape, &geometry, n)
            } else {
                Vec::new()
            };
            let mut then = {
                let n = tape.pick(9);
                instances(tape, &geometry, n)
            };
            let (mut lines, mut needed) = (Vec::new(), Vec::new());
            for (profile, start) in &now {
                let user = match (cluster, tape.pick(5)) {
                    (true, 0 | 1) => {
                        let count = pods.entry(profile.clone()).or_default();
                        *count += 1;
                        boards.insert(profile.clone(), board);
                        Some(format!("pod:ns/{}-p{count}", workload(profile)))
                    }
                    (false, kind @ 0..=2) => {
                        bound += 1;
                        needed.push(profile.clone());
                        let name = format!("b{n}-{bound}");
                        // What is bound stays bound to what it holds, so that the layout must provide it.
                        let target = if kind == 0 {
                            "command = { drain = [\"/x\"], drained = [\"/x\"], resume = [\"/x\"], ready = [\"/x\"] }"
                                .into()
                        } else {
                            format!("systemd = {{ unit = \"{name}.service\" }}")
                        };
                        let _ =
                            writeln!(bindings, "[[workload]]\nname = \"{name}\"\nprofile = \"{profile}\"\n{target}");
                        Some(if kind == 0 { format!("command:{name}") } else { format!("unit:{name}.service") })
                    }
                    (_, 4) if tape.pick(8) == 0 => Some(format!("process:{}/python3", 4000 + g * 10)),
                    _ => None,
                };
                let users = user.map(|u| format!(", users = [\"{u}\"]")).unwrap_or_default();
                lines.push(format!("{{ profile = \"{profile}\", start = {start}{users} }}"));
            }
            let _ = writeln!(fleet, "  instances = [{}]", lines.join(", "));
            let busy = !mig && tape.pick(4) == 3;
            if busy {
                fleet.push_str("  processes = [\"process:99/whole\"]\n");
            }
            // Often the target is what is there but for a few, as after a small edit.
            if tape.pick(2) == 1 {
                then = now.clone();
                let drop = tape.pick(then.len() + 1);
                then.truncate(drop);
            }
            // What is bound must be provided: those profiles first, wherever they fit, then what was drawn as far as it
            // still fits.
            if !needed.is_empty() {
                then = around(tape, &geometry, &needed, &then).unwrap_or(now);
            }
            let wants: Vec<String> = then
                .iter()
                .map(|(profile, start)| match tape.pick(4) {
                    3 => format!("{{ profile = \"{profile}\", start = {start} }}"),
                    _ => format!("\"{profile}\""),
                })
                .collect();
            let goal = match if needed.is_empty() { tape.pick(10) } else { 0 } {
                8 => "mig = false".to_owned(),
                9 => "managed = false".to_owned(),
                _ => format!("instances = [{}]", wants.join(", ")),
            };
            let _ = writeln!(layout, "[[gpu]]\nindex = [{g}]\n{goal}");
        }
        layout.push_str(&bindings);
        files.push((format!("layouts/n{n}.toml"), layout));
    }
    // Room for those that must move, more often than not: a node that no layout speaks of.
    fleet.push_str("[[node]]\nname = \"spare\"\n");
    for (profile, board) in &boards {
        let geometry = catalogue::by_id(board).unwrap().geometry().unwrap();
        let p = geometry.profiles.iter().find(|p| p.name.to_string() == *profile).unwrap();
        let free = tape.pick(4).min(p.max_instances as usize);
        let lines: Vec<String> =
            (0..free).map(|at| format!("{{ profile = \"{profile}\", start = {} }}", p.starts[at])).collect();
        let _ = writeln!(
            fleet,
            "  [[node.gpu]]\n  model = \"{board}\"\n  mig = true\n  instances = [{}]",
            lines.join(", ")
        );
    }
    for (profile, count) in &pods {
        let replicas = *count as usize + tape.pick(2);
        let kind = ["Deployment", "StatefulSet"][tape.pick(2)];
        let kind = if kind == "StatefulSet" && replicas != *count as usize { "Deployment" } else { kind };
        let name = workload(profile);
        // A StatefulSet's pods are named by ordinals, and the drawn names are not.
        let _ = writeln!(
            fleet,
            "[[workload]]\nkind = \"{}\"\nnamespace = \"ns\"\nname = \"{name}\"\nreplicas = {replicas}\nprofile = \"{profile}\"",
            if kind == "StatefulSet" { "Job" } else { kind }
        );
        if tape.pick(2) == 1 {
            let max = 1 + tape.pick(2);
            let _ = writeln!(
                fleet,
                "[[budget]]\nnamespace = \"ns\"\nname = \"{name}\"\nworkload = \"{name}\"\nmax_unavailable = {max}"
            );
        }
    }
    let mode = ["idle", "allow", "refuse"][tape.pick(3)];
    let processes = ["refuse", "terminate"][tape.pick(2)];
    let limits = ["", "max_pods = 1\n", "max_nodes = \"50%\"\n", "canary = 1\nmax_nodes = 1\n"][tape.pick(4)];
    let client = "commands = [{ pause = [\"/p\"], paused = [\"/q\"], resume = [\"/r\"] }]\n";
    let clients = ["", client][tape.pick(2)];
    let policy = format!(
        "nodes = [\"*\"]\n[budget]\n{limits}[clients]\n{clients}[gpu]\nmode_change = \"{mode}\"\n[protect]\nprocesses = \"{processes}\"\n"
    );
    if tape.pick(8) != 7 {
        files.push(("policies/all.toml".to_owned(), policy));
    }
    Case { fleet, files }
}

fn workload(profile: &str) -> String {
    format!("w{}", profile.replace('.', "-").replace('+', "-with-"))
}
