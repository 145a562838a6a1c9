//! A delay as a walk down a ladder of queues: whatever it is, a few queues per topic are enough.
//!
//! RabbitMQ 3.10 delays a message by letting it expire in a queue that hands on what expires. In one queue only the
//! head expires, so all messages of a queue must wait equally long. Level `n` of the ladder makes them wait 2ⁿ ticks; a
//! delay is a sum of such powers, and the routing key says which: one word per level, `1` to wait there and `0` to go
//! past, the highest first, and in the end whom it is for.

use std::time::Duration;

/// The finest delay.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How many levels the ladder of a topic can have.
pub(super) const LEVELS: u32 = 24;
/// How many of a delay's highest bits are kept: so many levels it waits at, at most.
const BITS: u32 = 6;

/// A delay of some ticks, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delay(u32);

impl Delay {
    /// The longest: 19 days and 2 hours.
    pub(super) const MAX: Delay = Delay((1 << LEVELS) - (1 << (LEVELS - BITS)));

    /// At least this long, and longer by less than a tick or a thirty-second of it; none where it is too long.
    pub(super) fn of(wait: Duration) -> Option<Delay> {
        let ticks = u32::try_from(wait.as_nanos().div_ceil(TICK.as_nanos())).ok()?.max(1);
        let low = (u32::BITS - ticks.leading_zeros()).saturating_sub(BITS);
        let rounded = ticks.checked_next_multiple_of(1 << low)?;
        (rounded <= Delay::MAX.0).then_some(Delay(rounded))
    }

    /// How long it is.
    pub(super) fn wait(self) -> Duration {
        TICK.saturating_mul(self.0)
    }

    /// The level at which it enters the ladder.
    pub(super) fn top(self) -> u32 {
        self.0.ilog2()
    }

    /// The levels at which it waits.
    pub(super) fn levels(self) -> impl Iterator<Item = u32> {
        (0..LEVELS).rev().filter(move |level| self.0 >> level & 1 == 1)
    }

    /// The routing key: which levels it waits at, and for whom.
    pub(super) fn key(self, word: &str) -> String {
        let mut key = String::with_capacity(2 * LEVELS as usize + word.len());
        for level in (0..LEVELS).rev() {
            key.push_str(if self.0 >> level & 1 == 1 { "1." } else { "0." });
        }
        key.push_str(word);
        key
    }
}

/// How long what waits at this level does.
pub(super) fn wait_at(level: u32) -> Duration {
    TICK.saturating_mul(1 << level)
}

/// What matches the keys that wait, or do not, at this level.
pub(super) fn pattern(level: u32, waits: bool) -> String {
    let above = "*.".repeat((LEVELS - 1).saturating_sub(level) as usize);
    format!("{above}{}.#", u8::from(waits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    /// What RabbitMQ's topic exchange does.
    fn matches(pattern: &str, key: &str) -> bool {
        let (mut pattern, mut key) = (pattern.split('.'), key.split('.'));
        loop {
            match (pattern.next(), key.next()) {
                (Some("#"), _) => return true, // it only stands at the end here
                (Some("*"), Some(_)) => {}
                (Some(one), Some(other)) if one == other => {}
                (None, None) => return true,
                _ => return false,
            }
        }
    }

    #[test]
    fn a_message_walks_down_the_ladder_and_has_waited_long_enough() {
        let mut rng = Seed::new(3).rng();
        for _ in 0..20_000 {
            let wait = Duration::from_nanos(rng.next_u64() >> (12 + rng.next_u64() % 40));
            let Some(delay) = Delay::of(wait) else {
                assert!(wait > Delay::MAX.wait(), "{wait:?}");
                continue;
            };
            let key = delay.key("every");
            let mut waited = Duration::ZERO;
            let mut stops = 0;
            for level in (0..=delay.top()).rev() {
                let stays = matches(&pattern(level, true), &key);
                assert_ne!(stays, matches(&pattern(level, false), &key), "one way on at each level");
                assert_eq!(stays, delay.levels().any(|one| one == level));
                if stays {
                    waited += wait_at(level);
                    stops += 1;
                }
            }
            assert_eq!(waited, delay.wait());
            assert!(waited >= wait && waited <= wait + (wait / 32).max(TICK), "{wait:?} became {waited:?}");
            assert!(stops <= BITS);
        }
    }

    #[test]
    fn the_shortest_and_the_longest() {
        assert_eq!(Delay::of(Duration::ZERO).map(Delay::wait), Some(TICK));
        assert_eq!(Delay::of(Duration::from_millis(101)).map(Delay::wait), Some(2 * TICK));
        assert_eq!(Delay::of(Delay::MAX.wait()), Some(Delay::MAX));
        assert_eq!(Delay::of(Delay::MAX.wait() + TICK), None);
        assert_eq!(Delay::of(Duration::MAX), None);
        assert_eq!(Delay::MAX.wait().as_secs() / 3600, 19 * 24 + 2);
        assert_eq!(Delay(5).key("x").matches('.').count(), LEVELS as usize);
    }
}
