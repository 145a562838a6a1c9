//! A future that may be over already.

use super::Result;
use futures::future::BoxFuture;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// A few things, one of which is held inline: one at a time allocates no list.
pub type Few<T> = smallvec::SmallVec<[T; 1]>;

/// The result of a call that is often over when it returns.
///
/// What is in memory answers at once and allocates nothing; what needs the disk or the network boxes a future. The call
/// acts when it is made, not when the answer is first polled.
///
/// **Cancel-safety**: dropping an answer gives up waiting for it, no more: what the call began may still take effect.
#[must_use = "an answer holds a result: await it"]
pub enum Answer<'a, T> {
    /// Over. Empty once it has been taken.
    Now(Option<Result<T>>),
    /// Under way.
    Later(BoxFuture<'a, Result<T>>),
}

impl<'a, T> Answer<'a, T> {
    /// Over with this result.
    pub fn now(result: Result<T>) -> Self {
        Answer::Now(Some(result))
    }

    /// Over, and well.
    pub fn ok(value: T) -> Self {
        Answer::Now(Some(Ok(value)))
    }

    /// Under way; what acts at once must have acted before the future is made.
    pub fn later(future: impl Future<Output = Result<T>> + Send + 'a) -> Self {
        Answer::Later(Box::pin(future))
    }
}

impl<T: Unpin> Future for Answer<'_, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match self.get_mut() {
            Answer::Now(result) => match result.take() {
                Some(result) => Poll::Ready(result),
                None => Poll::Pending, // polled after it was over: no result is owed
            },
            Answer::Later(future) => future.as_mut().poll(cx),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Now(result) => f.debug_tuple("Now").field(result).finish(),
            Answer::Later(_) => f.write_str("Later(..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn now_is_ready_and_later_is_polled() {
        assert_eq!(Answer::ok(3).now_or_never().unwrap().unwrap(), 3);
        assert_eq!(Answer::later(async { Ok(4) }).now_or_never().unwrap().unwrap(), 4);
        assert!(Answer::<u8>::later(std::future::pending()).now_or_never().is_none());
    }
}
