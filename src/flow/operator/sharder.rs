//! Sharder: each item to one of several streams by its key, around those that are out.

use crate::base::{
    Error, Kind, Name, hash,
    sync::{
        Lock,
        atomic::{AtomicU64, Ordering},
    },
};
use crate::flow::{
    Chain, Edge, Item, Stream,
    draft::{Job, Outs},
    fault::Fault,
    fused::Fused,
    router::{Route, Router},
    stream::{Begun, type_of},
};
use crate::queue::Need;
use std::{collections::BTreeSet, fmt, marker::PhantomData, panic::Location, sync::Arc, time::Duration};

/// What becomes of an item whose shard is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOut {
    /// It waits until the shard is there again: the item comes back every second, uncharged.
    Wait,
    /// It goes to the shard that is next in line for its key, which is out neither; where none is, it waits.
    Reroute,
    /// It goes to the dead letters.
    DeadLetter,
}

/// Says which shards are out: the live handle of a [sharder](Stream::shard), for whoever probes or repairs them. Clones
/// share; it holds for the sharders of this process.
#[derive(Clone, Default)]
pub struct Outlets(Arc<Lock<BTreeSet<Name>>>);

impl Outlets {
    /// All shards are in.
    pub fn new() -> Outlets {
        Outlets::default()
    }

    /// This shard is out.
    pub fn close(&self, shard: impl Into<Name>) {
        self.0.lock().insert(shard.into());
    }

    /// This shard is back.
    pub fn open(&self, shard: impl AsRef<str>) {
        self.0.lock().remove(shard.as_ref());
    }

    /// Those that are out.
    pub fn closed(&self) -> Vec<Name> {
        self.0.lock().iter().cloned().collect()
    }
}

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Each item to exactly one of these shards, by its key: all of a key to the same one, which everybody who has the
    /// names agrees on (rendezvous hashing); a shard that is added takes its share from all others, and only that moves.
    ///
    /// ```text
    ///           ┌─ eu ─▶ a a
    /// a b a c ──┼─ us ─▶ b
    ///           └─ ap ─▶ c
    /// ```
    ///
    /// A shard is out where `outlets` says so, and, with [`OnOut::Reroute`], also while its topic has no room for a whole
    /// batch: nobody works there, or too few. What becomes of its items says `on_out`.
    ///
    /// # Guarantees
    /// The choice and the acknowledgement are one step: an item that was rerouted was delivered to one shard, whatever
    /// crashes, and whoever comes back meanwhile.
    ///
    /// # Errors
    /// [`Graph::check`](crate::flow::Graph::check) refuses to reroute on a broker without atomic steps: an item that is
    /// tried again there could go to another shard than before.
    ///
    /// ```
    /// use seedpod::flow::{Flow, OnOut, Outlets};
    /// let (mut flow, outlets) = (Flow::new("uploads"), Outlets::new());
    /// let uploads = flow.source::<(String, u64)>("uploads");
    /// let [eu, us] = uploads.shard(["eu", "us"], |(user, _)| user.clone(), &outlets, OnOut::Reroute);
    /// eu.sink("eu");
    /// us.sink("us");
    /// assert!(flow.build().is_ok());
    /// outlets.close("eu"); // until it is repaired
    /// ```
    #[track_caller]
    pub fn shard<K, const N: usize>(
        self,
        shards: [&'static str; N],
        key: impl Fn(&C::Out) -> K + Send + Sync + 'static,
        outlets: &Outlets,
        on_out: OnOut,
    ) -> [Edge<C::Out>; N]
    where
        K: AsRef<[u8]> + 'static,
    {
        let at = Location::caller();
        let names: Vec<_> = shards.iter().enumerate().map(|(list, name)| (*name, list)).collect();
        let outs = Arc::new(Outs {
            closed: outlets.clone(),
            names: shards.iter().map(|name| Name::from(*name)).collect(),
            mask: AtomicU64::new(0),
            full_is_out: on_out == OnOut::Reroute,
        });
        let router = Sharder {
            shards: shards.iter().map(|name| salt(name)).collect(),
            key,
            outs: outs.clone(),
            on_out,
            marker: PhantomData,
        };
        let Begun { draft, chain, operators, inputs, name, tuning } = self.begun();
        let job = Job::Now(Arc::new(Fused::<In, _, _>::new(chain, router)));
        let (draft, mut stage) = Begun { draft, chain: (), operators, inputs, name, tuning }.stage("shard", at, job);
        stage.outs = Some(outs);
        stage.needs.extend((on_out == OnOut::Reroute).then_some(Need::AtomicStep));
        let edges = draft.lock().stage(stage, &names, type_of::<C::Out>());
        std::array::from_fn(|shard| {
            let edge = edges.get(shard).copied().unwrap_or_default();
            Edge::at_edges(draft.clone(), vec![(edge, 1)])
        })
    }
}

/// The hash of a name. Not that of a key: equal ones would cancel each other out.
fn salt(name: &str) -> u64 {
    hash::of(name.as_bytes()).rotate_left(32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// How well a key and a shard go together; the highest of a key's scores is its shard.
fn score(key: u64, salt: u64) -> u64 {
    let mut word = key ^ salt;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

struct Sharder<T, F, K> {
    shards: Vec<u64>,
    key: F,
    outs: Arc<Outs>,
    on_out: OnOut,
    marker: PhantomData<fn(&T) -> K>,
}

impl<T, F, K> Router<T> for Sharder<T, F, K>
where
    T: Item,
    F: Fn(&T) -> K + Send + Sync + 'static,
    K: AsRef<[u8]> + 'static,
{
    fn lists(&self) -> usize {
        self.shards.len()
    }

    fn route(&self, item: &T) -> Route {
        let key = hash::of((self.key)(item).as_ref());
        let out = self.outs.mask.load(Ordering::Relaxed);
        let best = |without: u64| {
            let ready = self.shards.iter().enumerate().filter(|(at, _)| without >> at & 1 == 0);
            ready.max_by_key(|(_, salt)| score(key, **salt)).map(|(at, _)| at)
        };
        match best(0) {
            Some(home) if out >> home & 1 == 0 => Route::To(home),
            _ if self.on_out == OnOut::Reroute => best(out).map_or(Route::Nowhere, Route::To),
            _ => Route::Nowhere,
        }
    }

    fn lost(&self) -> Fault {
        match self.on_out {
            OnOut::DeadLetter => Fault::Hopeless("its shard is out".into()),
            OnOut::Wait | OnOut::Reroute => {
                Fault::Failed(Error::new(Kind::Unavailable, "its shard is out").after(Duration::from_secs(1)))
            }
        }
    }
}

impl fmt::Debug for Outlets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlets").field("closed", &self.closed()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharder(names: &[&str], on_out: OnOut) -> (Arc<Outs>, impl Router<u64>) {
        let outs = Arc::new(Outs {
            closed: Outlets::new(),
            names: names.iter().map(|name| Name::from(*name)).collect(),
            mask: AtomicU64::new(0),
            full_is_out: false,
        });
        let shards = names.iter().map(|name| salt(name)).collect();
        let key = |n: &u64| n.to_le_bytes();
        (outs.clone(), Sharder { shards, key, outs, on_out, marker: PhantomData })
    }

    #[test]
    fn keys_are_spread_evenly_and_only_those_of_the_one_that_is_out_move() {
        let names = ["eu", "us", "ap", "sa"];
        let (outs, router) = sharder(&names, OnOut::Reroute);
        let all = |router: &dyn Fn(&u64) -> Route| (0..40_000_u64).map(|key| router(&key)).collect::<Vec<_>>();
        let before = all(&|key| router.route(key));
        for shard in 0..4 {
            let share = before.iter().filter(|route| **route == Route::To(shard)).count();
            assert!((9_600..10_400).contains(&share), "{share}");
        }
        outs.mask.store(0b10, Ordering::Relaxed);
        let without = all(&|key| router.route(key));
        for (before, without) in before.iter().zip(&without) {
            assert_ne!(*without, Route::To(1));
            assert!(before == without || *before == Route::To(1));
        }
        outs.mask.store(0, Ordering::Relaxed);
        assert_eq!(all(&|key| router.route(key)), before, "and they come back");
        let (_, fewer) = sharder(&["eu", "ap", "sa"], OnOut::Wait);
        let renumbered = |route: &Route| match route {
            Route::To(at) if *at > 0 => Route::To(at + 1),
            other => *other,
        };
        let fewer = all(&|key| renumbered(&fewer.route(key)));
        assert_eq!(fewer, without, "as if it had never been there");
    }

    #[test]
    fn whom_nobody_may_take_in_waits_or_is_given_up() {
        let names = ["eu", "us"];
        for (on_out, mask, expected) in
            [(OnOut::Wait, 0b11, "wait"), (OnOut::Reroute, 0b11, "wait"), (OnOut::DeadLetter, 0b11, "dead")]
        {
            let (outs, router) = sharder(&names, on_out);
            outs.mask.store(mask, Ordering::Relaxed);
            assert_eq!(router.route(&7), Route::Nowhere);
            match router.lost() {
                Fault::Failed(error) => assert!(expected == "wait" && error.retry_after().is_some()),
                other => assert!(expected == "dead" && matches!(other, Fault::Hopeless(_))),
            }
        }
    }
}
