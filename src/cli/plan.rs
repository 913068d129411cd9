//! `sectile plan`: the smallest plan from what is there to what the tree says.

use crate::{plan, render};

use super::args::{Global, Output, Plan, SimFleet};
use super::context::{self, Picture};
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::fleet::{self, on};
use super::output;

/// Plans and shows; changes nothing.
pub(super) fn run(args: &Plan, global: &Global) -> Result<Exit, Error> {
    let (tree, units, loaded) = context::load(&args.tree.path(), global)?;
    let plan = on!(fleet::open(global, fleet::Purpose::Look)?, fleet => {
        let Picture { plan, .. } = context::look(&tree, &units, &loaded, &fleet, &|_| {})?;
        fleet.save()?;
        plan
    });
    if let Some(path) = &args.out {
        let saved = std::fs::write(path, render::json::plan(&plan));
        saved.context(|| format!("the plan could not be saved in {}", path.display()))?;
    }
    output::print(&match global.output {
        Output::Json => render::json::plan(&plan),
        Output::Text | Output::Wide => render::text::plan(&plan, context::style(global)),
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
    Ok(if args.detailed_exitcode { detailed(&plan) } else { Exit::Done })
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
