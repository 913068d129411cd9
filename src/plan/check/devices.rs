//! What the host keeps of its MIG devices is made anew once they change, and before anybody is given any.

use std::collections::BTreeMap;

use crate::model::observed::ObservedNode;
use crate::model::plan::{Step, StepKind};

use super::{Findings, Invariant};

/// Every change is told to a host that keeps something, and nothing else is.
pub(super) fn check(seen: &ObservedNode, steps: &[Step], found: &mut Findings) {
    let keeps = !seen.device_files.is_empty();
    let mut modes: BTreeMap<&str, bool> = seen.gpus.iter().map(|gpu| (gpu.uuid.as_str(), gpu.mig.current)).collect();
    let mut outdated = false;
    for step in steps {
        let gives = match &step.kind {
            StepKind::DestroyInstance { .. } | StepKind::CreateInstance { .. } => {
                outdated = true;
                false
            }
            StepKind::SetMigMode { gpu, enabled } => {
                outdated |= modes.insert(gpu, *enabled) != Some(*enabled);
                false
            }
            StepKind::RefreshDevices { files } => {
                if !files.iter().eq(&seen.device_files) {
                    found.add(Invariant::Foreign, Some(step.id), "it makes other files than those that the host keeps");
                }
                if !outdated {
                    found.add(Invariant::Needless, Some(step.id), "it tells the host of devices that have not changed");
                }
                outdated = false;
                false
            }
            StepKind::ResumeClients { .. }
            | StepKind::RefreshClients
            | StepKind::Untaint
            | StepKind::StartUnit { .. }
            | StepKind::ResumeCommand { .. } => true,
            _ => false,
        };
        if gives && outdated && keeps {
            found.add(Invariant::Bracket, Some(step.id), "the host was not told of the new devices before");
        }
    }
    if outdated && keeps {
        found.add(Invariant::Bracket, None, "the host is never told of the new devices");
    }
}
