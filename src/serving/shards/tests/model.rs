//! Every course that a step may take, in a small world: one key, two shards, whoever moves it may fail or be dropped at each
//! stage, requests arrive under old and new maps. All states are visited, no schedule is drawn.

use super::super::{
    course::{Event, Stage, Then},
    fence::{Verdict, verdict},
};
use std::collections::BTreeSet;

/// The highest version that is looked at; tries of a move use one each, and one more where maps are decided outside.
const VERSIONS: u64 = 5;

/// Two shards, of which `owner` owns the key by the map that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// Who owns the key by each version that there is, oldest first; where it counts.
    owners: [u8; VERSIONS as usize + 1],
    counts: u64,
    /// What each fence knows, and until which version its key is sealed.
    known: [u64; 2],
    sealed: [u64; 2],
    /// A request inside each shard: 0 nobody, 1 before it has written, 2 after it.
    inside: [u8; 2],
    /// What each shard has of the key: the number of writes, counted modulo nothing since there are few.
    data: [u8; 2],
    /// What was answered.
    answered: u8,
    writes: u8,
    /// The move under way: its stage, from whom, for which version.
    moving: Option<(Stage, u8, u64)>,
    /// What a try that was given up brings late: for which version, to whom, what.
    late: Option<(u64, u8, u8)>,
    /// The highest version that something has arrived for, at each shard.
    received: [u64; 2],
    /// Maps are decided outside this process; it is unknown whether the last commit counts.
    outside: bool,
}

impl State {
    fn new(outside: bool) -> Self {
        State {
            owners: [0; VERSIONS as usize + 1],
            counts: 1,
            known: [1, 1],
            sealed: [0, 0],
            inside: [0, 0],
            data: [0, 0],
            answered: 0,
            writes: 0,
            moving: None,
            late: None,
            received: [0, 0],
            outside,
        }
    }

    fn last(&self) -> u64 {
        if self.outside { VERSIONS } else { VERSIONS - 1 }
    }

    fn lets_in(&self, shard: usize) -> bool {
        let mine = usize::from(self.owners[self.known[shard] as usize]) == shard;
        let sealed = Some(self.sealed[shard]).filter(|at| *at > 0);
        verdict(sealed, self.known[shard], mine.then_some(0), None) == Verdict::Serve
    }

    fn publish(&mut self, version: u64, owner: u8) {
        if version > self.counts {
            self.owners[version as usize] = owner;
            self.counts = version;
        }
    }

    /// All that can happen next.
    fn next(&self) -> Vec<State> {
        let mut next = Vec::new();
        let mut to = |change: &dyn Fn(&mut State)| {
            let mut state = *self;
            change(&mut state);
            next.push(state);
        };
        for shard in 0..2 {
            // a request by a router with whatever map comes to any shard, and writes, and is answered
            if self.inside[shard] == 0 && self.writes < 3 && self.lets_in(shard) {
                to(&|state| state.inside[shard] = 1);
            }
            if self.inside[shard] == 1 {
                to(&|state| state.inside[shard] = 0); // its caller is gone
                to(&|state| {
                    state.writes += 1;
                    state.data[shard] = state.writes;
                    state.inside[shard] = 2;
                });
            }
            if self.inside[shard] == 2 {
                to(&|state| {
                    state.answered = state.answered.max(state.data[shard]);
                    state.inside[shard] = 0;
                });
            }
            // a fence learns of the map that counts, when it does
            if self.known[shard] < self.counts {
                to(&|state| state.known[shard] = state.counts);
            }
        }
        if let Some((version, to_whom, what)) = self.late {
            to(&|state| {
                state.late = None;
                state.bring(usize::from(to_whom), version, what);
            });
        }
        match self.moving {
            None if self.counts < self.last() => {
                to(&|state| {
                    let from = state.owners[state.counts as usize];
                    if state.outside {
                        // it begins by deciding what was left open
                        state.publish(state.counts + 1, from);
                    }
                    state.moving = (state.counts < state.last()).then_some((Stage::Copying, from, state.counts + 1));
                });
            }
            None => {}
            Some((stage, from, version)) => {
                for event in [Event::Failed, Event::Dropped] {
                    to(&|state| state.then(stage.then(event, state.outside), from, version));
                    if matches!(stage, Stage::Copying | Stage::HandingOver) && self.late.is_none() {
                        to(&|state| {
                            state.late = Some((version, 1 - from, state.data[usize::from(from)]));
                            state.then(stage.then(event, state.outside), from, version);
                        });
                    }
                }
                if let Then::Go(following) = stage.then(Event::Done, self.outside)
                    && self.can_end(stage, from)
                {
                    to(&|state| {
                        state.act(stage, from, version);
                        state.moving = (following != Stage::Over).then_some((following, from, version));
                    });
                    // or it did act, and nobody learns of it
                    to(&|state| {
                        state.act(stage, from, version);
                        state.then(stage.then(Event::Dropped, state.outside), from, version);
                    });
                }
                if stage == Stage::Sealing {
                    // sealed, and somebody is still inside
                    to(&|state| state.sealed[usize::from(from)] = version);
                }
            }
        }
        next
    }

    /// Whether this stage can be over now: a seal waits for who is inside.
    fn can_end(&self, stage: Stage, from: u8) -> bool {
        stage != Stage::Sealing || (self.inside[usize::from(from)] == 0)
    }

    fn act(&mut self, stage: Stage, from: u8, version: u64) {
        let (old, new) = (usize::from(from), usize::from(1 - from));
        match stage {
            Stage::Sealing => self.sealed[old] = version,
            Stage::Copying | Stage::HandingOver => self.bring(new, version, self.data[old]),
            Stage::Committing => self.publish(version, 1 - from),
            Stage::Cleaning => self.data[old] = 0,
            Stage::Over => {}
        }
    }

    /// Something arrives at a shard, which refuses what is late.
    fn bring(&mut self, to: usize, version: u64, what: u8) {
        if version > self.known[to] && version >= self.received[to] {
            self.data[to] = what;
            self.received[to] = version;
        }
    }

    fn then(&mut self, then: Then, from: u8, version: u64) {
        match then {
            Then::Go(_) | Then::Again => {}
            Then::Undo => {
                self.publish(version, from);
                self.moving = None;
            }
            Then::Leave => self.moving = None,
        }
    }

    fn check(&self) {
        assert!(!(self.inside[0] > 0 && self.inside[1] > 0), "both serve the key: {self:?}");
        assert!(!(self.lets_in(0) && self.lets_in(1)), "both would serve the key: {self:?}");
        for shard in 0..2 {
            // whoever serves it has all that was answered
            if self.lets_in(shard) || self.inside[shard] > 0 {
                assert!(self.data[shard] >= self.answered, "what was answered is lost: {self:?}");
            }
        }
        let owner = usize::from(self.owners[self.counts as usize]);
        assert!(self.data[owner] >= self.answered, "the owner does not have what was answered: {self:?}");
    }

    /// Whether the key is served once all have learnt of the map that counts, by its owner.
    fn is_served(&self) -> bool {
        let mut healed = *self;
        healed.known = [self.counts; 2];
        healed.lets_in(usize::from(self.owners[self.counts as usize]))
    }
}

fn explore(outside: bool) -> BTreeSet<State> {
    let start = State::new(outside);
    let (mut seen, mut open) = (BTreeSet::from([start]), vec![start]);
    while let Some(state) = open.pop() {
        state.check();
        for next in state.next() {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen
}

#[test]
fn in_every_course_one_shard_serves_the_key_and_nothing_that_was_answered_is_lost() {
    for outside in [false, true] {
        let seen = explore(outside);
        assert!(seen.len() > 10_000, "{}", seen.len());
        let moved = seen.iter().filter(|state| state.owners[state.counts as usize] == 1 && state.answered > 0).count();
        assert!(moved > 100, "{moved}");
        for state in &seen {
            let nobody_moves_it = state.moving.is_none();
            if nobody_moves_it && !outside {
                assert!(state.is_served(), "the key is served by nobody: {state:?}");
            }
            if nobody_moves_it && !state.is_served() {
                // left open, until the next rebalance decides it
                assert!(state.sealed.iter().any(|at| *at > state.counts), "{state:?}");
            }
        }
    }
}
