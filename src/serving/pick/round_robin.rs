//! Each in its turn.

use super::{Choice, Picker};
use crate::{
    base::{
        Seed,
        sync::atomic::{AtomicU64, Ordering::Relaxed},
    },
    serving::{Among, Draw, endpoints::Apart},
};
use std::{
    cell::Cell,
    sync::{Arc, atomic::AtomicUsize},
};

/// Each in its turn, in the order in which they came; with weights, in a sequence that spreads each one's turns evenly.
///
/// **Guarantees**: a handle that is kept counts its own turns, so that each endpoint gets its share of what the handle
/// sends, to the call. Handles that make one call each count by thread. There is no counter that all threads share: such
/// a one costs more than the choice by load. **Not guaranteed**: that turns of different handles interleave.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    stripes: Arc<[Apart<AtomicU64>; STRIPES]>,
}

pub(crate) const STRIPES: usize = 8;

impl RoundRobin {
    /// Where the first turn is comes from the running simulation's seed or from the system, so that clients that start
    /// together do not all start at the same endpoint.
    pub fn new() -> Self {
        RoundRobin::seed(Seed::ambient())
    }

    /// Where the first turn is comes from this seed.
    pub fn seed(seed: Seed) -> Self {
        // far from the end of the count: a wrap would break the order once
        let start = seed.fork("round robin").get() >> 16;
        RoundRobin { stripes: Arc::new(std::array::from_fn(|_| Apart(AtomicU64::new(start)))) }
    }

    fn turn(&self) -> u64 {
        self.stripes.get(stripe()).map_or(0, |stripe| stripe.0.fetch_add(1, Relaxed))
    }
}

/// This thread's stripe of what threads count apart. In a simulation all of a thread's runs have the first, whichever thread it is.
pub(crate) fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    if Seed::in_simulation() {
        return 0;
    }
    MINE.get().unwrap_or_else(|| {
        let mine = NEXT.fetch_add(1, Relaxed) % STRIPES;
        MINE.set(Some(mine));
        mine
    })
}

impl Default for RoundRobin {
    fn default() -> Self {
        RoundRobin::new()
    }
}

impl<Req: ?Sized> Picker<Req> for RoundRobin {
    #[inline(always)]
    fn choose<S>(&self, among: &Among<'_, S>, _: &Req, draw: &mut Draw) -> Option<Choice> {
        let turn = draw.turn.unwrap_or_else(|| self.turn());
        draw.turn = Some(turn.wrapping_add(1));
        let place = among.sampling.turn(turn)?;
        let taken = among.is_free(place) || among.admits(place, draw.word() as u32);
        if taken { Some(Choice::of(place)) } else { next(among, draw) }
    }
}

/// The next in turn that can be picked: who is passed over has had the turn, so that the others share alike.
#[inline(never)]
fn next<S>(among: &Among<'_, S>, draw: &mut Draw) -> Option<Choice> {
    for _ in 0..2 * among.len() {
        let turn = draw.turn.unwrap_or_default();
        draw.turn = Some(turn.wrapping_add(1));
        let place = among.sampling.turn(turn)?;
        if among.admits(place, draw.word() as u32) {
            return Some(Choice::of(place));
        }
    }
    among.one(draw).map(Choice::of)
}
