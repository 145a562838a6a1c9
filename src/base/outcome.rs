//! What became of a call, said once per pick.

use super::{Error, Kind};
use std::time::Duration;

/// What became of a call. Load, ejection, breaker, slow start and tracing all read this one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Answered, and well.
    Success,
    /// Answered badly, or not at all, and the endpoint is to blame.
    Failure,
    /// It never got as far as the endpoint's application: refused, reset before sent, no route.
    LocalOrigin,
    /// Refused under load, perhaps with a time to come back. Fast, and yet not attractive.
    Throttled(Option<Duration>),
    /// The caller's own fault (invalid, not found): says nothing of the endpoint.
    Ignored,
    /// Another attempt of the same request won.
    Superseded,
    /// Given up by the caller before it was over, and not because it took too long.
    Cancelled,
}

impl Outcome {
    /// How an error reads by default. Patterns take a classifier where this does not fit.
    pub fn of(error: &Error) -> Outcome {
        match error.kind() {
            Kind::Overloaded => Outcome::Throttled(error.retry_after()),
            Kind::Unavailable => Outcome::LocalOrigin,
            Kind::Rejected | Kind::Invalid | Kind::NotFound | Kind::Conflict => Outcome::Ignored,
            _ => Outcome::Failure,
        }
    }

    /// Whether the time that the call took says something about the endpoint's speed.
    pub fn is_sample(self) -> bool {
        matches!(self, Outcome::Success | Outcome::Failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_outcomes() {
        let error = Error::new(Kind::Overloaded, "").after(Duration::from_secs(3));
        assert_eq!(Outcome::of(&error), Outcome::Throttled(Some(Duration::from_secs(3))));
        assert_eq!(Outcome::of(&Kind::NotFound.into()), Outcome::Ignored);
        assert_eq!(Outcome::of(&Kind::Timeout.into()), Outcome::Failure);
        assert!(!Outcome::Superseded.is_sample());
    }
}
