//! The answers of a request, as they come.

use super::{
    answers::{Answer, Reply, Tally},
    asking::Asking,
    sink::{End, Sink},
};
use crate::{
    base::{BoxError, Error, Result},
    layer::Metadata,
};
use futures::{Stream, stream::FusedStream};
use std::{
    collections::VecDeque,
    fmt,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// The answers of a request as they come, failures among them, each leaf once: [`Scatter::stream`](super::Scatter::stream).
///
/// It ends when the requirement is met or cannot be met any more, or time is up: then come, at once, those that were not
/// waited for. [`result`](Self::result) tells which it was. Dropping it cancels what is under way.
#[must_use = "streams do nothing unless polled"]
pub struct Streaming<S: Service<R>, R> {
    asking: Option<Asking<S, R, ()>>,
    come: VecDeque<Answer<S::Response>>,
    result: Option<Result<Tally>>,
}

/// What is pinned is in boxes of its own.
impl<S: Service<R>, R> Unpin for Streaming<S, R> {}

impl<S: Service<R>, R> Streaming<S, R> {
    pub(super) fn new(asking: Result<Asking<S, R, ()>>) -> Self {
        let (asking, result) = match asking {
            Ok(asking) => (Some(asking), None),
            Err(error) => (None, Some(Err(error))),
        };
        Streaming { asking, come: VecDeque::new(), result }
    }

    /// How it ended: with what was required, or why not. None while it goes on.
    ///
    /// # Errors
    /// As those of [`Scatter`](super::Scatter).
    pub fn result(&self) -> Option<Result<Tally>> {
        self.result.clone()
    }
}

/// What has come and was not taken yet: at most one for each leaf.
struct Queue<'a, T>(&'a mut VecDeque<Answer<T>>);

impl<T> Sink<T> for Queue<'_, T> {
    type Kept = ();

    const DEEP: bool = false;
    const KEEPS: bool = true;

    fn answered(&mut self, name: &Arc<str>, answer: T) -> (Tally, ControlFlow<(), ()>) {
        self.0.push_back(Answer { name: name.clone(), reply: Reply::Answered(answer) });
        (Tally::ONE, ControlFlow::Continue(()))
    }

    fn failed(&mut self, name: &Arc<str>, error: &Error) -> Tally {
        self.0.push_back(Answer { name: name.clone(), reply: Reply::Failed(error.clone()) });
        Tally { failed: 1, ..Tally::default() }
    }
}

impl<S, R> Stream for Streaming<S, R>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError> + 'static,
    R: Metadata,
{
    type Item = Answer<S::Response>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(next) = this.come.pop_front() {
            return Poll::Ready(Some(next));
        }
        let Some(asking) = &mut this.asking else { return Poll::Ready(None) };
        if let Poll::Ready(end) = asking.poll(cx, &mut Queue(&mut this.come)) {
            let answers = asking.close::<Queue<'_, S::Response>>(end);
            this.result = Some(match end {
                End::Done => Ok(answers.tally()),
                end => Err(asking.error::<Queue<'_, S::Response>>(end, &answers)),
            });
            this.asking = None;
            this.come.extend(answers.into_iter().filter_map(|answer| {
                let reply = match answer.reply {
                    Reply::Answered(()) | Reply::Failed(_) => return None, // it has come
                    Reply::Late => Reply::Late,
                    Reply::Dropped => Reply::Dropped,
                    Reply::Unsent => Reply::Unsent,
                };
                Some(Answer { name: answer.name, reply })
            }));
        }
        match this.come.pop_front() {
            Some(next) => Poll::Ready(Some(next)),
            None if this.asking.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<S, R> FusedStream for Streaming<S, R>
where
    S: Service<R> + Clone,
    S::Error: Into<BoxError> + 'static,
    R: Metadata,
{
    fn is_terminated(&self) -> bool {
        self.asking.is_none() && self.come.is_empty()
    }
}

impl<S: Service<R>, R> fmt::Debug for Streaming<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").field("result", &self.result).finish_non_exhaustive()
    }
}
