//! Whether a handler still moves: it is polled only when something wakes it, and each time counts as a sign of life.

use crate::base::sync::{
    Lock,
    atomic::{AtomicBool, AtomicU32, Ordering},
};
use crate::queue::progress::Reports;
use futures::task::{ArcWake, AtomicWaker, waker};
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

/// The signs of life of one handler.
#[derive(Default)]
pub(crate) struct Pulse {
    beats: AtomicU32,
    woken: AtomicBool,
    outer: AtomicWaker,
    reports: Lock<Reports>,
}

impl Pulse {
    /// How many signs of life there were; it goes round at its end.
    pub(super) fn beats(&self) -> u32 {
        self.beats.load(Ordering::Relaxed)
    }

    /// A sign of life.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// What was said of its progress.
    pub(super) fn reports(&self) -> &Lock<Reports> {
        &self.reports
    }

    /// Runs this so that it is polled only when woken, and each wake is a sign of life.
    ///
    /// What stands beside it in one task is polled with it: a timer there says nothing about the handler.
    pub(super) async fn around<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        let (mut work, inner) = (pin!(work), waker(self.clone()));
        self.woken.store(true, Ordering::Relaxed);
        std::future::poll_fn(move |cx| {
            self.outer.register(cx.waker());
            if !self.woken.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            Pin::as_mut(&mut work).poll(&mut Context::from_waker(&inner))
        })
        .await
    }
}

impl ArcWake for Pulse {
    fn wake_by_ref(pulse: &Arc<Self>) {
        pulse.beat();
        pulse.woken.store(true, Ordering::Release);
        pulse.outer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn only_its_own_wakes_are_signs_of_life() {
        let pulse = Arc::new(Pulse::default());
        let second = Duration::from_secs(1);
        let moving = pulse.around(async {
            for _ in 0..3 {
                time::sleep(10 * second).await;
            }
            std::future::pending::<()>().await;
        });
        let beside = async {
            for beats in [0, 1, 1, 2, 2, 3, 3, 3, 3] {
                time::sleep(4 * second).await;
                time::sleep(second).await;
                assert_eq!(pulse.beats(), beats);
            }
        };
        let busy = async {
            for _ in 0..45 {
                time::sleep(second).await;
            }
        };
        tokio::select! {
            biased;
            () = moving => {}
            ((), ()) = futures::future::join(beside, busy) => {}
        }
        pulse.beat();
        assert_eq!(pulse.beats(), 4);
    }
}
