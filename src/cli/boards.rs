//! Which board or GPU a name means: of the catalogue, or of the GPUs that are there.

use std::collections::BTreeSet;

use globset::GlobBuilder;

use crate::model::catalogue::{self, Board};
use crate::model::{Geometry, Observed, ObservedGpu};

use super::args::Global;
use super::error::Error;
use super::fleet::{self, Fleet, on};
use super::outside::Outside;

/// GPUs that are alike, and on which nodes.
#[derive(Debug)]
pub(super) struct Sort<'a> {
    pub(super) model: &'a str,
    /// What they can be cut into; `None`: unknown, or no MIG.
    pub(super) geometry: Option<&'a Geometry>,
    /// `gpu-a-01 GPU 0, 1`.
    pub(super) places: Vec<String>,
}

/// Whether the question is about the GPUs that are there.
pub(super) fn is_here(global: &Global) -> bool {
    global.sim.is_some() || global.gpus.is_some() || global.node.is_some()
}

/// Boards of the catalogue by id, name or glob.
pub(super) fn boards(model: &str) -> Result<Vec<&'static Board>, Error> {
    if let Some(board) = catalogue::by_name(model) {
        return Ok(vec![board]);
    }
    let means = matcher(model)?;
    let found: Vec<&Board> = catalogue::all().filter(|board| names(board).any(&means)).collect();
    if found.is_empty() {
        let known: Vec<&str> = catalogue::all().flat_map(names).collect();
        let error = unknown(model, "no board of the catalogue", &known);
        return Err(error.hint("`sectile profiles` lists them all"));
    }
    Ok(found)
}

fn names(board: &'static Board) -> impl Iterator<Item = &'static str> {
    [board.id].into_iter().chain(board.names.iter().chain(board.legacy_names).copied())
}

/// Everything observed, narrowed to the nodes that were asked for.
pub(super) fn here(global: &Global) -> Result<Observed, Error> {
    on!(fleet::open(global, fleet::Purpose::Look)?, fleet => observe(fleet))
}

fn observe<O: Outside>(mut fleet: Fleet<O>) -> Result<Observed, Error> {
    // An index means the GPU that it means now, whichever were accepted.
    fleet.accepted.inventory = true;
    let mut observed = fleet.observe(&BTreeSet::new())?;
    fleet.save()?;
    if let Some(only) = &fleet.only {
        observed.nodes.retain(|name, _| only.contains(name));
    }
    Ok(observed)
}

/// The GPUs that are there, by node; those that a name or glob means, if one is given.
pub(super) fn gpus<'a>(
    observed: &'a Observed,
    model: Option<&str>,
) -> Result<Vec<(&'a str, Vec<&'a ObservedGpu>)>, Error> {
    let means = model.map(matcher).transpose()?;
    let meant = |gpu: &&ObservedGpu| {
        means.as_ref().is_none_or(|means| gpu.board.as_deref().into_iter().chain([gpu.model.as_str()]).any(means))
    };
    let of = |gpus: &'a [ObservedGpu]| gpus.iter().filter(meant).collect::<Vec<_>>();
    let mut found: Vec<_> = observed.nodes.values().map(|node| (node.name.as_str(), of(&node.gpus))).collect();
    found.retain(|(_, gpus)| !gpus.is_empty());
    match model.filter(|_| found.is_empty()) {
        None => Ok(found),
        Some(model) => {
            let all = observed.nodes.values().flat_map(|node| &node.gpus);
            let known: BTreeSet<&str> =
                all.flat_map(|gpu| gpu.board.as_deref().into_iter().chain([gpu.model.as_str()])).collect();
            let known: Vec<&str> = known.into_iter().collect();
            let error = unknown(model, "no GPU here", &known);
            Err(error.hint("without --sim and --node the whole catalogue is asked"))
        }
    }
}

/// GPUs of which the drivers tell the same.
pub(super) fn sorts<'a>(found: &[(&str, Vec<&'a ObservedGpu>)]) -> Vec<Sort<'a>> {
    let mut sorts: Vec<Sort<'a>> = Vec::new();
    for (node, gpus) in found {
        let mut mine: Vec<(usize, Vec<String>)> = Vec::new();
        for &gpu in gpus {
            let alike = |sort: &Sort<'_>| (sort.model, sort.geometry) == (gpu.model.as_str(), gpu.geometry.as_deref());
            let at = sorts.iter().position(alike).unwrap_or_else(|| {
                sorts.push(Sort { model: &gpu.model, geometry: gpu.geometry.as_deref(), places: Vec::new() });
                sorts.len() - 1
            });
            match mine.iter_mut().find(|(have, _)| *have == at) {
                Some((_, indices)) => indices.push(gpu.index.to_string()),
                None => mine.push((at, vec![gpu.index.to_string()])),
            }
        }
        for (at, indices) in mine {
            if let Some(sort) = sorts.get_mut(at) {
                sort.places.push(format!("{node} GPU {}", indices.join(", ")));
            }
        }
    }
    sorts
}

/// Whether a name is meant: in any case, with or without `NVIDIA ` before it, by globs as in a layout.
fn matcher(model: &str) -> Result<impl Fn(&str) -> bool + use<>, Error> {
    let glob = GlobBuilder::new(bare(model)).case_insensitive(true).backslash_escape(false).build();
    let glob = glob.map_err(|error| Error::usage(format!("`{model}` is no glob")).caused_by(error))?;
    let glob = glob.compile_matcher();
    Ok(move |name: &str| glob.is_match(bare(name)))
}

fn bare(name: &str) -> &str {
    match name.split_at_checked("NVIDIA ".len()) {
        Some((vendor, rest)) if vendor.eq_ignore_ascii_case("NVIDIA ") => rest,
        _ => name,
    }
}

fn unknown(model: &str, who: &str, known: &[&str]) -> Error {
    let wanted = bare(model).to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&bare(name).to_lowercase(), &wanted);
    // What differs in more than a third of its letters was not meant.
    let near = known.iter().filter(|name| distance(name) * 3 <= bare(name).len());
    let nearest = near.min_by_key(|name| distance(name));
    let error = Error::usage(format!("{who} is called {model}"));
    nearest.map(|nearest| format!("did you mean {}?", bare(nearest))).into_iter().fold(error, Error::hint)
}
