//! The highest score of slot and name wins; the next highest stand in.

use super::{Known, Roster, key};
use crate::serving::{
    rendezvous::score,
    shard::{
        slot::{SLOTS, Slot},
        table::ShardId,
    },
};
use std::cmp::Ordering;

/// How well a shard does at a slot: the larger is first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rank {
    /// The logarithm of the score, by weight; 0 for all where all weigh the same.
    weighed: f64,
    score: u64,
    shard: ShardId,
}

impl Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.weighed.total_cmp(&other.weighed).then(self.score.cmp(&other.score));
        order.then(other.shard.cmp(&self.shard))
    }
}

/// Who ranks a slot's shards.
pub(super) struct Scorer<'a> {
    roster: &'a Roster,
    shards: Vec<(ShardId, u64, f64)>,
    even: bool,
}

impl<'a> Scorer<'a> {
    pub(super) fn new(roster: &'a Roster) -> Self {
        let owning = roster.owning();
        let known = |(number, shard): (u16, &Known)| (ShardId(number), shard.hash, 1.0 / f64::from(shard.weight));
        let shards: Vec<_> = owning.map(known).collect();
        let even = shards.windows(2).all(|pair| matches!(pair, [(_, _, one), (_, _, other)] if one == other));
        Scorer { roster, shards, even }
    }

    /// Fills a slot's row behind those that it has already.
    pub(super) fn fill(&self, key: u64, row: &mut Vec<ShardId>, given: usize) {
        let wanted = self.roster.copies - given;
        let start = row.len() - given;
        if wanted == 1 && given == 0 && self.even {
            let best = self.shards.iter().map(|(shard, hash, _)| (score(key, *hash), std::cmp::Reverse(*shard))).max();
            row.extend(best.map(|(_, shard)| shard.0));
            return;
        }
        let mut best: Vec<Rank> = Vec::with_capacity(wanted + 1);
        for (shard, hash, inverse) in &self.shards {
            let score = score(key, *hash);
            let last = best.get(wanted - 1);
            let Some(rank) = self.rank(*shard, score, *inverse, last) else { continue };
            if !self.roster.may_join(row.get(start..).unwrap_or_default(), *shard) {
                continue;
            }
            if self.roster.apart
                && let Some(at) = best.iter().position(|it| self.roster.zone(it.shard) == self.roster.zone(*shard))
            {
                match best.get(at) {
                    Some(same) if same.cmp(&rank) == Ordering::Greater => continue,
                    _ => drop(best.remove(at)),
                }
            }
            let at = best.partition_point(|it| it.cmp(&rank) == Ordering::Greater);
            best.insert(at, rank);
            best.truncate(wanted);
        }
        row.extend(best.iter().map(|rank| rank.shard));
    }

    /// Its rank; none where it is surely behind this one.
    #[inline]
    fn rank(&self, shard: ShardId, score: u64, inverse: f64, last: Option<&Rank>) -> Option<Rank> {
        let weighed = if self.even {
            0.0
        } else {
            let unit = ((score >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            // the logarithm is at most this: most are told to be behind without it
            if last.is_some_and(|last| (unit - 1.0) * inverse < last.weighed) {
                return None;
            }
            ln(unit) * inverse
        };
        let rank = Rank { weighed, score, shard };
        last.is_none_or(|last| rank.cmp(last) == Ordering::Greater).then_some(rank)
    }

    /// All of them, best first.
    pub(super) fn walk(&self, key: u64) -> Vec<ShardId> {
        let mut ranks: Vec<Rank> = self
            .shards
            .iter()
            .filter_map(|(shard, hash, inverse)| self.rank(*shard, score(key, *hash), *inverse, None))
            .collect();
        ranks.sort_unstable_by(|one, other| other.cmp(one));
        ranks.into_iter().map(|rank| rank.shard).collect()
    }
}

pub(super) fn fill(roster: &Roster) -> Vec<ShardId> {
    let scorer = Scorer::new(roster);
    let mut owners = Vec::with_capacity(SLOTS * roster.copies);
    for slot in Slot::all() {
        scorer.fill(key(slot), &mut owners, 0);
    }
    owners
}

/// The natural logarithm of a number between 0 and 1, to the last bit the same on every machine: the one of the system is
/// not.
fn ln(number: f64) -> f64 {
    let bits = number.to_bits();
    let exponent = ((bits >> 52) & 0x7FF) as i32 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52)); // 1.0 to 2.0
    let (exponent, mantissa) =
        if mantissa > std::f64::consts::SQRT_2 { (exponent + 1, mantissa / 2.0) } else { (exponent, mantissa) };
    // ln m = 2 atanh((m - 1) / (m + 1)); the fraction is below 0.172, and its 23rd power below the last bit
    let fraction = (mantissa - 1.0) / (mantissa + 1.0);
    let square = fraction * fraction;
    let mut series = 0.0;
    for power in (1..=21).rev().step_by(2) {
        series = series * square + 1.0 / f64::from(power);
    }
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * fraction * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_and_never_falls() {
        let mut last = f64::NEG_INFINITY;
        for step in 1..100_000 {
            let unit = f64::from(step) / 100_000.0;
            let ours = ln(unit);
            assert!((ours - unit.ln()).abs() <= 4e-15 * unit.ln().abs().max(1.0), "{unit}: {ours} {}", unit.ln());
            assert!(ours > last);
            last = ours;
        }
        assert!(ln(0.5 / (1_u64 << 53) as f64) < -37.0 && ln(1.0 - f64::EPSILON / 2.0) < 0.0);
    }
}
