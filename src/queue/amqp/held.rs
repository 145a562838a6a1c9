//! Which leases are out, until when, and on which connection: who may settle what. No clock and no server here.

use crate::base::{Error, Kind, Result, hash::Map, time::Instant};
use crate::queue::{Lease, Subscription};
use std::collections::BTreeSet;

/// A lease that is out, with what its holder needs to settle it.
#[derive(Debug)]
struct Out<T> {
    place: u64,
    /// Which connection it came over.
    session: u64,
    deadline: Instant,
    thing: T,
}

/// The leases of one broker handle.
#[derive(Debug)]
pub(super) struct Held<T> {
    /// Whose leases there ever were: what a lease's place counts in.
    subscriptions: Vec<Subscription>,
    out: Map<u64, Out<T>>,
    deadlines: BTreeSet<(Instant, u64)>,
    epoch: u64,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Held { subscriptions: Vec::new(), out: Map::default(), deadlines: BTreeSet::new(), epoch: 0 }
    }
}

impl<T> Held<T> {
    /// A lease on this, until then.
    pub(super) fn lease(
        &mut self,
        subscription: &Subscription,
        owner: u64,
        session: u64,
        deadline: Instant,
        thing: T,
    ) -> Lease {
        let known = self.subscriptions.iter().position(|one| one == subscription);
        let place = known.unwrap_or_else(|| {
            self.subscriptions.push(subscription.clone());
            self.subscriptions.len() - 1
        }) as u64;
        self.epoch += 1;
        self.out.insert(self.epoch, Out { place, session, deadline, thing });
        self.deadlines.insert((deadline, self.epoch));
        Lease::new(place, owner, self.epoch, deadline)
    }

    /// What this lease is on, while it holds.
    ///
    /// # Errors
    /// [`Kind::LeaseLost`], naming the subscription, once it has run out or was settled.
    pub(super) fn look(&self, lease: &Lease, now: Instant) -> Result<(&Subscription, &T)> {
        let out = self.out.get(&lease.epoch).filter(|out| out.place == lease.place && now < out.deadline);
        out.and_then(|out| Some((self.subscriptions.get(out.place as usize)?, &out.thing)))
            .ok_or_else(|| self.lost(lease))
    }

    /// Ends this lease.
    ///
    /// # Errors
    /// As for [`look`](Held::look).
    pub(super) fn end(&mut self, lease: &Lease, now: Instant) -> Result<T> {
        self.look(lease, now)?;
        self.take(lease.epoch).ok_or_else(|| self.lost(lease))
    }

    /// Holds it until then.
    ///
    /// # Errors
    /// As for [`look`](Held::look).
    pub(super) fn extend(&mut self, lease: &Lease, now: Instant, deadline: Instant) -> Result {
        self.look(lease, now)?;
        if let Some(out) = self.out.get_mut(&lease.epoch) {
            self.deadlines.remove(&(out.deadline, lease.epoch));
            self.deadlines.insert((deadline, lease.epoch));
            out.deadline = deadline;
        }
        Ok(())
    }

    /// What ran out, with its subscription.
    pub(super) fn lapsed(&mut self, now: Instant) -> Vec<(Subscription, T)> {
        let mut all = Vec::new();
        while let Some(&(deadline, epoch)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(out) = self.out.remove(&epoch)
                && let Some(subscription) = self.subscriptions.get(out.place as usize)
            {
                all.push((subscription.clone(), out.thing));
            }
        }
        all
    }

    /// When the next one runs out.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends all that came over this connection: the server has them back.
    pub(super) fn disconnected(&mut self, session: u64) -> Vec<T> {
        let of_session = |(epoch, out): (&u64, &Out<T>)| (out.session == session).then_some(*epoch);
        let mut lost: Vec<u64> = self.out.iter().filter_map(of_session).collect();
        lost.sort_unstable(); // the map's order is nobody's
        lost.into_iter().filter_map(|epoch| self.take(epoch)).collect()
    }

    /// How many hold in this subscription, as a sum over what each holds.
    pub(super) fn count(&self, subscription: &Subscription, weight: impl Fn(&T) -> usize) -> usize {
        let Some(place) = self.subscriptions.iter().position(|one| one == subscription) else { return 0 };
        self.out.values().filter(|out| out.place == place as u64).map(|out| weight(&out.thing)).sum()
    }

    fn take(&mut self, epoch: u64) -> Option<T> {
        let out = self.out.remove(&epoch)?;
        self.deadlines.remove(&(out.deadline, epoch));
        Some(out.thing)
    }

    /// The error of a lease that is over.
    #[cold]
    pub(super) fn lost(&self, lease: &Lease) -> Error {
        let subscription = self.subscriptions.get(lease.place as usize);
        let place = subscription.map_or("subscription unknown".to_string(), |name| format!("subscription {name}"));
        Error::new(Kind::LeaseLost, format!("lease {} is over", lease.epoch)).at(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time};
    use std::{collections::BTreeMap, time::Duration};

    #[test]
    fn against_a_model() {
        let start = time::now();
        let at = |tick: u64| start + Duration::from_millis(tick);
        let subscriptions = [Subscription::new("a", "x"), Subscription::new("a", "y")];
        let mut rng = Seed::new(2).rng();
        let mut held = Held::<u64>::default();
        let mut model = BTreeMap::<u64, (Lease, usize, u64, u64)>::new(); // thing: lease, subscription, session, deadline
        let (mut leases, mut things) = (Vec::new(), 0);
        for now in 0..100_000_u64 {
            let pick = |rng: &mut crate::base::Rng, leases: &[Lease]| {
                (!leases.is_empty()).then(|| leases[(rng.next_u64() % leases.len() as u64) as usize])
            };
            let holds = |model: &BTreeMap<u64, (Lease, usize, u64, u64)>, lease: &Lease| {
                model.iter().find(|(_, (one, .., deadline))| one == lease && now < *deadline).map(|(thing, _)| *thing)
            };
            match rng.next_u64() % 6 {
                0 | 1 => {
                    things += 1;
                    let (which, session, hold) =
                        ((rng.next_u64() % 2) as usize, rng.next_u64() % 3, 1 + rng.next_u64() % 50);
                    let lease = held.lease(&subscriptions[which], 9, session, at(now + hold), things);
                    assert!(leases.iter().all(|other: &Lease| other.epoch != lease.epoch));
                    model.insert(things, (lease, which, session, now + hold));
                    leases.push(lease);
                    if leases.len() > 200 {
                        leases.remove(0);
                    }
                }
                2 => {
                    let Some(lease) = pick(&mut rng, &leases) else { continue };
                    let expected = holds(&model, &lease);
                    assert_eq!(held.look(&lease, at(now)).ok().map(|(_, thing)| *thing), expected);
                    assert_eq!(held.end(&lease, at(now)).ok(), expected);
                    assert!(held.end(&lease, at(now)).is_err(), "settled twice");
                    expected.map(|thing| model.remove(&thing));
                }
                3 => {
                    let Some(lease) = pick(&mut rng, &leases) else { continue };
                    let until = now + rng.next_u64() % 80;
                    let expected = holds(&model, &lease);
                    assert_eq!(held.extend(&lease, at(now), at(until)).is_ok(), expected.is_some());
                    if let Some(thing) = expected {
                        model.get_mut(&thing).unwrap().3 = until;
                    }
                }
                4 => {
                    let mut lapsed: Vec<u64> = held.lapsed(at(now)).into_iter().map(|(_, thing)| thing).collect();
                    lapsed.sort_unstable();
                    let over = |(thing, (.., deadline)): (&u64, &(Lease, usize, u64, u64))| {
                        (*deadline <= now).then_some(*thing)
                    };
                    let expected: Vec<u64> = model.iter().filter_map(over).collect();
                    assert_eq!(lapsed, expected);
                    model.retain(|_, (.., deadline)| *deadline > now);
                }
                _ if rng.next_u64().is_multiple_of(20) => {
                    let session = rng.next_u64() % 3;
                    let mut lost = held.disconnected(session);
                    lost.sort_unstable();
                    let of = |(thing, (_, _, one, _)): (&u64, &(Lease, usize, u64, u64))| {
                        (*one == session).then_some(*thing)
                    };
                    assert_eq!(lost, model.iter().filter_map(of).collect::<Vec<_>>());
                    model.retain(|_, (_, _, one, _)| *one != session);
                }
                _ => {}
            }
            assert_eq!(held.next(), model.values().map(|(.., deadline)| at(*deadline)).min());
            let second = model.values().filter(|(_, which, ..)| *which == 1).count();
            assert_eq!(held.count(&subscriptions[1], |_| 1), second);
        }
    }

    #[test]
    fn a_lost_lease_names_its_subscription() {
        let mut held = Held::<()>::default();
        let now = time::now();
        let lease = held.lease(&Subscription::new("orders", "mailer"), 0, 1, now + Duration::from_secs(1), ());
        let error = held.end(&lease, now + Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "subscription orders/mailer: lease lost: lease 1 is over");
        let stranger = Lease::new(7, 0, 1, now);
        assert_eq!(held.look(&stranger, now).unwrap_err().place(), Some("subscription unknown"));
    }
}
