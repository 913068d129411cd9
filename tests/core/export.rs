//! What is exported plans to nothing, lies where it lay, and harms no file that people wrote.

use std::fmt::Write as _;

use proptest::prelude::*;
use sectile::cli::export::rewritten;
use sectile::config::write::layout;
use sectile::model::catalogue::{self, Board};
use sectile::model::plan::PlanInstance;
use sectile::model::{ComputeName, GpuInstance, Known, ObservedGpu, ObservedNode, Placement, Plan, ProfileName};
use sectile::plan::export::{as_is, stays};
use sectile::render::{Style, text};
use sectile::sim::lock;

use crate::config_good::assemble;
use crate::door::cases;
use crate::fleets::Run;
use crate::random::{Tape, instances};

/// The board of each GPU of a node, any of the catalogue.
fn boards(tape: &mut Tape<'_>) -> Vec<&'static Board> {
    let all: Vec<&Board> = catalogue::all().collect();
    let first = all[tape.pick(all.len())];
    // Nodes with GPUs that are alike are the common ones.
    (0..1 + tape.pick(4)).map(|_| if tape.pick(3) == 2 { all[tape.pick(all.len())] } else { first }).collect()
}

/// Compute instances of one profile, of one size.
fn compute(tape: &mut Tape<'_>, board: &Board, profile: &str) -> Vec<String> {
    let row = board.profiles.iter().find(|p| p.name == profile).unwrap();
    let part = &row.compute[tape.pick(row.compute.len())];
    let most = part.max_instances.min(row.slices / part.slices);
    let name = match part.slices == row.slices {
        true => profile.to_owned(),
        false => format!("{}c.{profile}", part.slices),
    };
    vec![name; tape.pick(most as usize + 1)]
}

/// A fleet of one node with these boards, cut and used at random.
fn fleet(tape: &mut Tape<'_>, boards: &[&Board], cluster: bool) -> String {
    let mut fleet = format!("[[node]]\nname = \"n\"\ncluster = {cluster}\n");
    for (g, board) in boards.iter().enumerate() {
        let geometry = board.geometry();
        let mig = geometry.is_some() && tape.pick(5) != 4;
        let swapped = tape.pick(2) == 1;
        let _ = writeln!(fleet, "[[node.gpu]]\nmodel = \"{}\"\nmig = {mig}\nhalf_swapped = {swapped}", board.id);
        let mut lines = Vec::new();
        if let Some(geometry) = geometry.filter(|_| mig) {
            let most = tape.pick(9);
            for (profile, start) in instances(tape, &geometry, most) {
                let mut line = format!("{{ profile = \"{profile}\", start = {start}");
                if tape.pick(8) == 7 {
                    let _ = write!(line, ", compute = {:?}", compute(tape, board, &profile));
                } else if tape.pick(4) == 3 {
                    let kind = if cluster { "pod:x/p" } else { "unit:u" };
                    let _ = write!(line, ", users = [\"{kind}-{g}-{start}\"]");
                }
                lines.push(line + " }");
            }
        }
        let _ = writeln!(fleet, "instances = [{}]", lines.join(", "));
        if !mig && tape.pick(3) == 2 {
            fleet.push_str("processes = [\"process:99/whole\"]\n");
        }
    }
    fleet
}

fn node(run: &Run) -> ObservedNode {
    run.observe().nodes.remove("n").unwrap()
}

/// The plan of a layout for a node as it is.
fn planned(node: &ObservedNode, layout: &str) -> Plan {
    let tree = assemble(&[("layouts/n.toml", layout)]).0.unwrap_or_else(|| panic!("{layout}"));
    let run = Run::of(Run::new("", &[]).world, tree);
    let mut observed = run.observe();
    observed.nodes.insert("n".to_owned(), node.clone());
    let desired = run.resolve(&observed);
    sectile::plan::plan(&desired, &observed, jiff::Timestamp::UNIX_EPOCH)
}

fn is_empty(plan: &Plan, layout: &str) -> Result<(), TestCaseError> {
    let node = &plan.nodes[0];
    let nothing = node.steps.is_empty() && node.blocked.is_empty() && node.waiting.is_empty();
    prop_assert!(nothing && node.gpus.iter().all(stays), "{layout}\n{}", text::plan(plan, Style { wide: true }));
    prop_assert_eq!(&node.warnings, &[""; 0]);
    Ok(())
}

type Place = (Placement, ProfileName, Vec<ComputeName>);

fn there(gpu: &ObservedGpu) -> Vec<Place> {
    let place = |i: &GpuInstance| (i.placement, i.profile, sorted(i.compute.iter().map(|c| c.profile)));
    sorted(gpu.instances.iter().map(place))
}

fn created(instances: &[PlanInstance]) -> Vec<Place> {
    sorted(instances.iter().map(|i| (i.placement(), i.profile, sorted(i.compute.iter().map(|c| c.profile)))))
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items
}

/// With nothing on its GPUs.
fn emptied(mut node: ObservedNode) -> ObservedNode {
    for gpu in &mut node.gpus {
        gpu.instances.clear();
        gpu.users = Known::Known(vec![]);
    }
    node
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(1000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_exported_plans_to_nothing_and_comes_back_where_it_was(tape in prop::collection::vec(any::<u8>(), 0..160)) {
        let tape = &mut Tape::new(&tape);
        let cluster = tape.pick(3) != 2;
        let boards = boards(tape);
        let run = Run::new(&fleet(tape, &boards, cluster), &[]);
        if tape.pick(8) == 7 {
            let mut world = lock(&run.world);
            let gpu = &mut world.nodes.get_mut("n").unwrap().gpus[0];
            gpu.pending = !gpu.mode;
        }
        let node = node(&run);
        let said = as_is(&node);
        let text = layout("n", &said);
        if said.iter().all(|gpu| gpu.goal.is_none()) {
            prop_assert!(!text.contains("[[gpu]]"), "{}", text);
            return Ok(());
        }
        is_empty(&planned(&node, &text), &text)?;
        // What could be told was told: only a pending mode and, in a cluster, split instances can't be.
        for (gpu, said) in node.gpus.iter().zip(&said) {
            let split = there(gpu).iter().any(|(_, profile, compute)| *compute != [ComputeName::filling(*profile)]);
            let beyond = gpu.mig.pending != gpu.mig.current || (cluster && split);
            prop_assert_eq!(!said.note.is_empty(), gpu.mig.capable && beyond, "{:?}", said);
        }
        let anew = planned(&emptied(node.clone()), &text);
        for (gpu, planned) in node.gpus.iter().zip(&anew.nodes[0].gpus).filter(|(_, planned)| planned.managed) {
            prop_assert_eq!(created(&planned.create), there(gpu), "{}", text);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_that_people_wrote_is_brought_up_to_date_and_keeps_every_comment(
        tape in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let tape = &mut Tape::new(&tape);
        let cluster = tape.pick(3) != 2;
        let boards = boards(tape);
        let (before, after) = (fleet(tape, &boards, cluster), fleet(tape, &boards, cluster));
        let before = node(&Run::new(&before, &[]));
        let after = node(&Run::new(&after, &[]));
        let (text, comments) = commented(tape, &before);
        let new = match rewritten("layouts/n.toml", &text, &after) {
            Ok(new) => new,
            Err(error) => {
                let beyond = as_is(&after).iter().any(|gpu| !gpu.note.is_empty());
                prop_assert!(beyond && error.to_string().contains("can't be told"), "{}\n{}", error.report(), text);
                return Ok(());
            }
        };
        if new.contains("[[gpu]]") {
            is_empty(&planned(&after, &new), &new)?;
        }
        for comment in &comments {
            prop_assert_eq!(new.matches(&format!("{comment}\n")).count(), 1, "{}\n{}\n{}", comment, text, new);
        }
        let workload = new.find(WORKLOAD).unwrap();
        prop_assert!(new[workload..].lines().skip(4).all(|line| line.trim_start().starts_with('#')), "{}", new);
        prop_assert_eq!(rewritten("layouts/n.toml", &new, &after).unwrap(), new.clone());
        // And what did not change is not touched.
        prop_assert_eq!(rewritten("layouts/n.toml", &text, &before).unwrap(), text);
    }
}

const WORKLOAD: &str = "[[workload]]\nname   =   \"odd\"\nprofile = \"1g\"\n";

/// A layout of a node in one of several hands, with comments in odd places.
fn commented(tape: &mut Tape<'_>, node: &ObservedNode) -> (String, Vec<String>) {
    let mut text = layout("n", &as_is(node));
    if tape.pick(3) == 2 {
        text = text.replacen("index = ", "model = \"*\"\nindex = ", 1);
    }
    if tape.pick(3) == 2 && node.gpus.len() > 1 {
        let uuids: Vec<&str> = node.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
        let all: Vec<String> = (0..node.gpus.len()).map(|at| at.to_string()).collect();
        text = text.replace(&format!("index = [{}]", all.join(", ")), &format!("uuid = {uuids:?}"));
    }
    // A list of several lines, in which each GPU has its own.
    if tape.pick(2) == 1 {
        let lines = |line: &str| match line.strip_prefix("index = [").and_then(|rest| rest.strip_suffix(']')) {
            Some(indices) => format!("index = [\n  {},\n]", indices.replace(", ", ",\n  ")),
            None => line.to_owned(),
        };
        text = text.lines().map(|line| lines(line) + "\n").collect();
    }
    let mut comments = Vec::new();
    let mut out = String::new();
    for line in text.lines() {
        let mut add = |out: &mut String| {
            comments.push(format!("# c{}.", comments.len()));
            out.push_str(comments.last().unwrap());
        };
        if tape.pick(4) == 3 {
            out.push_str("  ");
            add(&mut out);
            out.push('\n');
        }
        out.push_str(line);
        if tape.pick(3) == 2 && !line.contains('#') {
            out.push_str("   ");
            add(&mut out);
        }
        out.push('\n');
    }
    let target = "kubernetes = { kind = \"Job\", namespace = \"a\", name = \"b\" }";
    let _ = write!(out, "\n{WORKLOAD}{target}\n# the end\n");
    comments.push("# the end".to_owned());
    (out, comments)
}
