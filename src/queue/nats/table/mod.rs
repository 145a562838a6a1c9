//! What this client holds of each subscription, decided under one lock: it takes `now`, never waits and asks nobody.

mod check;
mod pulls;

pub(in crate::queue::nats) use check::Settling;

use super::{
    letters::Lane,
    parts::{Back, Part, Parts, State},
};
use crate::base::{
    Error, Kind, Result,
    hash::Map,
    time::{Instant, after as later},
};
use crate::queue::{Batch, Delivery, Lease, Subscription, Want};
use async_nats::Subject;
use pulls::Pull;
use slab::Slab;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, Notify};

/// How long what nobody here has asked for stays before it goes back to the server.
pub(in crate::queue::nats) const LINGER: Duration = Duration::from_secs(1);
/// How many messages that went back are remembered, for the statistics.
const RETURNED_MAX: usize = 65_536;

/// A message that the server has given to this client.
pub(in crate::queue::nats) struct Held {
    /// Where it is acknowledged.
    pub(in crate::queue::nats) reply: Subject,
    pub(in crate::queue::nats) sequence: u64,
    /// Which delivery of it this is, counted from 1.
    pub(in crate::queue::nats) delivered: u64,
    pub(in crate::queue::nats) batch: Arc<Batch>,
    pub(in crate::queue::nats) parts: Parts,
    /// The server's timer for it began no earlier than this.
    pub(in crate::queue::nats) sure: Instant,
    /// Whether the server keeps a note on it.
    pub(in crate::queue::nats) noted: bool,
    /// When something was last done with it here.
    pub(in crate::queue::nats) touched: Instant,
    /// Whoever writes a note on it goes through here, so that notes are written in order.
    pub(in crate::queue::nats) gate: Arc<Mutex<()>>,
}

/// One subscription.
pub(in crate::queue::nats) struct Station {
    pub(in crate::queue::nats) subscription: Subscription,
    pub(in crate::queue::nats) stream: String,
    pub(in crate::queue::nats) consumer: String,
    /// The server gives a message to another when it has heard nothing of it for this long; or longer.
    pub(in crate::queue::nats) wait: Duration,
    pub(in crate::queue::nats) held: Slab<Held>,
    by_sequence: BTreeMap<u64, usize>,
    ready: BTreeSet<(u64, usize)>,
    /// Whether it is looked at soon for messages that nobody here asks for.
    lingering: bool,
    /// Told when something is ready that no pull request waits for.
    pub(in crate::queue::nats) spare: Arc<Notify>,
    /// How many items the last message had; 0 while that is unknown.
    pub(in crate::queue::nats) typical: u32,
    /// How many messages the server had behind the last one.
    pub(in crate::queue::nats) pending: u64,
    /// Messages that went back: when they are due, and how many items they have left.
    pub(in crate::queue::nats) returned: BTreeMap<u64, (Instant, usize)>,
    pub(in crate::queue::nats) rejected: u64,
}

/// Why something is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::queue::nats) enum Alarm {
    /// The lease of this epoch runs out.
    Lapse(u64),
    /// Items are due.
    Ripen,
    /// Messages of the station may have been here long enough.
    Linger,
}

/// What was leased.
pub(in crate::queue::nats) struct Taken {
    pub(in crate::queue::nats) delivery: Delivery,
    /// The server's timer may end before the lease does: it must be told first.
    pub(in crate::queue::nats) renew: Option<Subject>,
}

impl Station {
    pub(in crate::queue::nats) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

#[derive(Default)]
pub(in crate::queue::nats) struct Table {
    pub(in crate::queue::nats) stations: Vec<Station>,
    places: BTreeMap<Subscription, usize>,
    pulls: Map<u64, Pull>,
    next_pull: u64,
    /// Where nothing comes in at the moment.
    lanes: Vec<Lane>,
    epoch: u64,
    alarms: BTreeSet<(Instant, usize, usize, Alarm)>,
    /// Until when nobody looks at the alarms.
    pub(in crate::queue::nats) asleep_until: Option<Instant>,
}

fn place(station: usize, slot: usize) -> u64 {
    (station as u64) << 32 | slot as u64
}

/// The station and the slot of a lease.
pub(in crate::queue::nats) fn places(lease: &Lease) -> (usize, usize) {
    ((lease.place >> 32) as usize, (lease.place & u64::from(u32::MAX)) as usize)
}

impl Table {
    pub(in crate::queue::nats) fn find(&self, subscription: &Subscription) -> Option<usize> {
        self.places.get(subscription).copied()
    }

    pub(in crate::queue::nats) fn station(&self, at: usize) -> Option<&Station> {
        self.stations.get(at)
    }

    /// A station for this subscription, whose consumer waits for so long.
    pub(in crate::queue::nats) fn open(
        &mut self,
        subscription: &Subscription,
        stream: String,
        consumer: String,
        wait: Duration,
    ) -> usize {
        if let Some(at) = self.find(subscription) {
            return at;
        }
        let at = self.stations.len();
        self.places.insert(subscription.clone(), at);
        self.stations.push(Station {
            subscription: subscription.clone(),
            stream,
            consumer,
            wait,
            held: Slab::new(),
            by_sequence: BTreeMap::new(),
            ready: BTreeSet::new(),
            lingering: false,
            spare: Arc::default(),
            typical: 0,
            pending: 0,
            returned: BTreeMap::new(),
            rejected: 0,
        });
        at
    }

    /// Takes in a message. Another delivery of the same one ends what was left of the leases of that.
    pub(in crate::queue::nats) fn admit(&mut self, now: Instant, at: usize, held: Held) {
        let Some(station) = self.stations.get_mut(at) else { return };
        let sequence = held.sequence;
        station.typical = held.batch.payload.len();
        station.returned.remove(&sequence);
        if let Some(slot) = station.by_sequence.get(&sequence).copied() {
            drop(self.remove(at, slot));
        }
        let Some(station) = self.stations.get_mut(at) else { return };
        let slot = station.held.insert(held);
        station.by_sequence.insert(sequence, slot);
        self.touch(now, at, slot);
    }

    /// After its parts have changed: ready ones are offered, and it is looked at again in time. Whether any are ready.
    pub(in crate::queue::nats) fn touch(&mut self, now: Instant, at: usize, slot: usize) -> bool {
        let Some(station) = self.stations.get_mut(at) else { return false };
        let Some(held) = station.held.get_mut(slot) else { return false };
        held.touched = now;
        held.parts.ripen(now);
        if let Some(due) = held.parts.next_due() {
            self.alarms.insert((due, at, slot, Alarm::Ripen));
        }
        if !held.parts.has_leased() && !station.lingering {
            station.lingering = true;
            self.alarms.insert((later(now, LINGER), at, 0, Alarm::Linger));
        }
        let ready = held.parts.has_ready();
        if ready {
            station.ready.insert((held.sequence, slot));
        } else {
            station.ready.remove(&(held.sequence, slot));
        }
        ready
    }

    /// Those messages of a station that nobody here has asked for in all the time: they leave.
    pub(in crate::queue::nats) fn linger(&mut self, now: Instant, at: usize) -> Vec<Held> {
        let Some(station) = self.stations.get_mut(at) else { return Vec::new() };
        let idle = |held: &(usize, &Held)| !held.1.parts.has_leased();
        let (late, early): (Vec<_>, Vec<_>) =
            station.held.iter().filter(idle).partition(|(_, held)| held.touched + LINGER <= now);
        let late: Vec<usize> = late.into_iter().map(|(slot, _)| slot).collect();
        station.lingering = !early.is_empty();
        if station.lingering {
            self.alarms.insert((later(now, LINGER), at, 0, Alarm::Linger));
        }
        late.into_iter().filter_map(|slot| self.remove(at, slot)).collect()
    }

    /// It is no longer here, and its leases are over.
    pub(in crate::queue::nats) fn remove(&mut self, at: usize, slot: usize) -> Option<Held> {
        let station = self.stations.get_mut(at)?;
        let held = station.held.try_remove(slot)?;
        station.by_sequence.remove(&held.sequence);
        station.ready.remove(&(held.sequence, slot));
        for part in &held.parts.0 {
            if let State::Leased { epoch, deadline } = part.state {
                self.alarms.remove(&(deadline, at, slot, Alarm::Lapse(epoch)));
            }
        }
        Some(held)
    }

    /// Remembers when a message that went back is due, and how many items it has left.
    pub(in crate::queue::nats) fn went_back(&mut self, at: usize, sequence: u64, due: Instant, items: usize) {
        let Some(station) = self.stations.get_mut(at) else { return };
        station.returned.insert(sequence, (due, items));
        if station.returned.len() > RETURNED_MAX {
            station.returned.pop_first();
        }
    }

    /// Leases what is ready, up to what is wanted in all; `taken` holds what was leased before.
    pub(in crate::queue::nats) fn take(
        &mut self,
        now: Instant,
        at: usize,
        want: &Want,
        hold: Duration,
        taken: &mut Vec<Taken>,
    ) {
        let mut items: u32 = taken.iter().map(|taken| taken.delivery.len()).sum();
        let size = |taken: &Taken| -> usize {
            taken.delivery.range.clone().map(|item| taken.delivery.batch.payload.size(item)).sum()
        };
        let mut bytes: usize = if want.bytes == usize::MAX { 0 } else { taken.iter().map(size).sum() };
        let deadline = later(now, hold);
        while items < want.items {
            let Some(station) = self.stations.get_mut(at) else { return };
            let Some((sequence, slot)) = station.ready.first().copied() else { return };
            let Some(held) = station.held.get_mut(slot) else {
                station.ready.remove(&(sequence, slot));
                continue;
            };
            let ends = later(held.sure, station.wait);
            if ends <= now && !held.parts.has_leased() {
                drop(self.remove(at, slot)); // the server has given it to another by now, or will
                continue;
            }
            let (most, batch) = ((want.items - items).min(want.chunk.max(1)), held.batch.clone());
            let left = want.bytes.saturating_sub(bytes);
            let epoch = self.epoch + 1;
            let got = held.parts.take(epoch, deadline, most, |item| batch.payload.size(item), left, taken.is_empty());
            let Some((range, attempts, used)) = got else { return };
            self.epoch = epoch;
            let renew = (ends < deadline).then(|| held.reply.clone());
            held.touched = now;
            if !held.parts.has_ready() {
                station.ready.remove(&(sequence, slot));
            }
            items += range.end - range.start;
            bytes = bytes.saturating_add(used);
            self.alarms.insert((deadline, at, slot, Alarm::Lapse(epoch)));
            let lease = Lease::new(place(at, slot), want.owner, epoch, deadline);
            taken.push(Taken { delivery: Delivery::new(lease, attempts, batch, range), renew });
        }
    }

    /// What was taken is not handed out after all.
    pub(in crate::queue::nats) fn untake(&mut self, now: Instant, lease: &Lease) {
        let (at, slot) = places(lease);
        let Some(held) = self.held(at, slot) else { return };
        let Some(deadline) = held.parts.leased(lease.epoch).map(|leased| leased.1) else { return };
        held.parts.untake(lease.epoch);
        self.alarms.remove(&(deadline, at, slot, Alarm::Lapse(lease.epoch)));
        if self.touch(now, at, slot)
            && let Some(station) = self.stations.get(at)
        {
            station.spare.notify_one();
        }
    }

    pub(in crate::queue::nats) fn held(&mut self, at: usize, slot: usize) -> Option<&mut Held> {
        self.stations.get_mut(at)?.held.get_mut(slot)
    }

    /// What is leased so, while it is: where, of which message, which of its parts.
    pub(in crate::queue::nats) fn leased(&self, now: Instant, lease: &Lease) -> Result<(&Station, &Held, &Part)> {
        let (at, slot) = places(lease);
        let found = self.stations.get(at).and_then(|station| {
            let held = station.held.get(slot)?;
            let (part, deadline) = held.parts.leased(lease.epoch)?;
            (deadline > now).then_some((station, held, part))
        });
        found.ok_or_else(|| self.lost(lease))
    }

    #[cold]
    pub(in crate::queue::nats) fn lost(&self, lease: &Lease) -> Error {
        let station = self.stations.get(places(lease).0);
        let place =
            station.map_or("subscription unknown".to_string(), |it| format!("subscription {}", it.subscription));
        Error::new(Kind::LeaseLost, format!("lease {} is over", lease.epoch)).at(place)
    }

    /// Until when the server surely leaves the message to this client.
    pub(in crate::queue::nats) fn surely_until(&self, lease: &Lease) -> Option<Instant> {
        let (at, slot) = places(lease);
        let station = self.stations.get(at)?;
        Some(later(station.held.get(slot)?.sure, station.wait))
    }

    /// The server's timer was told at this moment or later; the lease holds until then.
    pub(in crate::queue::nats) fn extend(&mut self, lease: &Lease, sure: Option<Instant>, until: Instant) {
        let (at, slot) = places(lease);
        let Some(held) = self.held(at, slot) else { return };
        held.sure = sure.map_or(held.sure, |sure| sure.max(held.sure));
        if let Some(before) = held.parts.extend(lease.epoch, until) {
            self.alarms.remove(&(before, at, slot, Alarm::Lapse(lease.epoch)));
            self.alarms.insert((until, at, slot, Alarm::Lapse(lease.epoch)));
        }
    }

    /// The lease is over; what is given back waits here.
    pub(in crate::queue::nats) fn settle(&mut self, now: Instant, lease: &Lease, back: &[Back]) {
        let (at, slot) = places(lease);
        let Some(held) = self.held(at, slot) else { return };
        let Some(deadline) = held.parts.leased(lease.epoch).map(|leased| leased.1) else { return };
        held.parts.settle(now, lease.epoch, back);
        let empty = held.parts.is_empty();
        self.alarms.remove(&(deadline, at, slot, Alarm::Lapse(lease.epoch)));
        if empty {
            drop(self.remove(at, slot));
        } else if self.touch(now, at, slot)
            && let Some(station) = self.stations.get(at)
        {
            station.spare.notify_one();
        }
    }

    /// When something is to be looked at next.
    pub(in crate::queue::nats) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.first().map(|first| first.0)
    }

    /// Whether something is due before anyone would look.
    pub(in crate::queue::nats) fn is_overslept(&self) -> bool {
        matches!((self.next_alarm(), self.asleep_until), (Some(next), Some(until)) if next < until)
    }

    /// What is to be looked at now.
    pub(in crate::queue::nats) fn due(&mut self, now: Instant) -> Option<(usize, usize, Alarm)> {
        let (then, at, slot, alarm) = self.alarms.first().copied()?;
        if then > now {
            return None;
        }
        self.alarms.pop_first();
        Some((at, slot, alarm))
    }
}
