//! A random fleet with its tree, from a seed, and what is written down of a run.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

use sectile::config;
use sectile::model::{Digest, Plan, Revision};
use sectile::sim::fault::Fate;
use sectile::sim::lock;
use sectile::sim::world::SimUnit;

use crate::fleets::{Ended, Killed, Run};
use crate::random::{Tape, draw};

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One of `n`.
    pub(crate) fn pick(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() % n.max(1) as u64).unwrap()
    }

    /// So often of a hundred times.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}

/// The unit that every node's policy stops around a change.
pub(crate) const CLIENT: &str = "dcgm.service";

/// The fleet and the tree of a seed that has something to do.
pub(crate) struct Case {
    fleet: String,
    files: Vec<(String, String)>,
}

impl Case {
    pub(crate) fn of(seed: u64) -> Case {
        let mut dice = Dice::new(seed);
        loop {
            let bytes: Vec<u8> = (0..400).map(|_| (dice.roll() % 256) as u8).collect();
            let drawn = draw(&mut Tape::new(&bytes));
            let mut files = drawn.files;
            for (path, text) in &mut files {
                if path.starts_with("policies/") {
                    *text = text.replace("[clients]\n", &format!("[clients]\nsystemd = [\"{CLIENT}\"]\n"));
                }
            }
            let case = Case { fleet: drawn.fleet, files };
            let (.., plan) = case.run().plan();
            if due(&plan) {
                return case;
            }
        }
    }

    pub(crate) fn run(&self) -> Run {
        let files: Vec<(&str, &str)> = self.files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
        let run = Run::new(&self.fleet, &files);
        for node in lock(&run.world).nodes.values_mut() {
            node.units.insert(CLIENT.to_owned(), SimUnit { active: true, devices: Vec::new() });
        }
        run
    }

    /// The same tree after somebody edited it: an instance less, or a GPU that nobody manages any more.
    pub(crate) fn edit(&mut self, dice: &mut Dice) {
        let layouts: Vec<usize> =
            (0..self.files.len()).filter(|at| self.files[*at].0.starts_with("layouts/")).collect();
        let before = self.files.clone();
        let text = &mut self.files[layouts[dice.pick(layouts.len())]].1;
        let lines: Vec<&str> = text.lines().collect();
        let wanting: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("instances = [")).collect();
        if wanting.is_empty() {
            return;
        }
        let at = wanting[dice.pick(wanting.len())];
        let edited = match (dice.pick(2), lines[at].rsplit_once(", ")) {
            (0, Some((before, last))) if !last.contains('}') => format!("{before}]"),
            _ => "managed = false".to_owned(),
        };
        let lines: Vec<&str> =
            lines.iter().enumerate().map(|(n, l)| if n == at { edited.as_str() } else { l }).collect();
        *text = lines.join("\n") + "\n";
        // Trees with errors change nothing; whether they are told is not the question here.
        let revision = Revision { name: None, digest: Digest::of([]) };
        let files = self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        if config::assemble(revision, files).0.is_none() {
            self.files = before;
        }
    }

    pub(crate) fn told(&self) -> String {
        let files: Vec<String> = self.files.iter().map(|(path, text)| format!("# {path}\n{text}")).collect();
        format!("# fleet\n{}\n{}", self.fleet, files.join("\n"))
    }
}

/// Whether something can be done now.
pub(crate) fn due(plan: &Plan) -> bool {
    plan.nodes.iter().any(|node| node.steps.iter().any(|step| step.waits.is_none()))
}

/// Calls that change something, or that keep a record: between two others nothing can be lost.
pub(crate) const CHANGES: [&str; 16] = [
    "create_gi_at",
    "create_ci",
    "destroy_gi",
    "destroy_ci",
    "set_mig_mode",
    "set_taint",
    "set_clients_paused",
    "remove_pod",
    "stop_unit",
    "start_unit",
    "run",
    "reset_gpu",
    "refresh_devices",
    "terminate",
    "append",
    "clear",
];

/// What happened, for whoever replays a seed, and what each run ended in.
#[derive(Clone)]
pub(crate) struct Trace {
    shown: bool,
    ends: Option<Rc<RefCell<Vec<End>>>>,
    /// The run whose end is kept in full.
    whole: Option<usize>,
}

/// What a run ended in: the world as a state file has it, the journals, which nodes failed, and why.
#[derive(Debug, PartialEq)]
pub(crate) struct End {
    /// What went wrong in it.
    pub(crate) hazard: String,
    digest: Digest,
    /// All of it, where that is kept.
    pub(crate) text: Option<String>,
}

impl Trace {
    pub(crate) fn new(shown: bool) -> Trace {
        Trace { shown, ends: None, whole: None }
    }

    /// One that keeps what the runs end in.
    pub(crate) fn keeping(shown: bool, whole: Option<usize>) -> Trace {
        Trace { shown, ends: Some(Rc::default()), whole }
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.shown {
            println!("{}", what());
        }
    }

    pub(crate) fn call(&self, call: &str, fate: &Fate) {
        if self.shown && (CHANGES.contains(&call) || *fate != Fate::Passes) {
            println!("    {call}{}", if *fate == Fate::Passes { String::new() } else { format!("  {fate:?}") });
        }
    }

    /// Keeps what a run ended in.
    pub(crate) fn ended(&self, hazard: impl Into<String>, run: &Run, ended: &Ended) {
        let Some(ends) = &self.ends else { return };
        let world = serde_json::to_string(&*lock(&run.world)).unwrap();
        let journals = run.journals.borrow();
        let lines: Vec<String> = journals.values().flat_map(|journal| journal.0.borrow().lines.clone()).collect();
        // NVML writes the letters of a bus id large.
        let told = format!("{}\n{:?}", lines.join("\n"), ended.failed).to_lowercase();
        let text = format!("{world}\n{told}");
        let mut ends = ends.borrow_mut();
        let (digest, whole) = (Digest::of([text.as_bytes()]), self.whole == Some(ends.len()));
        ends.push(End { hazard: hazard.into(), digest, text: whole.then_some(text) });
    }

    /// What was kept.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.ends.as_ref().map(|ends| ends.take()).unwrap_or_default()
    }
}

/// Where two texts part, with what stands before.
pub(crate) fn difference([one, other]: &[String; 2]) -> String {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other).count();
    [one, other].map(|text| text.chars().skip(same.saturating_sub(120)).take(240).collect::<String>()).join("\n  ")
}

/// What a panic said.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| if panic.is::<Killed>() { "killed, and nobody caught it" } else { "a panic" }.to_owned())
}
