//! What tells a join when a batch is complete: every item carries a share of its batch's weight.
//!
//! A batch weighs a fixed number that is made of its id. Its members share it; what an item becomes shares what it had;
//! what becomes of nothing returns it. The join adds up what arrives and what is returned, and the batch is complete when
//! the sum is the whole. Shares are drawn, by hashing, from all 64-bit numbers, and sums go round at their end: so items
//! may be divided without limit, in any order, at any depth, and a sum that is the whole too early is as likely as two
//! equal random numbers of 64 bits. The state of a batch is this one sum.

use crate::queue::Id;
use std::{fmt::Write, ops::Range};

/// The share of an item in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) batch: Id,
    /// 0 for an item that nobody waits for.
    pub(super) weight: u64,
}

impl Share {
    /// Of an item that nobody waits for.
    pub(super) fn none(of: Id) -> Share {
        Share { batch: of, weight: 0 }
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Never 0, which means that nobody waits.
fn draw(from: u64, number: u64) -> u64 {
    mix(from ^ mix(number.wrapping_add(0x9E37_79B9_7F4A_7C15))).max(1)
}

fn folded(batch: Id) -> u64 {
    let bits = batch.as_u128();
    mix((bits >> 64) as u64) ^ bits as u64
}

/// What the whole batch weighs.
pub(super) fn whole(batch: Id) -> u64 {
    draw(folded(batch), u64::MAX)
}

/// The part of it that the opening of the batch has, so that no batch is complete before its join has heard of it.
pub(super) fn opening(batch: Id) -> u64 {
    draw(folded(batch), u64::MAX - 1)
}

/// The part of the opening that travels by way of an inner join, so that what that makes of the batch always weighs
/// something.
pub(super) fn passing(batch: Id, join: usize) -> u64 {
    draw(folded(batch), u64::MAX - 2 - join as u64)
}

/// What an addition to a batch weighs that is sent bit by bit. What such a batch weighs beside these and its opening, its
/// closing weighs.
pub(super) fn addition(batch: Id, number: u64) -> u64 {
    draw(folded(batch).rotate_left(32), number)
}

/// The shares of some of the items of an addition that has so many.
pub(super) fn added(addition: Share, of: u32, range: Range<u32>) -> Vec<Share> {
    let weights = divided(addition.weight, of).skip(range.start as usize).take(range.len());
    weights.map(|weight| Share { batch: addition.batch, weight }).collect()
}

/// The shares of some of the members of a batch that has so many.
pub(super) fn members(batch: Id, of: u32, range: Range<u32>) -> Vec<Share> {
    let from = folded(batch);
    let weight = |index: u32| {
        if index + 1 < of {
            return draw(from, u64::from(index));
        }
        let others = (0..index).fold(opening(batch), |sum, other| sum.wrapping_add(draw(from, u64::from(other))));
        whole(batch).wrapping_sub(others)
    };
    range.map(|index| Share { batch, weight: weight(index) }).collect()
}

/// The shares of what an item of this weight became, which are so many.
pub(super) fn divided(weight: u64, among: u32) -> impl Iterator<Item = u64> {
    let mut left = weight;
    (0..among).map(move |index| match weight {
        0 => 0,
        _ if index + 1 == among => left,
        _ => {
            let share = draw(weight, u64::from(index));
            left = left.wrapping_sub(share);
            share
        }
    })
}

/// As a header: for each run of items of one batch its id, and their weights.
pub(super) fn write(shares: &[Share]) -> String {
    let mut text = String::with_capacity(33 + 16 * shares.len());
    for run in shares.chunk_by(|one, next| one.batch == next.batch) {
        if !text.is_empty() {
            text.push(';');
        }
        let batch = run.first().map_or(0, |share| share.batch.as_u128());
        let _ = write!(text, "{batch:032x} ");
        for share in run {
            let _ = write!(text, "{:016x}", share.weight);
        }
    }
    text
}

/// The shares of these items, as the header says; none where it is none.
pub(super) fn read(text: &str, range: Range<u32>) -> Option<Vec<Share>> {
    let mut shares = Vec::with_capacity(range.len());
    let mut index = 0;
    for run in text.split(';') {
        let (batch, weights) = run.split_once(' ')?;
        let batch: Id = batch.parse().ok()?;
        let mut weights = weights.as_bytes().chunks_exact(16);
        for weight in &mut weights {
            if range.contains(&index) {
                let weight = u64::from_str_radix(std::str::from_utf8(weight).ok()?, 16).ok()?;
                shares.push(Share { batch, weight });
            }
            index += 1;
        }
        if !weights.remainder().is_empty() {
            return None;
        }
    }
    (shares.len() == range.len()).then_some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Seed};

    fn sum(weights: impl IntoIterator<Item = u64>) -> u64 {
        weights.into_iter().fold(0, u64::wrapping_add)
    }

    #[test]
    fn members_and_their_opening_are_the_whole_and_no_less() {
        for of in [1, 2, 3, 100, 1000] {
            let batch = Id::of(of.to_string());
            let all = members(batch, of, 0..of);
            let weights: Vec<_> = all.iter().map(|share| share.weight).chain([opening(batch)]).collect();
            assert_eq!(sum(weights.iter().copied()), whole(batch));
            for without in 0..weights.len() {
                let rest = weights.iter().enumerate().filter(|(at, _)| *at != without).map(|(_, weight)| *weight);
                assert_ne!(sum(rest), whole(batch));
            }
            let cut = of / 2;
            let parts = [members(batch, of, 0..cut), members(batch, of, cut..of)].concat();
            assert_eq!(parts, all, "however it is cut");
        }
    }

    #[test]
    fn additions_their_opening_and_their_closing_are_the_whole() {
        for of in [0, 1, 2, 50] {
            let batch = Id::of(of.to_string());
            let weights: Vec<_> = (0..of).map(|number| addition(batch, number)).collect();
            let so_far = sum(weights.iter().copied().chain([opening(batch)]));
            assert_ne!(so_far, whole(batch), "not before it is closed");
            for weight in weights {
                let share = Share { batch, weight };
                let parts = [added(share, 7, 0..3), added(share, 7, 3..7)].concat();
                assert_eq!(parts, added(share, 7, 0..7), "however it is cut");
                assert_eq!(sum(parts.iter().map(|part| part.weight)), weight);
            }
        }
    }

    /// Divides and returns at random until nothing is left; how many steps it took.
    fn dissolve(batch: Id, rng: &mut Rng) -> usize {
        let of = 1 + rng.below(20) as u32;
        let mut items: Vec<u64> = members(batch, of, 0..of).iter().map(|share| share.weight).collect();
        items.push(opening(batch));
        let (mut returned, mut steps) = (0_u64, 0);
        while !items.is_empty() {
            assert_ne!(returned, whole(batch), "complete while {} items are under way", items.len());
            let taken = items.swap_remove(rng.below(items.len() as u64) as usize);
            let among = if steps > 40 { 0 } else { rng.below(4) as u32 };
            match among {
                0 => returned = returned.wrapping_add(taken),
                among => items.extend(divided(taken, among)),
            }
            steps += 1;
        }
        assert_eq!(returned, whole(batch));
        steps
    }

    #[test]
    fn complete_exactly_when_nothing_is_under_way() {
        let mut rng = Seed::new(11).rng();
        let steps: usize = (0..2000_u32).map(|number| dissolve(Id::of(number.to_le_bytes()), &mut rng)).sum();
        assert!(steps > 100_000, "{steps}");
    }

    #[test]
    fn written_and_read_whole_or_in_part() {
        let (one, two) = (Id::of("one"), Id::of("two"));
        let shares = [members(one, 3, 0..3), members(two, 2, 0..2), vec![Share::none(one)]].concat();
        let text = write(&shares);
        assert_eq!(read(&text, 0..6).unwrap(), shares);
        assert_eq!(read(&text, 2..5).unwrap(), shares[2..5]);
        assert_eq!(read(&text, 2..2).unwrap(), []);
        for bad in ["", "x", &text[..text.len() - 1], "00 00", &text.replace(' ', "")] {
            assert_eq!(read(bad, 0..6), None, "{bad}");
        }
        assert_eq!(read(&text, 0..7), None, "more items than it speaks of");
        assert!(divided(0, 3).all(|weight| weight == 0), "whom nobody waits for, nobody waits for in parts");
    }
}
