//! The decision of a limit, pure: who may begin now, and who is told to come back when.

use crate::{base::Name, base::hash::Map, layer::Rate};
use std::time::Duration;

/// How many keys are told apart in one process. Where more are active at a time, those that come new share one place.
const KEYS: usize = 10_000;
/// Nobody is told to come back sooner: each time costs a settlement and a lease.
const SOONEST: Duration = Duration::from_millis(10);
/// Nor later: what was thought of the wait may be wrong.
const LATEST: Duration = Duration::from_secs(60);

/// What a limit counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Rate(Rate),
    AtOnce(u32),
}

/// What is known of one key. Times are in nanoseconds since some start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// When the next would have come, had they all kept the interval.
    arrival: u64,
    running: u32,
    /// Until when those who were refused have been told to stay away, one after the other.
    promised: u64,
}

impl Place {
    /// One of a rate, of which only this is known.
    pub(super) fn arriving(arrival: u64) -> Place {
        Place { arrival, ..Place::default() }
    }

    pub(super) fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Whether one more may begin now; else how long it must wait at least.
    pub(super) fn enter(&mut self, what: What, now: u64) -> Result<(), Option<Duration>> {
        match what {
            What::Rate(rate) => rate.take(&mut self.arrival, now, 0).map(drop).map_err(|wait| Some(nanos(wait))),
            What::AtOnce(most) if self.running < most => {
                self.running += 1;
                Ok(())
            }
            What::AtOnce(_) => Err(None),
        }
    }

    /// One that had begun is over, or did not begin after all.
    fn leave(&mut self, what: What, begun: bool) {
        match what {
            What::Rate(rate) if !begun => rate.put_back(&mut self.arrival),
            What::Rate(_) => {}
            What::AtOnce(_) => self.running = self.running.saturating_sub(1),
        }
    }

    /// When one that was refused is to come back: after those that were refused before it, so that they do not all come at
    /// once to be refused again.
    pub(super) fn promise(&mut self, wait: Duration, apart: Duration, now: u64) -> Duration {
        let when = self.promised.max(now.saturating_add(whole(wait)));
        self.promised = when.saturating_add(whole(apart));
        let wait = nanos(when - now);
        if wait > LATEST {
            self.promised = now; // the line is longer than anybody is told to wait: it begins anew
        }
        wait.clamp(SOONEST, LATEST)
    }

    fn is_idle(&self, now: u64) -> bool {
        self.running == 0 && self.arrival <= now && self.promised <= now
    }
}

/// The keys that are told apart, and how long one takes on average.
#[derive(Default)]
pub(super) struct Places {
    keys: Map<Name, Place>,
    rest: Place,
    taken: Option<Duration>,
}

impl Places {
    pub(super) fn of(&mut self, key: &Name, now: u64) -> &mut Place {
        if self.keys.len() >= KEYS && !self.keys.contains_key(key) {
            self.keys.retain(|_, place| !place.is_idle(now));
            if self.keys.len() >= KEYS {
                return &mut self.rest;
            }
        }
        self.keys.entry(key.clone()).or_default()
    }

    /// One of this key may begin now; else when it is to come back.
    pub(super) fn enter(&mut self, what: What, key: &Name, now: u64) -> Result<(), Duration> {
        let apart = self.apart(what);
        let place = self.of(key, now);
        place.enter(what, now).map_err(|wait| place.promise(wait.unwrap_or(apart), apart, now))
    }

    pub(super) fn leave(&mut self, what: What, key: &Name, begun: bool, took: Option<Duration>) {
        if let Some(took) = took {
            self.learn(took);
        }
        match self.keys.get_mut(key) {
            Some(place) => place.leave(what, begun),
            None => self.rest.leave(what, begun),
        }
    }

    /// One took this long.
    pub(super) fn learn(&mut self, took: Duration) {
        self.taken = Some(self.taken.map_or(took, |before| (before * 7 + took) / 8));
    }

    /// How far apart those are that begin, once as many run as may.
    pub(super) fn apart(&self, what: What) -> Duration {
        match what {
            What::Rate(rate) => rate.interval(),
            What::AtOnce(most) => self.taken.unwrap_or(Duration::from_secs(1)) / most.max(1),
        }
    }
}

pub(super) fn nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

pub(super) fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;
    use std::collections::BTreeMap;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn never_more_at_once_than_may_be_and_none_is_forgotten() {
        let (what, mut places, mut running) = (What::AtOnce(3), Places::default(), BTreeMap::<u64, u32>::new());
        let mut rng = Seed::new(3).rng();
        let mut refused = 0;
        for step in 0..100_000 {
            let key = rng.below(5);
            let name = Name::from(key.to_string());
            let count = running.entry(key).or_default();
            if rng.chance(0.5) {
                match places.enter(what, &name, step) {
                    Ok(()) => *count += 1,
                    Err(_) => {
                        assert_eq!(*count, 3, "refused only where as many run as may");
                        refused += 1;
                    }
                }
            } else if *count > 0 {
                places.leave(what, &name, true, None);
                *count -= 1;
            }
            assert!(*count <= 3);
        }
        assert!(refused > 1_000);
    }

    #[test]
    fn those_refused_come_back_one_after_the_other() {
        let what = What::Rate(Rate::new(10, Duration::from_secs(1)).unwrap().burst(1));
        let (mut places, key) = (Places::default(), Name::from("a"));
        assert!(places.enter(what, &key, SECOND).is_ok());
        let waits: Vec<_> = (0..4).map(|_| places.enter(what, &key, SECOND).unwrap_err().as_millis()).collect();
        assert_eq!(waits, [100, 200, 300, 400]);
        assert!(places.enter(what, &Name::from("b"), SECOND).is_ok(), "each key has its own");
        for back in 1..=4 {
            assert!(places.enter(what, &key, SECOND + back * SECOND / 10).is_ok(), "{back}");
        }
    }

    #[test]
    fn the_keys_are_bounded_and_idle_ones_forgotten() {
        let (what, mut places) = (What::AtOnce(1), Places::default());
        for key in 0..KEYS {
            assert!(places.enter(what, &Name::from(key.to_string()), 0).is_ok());
        }
        assert!(places.enter(what, &Name::from("one more"), 0).is_ok());
        assert!(places.enter(what, &Name::from("and another"), 0).is_err(), "they share what is left");
        for key in 0..KEYS {
            places.leave(what, &Name::from(key.to_string()), true, None);
        }
        assert!(places.enter(what, &Name::from("and another"), 1).is_ok());
        assert!(places.keys.len() < 10);
    }
}
