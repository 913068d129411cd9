//! `sectile plan`: the smallest plan from what is there to what the tree says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;

use crate::cluster::{LeaseState, Published};
use crate::config::{Loaded, NodeFacts, Tree};
use crate::model::Desired;
use crate::ports::Port;
use crate::{plan, render};

use super::args::{Global, Output, Plan, SimFleet};
use super::ask;
use super::context::{self, Picture};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::{self, on};
use super::output;
use super::published::{self, Seen};

/// Plans and shows; changes nothing.
pub(super) fn run(args: &Plan, global: &Global) -> Result<Exit, Error> {
    let given = args.tree.tree.is_some() || args.fleet || args.observed.is_some();
    if let Some(told) = ask::service("/v1/plan", global, given) {
        let plan = render::saved::read(&told?).context(|| "the service of this node tells no plan".to_owned())?;
        return show(&plan, args, global);
    }
    let (tree, units, loaded) = context::load(&args.tree.path(global), global)?;
    let afar = args.fleet && (args.observed.is_some() || fleet::is_real_cluster(global));
    let plan = if afar {
        from_afar(args.observed.as_deref(), false, global, &tree, &loaded)?.picture.plan
    } else {
        on!(fleet::open(global, fleet::Purpose::Look)?, fleet => {
            let Picture { plan, .. } = context::look(&tree, &units, &loaded, &fleet, &|_| {})?;
            fleet.save()?;
            plan
        })
    };
    show(&plan, args, global)
}

fn show(plan: &crate::model::Plan, args: &Plan, global: &Global) -> Result<Exit, Error> {
    if let Some(path) = &args.out {
        let saved = std::fs::write(path, render::json::plan(plan));
        saved.context(|| format!("the plan could not be saved in {}", path.display()))?;
    }
    output::print(&match global.output {
        Output::Json => render::json::plan(plan),
        Output::Text | Output::Wide => render::text::plan(plan, context::style(global)),
    });
    if let Some(path) = args.out.as_ref().filter(|_| !global.quiet) {
        // Everything that says of what this is a plan, so that the line can be copied.
        let tree = args.tree.tree.as_ref().map(|tree| format!(" --tree {}", tree.display())).unwrap_or_default();
        let sim = match &global.sim {
            Some(SimFleet::File(fleet)) => format!(" --sim {}", fleet.display()),
            Some(SimFleet::Builtin) => " --sim".to_owned(),
            None => String::new(),
        };
        let line = format!("sectile apply {}{tree}{sim}", path.display());
        output::tell(&format!("Saved. `{line}` carries out exactly this.\n"));
    }
    Ok(if args.detailed_exitcode { detailed(plan) } else { Exit::Done })
}

/// A fleet from afar: its plan, and what else is known of it.
pub(super) struct Afar {
    pub(super) picture: Picture,
    /// How the nodes say that they stand.
    pub(super) published: BTreeMap<String, Published>,
    /// The controller's lease, where there is a cluster to ask.
    pub(super) lease: Option<Port<Option<LeaseState>>>,
}

/// Plans every node that the tree covers from what the nodes have published, and tells how old that is.
pub(super) fn from_afar(
    documents: Option<&Path>,
    lease: bool,
    global: &Global,
    tree: &Tree,
    loaded: &Loaded,
) -> Result<Afar, Error> {
    let seen = match documents {
        Some(folder) => published::documents(folder)?,
        None => published::cluster(global, tree.bindings(), lease)?,
    };
    let Seen { observed, at, published, suspended, silent, lease } = seen;
    let silence: BTreeSet<String> = silent.iter().map(|facts| facts.name.clone()).collect();
    let facts = observed.nodes.values().map(NodeFacts::of).chain(silent).collect();
    // Of a node that is silent it matters only whether the tree speaks of it.
    let covered = |desired: &mut Desired| {
        desired.nodes.retain(|name, node| !silence.contains(name) || node.layout.is_some());
    };
    let now = Timestamp::now();
    let mut picture = context::weigh(tree, loaded, observed, facts, None, now, &covered)?;
    for node in &mut picture.plan.nodes {
        match at.get(&node.name) {
            Some(at) => {
                node.observed_at = at.to_string();
                node.age_s = Some(u64::try_from(now.duration_since(*at).as_secs()).unwrap_or(0));
            }
            None => {
                node.suspended = suspended.get(&node.name).cloned();
                node.warnings.push("it has published nothing that could be planned from".to_owned());
            }
        }
    }
    if let Some(name) = &global.node {
        picture.plan = plan::narrow(picture.plan, &BTreeSet::from([name.clone()]));
    }
    Ok(Afar { picture, published, lease })
}

/// What `--detailed-exitcode` tells of a plan.
pub(super) fn detailed(plan: &crate::model::Plan) -> Exit {
    let changes = if plan::has_changes(plan) { Exit::Changes } else { Exit::Done };
    changes.and(blocked(plan))
}

/// Whether something is blocked until somebody acts.
pub(super) fn blocked(plan: &crate::model::Plan) -> Exit {
    if plan::has_blocks(plan) { Exit::Blocked } else { Exit::Done }
}
