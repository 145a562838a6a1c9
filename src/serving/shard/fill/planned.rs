//! The next table from the last one: even to one slot, by the fewest moves that allow it.

use super::{Roster, quota::shares};
use crate::serving::shard::{
    ShardMap,
    slot::SLOTS,
    table::{ShardId, Split},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

/// Nobody, yet or any more.
const NOBODY: ShardId = ShardId(u16::MAX);

/// How many neighbouring slots a shard gets as a further copy before another is asked: few, so that the slots of one shard
/// have their copies in many others.
const STREAK: usize = 16;

/// The table before, its shards by their numbers now.
pub(super) struct Old {
    owners: Vec<ShardId>,
    copies: usize,
    splits: Vec<Split>,
}

impl Old {
    /// None where the map before is one of ranges. Who owns nothing any more is nobody.
    pub(super) fn of(before: &ShardMap, roster: &Roster, index: &BTreeMap<Arc<str>, ShardId>) -> Option<Self> {
        let table = before.table()?;
        let owns = |shard: &ShardId| roster.shards.get(shard.index()).is_some_and(|shard| shard.weight > 0);
        let known = |name| index.get(name).copied().filter(owns).unwrap_or(NOBODY);
        let now: Vec<ShardId> = before.shards().iter().map(|shard| known(&shard.name)).collect();
        let renamed = |owner: &ShardId| now.get(owner.index()).copied().unwrap_or(NOBODY);
        let owners = table.slots().flatten().map(renamed).collect();
        let renumbered = |split: &Split| Split { owners: split.owners.iter().map(renamed).collect(), ..*split };
        let splits = table.splits().iter().map(renumbered).collect();
        Some(Old { owners, copies: table.copies(), splits })
    }

    /// Who owned this slot and may still own something.
    fn at(&self, slot: u16) -> impl Iterator<Item = ShardId> + '_ {
        let owners = self.owners.get(usize::from(slot) * self.copies..).and_then(|rest| rest.get(..self.copies));
        staying(owners.unwrap_or_default())
    }

    /// Who answered for this slot; nobody, where that one owns nothing any more.
    fn first(&self, slot: u16) -> ShardId {
        get(&self.owners, usize::from(slot) * self.copies)
    }

    fn is_split(&self, slot: u16) -> bool {
        self.splits.binary_search_by_key(&slot, |split| split.slot).is_ok()
    }
}

fn staying(owners: &[ShardId]) -> impl Iterator<Item = ShardId> + '_ {
    owners.iter().copied().filter(|owner| *owner != NOBODY)
}

/// The owners of all slots.
pub(super) fn fill(roster: &Roster, old: Option<&Old>) -> Vec<ShardId> {
    let whole: Vec<u16> = (0..=u16::MAX).filter(|slot| old.is_none_or(|old| !old.is_split(*slot))).collect();
    let firsts = firsts(roster, old, &whole);
    let mut cells = vec![NOBODY; SLOTS * roster.copies];
    for (slot, first) in whole.iter().zip(&firsts) {
        put(&mut cells, usize::from(*slot) * roster.copies, *first);
    }
    if roster.copies > 1 {
        Further::new(roster, old, &whole, &firsts).fill(&mut cells);
    }
    cells
}

/// The first owners of these slots.
fn firsts(roster: &Roster, old: Option<&Old>, whole: &[u16]) -> Vec<ShardId> {
    let mut firsts: Vec<ShardId> = match old {
        Some(old) => whole.iter().map(|slot| old.first(*slot)).collect(),
        None => vec![NOBODY; whole.len()],
    };
    let mut have = Tally::new(roster);
    firsts.iter().for_each(|shard| have.add(*shard));
    let weights: Vec<u64> = roster.shards.iter().map(|shard| shard.weight.into()).collect();
    // how many each may have yet
    let mut due = Tally(shares(whole.len(), &weights, &vec![whole.len(); weights.len()], &have.0));
    for first in &mut firsts {
        if !due.take(*first) {
            *first = NOBODY;
        }
    }
    // who holds a copy already becomes the first owner without anything being copied
    if let Some(old) = old.filter(|old| old.copies > 1) {
        for (slot, first) in whole.iter().zip(&mut firsts).filter(|(_, first)| **first == NOBODY) {
            *first = old.at(*slot).find(|shard| due.take(*shard)).unwrap_or(NOBODY);
        }
    }
    // the rest in long runs
    let mut needy = roster.owning().map(|(number, _)| ShardId(number)).peekable();
    for first in firsts.iter_mut().filter(|first| **first == NOBODY) {
        while needy.next_if(|shard| due.of(*shard) == 0).is_some() {}
        if let Some(shard) = needy.peek() {
            *first = *shard;
            due.remove(*shard);
        }
    }
    firsts
}

/// The owners of a slot beyond the first: each shard gets its share of them, as far as zones allow.
struct Further<'a> {
    roster: &'a Roster,
    old: Option<&'a Old>,
    whole: &'a [u16],
    quota: Vec<usize>,
    held: Tally,
}

impl<'a> Further<'a> {
    fn new(roster: &'a Roster, old: Option<&'a Old>, whole: &'a [u16], firsts: &[ShardId]) -> Self {
        let mut have = Tally::new(roster);
        for slot in whole {
            old.into_iter().flat_map(|old| old.at(*slot)).for_each(|shard| have.add(shard));
        }
        let mut quota = totals(roster, whole.len(), &have);
        for first in firsts {
            let left = get(&quota, first.index()).saturating_sub(1);
            put(&mut quota, first.index(), left);
        }
        Further { roster, old, whole, quota, held: Tally::new(roster) }
    }

    fn fill(mut self, cells: &mut [ShardId]) {
        self.keep(cells);
        self.add(cells);
        self.even_out(cells);
    }

    /// Who held a copy keeps it, if it may beside the first owner.
    fn keep(&mut self, cells: &mut [ShardId]) {
        let copies = self.roster.copies;
        let Some(old) = self.old else { return };
        for slot in self.whole {
            let Some(row) = row_of(cells, *slot, copies) else { continue };
            let mut filled = 1;
            // the first owner that was comes last: what was a further copy is one still
            let further = old.at(*slot).skip(1).chain(old.at(*slot).take(1));
            for shard in further {
                if filled < copies && self.roster.may_join(row.get(..filled).unwrap_or_default(), shard) {
                    put(row, filled, shard);
                    self.held.add(shard);
                    filled += 1;
                }
            }
        }
    }

    /// Who has the most to get yet gets what is missing.
    fn add(&mut self, cells: &mut [ShardId]) {
        let (roster, copies) = (self.roster, self.roster.copies);
        let mut needy: BinaryHeap<(usize, Reverse<u16>)> =
            roster.owning().map(|(number, _)| (self.lacks(ShardId(number)), Reverse(number))).collect();
        let (mut last, mut streak) = (NOBODY, 0);
        let mut passed = Vec::new();
        for slot in self.whole {
            let Some(row) = row_of(cells, *slot, copies) else { continue };
            for filled in 1..copies {
                let (before, rest) = row.split_at_mut(filled);
                let Some(place) = rest.first_mut().filter(|place| **place == NOBODY) else { continue };
                let again = last != NOBODY && streak < STREAK && copies == 2;
                let chosen = if again && self.lacks(last) > 0 && roster.may_join(before, last) {
                    streak += 1;
                    Some(last)
                } else {
                    // what the heap says of a shard may be too much by now: then it goes back in with less
                    let mut found = None;
                    while let Some((lacked, Reverse(number))) = needy.pop() {
                        let (shard, lacks) = (ShardId(number), self.lacks(ShardId(number)));
                        if lacks < lacked {
                            needy.push((lacks, Reverse(number)));
                        } else if roster.may_join(before, shard) {
                            found = Some(shard);
                            needy.push((lacks, Reverse(number)));
                            break;
                        } else {
                            passed.push((lacked, Reverse(number)));
                        }
                    }
                    needy.extend(passed.drain(..));
                    streak = 1;
                    found
                };
                if let Some(shard) = chosen {
                    *place = shard;
                    last = shard;
                    self.held.add(shard);
                }
            }
        }
    }

    /// From who has too many to who lacks some, as long as the two may change places.
    fn even_out(&mut self, cells: &mut [ShardId]) {
        let copies = self.roster.copies;
        let mut needy: Vec<ShardId> =
            self.roster.owning().map(|(number, _)| ShardId(number)).filter(|shard| self.lacks(*shard) > 0).collect();
        for slot in self.whole {
            let Some(row) = row_of(cells, *slot, copies) else { continue };
            for place in 1..copies {
                let holder = get(row, place);
                if needy.is_empty() {
                    return;
                }
                if self.held.of(holder) <= get(&self.quota, holder.index()) {
                    continue;
                }
                put(row, place, NOBODY);
                let taker = needy.iter().position(|shard| self.roster.may_join(row, *shard));
                let shard = taker.and_then(|at| needy.get(at)).copied().unwrap_or(holder);
                put(row, place, shard);
                self.held.remove(holder);
                self.held.add(shard);
                if let Some(at) = taker.filter(|_| self.lacks(shard) == 0) {
                    needy.remove(at);
                }
            }
        }
    }

    fn lacks(&self, shard: ShardId) -> usize {
        get(&self.quota, shard.index()).saturating_sub(self.held.of(shard))
    }
}

/// How many copies each shard is due, the first ones included: by weight, none twice of a slot, nor two in a zone where they
/// are to be apart.
fn totals(roster: &Roster, slots: usize, have: &Tally) -> Vec<usize> {
    let total = slots * roster.copies;
    let weights: Vec<u64> = roster.shards.iter().map(|shard| shard.weight.into()).collect();
    if !roster.apart {
        return shares(total, &weights, &vec![slots; weights.len()], &have.0);
    }
    let zones = roster.shards.iter().map(|shard| usize::from(shard.zone) + 1).max().unwrap_or(1);
    let mut by_zone = (vec![0; zones], vec![0; zones]);
    for ((shard, weight), have) in roster.shards.iter().zip(&weights).zip(&have.0) {
        let zone = usize::from(shard.zone);
        let sums = (get(&by_zone.0, zone) + weight, get(&by_zone.1, zone) + have);
        put(&mut by_zone.0, zone, sums.0);
        put(&mut by_zone.1, zone, sums.1);
    }
    let zone_totals = shares(total, &by_zone.0, &vec![slots; zones], &by_zone.1);
    let mut totals = vec![0; weights.len()];
    for (zone, zone_total) in zone_totals.into_iter().enumerate() {
        let inside = |at: usize| roster.shards.get(at).is_some_and(|shard| usize::from(shard.zone) == zone);
        let weights: Vec<u64> =
            weights.iter().enumerate().map(|(at, weight)| if inside(at) { *weight } else { 0 }).collect();
        let of_zone = shares(zone_total, &weights, &vec![slots; weights.len()], &have.0);
        totals.iter_mut().zip(of_zone).for_each(|(total, more)| *total += more);
    }
    totals
}

/// Slots that are split stay so; a part whose owner has gone goes to who has the fewest of them.
pub(super) fn splits(roster: &Roster, old: &Old) -> Vec<Split> {
    let mut held = Tally::new(roster);
    let all = old.splits.iter().flat_map(|split| staying(&split.owners));
    all.for_each(|shard| held.add(shard));
    let mut splits = old.splits.clone();
    for split in &mut splits {
        let mut owners = Vec::with_capacity(split.parts() * roster.copies);
        for part in split.owners.chunks(old.copies) {
            let mut others: Vec<ShardId> = roster.owning().map(|(number, _)| ShardId(number)).collect();
            others.sort_by_key(|shard| held.of(*shard));
            let start = owners.len();
            roster.take(staying(part).chain(others), &mut owners);
            owners
                .get(start..)
                .into_iter()
                .flatten()
                .filter(|shard| !part.contains(shard))
                .for_each(|shard| held.add(*shard));
        }
        split.owners = owners.into();
    }
    splits
}

/// How many each shard has.
struct Tally(Vec<usize>);

impl Tally {
    fn new(roster: &Roster) -> Self {
        Tally(vec![0; roster.shards.len()])
    }

    fn of(&self, shard: ShardId) -> usize {
        get(&self.0, shard.index())
    }

    fn add(&mut self, shard: ShardId) {
        if let Some(count) = self.0.get_mut(shard.index()) {
            *count += 1;
        }
    }

    /// One less, if there is one.
    fn take(&mut self, shard: ShardId) -> bool {
        match self.0.get_mut(shard.index()) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }

    fn remove(&mut self, shard: ShardId) {
        if let Some(count) = self.0.get_mut(shard.index()) {
            *count = count.saturating_sub(1);
        }
    }
}

/// The owners of this slot.
fn row_of(cells: &mut [ShardId], slot: u16, copies: usize) -> Option<&mut [ShardId]> {
    let start = usize::from(slot) * copies;
    cells.get_mut(start..start + copies)
}

fn get<T: Copy + Placeholder>(list: &[T], at: usize) -> T {
    list.get(at).copied().unwrap_or(T::NONE)
}

fn put<T>(list: &mut [T], at: usize, value: T) {
    if let Some(place) = list.get_mut(at) {
        *place = value;
    }
}

/// What is where nothing is.
trait Placeholder {
    const NONE: Self;
}

impl Placeholder for usize {
    const NONE: usize = 0;
}

impl Placeholder for u64 {
    const NONE: u64 = 0;
}

impl Placeholder for ShardId {
    const NONE: ShardId = NOBODY;
}
