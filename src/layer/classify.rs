//! What a result says: of the endpoint that gave it, and of trying again.

use crate::base::{Error, Outcome};
use std::time::Duration;

/// Reads a result: one verdict on the endpoint, one on trying again.
///
/// Patterns take a classifier where an answer can be bad news, as HTTP's 503 is. A closure that says the [`Outcome`] is
/// one: trying again then follows from it.
///
/// ```
/// use seedpod::{base::{Error, Outcome}, layer::Classify};
///
/// let negative = |result: Result<&i32, &Error>| match result {
///     Ok(answer) if *answer < 0 => Outcome::Failure,
///     Ok(_) => Outcome::Success,
///     Err(error) => Outcome::of(error),
/// };
/// assert!(negative.retry_after(Ok(&-1)).is_some());
/// assert!(negative.retry_after(Ok(&1)).is_none());
/// ```
pub trait Classify<Response> {
    /// What became of the call.
    fn outcome(&self, result: Result<&Response, &Error>) -> Outcome;

    /// The shortest wait after which the same request is worth another try; none where it is not worth one.
    ///
    /// Unless overridden: errors by [`Error::is_retryable`], with the wait they ask for; answers where the outcome is a
    /// failure, or throttled, with the wait that this asks for.
    fn retry_after(&self, result: Result<&Response, &Error>) -> Option<Duration> {
        match result {
            Err(error) => error.is_retryable().then(|| error.retry_after().unwrap_or_default()),
            Ok(_) => match self.outcome(result) {
                Outcome::Failure | Outcome::LocalOrigin => Some(Duration::ZERO),
                Outcome::Throttled(wait) => Some(wait.unwrap_or_default()),
                _ => None,
            },
        }
    }
}

impl<Response, F: Fn(Result<&Response, &Error>) -> Outcome> Classify<Response> for F {
    fn outcome(&self, result: Result<&Response, &Error>) -> Outcome {
        self(result)
    }
}

/// Every answer is a success, every error what its kind says ([`Outcome::of`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standard;

impl<Response> Classify<Response> for Standard {
    #[inline(always)]
    fn outcome(&self, result: Result<&Response, &Error>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(error) => Outcome::of(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Kind;

    #[test]
    fn errors_are_tried_again_by_their_kind_with_the_wait_they_ask_for() {
        let busy = Error::new(Kind::Overloaded, "").after(Duration::from_secs(2));
        let retry = |error: &Error| Classify::<()>::retry_after(&Standard, Err(error));
        assert_eq!(retry(&busy), Some(Duration::from_secs(2)));
        assert_eq!(retry(&Kind::Unavailable.into()), Some(Duration::ZERO));
        assert_eq!(retry(&Kind::Invalid.into()), None);
        assert_eq!(Standard.retry_after(Ok(&1)), None);
    }

    #[test]
    fn a_closure_that_throttles_says_when_to_come_back() {
        let slow_down = |_: Result<&u8, &Error>| Outcome::Throttled(Some(Duration::from_secs(3)));
        assert_eq!(slow_down.retry_after(Ok(&1)), Some(Duration::from_secs(3)));
    }
}
