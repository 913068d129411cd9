//! What advertises can start with what is there, and has something to hand out: in the strategies that are not `mixed`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::observed::{MigStrategy, ObservedNode};
use crate::model::plan::{Step, StepKind};
use crate::model::profile::ProfileName;

use super::{Findings, Invariant};

/// The GPUs of a node: MIG mode, and the profile of the device at each start.
struct Faces<'a>(BTreeMap<&'a str, (bool, BTreeMap<u32, ProfileName>)>);

impl<'a> Faces<'a> {
    fn new(seen: &'a ObservedNode) -> Self {
        let of = |gpu: &'a crate::model::ObservedGpu| {
            let devices = gpu.instances.iter().filter(|i| !i.compute.is_empty());
            let devices = devices.map(|i| (i.placement.start, i.profile)).collect();
            (gpu.uuid.as_str(), (gpu.mig.current, devices))
        };
        Faces(seen.gpus.iter().filter(|gpu| !seen.lost.contains(&gpu.index)).map(of).collect())
    }

    fn step(&mut self, kind: &StepKind) {
        match kind {
            StepKind::DestroyInstance { slot } => {
                if let Some((_, devices)) = self.0.get_mut(slot.gpu.as_str()) {
                    devices.remove(&slot.placement.start);
                }
            }
            StepKind::CreateInstance { slot, compute } if !compute.is_empty() => {
                if let Some((_, devices)) = self.0.get_mut(slot.gpu.as_str()) {
                    devices.insert(slot.placement.start, slot.profile);
                }
            }
            StepKind::SetMigMode { gpu, enabled } => {
                if let Some((mode, _)) = self.0.get_mut(gpu.as_str()) {
                    *mode = *enabled;
                }
            }
            _ => {}
        }
    }

    /// Whether the plugin fails to start in its strategy `single`.
    fn fail(&self) -> bool {
        let cut = self.0.values().filter(|(mode, _)| *mode).count();
        let kinds: BTreeSet<_> = self.0.values().filter(|(mode, _)| *mode).flat_map(|(_, d)| d.values()).collect();
        let bare = self.0.values().any(|(mode, devices)| *mode && devices.is_empty());
        cut > 0 && (cut < self.0.len() || bare || kinds.len() > 1)
    }
}

/// Whether what advertises would not start with what is there at the end.
pub(super) fn fails(seen: &ObservedNode, steps: &[Step]) -> bool {
    let mut faces = Faces::new(seen);
    steps.iter().for_each(|step| faces.step(&step.kind));
    seen.strategy() == MigStrategy::Single && faces.fail()
}

/// Looks at every restart of what advertises, and at what is made for nobody.
pub(super) fn check(seen: &ObservedNode, steps: &[Step], found: &mut Findings) {
    let mut faces = Faces::new(seen);
    for step in steps {
        faces.step(&step.kind);
        match (&step.kind, seen.strategy()) {
            (StepKind::ResumeClients { .. } | StepKind::RefreshClients, MigStrategy::Single) if faces.fail() => {
                found.add(
                    Invariant::Offered,
                    Some(step.id),
                    "the device plugin would not start with what is there then",
                );
            }
            (StepKind::CreateInstance { .. }, MigStrategy::None) => {
                found.add(Invariant::Offered, Some(step.id), "the device plugin hands out no MIG devices");
            }
            _ => {}
        }
    }
}
