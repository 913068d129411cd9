//! `sectile fit`: whether and where a set of instances lies on an empty GPU.

use crate::model::Geometry;
use crate::plan::{self, placement::Want};
use crate::render::{self, fit::Set};

use super::args::{Fit, Global, Output, Piece};
use super::boards;
use super::context;
use super::error::Error;
use super::exit::Exit;
use super::output;

/// Shows; changes nothing.
pub(super) fn run(args: &Fit, global: &Global) -> Result<Exit, Error> {
    let (name, geometry) = one(&args.model, global)?;
    let wants = wants(&args.pieces, &name, &geometry, global)?;
    let set = Set { geometry: &geometry, wants: &wants };
    let all = plan::fit::layouts(&geometry, &wants);
    let json = global.output == Output::Json;
    match plan::fit::chosen(&geometry, &wants) {
        Some(chosen) => {
            output::print(&match json {
                true => render::json::fit(&name, set, Ok((&all, &chosen))),
                false => render::fit::layouts(&name, set, &all, &chosen, context::style(global)),
            });
            Ok(Exit::Done)
        }
        None => {
            let misfit = plan::misfit::explain(&geometry, &wants);
            output::print(&match json {
                true => render::json::fit(&name, set, Err(&misfit)),
                false => render::fit::misfit(&name, set, &misfit),
            });
            Ok(Exit::Blocked)
        }
    }
}

/// The one sort of GPU that is meant: its name, and what it can be cut into.
fn one(model: &str, global: &Global) -> Result<(String, Geometry), Error> {
    let unknown = |name: &str| {
        let error = Error::failed(format!("nobody tells what {name} can be cut into"));
        error.hint(format!("`sectile profiles \"{model}\"` shows what is known of it"))
    };
    let several =
        |names: Vec<&str>| Error::usage(format!("`{model}` means {}", names.join(", "))).hint("name one of them");
    if boards::is_here(global) {
        let observed = boards::here(global)?;
        let found = boards::gpus(&observed, Some(model))?;
        return match boards::sorts(&found).as_slice() {
            [sort] => {
                let geometry = sort.geometry.ok_or_else(|| unknown(sort.model))?;
                Ok((sort.model.to_owned(), geometry.clone()))
            }
            sorts => Err(several(sorts.iter().map(|sort| sort.model).collect())),
        };
    }
    match boards::boards(model)?.as_slice() {
        [board] => {
            let geometry = board.geometry().ok_or_else(|| unknown(board.id))?;
            Ok((board.id.to_owned(), geometry))
        }
        boards => Err(several(boards.iter().map(|board| board.id).collect())),
    }
}

/// Names resolved against what is offered.
fn wants(pieces: &[Piece], name: &str, geometry: &Geometry, global: &Global) -> Result<Vec<Want>, Error> {
    let mut wants = Vec::new();
    for piece in pieces {
        let Some((profile, bent)) = geometry.resolve(piece.profile) else {
            let offers: Vec<String> = geometry.offers().iter().map(ToString::to_string).collect();
            let error = Error::usage(format!("{name} offers no {}", piece.profile));
            return Err(error.hint(format!("it offers {}", offers.join(", "))));
        };
        if bent && !global.quiet {
            output::tell(&format!("{} is called {} on {name}.\n", piece.profile, profile.name));
        }
        let index = geometry.profiles.iter().position(|p| p.id == profile.id).unwrap_or(usize::MAX);
        let want = Want { profile: index, start: piece.start, compute: Vec::new() };
        wants.extend((0..piece.count).map(|_| want.clone()));
    }
    Ok(wants)
}
