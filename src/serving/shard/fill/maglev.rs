//! Maglev: each shard in turn takes the next free slot of its own order.

use super::{Known, Roster, key, rendezvous::Scorer};
use crate::serving::shard::{
    slot::{SLOTS, Slot},
    table::ShardId,
};

/// Where a shard is in its order: an odd step through a power of two passes every slot.
struct Turn {
    shard: ShardId,
    at: u16,
    step: u16,
    weight: u64,
}

/// The first owner by turns; the further copies of a slot, where there are any, by the scores of names.
pub(super) fn fill(roster: &Roster) -> Vec<ShardId> {
    let turn = |(number, shard): (u16, &Known)| Turn {
        shard: ShardId(number),
        at: (shard.hash >> 48) as u16,
        step: (shard.hash >> 16) as u16 | 1,
        weight: shard.weight.into(),
    };
    let mut turns: Vec<Turn> = roster.owning().map(turn).collect();
    let most = turns.iter().map(|turn| turn.weight).max().unwrap_or(1);
    let mut first: Vec<Option<ShardId>> = vec![None; SLOTS];
    let mut left = SLOTS;
    let mut round = 0;
    'full: while !turns.is_empty() {
        for turn in &mut turns {
            // who weighs the most takes one in every round, the others in as many of them as their weights say
            for _ in (round * turn.weight / most)..((round + 1) * turn.weight / most) {
                if take(&mut first, turn) {
                    left -= 1;
                }
                if left == 0 {
                    break 'full;
                }
            }
        }
        round += 1;
    }
    if roster.copies == 1 {
        return first.into_iter().flatten().collect();
    }
    let scorer = Scorer::new(roster);
    let mut owners = Vec::with_capacity(SLOTS * roster.copies);
    for (slot, first) in Slot::all().zip(first) {
        owners.extend(first);
        scorer.fill(key(slot), &mut owners, 1);
    }
    owners
}

/// The next free slot of its order.
fn take(table: &mut [Option<ShardId>], turn: &mut Turn) -> bool {
    for _ in 0..SLOTS {
        let place = table.get_mut(usize::from(turn.at)).filter(|place| place.is_none());
        turn.at = turn.at.wrapping_add(turn.step);
        if let Some(place) = place {
            *place = Some(turn.shard);
            return true;
        }
    }
    false
}
