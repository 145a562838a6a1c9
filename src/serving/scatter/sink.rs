//! What a request to many leaves is told to: each answer and each failure.

use super::answers::Tally;
use crate::base::Error;
use std::{ops::ControlFlow, sync::Arc};

/// Takes what comes, in the order in which it comes.
pub(super) trait Sink<T> {
    /// What is kept of an answer.
    type Kept;

    /// Whether an answer stands for more leaves than one.
    const DEEP: bool;
    /// Whether it wants to know of each leaf by name in the end, and not only of those that failed.
    const KEEPS: bool;

    /// An answer; how many leaves it covers. A break says that no more are needed.
    fn answered(&mut self, name: &Arc<str>, answer: T) -> (Tally, ControlFlow<Self::Kept, Self::Kept>);

    /// A failure; how many leaves are lost with it.
    fn failed(&mut self, name: &Arc<str>, error: &Error) -> Tally;
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With what was required.
    Done,
    /// The requirement cannot be reached any more.
    Short,
    /// Time is up.
    Late,
    /// The canary failed, or was silent for too long.
    Canary,
}
