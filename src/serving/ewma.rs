//! A peak-sensitive moving average of latency in one word: pure.
//!
//! The high half is the cost in nanoseconds (`f32`), the low one when it was last changed, in ticks of 2^20 ns. A rise
//! counts at once and in full, what is lower only bit by bit as time passes, and time alone lets the cost fall. The word
//! 0 says that nothing was measured yet.

/// The length of a tick, as a shift: 1.05 ms. Ticks wrap after 52 days.
const TICK: u32 = 20;

/// A clock that runs backwards, as seen from another thread, does so by less than this many ticks; what seems further
/// off has wrapped and is old.
const BACKWARDS: u32 = 60_000;

#[inline(always)]
pub(super) fn tick(nanos: u64) -> u32 {
    (nanos >> TICK) as u32
}

/// How much of a value of that tick is left now: 1 at the same moment, and towards 0.
#[inline(always)]
fn left(then: u32, now: u32, decay: f32) -> f32 {
    let age = now.wrapping_sub(then);
    if age == 0 || age > u32::MAX - BACKWARDS {
        return 1.0;
    }
    let part = age as f32 * ((1_u32 << TICK) as f32 / decay);
    // below a thousandth the line is exact to five parts in ten million
    if part < 1e-3 { 1.0 - part } else { (-part).exp() }
}

#[inline(always)]
fn pack(cost: f32, tick: u32) -> u64 {
    (u64::from(cost.max(1.0).to_bits()) << 32) | u64::from(tick)
}

#[inline(always)]
fn cost(word: u64) -> f32 {
    f32::from_bits((word >> 32) as u32)
}

/// The cost at this tick, without changing it; none where nothing was measured.
#[inline(always)]
pub(super) fn at(word: u64, now: u32, decay: f32) -> Option<f32> {
    (word != 0).then(|| cost(word) * left(word as u32, now, decay))
}

/// The word after a measurement: a peak counts at once. The first one stands for itself.
#[inline]
pub(super) fn add(word: u64, measured: f32, now: u32, decay: f32) -> u64 {
    if word == 0 || measured > cost(word) {
        return pack(measured, now);
    }
    let left = left(word as u32, now, decay);
    if left == 1.0 {
        return word; // the same tick, or one that has passed: nothing to learn
    }
    pack(cost(word) * left + measured * (1.0 - left), now)
}

/// The word after a call that was given up: it would have taken this long at least. Where nothing was measured,
/// `unknown` is assumed.
pub(super) fn floor(word: u64, least: f32, now: u32, decay: f32, unknown: f32) -> u64 {
    match at(word, now, decay) {
        None => pack(least.max(unknown), now),
        Some(cost) if least > cost => pack(least, now),
        Some(_) => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    const SECOND: f32 = 1e9;
    const DECAY: f32 = 10.0 * SECOND;

    fn ticks(seconds: f32) -> u32 {
        tick((seconds * 1e9) as u64)
    }

    fn near(word: u64, now: u32, expected: f32) {
        let cost = at(word, now, DECAY).unwrap();
        assert!((cost - expected).abs() <= expected * 2e-3, "{cost} is not {expected}");
    }

    #[test]
    fn a_peak_counts_at_once_and_decays_by_time() {
        let word = add(0, 30e6, ticks(1.0), DECAY);
        near(word, ticks(1.0), 30e6);
        near(word, ticks(11.0), 30e6 / std::f32::consts::E);
        near(word, ticks(31.0), 30e6 / std::f32::consts::E.powi(3));
        let peak = add(word, 90e6, ticks(1.0), DECAY);
        near(peak, ticks(1.0), 90e6);
    }

    #[test]
    fn what_is_lower_counts_bit_by_bit_over_many_steps_as_over_one() {
        let start = add(0, 100e6, 0, DECAY);
        let one = add(start, 10e6, ticks(10.0), DECAY);
        near(one, ticks(10.0), 10e6 + 90e6 / std::f32::consts::E);
        let many = (1..=10_000_u32).fold(start, |word, step| add(word, 10e6, step * ticks(10.0) / 10_000, DECAY));
        near(many, ticks(10.0), at(one, ticks(10.0), DECAY).unwrap());
    }

    #[test]
    fn reading_changes_nothing_and_stale_stamps_are_ignored() {
        let word = add(0, 50e6, 1_000, DECAY);
        near(word, 900, 50e6);
        assert_eq!(add(word, 1e6, 900, DECAY), word);
        assert_eq!(add(word, 1e6, 1_000, DECAY), word);
        near(add(word, 60e6, 900, DECAY), 900, 60e6);
        near(word, 1_000, 50e6);
    }

    #[test]
    fn nothing_measured_is_told_apart_from_nothing_taken() {
        assert_eq!(at(0, 5, DECAY), None);
        assert!(at(add(0, 0.0, 0, DECAY), 0, DECAY).is_some());
        near(floor(0, 20e6, 7, DECAY, 30e6), 7, 30e6);
        near(floor(0, 40e6, 7, DECAY, 30e6), 7, 40e6);
        let word = add(0, 50e6, 7, DECAY);
        assert_eq!(floor(word, 20e6, 7, DECAY, 30e6), word);
        near(floor(word, 80e6, 7, DECAY, 30e6), 7, 80e6);
    }

    #[test]
    fn an_idle_gap_of_any_length_wedges_nothing() {
        let word = add(0, 50e6, 5, DECAY);
        for gap in [1 << 20, 1 << 31, u32::MAX - BACKWARDS - 1] {
            assert!(at(word, 5_u32.wrapping_add(gap), DECAY).unwrap() < 1.0, "{gap}");
        }
    }

    #[test]
    fn a_million_random_steps_are_finite_and_bounded_by_what_was_measured() {
        let mut rng = Seed::new(3).rng();
        for decay in [0.0, 1.0, 1e6, DECAY, f32::MAX] {
            let (mut word, mut now, mut highest) = (0, 0_u32, 1.0_f32);
            for _ in 0..200_000 {
                now = now.wrapping_add([0, 1, 10, 1 << 16, 1 << 28][rng.below(5) as usize]);
                let measured = rng.below(10_000_000_000) as f32;
                word = if rng.chance(0.8) {
                    add(word, measured, now, decay)
                } else {
                    floor(word, measured, now, decay, 30e6)
                };
                highest = highest.max(measured);
                let cost = at(word, now, decay).unwrap_or(0.0);
                assert!(cost.is_finite() && (0.0..=highest).contains(&cost), "{cost} of {highest}, decay {decay}");
            }
        }
    }
}
