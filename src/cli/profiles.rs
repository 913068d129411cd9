//! `sectile profiles`: what boards, or the GPUs that are there, can be cut into.

use crate::model::catalogue;
use crate::render::{self, profiles};

use super::args::{Global, Output, Profiles};
use super::boards;
use super::context;
use super::error::Error;
use super::exit::Exit;
use super::output;

/// Shows; changes nothing.
pub(super) fn run(args: &Profiles, global: &Global) -> Result<Exit, Error> {
    let model = args.model.as_deref();
    let style = context::style(global);
    if boards::is_here(global) {
        let observed = boards::here(global)?;
        let found = boards::gpus(&observed, model)?;
        if global.output == Output::Json {
            output::print(&render::json::gpus(found));
            return Ok(Exit::Done);
        }
        let parts = boards::sorts(&found).into_iter().map(|sort| {
            let heading = format!("{}   {}", sort.model, sort.places.join("; "));
            match sort.geometry {
                Some(geometry) => profiles::gpu(&heading, geometry, style),
                None => format!("{heading}\n  no profiles: it has no MIG, or nobody tells\n"),
            }
        });
        let text = parts.collect::<Vec<_>>().join("\n");
        output::print(&profiles::legend(text, style.wide));
        return Ok(Exit::Done);
    }
    let found = match model {
        Some(model) => boards::boards(model)?,
        None => catalogue::all().collect(),
    };
    output::print(&match (global.output, model) {
        (Output::Json, _) => render::json::boards(&found),
        (_, None) => profiles::legend(profiles::boards(found, style), false),
        (_, Some(_)) => {
            let parts: Vec<String> = found.into_iter().map(|board| profiles::board(board, style)).collect();
            profiles::legend(parts.join("\n"), style.wide)
        }
    });
    Ok(Exit::Done)
}
