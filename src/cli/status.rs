//! `sectile status`: desired beside observed, GPU by GPU, with who uses what; or a whole fleet, a line a node.

use crate::cluster::{LeaseState, Published};
use crate::ports::Port;
use crate::render;
use crate::render::fleet::{Controller, Stands, Whole};
use crate::render::tale::Tale;

use super::args::{Global, Output, Status};
use super::ask;
use super::context::{self, Picture};
use super::error::Error;
use super::exit::Exit;
use super::fleet::{self, is_real_cluster, on};
use super::output;
use super::plan::{Afar, from_afar};
use super::trouble;

/// Observes and shows; changes nothing.
pub(super) fn run(args: &Status, global: &Global) -> Result<Exit, Error> {
    let path = match global.output {
        Output::Text => "/v1/status",
        Output::Wide => "/v1/status?output=wide",
        Output::Json => "/v1/status?output=json",
    };
    let given = args.tree.tree.is_some() || args.fleet || args.observed.is_some();
    if let Some(told) = ask::service(path, global, given) {
        output::print(&told?);
        return Ok(Exit::Done);
    }
    let (tree, units, loaded) = context::load(&args.tree.path(global), global)?;
    if args.fleet && (args.observed.is_some() || is_real_cluster(global)) {
        let Afar { picture, published, lease } = from_afar(args.observed.as_deref(), true, global, &tree, &loaded)?;
        let stands = |published: &Published| {
            let Published { state, revision, message } = published.clone();
            Stands { state, revision, message }
        };
        let nodes = published.iter().map(|(name, published)| (name.as_str(), stands(published))).collect();
        let places = picture.observed.cluster.places.known();
        show(&picture, &[], Some(&Whole { nodes, controller: lease.map(controller), places }), global);
        return Ok(Exit::Done);
    }
    on!(fleet::open(global, fleet::Purpose::Look)?, fleet => {
        let picture = context::look(&tree, &units, &loaded, &fleet, &|_| {})?;
        fleet.save()?;
        let tales = trouble::tales(&fleet, &picture.plan)?;
        show(&picture, &tales, args.fleet.then(Whole::default).as_ref(), global);
    });
    Ok(Exit::Done)
}

fn show(picture: &Picture, tales: &[Tale], whole: Option<&Whole<'_>>, global: &Global) {
    let Picture { desired, observed, plan } = picture;
    output::print(&match (global.output, whole) {
        (Output::Json, _) => render::json::fleet_status(desired, observed, plan, tales, whole),
        (Output::Text | Output::Wide, Some(whole)) => render::fleet::status(plan, whole),
        (Output::Text | Output::Wide, None) => {
            let text = render::status::status(desired, observed, plan, context::style(global));
            text + &tales.iter().map(Tale::text).collect::<String>()
        }
    });
}

fn controller(lease: Port<Option<LeaseState>>) -> Controller {
    match lease {
        Err(error) => Controller { unknown: Some(error.to_string()), ..Controller::default() },
        Ok(None) => Controller::default(),
        Ok(Some(LeaseState { holder, since, renewed, .. })) => Controller {
            holder: Some(holder).filter(|holder| !holder.is_empty()),
            since: since.map(|time| time.to_string()),
            renewed: renewed.map(|time| time.to_string()),
            unknown: None,
        },
    }
}
