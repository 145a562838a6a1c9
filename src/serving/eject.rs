//! Who may not be picked, for a while: a detector of endpoints that fail.
//!
//! - [`Detector`], over all endpoints of a set — start here
//! - [`Ejection`], its settings, and whose they are
//! - [`Explanation`], who is out, why, until when
//! - [`Routes`], a detector for each route, where one bad route must not put an endpoint out for all:
//!   [`Replicas::eject_by_route`](super::Replicas::eject_by_route)

use crate::base::{
    Result, Seed,
    sync::{
        Arc, Lock,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{self, Instant},
};
use std::fmt;

mod explain;
mod fleet;
mod meter;
mod patient;
mod policy;
mod routes;
#[cfg(test)]
mod tests;
mod ward;
mod watched;

pub use explain::{Explained, Explanation, Reason, Standing};
pub(crate) use patient::{Shown, Sign};
pub use policy::{Ejection, Growth};
pub(crate) use routes::Muster;
pub use routes::Routes;
use ward::Ward;
pub use watched::{Admit, Probe, Watched};

/// Puts endpoints out that fail, for a while, and lets them back in once they have proved themselves.
///
/// A decision and no more: it is told which endpoints there are, the outcome of each call and the time, and says who may
/// be picked. It starts no task and reads no clock; what is due is done by whoever comes next.
///
/// ```text
///   in ──failures in a row, rate, fleet──► ejected ──its time is over──► one probe ──success──► in
///                                             ▲                             │
///                                             └────────── a longer time ◄───┘ failure, throttled
/// ```
///
/// ```
/// use seedpod::{base::{time, Outcome}, serving::{Detector, Ejection, eject::Admit}};
/// use std::time::Duration;
///
/// let detector = Detector::new(Ejection::none().failures(3).wait(Duration::from_secs(30)).jitter(0.0))?;
/// let (a, b) = (detector.join("cart-a"), detector.join("cart-b"));
/// let now = time::now();
/// (0..3).for_each(|_| a.record(Outcome::Failure, || now));
/// assert!(!a.is_in() && b.is_in());
/// assert_eq!(
///     detector.explain(now).to_string(),
///     "1 of 2 out, 1 allowed\ncart-a: ejected since 0 s, 30 s to go: 3 failures in a row",
/// );
///
/// let later = now + Duration::from_secs(30);
/// let Admit::Probe(probe) = a.admit(later) else { panic!("its time is over") };
/// assert!(matches!(a.admit(later), Admit::Out), "one probe at a time");
/// probe.settle(Outcome::Success, later);
/// assert!(a.is_in());
/// # Ok::<_, seedpod::Error>(())
/// ```
///
/// **Guarantees**
/// - After every step no more endpoints are out than [`Ejection::allowed`] says, those being tried included: also while
///   endpoints leave and settings change, when those over the cap come back at once, the longest out first.
/// - An endpoint that is out gets one probe at a time; only its outcome decides. A probe that is dropped, cancelled or
///   says nothing leaves its place to the next request; so does one that has not ended after 30 s, and once another has
///   its place, what becomes of it decides nothing.
/// - A success costs a few loads and additions on the endpoint's own counters; it takes no lock, and reads the time only
///   where a [`rate`](Ejection::rate) over a window is asked for.
///
/// **Not guaranteed**: that concurrent successes and failures are put into one order: which of them ended a row is
/// decided by who came first. What was under way when its endpoint was put out is not counted any more.
///
/// A handle: clones are the same detector.
#[derive(Clone)]
pub struct Detector(Arc<Shared>);

struct Shared {
    start: Instant,
    rules: Rules,
    /// When the interval is over, in nanoseconds after the start.
    due: AtomicU64,
    changes: AtomicU64,
    ward: Lock<Ward>,
}

/// What the counting needs of the settings, readable without a lock. Written seldom, so on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Rules {
    /// Whether there are rules by interval, and the nanoseconds of a part of the window; 0 is none.
    interval: AtomicBool,
    part: AtomicU64,
    failures: AtomicU32,
    local_origin: AtomicU32,
    split: AtomicBool,
    throttled: AtomicBool,
    /// How many there are and how many of them are out.
    all: AtomicU32,
    out: AtomicU32,
    panic: AtomicBool,
}

impl Detector {
    /// A detector without endpoints. Its chance comes from the running simulation's seed, or from the system.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) naming the setting that makes no sense.
    pub fn new(settings: Ejection) -> Result<Self> {
        settings.check()?;
        Ok(Detector::checked(settings))
    }

    fn checked(settings: Ejection) -> Self {
        let (start, rng) = (time::now(), Seed::ambient().fork("eject").rng());
        let due = AtomicU64::new(settings.interval.as_nanos() as u64);
        let ward = Lock::new(Ward::new(settings, rng, start));
        let detector =
            Detector(Arc::new(Shared { start, rules: Rules::default(), due, changes: AtomicU64::new(0), ward }));
        detector.0.publish(&mut detector.0.ward.lock());
        detector
    }

    /// Where its chance comes from, instead.
    #[must_use]
    pub fn seed(self, seed: Seed) -> Self {
        self.reseed(seed);
        self
    }

    pub(crate) fn reseed(&self, seed: Seed) {
        self.0.ward.lock().rng = seed.fork("eject").rng();
    }

    /// An endpoint has come; the handle that picks and outcomes go by. Of a key that is there already, the same.
    pub fn join(&self, key: impl Into<std::sync::Arc<str>>) -> Watched {
        let mut ward = self.0.ward.lock();
        let patient = ward.join(key.into());
        self.0.publish(&mut ward);
        Watched { patient, shared: self.0.clone() }
    }

    /// An endpoint has gone. It is forgotten: under its key another may come, with a clean slate.
    pub fn leave(&self, key: &str, now: Instant) {
        let mut ward = self.0.ward.lock();
        ward.leave(key, now);
        self.0.publish(&mut ward);
    }

    /// The settings.
    pub fn settings(&self) -> Ejection {
        self.0.ward.lock().settings.clone()
    }

    /// Other settings from now on. Who is out stays out for the time it was given, unless the cap is lower now.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::base::Kind::Invalid) naming the setting that makes no sense; nothing is changed then.
    pub fn set(&self, settings: Ejection, now: Instant) -> Result {
        settings.check()?;
        let mut ward = self.0.ward.lock();
        let next = self.0.nanos(now).saturating_add(settings.interval.as_nanos() as u64);
        self.0.due.fetch_min(next, Relaxed);
        ward.set(settings, now);
        self.0.publish(&mut ward);
        Ok(())
    }

    /// Does what is due: compares the endpoints at the end of an interval, and without probation brings back those whose
    /// time is over. Failures and picks do it as they come; call it where none may come.
    pub fn tick(&self, now: Instant) {
        self.0.sweep(now);
        if self.out() > 0 {
            let mut ward = self.0.ward.lock();
            ward.release(now);
            self.0.publish(&mut ward);
        }
    }

    /// How many are out, those being tried included.
    #[inline]
    pub fn out(&self) -> usize {
        self.0.rules.out.load(Relaxed) as usize
    }

    /// Whether so many are out that all are to be used. Endpoints of a set that are not ready count as not pickable.
    #[inline]
    pub fn panics(&self) -> bool {
        self.0.rules.panic.load(Relaxed)
    }

    /// A number that grows whenever somebody is put out or comes back.
    #[inline]
    pub fn version(&self) -> u64 {
        self.0.changes.load(Acquire)
    }

    /// Who is out at this moment, why, since when and until when.
    pub fn explain(&self, now: Instant) -> Explanation {
        self.0.ward.lock().explain(now)
    }

    /// Makes those that are named to the roll the endpoints, in one step. It is called under the lock: whoever reads a set
    /// that changes reads it there, so that the last to come has seen the last change.
    pub(crate) fn roll<R>(&self, now: Instant, call: impl FnOnce(&mut Roll<'_>) -> R) -> R {
        let mut ward = self.0.ward.lock();
        let result = call(&mut Roll { ward: &mut ward, shared: &self.0 });
        ward.dismiss(now);
        self.0.publish(&mut ward);
        result
    }
}

impl fmt::Debug for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Detector({} of {} out)", self.out(), self.0.rules.all.load(Relaxed))
    }
}

impl Shared {
    fn nanos(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_nanos() as u64
    }

    /// Makes visible what was decided, before the lock is given back.
    fn publish(&self, ward: &mut Ward) {
        let panics = ward.reckon();
        let (rules, settings) = (&self.rules, &ward.settings);
        let (all, out) = ward.census();
        let part = settings.rate.map_or(0, |rate| rate.window.as_nanos() as u64 / meter::PARTS);
        rules.interval.store(settings.fleet.is_some() || settings.failing.is_some(), Relaxed);
        rules.part.store(part, Relaxed);
        rules.failures.store(settings.failures, Relaxed);
        rules.local_origin.store(settings.local_origin, Relaxed);
        rules.split.store(settings.split, Relaxed);
        rules.throttled.store(settings.throttled, Relaxed);
        rules.all.store(all as u32, Relaxed);
        rules.out.store(out as u32, Relaxed);
        rules.panic.store(panics, Relaxed);
        self.changes.store(ward.changes, Release);
    }

    /// Ends the interval where it is over, by whoever comes first.
    fn sweep(&self, now: Instant) {
        let (due, now_nanos) = (self.due.load(Relaxed), self.nanos(now));
        if now_nanos < due {
            return;
        }
        let mut ward = self.ward.lock();
        let next = now_nanos.saturating_add(ward.settings.interval.as_nanos() as u64);
        if self.due.compare_exchange(due, next, Relaxed, Relaxed).is_ok() {
            ward.sweep(now);
            self.publish(&mut ward);
        }
    }
}

/// Who is an endpoint: [`Detector::roll`].
pub(crate) struct Roll<'a> {
    ward: &'a mut Ward,
    shared: &'a Arc<Shared>,
}

impl Roll<'_> {
    /// This key is one, and is pickable apart from ejection or not. Who came before under the key, and is not `known`, is
    /// gone. What the sign shows is what is decided of it.
    pub(crate) fn call(
        &mut self,
        key: &std::sync::Arc<str>,
        known: Option<&Watched>,
        ready: bool,
        sign: impl FnOnce() -> Sign,
    ) -> Watched {
        let patient = self.ward.call(key, known.map(|known| &known.patient), ready, sign);
        Watched { patient, shared: self.shared.clone() }
    }
}
