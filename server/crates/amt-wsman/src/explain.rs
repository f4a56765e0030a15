//! What a person can do about a failure, and whose it is: the same questions to every error of this crate.

/// Who or what stood in the way. Programs make their exit codes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The device was not there, or stopped answering.
    Unreachable,
    /// The device, its policy or its user said no.
    Refused,
    /// Anything else.
    Failed,
}

/// An error that can advise.
pub trait Explain {
    /// Who or what stood in the way.
    fn blame(&self) -> Blame;

    /// What to do about it, as a sentence without a capital and a full stop; `None` when nothing better than the error
    /// itself can be said.
    fn cure(&self) -> Option<&'static str>;
}
