//! Which line's turn it is: pure. By level, and the longer a line has waited the higher it stands; within a level around
//! in a circle, each line as far as it is owed.

use crate::base::time::Instant;
use smallvec::SmallVec;
use std::{cmp::Reverse, time::Duration};

/// Lines in the order in which they are to be looked into.
pub(super) type Order = SmallVec<[usize; 16]>;

/// The lines of a queue: `levels` times `shares`, numbered level by level from the lowest.
pub(crate) struct Turns {
    /// So long a wait is worth a level.
    step: Duration,
    shares: usize,
    lines: Vec<Line>,
    /// Of each level: where the circle goes on.
    next: Vec<usize>,
}

#[derive(Clone, Copy, Default)]
struct Line {
    /// What is first in it was published no earlier than this; none where nothing is known, which may be for ever.
    since: Option<Instant>,
    /// Items that it may still hand out before the next has its turn.
    owed: u32,
}

impl Turns {
    pub(super) fn new(levels: usize, shares: usize, step: Duration) -> Turns {
        let (levels, shares) = (levels.max(1), shares.max(1));
        Turns { step, shares, lines: vec![Line::default(); levels * shares], next: vec![0; levels] }
    }

    /// All lines, the one whose turn it is first.
    pub(super) fn order(&self, now: Instant) -> Order {
        let mut levels: SmallVec<[(Reverse<Duration>, Reverse<usize>); 8]> =
            (0..self.next.len()).map(|level| (Reverse(self.standing(level, now)), Reverse(level))).collect();
        levels.sort_unstable();
        let mut order = Order::new();
        for (_, Reverse(level)) in levels {
            let first = self.next.get(level).copied().unwrap_or_default();
            order.extend((0..self.shares).map(|place| level * self.shares + (first + place) % self.shares));
        }
        order
    }

    /// How high a level stands: what it is worth, and the age that its oldest item may have.
    fn standing(&self, level: usize, now: Instant) -> Duration {
        let lines = self.lines.iter().skip(level * self.shares).take(self.shares);
        // one of which nothing is known may hold anything: it must be looked into
        let Some(since) = lines.map(|line| line.since).min().flatten() else { return Duration::MAX };
        let worth = self.step.saturating_mul(u32::try_from(level).unwrap_or(u32::MAX));
        now.saturating_duration_since(since).saturating_add(worth)
    }

    /// How many a line may hand out, of so many that are wanted of it and the others.
    pub(super) fn owed(&mut self, line: usize, wanted: u32) -> u32 {
        let quantum = wanted.div_ceil(u32::try_from(self.shares).unwrap_or(u32::MAX)).max(1);
        let Some(line) = self.lines.get_mut(line) else { return wanted };
        if line.owed == 0 {
            line.owed = quantum;
        }
        line.owed.min(wanted).max(1)
    }

    /// This line has handed out so many, of which the last was published then.
    pub(super) fn served(&mut self, line: usize, items: u32, published: Instant) {
        let level = line / self.shares;
        let Some(served) = self.lines.get_mut(line) else { return };
        served.since = served.since.max(Some(published)); // first in, first out: what comes next is no older
        served.owed = served.owed.saturating_sub(items);
        if served.owed == 0
            && let Some(next) = self.next.get_mut(level)
        {
            *next = (line % self.shares + 1) % self.shares;
        }
    }

    /// Nothing is in this line now: what comes is younger, and nothing is saved up for it.
    pub(super) fn empty(&mut self, line: usize, now: Instant) {
        if let Some(line) = self.lines.get_mut(line) {
            (line.since, line.owed) = (line.since.max(Some(now)), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};
    use std::collections::{BTreeMap, VecDeque};

    const SECOND: Duration = Duration::from_secs(1);

    /// Lines with what is in them, served as the turns say.
    struct World {
        turns: Turns,
        lines: Vec<VecDeque<Instant>>,
        now: Instant,
    }

    impl World {
        fn new(levels: usize, shares: usize, step: Duration) -> World {
            let turns = Turns::new(levels, shares, step);
            World { turns, lines: vec![VecDeque::new(); levels * shares], now: time::now() }
        }

        fn take(&mut self) -> Option<(usize, Instant)> {
            for line in self.turns.order(self.now) {
                let Some(published) = self.lines[line].pop_front() else {
                    self.turns.empty(line, self.now);
                    continue;
                };
                let owed = self.turns.owed(line, 1);
                self.turns.served(line, owed, published);
                return Some((line, published));
            }
            None
        }
    }

    #[test]
    fn nothing_of_a_higher_level_overtakes_by_more_than_the_step() {
        let step = 10 * SECOND;
        for seed in 0..5 {
            let mut rng = Seed::new(seed).rng();
            let mut world = World::new(4, 1, step);
            let mut waiting: Vec<(usize, Instant)> = Vec::new();
            let mut overtaken = BTreeMap::new();
            for _ in 0..4_000 {
                world.now += Duration::from_millis(1 + rng.below(300));
                let level = (rng.below(4).max(rng.below(4))) as usize; // more of the higher ones than can be worked off
                world.lines[level].push_back(world.now);
                waiting.push((level, world.now));
                if !rng.chance(0.9) {
                    continue;
                }
                let (level, published) = world.take().unwrap();
                waiting.retain(|one| *one != (level, published));
                for (other, before) in &waiting {
                    let below = level.saturating_sub(*other) as u32;
                    if below > 0 && *before + step * below < published {
                        // it was not known that what is first in that level is so young
                        let times = overtaken.entry((*other, *before, level)).or_insert(0);
                        *times += 1;
                        assert_eq!(
                            *times, 1,
                            "seed {seed}: {published:?} of level {level} before {before:?} of {other}"
                        );
                    }
                }
            }
            assert!(waiting.len() > 100, "the test must have more than can be worked off");
        }
    }

    /// Of all lines more than can be worked off: whatever is in one comes within the turns that are due to it.
    #[test]
    fn with_lines_in_every_level_nothing_starves_either() {
        let step = 10 * SECOND;
        let mut rng = Seed::new(1).rng();
        let mut world = World::new(3, 4, step);
        let (mut begun, mut waited) = (0, Duration::ZERO);
        for _ in 0..20_000 {
            world.now += Duration::from_millis(100);
            for _ in 0..2 {
                world.lines[(rng.below(12).max(rng.below(12))) as usize].push_back(world.now);
            }
            let (line, published) = world.take().unwrap();
            if line < 4 {
                begun += 1;
                waited = waited.max(world.now - published);
            }
        }
        // half of what comes is worked off: nothing waits longer than all has come for
        assert!(begun > 500 && waited < 2_000 * SECOND, "{begun} of the lowest level, {waited:?} at most");
        let oldest = |level: usize| world.lines[level * 4..level * 4 + 4].iter().filter_map(|line| line.front()).min();
        let (low, high) = (*oldest(0).unwrap(), *oldest(2).unwrap());
        assert!(low + 2 * step + 40 * SECOND > high, "the levels age together: {low:?}, {high:?}");
    }

    #[test]
    fn however_much_one_has_each_gets_its_turn() {
        let mut world = World::new(1, 4, SECOND);
        for _ in 0..1_000 {
            world.lines[0].push_back(world.now);
        }
        for line in 1..4 {
            world.lines[line].extend([world.now; 3]);
        }
        let taken: Vec<usize> = std::iter::from_fn(|| world.take()).map(|(line, _)| line).take(14).collect();
        assert_eq!(taken, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 0]);
    }

    #[test]
    fn who_is_owed_more_than_it_was_given_goes_on() {
        let mut turns = Turns::new(1, 2, SECOND);
        let now = time::now();
        assert_eq!(turns.owed(0, 8), 4);
        turns.served(0, 3, now);
        assert_eq!((turns.order(now).first(), turns.owed(0, 8)), (Some(&0), 1), "one is left of its four");
        turns.served(0, 1, now);
        assert_eq!((turns.order(now).first(), turns.owed(1, 1)), (Some(&1), 1));
    }
}
