//! One timer per call, armed only when the call has to wait.

use crate::base::time::Instant;
use pin_project_lite::pin_project;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Sleep, sleep_until};

pin_project! {
    /// A timer that is armed at its first poll and re-armed in place: arming one costs half a microsecond, more than most
    /// calls that are answered at once, and a second one per call would cost it again.
    #[derive(Default)]
    pub(crate) struct Timer {
        at: Option<Instant>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Timer {
    /// Ready once this moment has come. Asking for another moment re-arms it. Needs a tokio runtime with time.
    pub(crate) fn poll_until(self: Pin<&mut Self>, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if *this.at != Some(at) {
            *this.at = Some(at);
            match this.sleep.as_mut().as_pin_mut() {
                Some(sleep) => sleep.reset(at),
                None => this.sleep.set(Some(sleep_until(at))),
            }
        }
        if let Some(sleep) = this.sleep.as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        *this.at = None; // a timer that has fired is armed anew, even for the same moment
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;
    use std::{future::poll_fn, pin::pin, time::Duration};

    #[tokio::test(start_paused = true)]
    async fn one_timer_is_armed_again_for_earlier_and_later() {
        let start = time::now();
        let mut timer = pin!(Timer::default());
        let pending = poll_fn(|cx| Poll::Ready(timer.as_mut().poll_until(start + Duration::from_secs(60), cx))).await;
        assert!(pending.is_pending());
        for seconds in [1, 30, 30, 40] {
            let at = start + Duration::from_secs(seconds);
            poll_fn(|cx| timer.as_mut().poll_until(at, cx)).await;
            assert_eq!(time::now(), at);
        }
    }
}
