//! `sectile status`: desired beside observed, GPU by GPU, with who uses what.

use crate::render;
use crate::render::tale::Tale;

use super::args::{Global, Output, Status};
use super::context::{self, Picture};
use super::error::Error;
use super::exit::Exit;
use super::fleet::{self, on};
use super::output;
use super::trouble;

/// Observes and shows; changes nothing.
pub(super) fn run(args: &Status, global: &Global) -> Result<Exit, Error> {
    let (tree, units, loaded) = context::load(&args.tree.path(), global)?;
    output::print(&on!(fleet::open(global, fleet::Purpose::Look)?, fleet => {
        let Picture { desired, observed, plan } = context::look(&tree, &units, &loaded, &fleet, &|_| {})?;
        fleet.save()?;
        let tales = trouble::tales(&fleet, &plan)?;
        match global.output {
            Output::Json => render::json::status(&desired, &observed, &plan, &tales),
            Output::Text | Output::Wide => {
                let text = render::status::status(&desired, &observed, &plan, context::style(global));
                text + &tales.iter().map(Tale::text).collect::<String>()
            }
        }
    }));
    Ok(Exit::Done)
}
