//! Where the machine stands.

/// Where the machine stands within a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// Before the first step the API server is asked whether it would allow each eviction.
    Asking,
    /// The record before is being written.
    Beginning,
    /// A guard's look is under way.
    Guarding,
    /// The act is under way.
    Acting,
    /// The effect of the act is awaited by looks.
    Watching,
    /// Waiting before the guards, the act or the look is tried again.
    Pausing(Box<Phase>),
    /// The record after is being written.
    Ending,
    /// What was done is being taken back, the last first.
    Undoing,
    /// The last record is being written.
    Closing,
}

/// How far the taking back at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undoing {
    /// The record before is to be written, or being written.
    Due,
    /// It is under way.
    Begun,
    /// The record after is being written.
    Done,
}
