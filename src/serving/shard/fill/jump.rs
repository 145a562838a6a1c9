//! Jump: the number of shards decides, so that they come and go at the end only.

use super::{Roster, key, rendezvous::Scorer};
use crate::serving::shard::{
    slot::{SLOTS, Slot},
    table::ShardId,
};

/// The first owner by jump; the further copies of a slot, where there are any, by the scores of names.
pub(super) fn fill(roster: &Roster) -> Vec<ShardId> {
    let scorer = Scorer::new(roster);
    let mut owners = Vec::with_capacity(SLOTS * roster.copies);
    for slot in Slot::all() {
        owners.push(ShardId(jump(key(slot), roster.shards.len() as u16)));
        if roster.copies > 1 {
            scorer.fill(key(slot), &mut owners, 1);
        }
    }
    owners
}

/// Lamping and Veach: of the numbers at which this key would change its shard while shards come, the last below `shards`.
fn jump(mut key: u64, shards: u16) -> u16 {
    let (mut last, mut next) = (0, 0.0);
    while next < f64::from(shards) {
        last = next as u16;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let odds = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((f64::from(last) + 1.0) * odds).floor();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_is_the_published_function() {
        // vectors that ports of the paper's code publish: Go's and Rust's
        let found = [(1, 1), (42, 57), (0xDEAD_10CC, 1), (0xDEAD_10CC, 666), (256, 1024)].map(|(key, n)| jump(key, n));
        assert_eq!(found, [0, 43, 0, 361, 520]);
        assert_eq!([0, 1, 2].map(|key| jump(key, 60)), [0, 55, 46]);
    }
}
