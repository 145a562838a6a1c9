//! The one with less latency, of two.

use super::{Choice, Picker};
use crate::{
    base::time,
    serving::{
        Among, Draw,
        cell::{Cell, nanos},
        load::{Timing, Watch},
    },
};
use std::time::Duration;

/// Two drawn at random, and of these the one whose latency, times what waits there, is less.
///
/// Latency is a moving average that a peak raises at once and only time brings down. Use it where endpoints differ in
/// speed, or turn slow one by one; not where a call may rightly take long (streams, long polling): there in flight says
/// more.
///
/// ```
/// use seedpod::{base::Error, serving::{PeakEwma, Replicas}};
/// use tower::{Service, service_fn};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mut replicas = Replicas::named("search").pick_by(PeakEwma::new());
/// replicas.endpoints().insert("a", service_fn(|n: u32| async move { Ok::<_, Error>(n + 1) }));
/// assert_eq!(replicas.call(1).await?, 2);
/// # Ok::<_, Error>(()) }).unwrap();
/// ```
///
/// **Guarantees**
/// - An endpoint that was never measured is tried with one call, at once; until that is over it is taken last.
/// - Every call is measured, also the one that decides whether an ejected endpoint comes back.
/// - A failure counts as if it had taken 5 s, or for as long as the endpoint asks to be left alone (300 s at most):
///   fast failures never attract. A call that was given up counts only as far as it took longer than thought.
/// - Choosing reads, and changes nothing: one word per endpoint, no lock.
///
/// **Defaults**: decay 10 s, 30 ms where the first call was given up (both linkerd's), failures 5 s (linkerd's load
/// biaser).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    decay: f32,
    unknown: f32,
    penalty: f32,
}

/// What an endpoint costs whose first call is still under way: more than any measurement.
const PROBING: f32 = 1e18;

impl PeakEwma {
    /// With the defaults.
    pub const fn new() -> Self {
        PeakEwma { decay: 10e9, unknown: 30e6, penalty: 5e9 }
    }

    /// In this time a latency fades to 37 % of what it was; at least 1 ms.
    #[must_use]
    pub fn decay(self, decay: Duration) -> Self {
        PeakEwma { decay: decay.max(MILLI).as_nanos() as f32, ..self }
    }

    /// What is assumed of an endpoint whose first call was given up, unless that had taken longer; at least 1 ms, since
    /// one that seems to take no time at all draws every call.
    #[must_use]
    pub fn unknown(self, latency: Duration) -> Self {
        PeakEwma { unknown: latency.max(MILLI).as_nanos() as f32, ..self }
    }

    /// What a failure counts as, where it did not take longer.
    #[must_use]
    pub fn penalty(self, latency: Duration) -> Self {
        PeakEwma { penalty: latency.as_nanos() as f32, ..self }
    }

    #[inline(always)]
    fn timed(&self, place: usize, start: u64) -> Choice {
        let PeakEwma { decay, unknown, penalty } = *self;
        Choice { place, watch: Watch::Time(Timing { start, decay, penalty, unknown }) }
    }

    /// What a call to this endpoint is expected to cost: latency, times this call and those in flight by weight.
    #[inline(always)]
    fn expected<S>(
        &self,
        among: &Among<'_, S>,
        place: usize,
        cell: &crate::base::sync::Counted<Cell>,
        now: u64,
    ) -> f32 {
        let pending = Cell::pending(cell) as f32;
        match cell.cost(now, self.decay) {
            Some(cost) if among.sampling.is_even() => cost * (1.0 + pending),
            Some(cost) => cost * (1.0 + pending / among.sampling.relative(place)),
            None if pending > 0.0 => PROBING * pending,
            None => 0.0,
        }
    }
}

const MILLI: Duration = Duration::from_millis(1);

impl Default for PeakEwma {
    fn default() -> Self {
        PeakEwma::new()
    }
}

impl<Req: ?Sized> Picker<Req> for PeakEwma {
    #[inline(always)]
    fn choose<S>(&self, among: &Among<'_, S>, _: &Req, draw: &mut Draw) -> Option<Choice> {
        let (a, b) = among.two(draw)?;
        let (first, second) = (&among.snapshot.list.get(a)?.cell, &among.snapshot.list.get(b)?.cell);
        let now = time::now();
        let start = nanos(among.snapshot.epoch, now);
        let place = match (first.is_shunned(|| now), second.is_shunned(|| now)) {
            (true, false) => b,
            (false, true) => a,
            _ if self.expected(among, a, first, start) <= self.expected(among, b, second, start) => a,
            _ => b,
        };
        Some(self.timed(place, start))
    }

    fn fixed<S>(&self, among: &Among<'_, S>, place: usize) -> Choice {
        self.timed(place, nanos(among.snapshot.epoch, time::now()))
    }
}
