//! An answer as it is kept, and which are worth it.

use crate::{
    base::{Error, Outcome, Result},
    layer::Classify,
};
use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;

/// An answer as it is kept: whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptAnswer {
    /// What became of the request.
    pub status: StatusCode,
    /// The head.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What followed it.
    pub trailers: Option<HeaderMap>,
    /// Stands for an answer that was too long to be kept: kept whatever the classifier says.
    pub lasts: bool,
}

impl KeptAnswer {
    /// An answer without trailers, read back from where it was kept.
    pub fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        KeptAnswer { status, headers, body, trailers: None, lasts: false }
    }

    pub(super) fn weight(&self) -> usize {
        let head = self.headers.iter().chain(self.trailers.iter().flatten());
        size_of::<Self>()
            + self.body.len()
            + head.map(|(name, value)| name.as_str().len() + value.len() + 64).sum::<usize>()
    }
}

/// Reads HTTP answers as the first of their key: below 400 is a success and kept; all else may be tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpSuccess;

impl Classify<KeptAnswer> for HttpSuccess {
    fn outcome(&self, result: Result<&KeptAnswer, &Error>) -> Outcome {
        match result {
            Err(error) => Outcome::of(error),
            Ok(answer) if answer.status.as_u16() < 400 => Outcome::Success,
            Ok(_) => Outcome::Failure,
        }
    }
}

/// Keeps what lasts, and for the rest asks the classifier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lasting<C>(pub(super) C);

impl<C: Classify<KeptAnswer>> Classify<KeptAnswer> for Lasting<C> {
    fn outcome(&self, result: Result<&KeptAnswer, &Error>) -> Outcome {
        match result {
            Ok(answer) if answer.lasts => Outcome::Success,
            result => self.0.outcome(result),
        }
    }
}
