//! Drawing endpoints by weight: uniform where all weigh the same, by an alias table where not. Pure.

/// Which of a list's places are drawn, and how often.
#[derive(Debug)]
pub(crate) enum Sampling {
    /// All, equally.
    All(u32),
    /// These, equally.
    Some(Box<[u32]>),
    /// By weight.
    Weighted(Weighted),
}

#[derive(Debug)]
pub(crate) struct Weighted {
    slots: Box<[Slot]>,
    weights: Box<[u32]>,
    total: u64,
}

/// One of the alias table's equal parts: its own place up to `keep` of 2^32, then another.
#[derive(Clone, Copy, Debug)]
struct Slot {
    keep: u32,
    alias: u32,
}

impl Sampling {
    /// For places of these weights; those of weight 0 are never drawn.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let live = || weights.iter().filter(|weight| **weight > 0);
        match live().next() {
            Some(first) if live().any(|weight| weight != first) => Sampling::Weighted(Weighted::new(weights)),
            _ if live().count() == weights.len() => Sampling::All(weights.len() as u32),
            _ => Sampling::Some(
                (0_u32..).zip(weights).filter(|(_, weight)| **weight > 0).map(|(place, _)| place).collect(),
            ),
        }
    }

    /// The place for this random word; none where none can be drawn.
    #[inline(always)]
    pub(crate) fn draw(&self, word: u32) -> Option<usize> {
        match self {
            Sampling::All(0) => None,
            Sampling::All(count) => Some(scaled(word, *count).0),
            Sampling::Some(places) => places.get(scaled(word, places.len() as u32).0).map(|place| *place as usize),
            Sampling::Weighted(table) => table.draw(word),
        }
    }

    /// The place whose turn it is. All have theirs, in the same order again and again; with weights, in a sequence that
    /// spreads each one's turns as evenly as the golden section can.
    #[inline(always)]
    pub(crate) fn turn(&self, turn: u64) -> Option<usize> {
        match self {
            Sampling::All(count) => turn.checked_rem(u64::from(*count)).map(|place| place as usize),
            Sampling::Some(places) => {
                let place = turn.checked_rem(places.len() as u64)?;
                places.get(place as usize).map(|place| *place as usize)
            }
            Sampling::Weighted(table) => table.draw((turn.wrapping_mul(GOLDEN) >> 32) as u32),
        }
    }

    /// What this place weighs; places that are not drawn weigh 0.
    pub(crate) fn weight(&self, place: usize) -> u32 {
        match self {
            Sampling::All(_) => 1,
            Sampling::Some(places) => u32::from(places.binary_search(&(place as u32)).is_ok()),
            Sampling::Weighted(table) => table.weights.get(place).copied().unwrap_or(0),
        }
    }

    /// The places that can be drawn, in their order.
    pub(crate) fn places(&self) -> impl Iterator<Item = usize> {
        let (all, some, weights) = match self {
            Sampling::All(count) => (*count, &[][..], &[][..]),
            Sampling::Some(places) => (0, &**places, &[][..]),
            Sampling::Weighted(table) => (0, &[][..], &*table.weights),
        };
        let some = some.iter().map(|place| *place as usize);
        let weighted = weights.iter().enumerate().filter(|(_, weight)| **weight > 0).map(|(place, _)| place);
        (0..all as usize).chain(some).chain(weighted)
    }

    /// What this place weighs against the mean of those that can be drawn.
    #[inline(always)]
    pub(crate) fn relative(&self, place: usize) -> f32 {
        match self {
            Sampling::All(_) | Sampling::Some(_) => 1.0,
            Sampling::Weighted(table) => {
                let weight = table.weights.get(place).copied().unwrap_or(1);
                weight as f32 * table.weights.len() as f32 / table.total as f32
            }
        }
    }

    /// Whether all that can be drawn weigh the same.
    #[inline(always)]
    pub(crate) fn is_even(&self) -> bool {
        !matches!(self, Sampling::Weighted(_))
    }
}

/// 2^64 divided by the golden section.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The word as a place below `count`, and what is left of it as a fraction of 2^32.
#[inline(always)]
fn scaled(word: u32, count: u32) -> (usize, u32) {
    let product = u64::from(word) * u64::from(count);
    ((product >> 32) as usize, product as u32)
}

impl Weighted {
    /// Vose's alias method, in whole numbers: each slot holds `total` of the places' weights times their number.
    fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let count = weights.len() as u128;
        let mut slots: Vec<Slot> =
            (0..weights.len() as u32).map(|place| Slot { keep: u32::MAX, alias: place }).collect();
        let scaled = (0_u32..).zip(weights).map(|(place, weight)| (place, u128::from(*weight) * count));
        let (mut small, mut large): (Vec<_>, Vec<_>) = scaled.partition(|(_, scaled)| *scaled < u128::from(total));
        while let (Some((place, part)), Some((other, rest))) = (small.pop(), large.pop()) {
            let keep = ((part << 32) / u128::from(total.max(1))) as u32;
            if let Some(slot) = slots.get_mut(place as usize) {
                *slot = Slot { keep, alias: other };
            }
            let rest = rest + part - u128::from(total);
            if rest < u128::from(total) { small.push((other, rest)) } else { large.push((other, rest)) }
        }
        Weighted { slots: slots.into(), weights: weights.into(), total }
    }

    #[inline(always)]
    fn draw(&self, word: u32) -> Option<usize> {
        let (place, part) = scaled(word, self.slots.len() as u32);
        let slot = self.slots.get(place)?;
        Some(if part < slot.keep { place } else { slot.alias as usize })
    }
}

/// Two different indices below `count` from one random word: the candidates. The same twice where there is only one.
#[inline(always)]
pub(crate) fn candidates(count: usize, word: u64) -> (usize, usize) {
    let count = count as u64;
    let first = ((word & 0xFFFF_FFFF) * count) >> 32;
    let other = ((word >> 32) * count.saturating_sub(1)) >> 32;
    let second = if count > 1 && other >= first { other + 1 } else { other };
    (first as usize, second as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Seed};

    #[test]
    fn a_million_draws_are_two_different_ones_and_even() {
        let mut rng = Seed::new(1).rng();
        for count in [1, 2, 3, 10, 1000] {
            let mut drawn = vec![0_u32; count];
            for _ in 0..200_000 {
                let (a, b) = candidates(count, rng.next_u64());
                assert!(a != b || count == 1);
                drawn[a] += 1;
                drawn[b] += 1;
            }
            let mean = 400_000.0 / count as f64;
            assert!(drawn.iter().all(|n| (f64::from(*n) - mean).abs() < 6.0 * mean.sqrt() + 1.0), "{count}: {drawn:?}");
        }
        assert_eq!((candidates(0, u64::MAX), candidates(1, u64::MAX)), ((0, 0), (0, 0)));
    }

    fn weights(rng: &mut Rng) -> Vec<u32> {
        let largest = [1, 2, 5, 100, u64::from(u32::MAX)][rng.below(5) as usize];
        (0..=rng.below(12)).map(|_| if rng.chance(0.2) { 0 } else { rng.range(1..largest + 1) as u32 }).collect()
    }

    #[test]
    fn the_alias_table_is_exact_for_any_weights() {
        let mut rng = Seed::new(2).rng();
        for _ in 0..2_000 {
            let weights = weights(&mut rng);
            let sampling = Sampling::new(&weights);
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            assert_eq!(sampling.draw(rng.next_u64() as u32).is_some(), total > 0, "{weights:?}");
            let Sampling::Weighted(table) = &sampling else { continue };
            // the parts of all slots that are a place's own, together
            let mut parts = vec![0.0; weights.len()];
            for (place, slot) in table.slots.iter().enumerate() {
                let keep = if slot.alias as usize == place { 1.0 } else { f64::from(slot.keep) / 2_f64.powi(32) };
                parts[place] += keep;
                parts[slot.alias as usize] += 1.0 - keep;
            }
            for (part, weight) in parts.iter().zip(&weights) {
                let expected = f64::from(*weight) / total as f64 * weights.len() as f64;
                assert!((part - expected).abs() < 1e-8 && (*weight > 0 || *part == 0.0), "{weights:?}: {parts:?}");
            }
        }
    }

    #[test]
    fn turns_keep_to_the_weights_at_every_step() {
        let mut rng = Seed::new(3).rng();
        for _ in 0..200 {
            let weights = weights(&mut rng);
            let (sampling, start) = (Sampling::new(&weights), rng.below(1 << 40));
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let mut taken = vec![0_u32; weights.len()];
            for step in 1..=2_000_u32 {
                let Some(place) = sampling.turn(start + u64::from(step)) else { continue };
                taken[place] += 1;
                let owed = |weight: u32| f64::from(step) * f64::from(weight) / total;
                let off = taken.iter().zip(&weights).map(|(taken, weight)| f64::from(*taken) - owed(*weight));
                let most = if sampling.is_even() { 1.0 } else { 6.0 };
                assert!(off.clone().all(|off| off.abs() <= most), "{weights:?} after {step}: {taken:?}");
            }
        }
    }

    #[test]
    fn the_same_weight_for_all_needs_no_table() {
        assert!(matches!(Sampling::new(&[]), Sampling::All(0)));
        assert!(matches!(Sampling::new(&[7, 7]), Sampling::All(2)));
        assert!(matches!(Sampling::new(&[0, 7, 7]), Sampling::Some(places) if *places == [1, 2]));
        assert!(matches!(Sampling::new(&[0, 0]), Sampling::Some(places) if places.is_empty()));
        for (weights, places) in
            [(&[][..], vec![]), (&[7, 7], vec![0, 1]), (&[0, 7], vec![1]), (&[2, 0, 3], vec![0, 2])]
        {
            assert_eq!(Sampling::new(weights).places().collect::<Vec<_>>(), places);
        }
        let sampling = Sampling::new(&[1, 0, 3]);
        assert_eq!((sampling.weight(0), sampling.weight(1), sampling.weight(2)), (1, 0, 3));
    }
}
