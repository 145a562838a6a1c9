//! Chance from one seed: a stream of numbers per purpose, forked by name, so that no draw depends on another's timing.

use super::{hash, time::Instant};
use std::{cell::Cell, ops::Range};

/// What all chance of a run comes from.
///
/// Builders take `.seed(…)`; without one they take the running simulation's, and outside of any the system's.
/// [`fork`](Seed::fork) makes an independent seed per purpose, by name, so that adding a purpose changes no other.
///
/// ```
/// use seedpod::base::Seed;
/// let seed = Seed::new(7);
/// assert_eq!(seed.fork("victims"), Seed::new(7).fork("victims"));
/// assert_ne!(seed.fork("victims"), seed.fork("traffic"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

/// What is known of the simulation that a thread runs.
#[derive(Clone, Copy, Debug)]
struct Simulation {
    seed: Seed,
    /// How many seeds were given out that are unlike each other.
    fresh: u64,
    /// When somebody first asked for its time.
    start: Option<Instant>,
}

thread_local! {
    static SIMULATION: Cell<Option<Simulation>> = const { Cell::new(None) };
}

impl Seed {
    /// This seed.
    pub const fn new(seed: u64) -> Self {
        Seed(seed)
    }

    /// The running simulation's seed, or one from the operating system.
    pub fn ambient() -> Self {
        SIMULATION.get().map_or_else(Seed::of_the_system, |simulation| simulation.seed)
    }

    /// Unlike any other that is given out so: for handles that make ids, of which no two may make the same.
    pub(crate) fn fresh() -> Self {
        let Some(simulation) = SIMULATION.get() else { return Seed::of_the_system() };
        SIMULATION.set(Some(Simulation { fresh: simulation.fresh + 1, ..simulation }));
        simulation.seed.fork("fresh").fork_index(simulation.fresh)
    }

    fn of_the_system() -> Self {
        // without entropy any seed is as good: chance here spreads load, it keeps no secrets
        Seed(rand::TryRng::try_next_u64(&mut rand::rngs::SysRng).unwrap_or(0x5EED))
    }

    /// The moment at which the running simulation began: when it was first asked for. None outside of any.
    pub(super) fn simulated_since(now: Instant) -> Option<Instant> {
        let simulation = SIMULATION.get()?;
        let start = simulation.start.unwrap_or(now);
        SIMULATION.set(Some(Simulation { start: Some(start), ..simulation }));
        Some(start)
    }

    /// Whether this thread runs a simulation.
    pub fn in_simulation() -> bool {
        SIMULATION.get().is_some()
    }

    /// Makes this the seed of everything on this thread until the guard is dropped: how a simulation begins.
    #[must_use = "the simulation ends when the guard is dropped"]
    pub fn simulate(self) -> Simulating {
        Simulating { before: SIMULATION.replace(Some(Simulation { seed: self, fresh: 0, start: None })) }
    }

    /// The seed for this purpose.
    #[must_use]
    pub fn fork(self, purpose: &str) -> Self {
        self.fork_index(hash::of(purpose.as_bytes()))
    }

    /// The seed for the thing of this number.
    #[must_use]
    pub fn fork_index(self, index: u64) -> Self {
        Seed(mix(self.0 ^ mix(index.wrapping_add(0x9E37_79B9_7F4A_7C15))))
    }

    /// A generator that starts here.
    pub const fn rng(self) -> Rng {
        Rng(self.0)
    }

    /// The number itself, to print it.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Ends the simulation of this thread when dropped.
#[derive(Debug)]
pub struct Simulating {
    before: Option<Simulation>,
}

impl Drop for Simulating {
    fn drop(&mut self) {
        SIMULATION.set(self.before);
    }
}

/// A small, fast generator (splitmix64). It spreads load and draws faults; it keeps no secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The next 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number in `0..limit`; 0 where the limit is 0.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// A number in this range; its start where it is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True this often, from 0.0 (never) to 1.0 (always).
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of them; none where there are none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len() as u64) as usize)
    }

    /// Puts them in a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// An independent generator, which moves this one on by one draw.
    #[must_use]
    pub fn fork(&mut self) -> Rng {
        Rng(mix(self.next_u64()))
    }
}

#[inline]
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_are_independent_of_order() {
        let seed = Seed::new(1);
        let (a, b) = (seed.fork("a").rng().next_u64(), seed.fork("b").rng().next_u64());
        assert_eq!((b, a), (seed.fork("b").rng().next_u64(), seed.fork("a").rng().next_u64()));
        assert_ne!(a, b);
    }

    #[test]
    fn a_simulation_seeds_its_thread_and_ends() {
        assert!(!Seed::in_simulation());
        {
            let _outer = Seed::new(5).simulate();
            assert_eq!(Seed::ambient(), Seed::new(5));
            {
                let _inner = Seed::new(6).simulate();
                assert_eq!(Seed::ambient(), Seed::new(6));
            }
            assert_eq!(Seed::ambient(), Seed::new(5));
        }
        assert!(!Seed::in_simulation());
        assert_ne!(Seed::ambient(), Seed::ambient());
    }

    #[test]
    fn fresh_seeds_are_unlike_each_other_and_repeat() {
        let three = || {
            let _simulation = Seed::new(5).simulate();
            [Seed::fresh(), Seed::fresh(), Seed::fresh()]
        };
        let [one, two, other] = three();
        assert!(one != two && two != other && one != other && one != Seed::new(5));
        assert_eq!(three(), [one, two, other]);
        assert_ne!(Seed::fresh(), Seed::fresh());
    }

    #[test]
    fn a_million_draws_are_even() {
        let mut rng = Seed::new(3).rng();
        let mut counts = [0_u32; 10];
        for _ in 0..1_000_000 {
            counts[rng.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (99_000..101_000).contains(count)), "{counts:?}");
        assert_eq!((rng.below(0), rng.range(7..7), rng.choose::<u8>(&[])), (0, 7, None));
        assert!((0..1000).all(|_| (0.0..1.0).contains(&rng.unit())));
    }

    #[test]
    fn shuffling_keeps_all() {
        let mut items: Vec<_> = (0..100).collect();
        Seed::new(9).rng().shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
