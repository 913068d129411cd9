//! What an apply tells at its end.

use super::super::args::Output;
use super::super::context::Picture;
use super::super::error::Error;
use super::super::output;
use super::super::outside::Outside;
use super::super::trouble;
use super::{Counts, Work};
use crate::model::plan::{Block, BlockCode};
use crate::model::{NodePlan, NodeState};
use crate::render;

impl<O: Outside> Work<'_, O> {
    pub(super) fn report(&self, picture: &Picture, seconds: f64) -> Result<(), Error> {
        let plan = &picture.plan;
        if self.global.output == Output::Json {
            let tales = trouble::tales(&self.fleet, plan)?;
            output::print(&render::json::status(&picture.desired, &picture.observed, plan, &tales));
            output::tell(&self.went_wrong());
            return Ok(());
        }
        let Counts { created, destroyed, moved } = self.counts;
        let did = format!("{created} created, {destroyed} destroyed, {moved} moved in {seconds:.1} s");
        let did = if O::SIMULATED { did + " of virtual time" } else { did };
        let settled = |node: &NodePlan| matches!(node.state, NodeState::Converged | NodeState::Unmanaged);
        let sound = plan.nodes.iter().all(settled) && plan.cluster.steps.is_empty() && self.failures.is_empty();
        // Virtual time passes only where something is done.
        let worked = if O::SIMULATED { seconds > 0.0 } else { self.begun };
        let mut text = match (worked, sound) {
            (true, _) if !self.failures.is_empty() => format!("\nStopped: {did}.\n"),
            (true, _) => format!("\nDone: {did}.\n"),
            (false, true) => "\nNothing to do.\n".to_owned(),
            (false, false) => "\nNothing was done.\n".to_owned(),
        };
        if sound {
            let managed = plan.nodes.iter().flat_map(|node| &node.gpus).filter(|gpu| gpu.managed);
            let kept: usize = managed.map(|gpu| gpu.keep.len()).sum();
            let nodes = plan.nodes.iter().filter(|node| node.state == NodeState::Converged).count();
            let (nodes_word, kept_word) =
                (if nodes == 1 { "node" } else { "nodes" }, if kept == 1 { "instance" } else { "instances" });
            text.push_str(&format!(
                "Verified by observing again: {nodes} {nodes_word} converged, {kept} {kept_word}.\n"
            ));
        } else {
            for block in &plan.cluster.blocked {
                text.push_str(&format!(
                    "{}: {}: {}\n  hint: {}\n",
                    block.code, block.object, block.message, block.hint
                ));
            }
            for node in plan.nodes.iter().filter(|node| !settled(node)) {
                text.push_str(&format!("{} is {}\n", node.name, node.state));
                // What holds back the tree is told above, once; what has just failed is told below.
                let failed = |block: &Block| block.code == BlockCode::Failed && self.failures.contains_key(&node.name);
                let told = |block: &&Block| plan.cluster.blocked.contains(block) || failed(block);
                for block in node.blocked.iter().filter(|block| !told(block)).chain(&node.waiting) {
                    text.push_str(&format!(
                        "  {}: {}: {}\n    hint: {}\n",
                        block.code, block.object, block.message, block.hint
                    ));
                }
            }
        }
        text.push_str(&self.went_wrong());
        output::print(&text);
        Ok(())
    }

    /// What makes an error of it.
    fn went_wrong(&self) -> String {
        let mut text: String = self.failures.iter().map(|(what, why)| format!("{what} failed: {why}\n")).collect();
        if self.fleet.outside.ledger() > 0 {
            text.push_str(&format!("DEFECT: {} destroy calls hit an instance in use.\n", self.fleet.outside.ledger()));
        }
        text
    }
}
