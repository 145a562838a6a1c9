//! What a scope knows of its sockets: that they can be cut.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

/// A stream or a listener, as its scope holds it.
pub(super) type Socket = Arc<dyn Cut>;

/// Ends at once, for good, from anywhere.
pub(super) trait Cut: Send + Sync {
    /// Resets a stream, closes a listener. Own ends see it too: they fail rather than wait. Again: does nothing.
    fn cut(&self);
}

/// Remembers whom to wake; costs nothing while it stays the same task.
pub(super) fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

/// Wakes those that are there. Foreign code: never under a lock.
pub(super) fn wake(wakers: impl IntoIterator<Item = Option<Waker>>) {
    for waker in wakers.into_iter().flatten() {
        waker.wake();
    }
}
