//! What things cost: weights for the choice of targets, and published measurements for estimates.

use crate::model::plan::StepKind;

/// An idle instance that is lost costs one operation more.
pub const IDLE: u64 = 1;
/// A disturbed user is far above any number of operations on a node.
pub const USER: u64 = 10_000;
/// A user that may not be disturbed is above any number of others.
pub const REFUSED: u64 = 100_000_000;
/// A mode change weighs as many creations: of two equal GPUs, the one whose mode is right is cut.
pub const MODE_CHANGE: u64 = 10;
/// A touched node: its device plugin restarts once.
pub const TOUCH: u64 = 100;

/// Milliseconds that a step is expected to take.
///
/// Sources: create and destroy 43 and 109 ms (Jormungandr, SYSTOR'24, fig. 11, A100), restart of the device plugin
/// 4.3 s, registering new devices with CDI 1.86 s and deletion of a pod at once 1.1 s (same), MIG mode on A100 4 to 5 s (gpu-operator issue 351). How long a
/// workload takes to be ready again is not known; 1 s stands for it.
pub fn step_ms(kind: &StepKind) -> u64 {
    match kind {
        StepKind::CreateInstance { .. } => 43,
        StepKind::DestroyInstance { .. } => 109,
        StepKind::ResumeClients { .. } | StepKind::RefreshClients => 4_300,
        StepKind::RefreshDevices { .. } => 1_860,
        StepKind::SetMigMode { .. } => 4_500,
        StepKind::AwaitGone { .. } | StepKind::TerminateProcess { .. } => 1_100,
        StepKind::StopUnit { .. } | StepKind::StartUnit { .. } => 1_000,
        StepKind::DrainCommand { .. } | StepKind::ResumeCommand { .. } => 2_000,
        StepKind::AwaitReady { .. } => 1_000,
        StepKind::StandDown
        | StepKind::Taint
        | StepKind::Untaint
        | StepKind::EvictPod { .. }
        | StepKind::BindWorkload { .. }
        | StepKind::UnbindWorkload { .. } => 50,
        StepKind::PauseClients { .. } => 500,
        // Nobody published how long a reset takes; on an idle GPU it is seconds.
        StepKind::ResetGpu { .. } => 2_000,
    }
}

/// Whole seconds, rounded up, never 0.
pub fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000).max(1)
}
