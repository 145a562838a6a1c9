//! What this client holds of each subscription, decided under one lock: it takes `now`, never waits and asks nobody.

use super::{
    letters::Lane,
    parts::{Back, Part, Parts, State},
};
use crate::base::{
    Error, Kind, Result,
    hash::Map,
    time::{Instant, after as later},
};
use crate::queue::{Batch, Delivery, Lease, Step, Subscription, Want};
use async_nats::Subject;
use slab::Slab;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{Mutex, Notify};

/// How long what nobody here has asked for stays before it goes back to the server.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// How many messages that went back are remembered, for the statistics.
const RETURNED_MAX: usize = 65_536;
/// How many lanes are kept for later.
const LANES_MAX: usize = 64;

/// A message that the server has given to this client.
pub(super) struct Held {
    /// Where it is acknowledged.
    pub(super) reply: Subject,
    pub(super) sequence: u64,
    /// Which delivery of it this is, counted from 1.
    pub(super) delivered: u64,
    pub(super) batch: Arc<Batch>,
    pub(super) parts: Parts,
    /// The server's timer for it began no earlier than this.
    pub(super) sure: Instant,
    /// Whether the server keeps a note on it.
    pub(super) noted: bool,
    /// When something was last done with it here.
    pub(super) touched: Instant,
    /// Whoever writes a note on it goes through here, so that notes are written in order.
    pub(super) gate: Arc<Mutex<()>>,
}

/// One subscription.
pub(super) struct Station {
    pub(super) subscription: Subscription,
    pub(super) stream: String,
    pub(super) consumer: String,
    /// The server gives a message to another when it has heard nothing of it for this long; or longer.
    pub(super) wait: Duration,
    pub(super) held: Slab<Held>,
    by_sequence: BTreeMap<u64, usize>,
    ready: BTreeSet<(u64, usize)>,
    /// Whether it is looked at soon for messages that nobody here asks for.
    lingering: bool,
    /// Told when something is ready that no pull request waits for.
    pub(super) spare: Arc<Notify>,
    /// How many items the last message had; 0 while that is unknown.
    pub(super) typical: u32,
    /// How many messages the server had behind the last one.
    pub(super) pending: u64,
    /// Messages that went back: when they are due, and how many items they have left.
    pub(super) returned: BTreeMap<u64, (Instant, usize)>,
    pub(super) rejected: u64,
}

/// A request for messages.
pub(super) struct Pull {
    pub(super) station: usize,
    /// Before it was sent.
    pub(super) asked: Instant,
    /// The server has answered it by then.
    ends: Instant,
    pub(super) left: u32,
    /// Messages that have come, and whose note is being read.
    pub(super) arriving: u32,
    pub(super) over: bool,
    /// Whether the server has said that nothing more comes, or all has come.
    pub(super) ended: bool,
    /// Where what comes of it comes in.
    lane: Option<Lane>,
    /// What the server said of it that was not the usual end.
    pub(super) trouble: Option<String>,
    /// Nobody waits for it.
    abandoned: bool,
    pub(super) changed: Arc<Notify>,
}

/// Why something is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// The lease of this epoch runs out.
    Lapse(u64),
    /// Items are due.
    Ripen,
    /// Messages of the station may have been here long enough.
    Linger,
}

/// What was leased.
pub(super) struct Taken {
    pub(super) delivery: Delivery,
    /// The server's timer may end before the lease does: it must be told first.
    pub(super) renew: Option<Subject>,
}

/// What a step does with one lease.
pub(super) struct Settling {
    pub(super) lease: Lease,
    pub(super) back: Vec<Back>,
    /// Items of the delivery that are given up, and why.
    pub(super) rejects: Vec<(Range<u32>, String)>,
}

impl Station {
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) stations: Vec<Station>,
    places: BTreeMap<Subscription, usize>,
    pulls: Map<u64, Pull>,
    next_pull: u64,
    /// Where nothing comes in at the moment.
    lanes: Vec<Lane>,
    epoch: u64,
    alarms: BTreeSet<(Instant, usize, usize, Alarm)>,
    /// Until when nobody looks at the alarms.
    pub(super) asleep_until: Option<Instant>,
}

fn place(station: usize, slot: usize) -> u64 {
    (station as u64) << 32 | slot as u64
}

/// The station and the slot of a lease.
pub(super) fn places(lease: &Lease) -> (usize, usize) {
    ((lease.place >> 32) as usize, (lease.place & u64::from(u32::MAX)) as usize)
}

impl Table {
    pub(super) fn find(&self, subscription: &Subscription) -> Option<usize> {
        self.places.get(subscription).copied()
    }

    pub(super) fn station(&self, at: usize) -> Option<&Station> {
        self.stations.get(at)
    }

    /// A station for this subscription, whose consumer waits for so long.
    pub(super) fn open(
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

    /// Begins a pull request for so many messages.
    pub(super) fn pull(&mut self, now: Instant, station: usize, count: u32, ends: Instant) -> (u64, Arc<Notify>) {
        self.next_pull += 1;
        let changed = Arc::<Notify>::default();
        let pull = Pull {
            station,
            asked: now,
            ends,
            left: count,
            arriving: 0,
            over: false,
            ended: false,
            lane: None,
            trouble: None,
            abandoned: false,
            changed: changed.clone(),
        };
        self.pulls.insert(self.next_pull, pull);
        (self.next_pull, changed)
    }

    /// A lane that is free.
    pub(super) fn free_lane(&mut self) -> Option<Lane> {
        self.lanes.pop()
    }

    /// What comes of the request comes in on this lane; where the server is to answer.
    pub(super) fn assign(&mut self, number: u64, lane: Lane) -> String {
        let reply = lane.serve(number);
        if let Some(pull) = self.pulls.get_mut(&number) {
            pull.lane = Some(lane);
        }
        reply
    }

    /// The request is forgotten. Its lane is free, where nothing can come in on it any more.
    fn retire(&mut self, number: u64) {
        let Some(mut pull) = self.pulls.remove(&number) else { return };
        if pull.ended && self.lanes.len() < LANES_MAX {
            self.lanes.extend(pull.lane.take());
        }
    }

    pub(super) fn pulling(&mut self, number: u64) -> Option<&mut Pull> {
        self.pulls.get_mut(&number)
    }

    /// Whether all has come that will come of it.
    pub(super) fn is_over(&self, number: u64) -> bool {
        self.pulls.get(&number).is_none_or(|pull| pull.over && pull.arriving == 0)
    }

    /// What went wrong with it.
    pub(super) fn trouble(&self, number: u64) -> Option<String> {
        self.pulls.get(&number)?.trouble.clone()
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon(&mut self, number: u64) {
        if self.is_over(number) {
            if let Some(pull) = self.pulls.get(&number)
                && let Some(station) = self.stations.get(pull.station)
                && station.has_ready()
            {
                station.spare.notify_one(); // what came of it is for another
            }
            self.retire(number);
        } else if let Some(pull) = self.pulls.get_mut(&number) {
            pull.abandoned = true;
        }
    }

    /// Tells whoever waits for it, or for anything, that something has changed.
    pub(super) fn tell(&mut self, number: u64) {
        let Some(pull) = self.pulls.get(&number) else { return };
        pull.changed.notify_one();
        if pull.abandoned {
            if let Some(station) = self.stations.get(pull.station) {
                station.spare.notify_one();
            }
            if pull.over && pull.arriving == 0 {
                self.retire(number);
            }
        }
    }

    /// The connection is another: what was asked for before is not coming.
    pub(super) fn forget_pulls(&mut self) {
        for pull in self.pulls.values_mut() {
            pull.over = true;
            pull.changed.notify_one();
        }
        self.pulls.retain(|_, pull| !pull.abandoned || pull.arriving > 0);
    }

    /// Forgets requests that the server should have answered long ago.
    pub(super) fn sweep(&mut self, now: Instant) {
        let patience = Duration::from_secs(10);
        self.pulls.retain(|_, pull| !pull.abandoned || pull.ends + patience > now);
    }

    /// Takes in a message. Another delivery of the same one ends what was left of the leases of that.
    pub(super) fn admit(&mut self, now: Instant, at: usize, held: Held) {
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
    pub(super) fn touch(&mut self, now: Instant, at: usize, slot: usize) -> bool {
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
    pub(super) fn linger(&mut self, now: Instant, at: usize) -> Vec<Held> {
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
    pub(super) fn remove(&mut self, at: usize, slot: usize) -> Option<Held> {
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
    pub(super) fn went_back(&mut self, at: usize, sequence: u64, due: Instant, items: usize) {
        let Some(station) = self.stations.get_mut(at) else { return };
        station.returned.insert(sequence, (due, items));
        if station.returned.len() > RETURNED_MAX {
            station.returned.pop_first();
        }
    }

    /// Leases what is ready, up to what is wanted in all; `taken` holds what was leased before.
    pub(super) fn take(&mut self, now: Instant, at: usize, want: &Want, hold: Duration, taken: &mut Vec<Taken>) {
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
    pub(super) fn untake(&mut self, now: Instant, lease: &Lease) {
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

    pub(super) fn held(&mut self, at: usize, slot: usize) -> Option<&mut Held> {
        self.stations.get_mut(at)?.held.get_mut(slot)
    }

    /// What is leased so, while it is: where, of which message, which of its parts.
    pub(super) fn leased(&self, now: Instant, lease: &Lease) -> Result<(&Station, &Held, &Part)> {
        let (at, slot) = places(lease);
        let found = self.stations.get(at).and_then(|station| {
            let held = station.held.get(slot)?;
            let (part, deadline) = held.parts.leased(lease.epoch)?;
            (deadline > now).then_some((station, held, part))
        });
        found.ok_or_else(|| self.lost(lease))
    }

    #[cold]
    pub(super) fn lost(&self, lease: &Lease) -> Error {
        let station = self.stations.get(places(lease).0);
        let place =
            station.map_or("subscription unknown".to_string(), |it| format!("subscription {}", it.subscription));
        Error::new(Kind::LeaseLost, format!("lease {} is over", lease.epoch)).at(place)
    }

    /// Until when the server surely leaves the message to this client.
    pub(super) fn surely_until(&self, lease: &Lease) -> Option<Instant> {
        let (at, slot) = places(lease);
        let station = self.stations.get(at)?;
        Some(later(station.held.get(slot)?.sure, station.wait))
    }

    /// The server's timer was told at this moment or later; the lease holds until then.
    pub(super) fn extend(&mut self, lease: &Lease, sure: Option<Instant>, until: Instant) {
        let (at, slot) = places(lease);
        let Some(held) = self.held(at, slot) else { return };
        held.sure = sure.map_or(held.sure, |sure| sure.max(held.sure));
        if let Some(before) = held.parts.extend(lease.epoch, until) {
            self.alarms.remove(&(before, at, slot, Alarm::Lapse(lease.epoch)));
            self.alarms.insert((until, at, slot, Alarm::Lapse(lease.epoch)));
        }
    }

    /// The lease is over; what is given back waits here.
    pub(super) fn settle(&mut self, now: Instant, lease: &Lease, back: &[Back]) {
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
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.first().map(|first| first.0)
    }

    /// Whether something is due before anyone would look.
    pub(super) fn is_overslept(&self) -> bool {
        matches!((self.next_alarm(), self.asleep_until), (Some(next), Some(until)) if next < until)
    }

    /// What is to be looked at now.
    pub(super) fn due(&mut self, now: Instant) -> Option<(usize, usize, Alarm)> {
        let (then, at, slot, alarm) = self.alarms.first().copied()?;
        if then > now {
            return None;
        }
        self.alarms.pop_first();
        Some((at, slot, alarm))
    }

    /// What this step does with each of its leases: all held, nothing said twice of an item.
    pub(super) fn check(&self, now: Instant, step: &Step) -> Result<Vec<Settling>> {
        let mut all: Vec<Settling> = Vec::with_capacity(step.acks.len());
        for lease in &step.acks {
            self.leased(now, lease)?;
            all.push(Settling { lease: *lease, back: Vec::new(), rejects: Vec::new() });
        }
        all.sort_unstable_by_key(|settling| settling.lease.epoch);
        all.dedup_by_key(|settling| settling.lease.epoch);
        for (lease, _) in &step.extensions {
            self.leased(now, lease)?;
        }
        for retry in &step.retries {
            let items = self.part(now, &retry.lease, &retry.items)?;
            if let Some(settling) = entry(&mut all, &retry.lease) {
                settling.back.push(Back { items, after: retry.after, charge: retry.charge });
            }
        }
        for reject in &step.rejects {
            let items = self.part(now, &reject.lease, &reject.items)?;
            if let Some(settling) = entry(&mut all, &reject.lease) {
                settling.rejects.push((items, reject.reason.to_string()));
            }
        }
        for settling in &all {
            let back = settling.back.iter().map(|back| &back.items);
            let mut parts: Vec<_> = back.chain(settling.rejects.iter().map(|reject| &reject.0)).collect();
            parts.sort_unstable_by_key(|items| items.start);
            if let Some((one, next)) = parts.iter().zip(parts.iter().skip(1)).find(|(one, next)| next.start < one.end) {
                let message = format!("items {one:?} and {next:?} overlap");
                return Err(Error::new(Kind::Invalid, message).at(format!("lease {}", settling.lease.epoch)));
            }
        }
        Ok(all)
    }

    /// Which items of the delivery these are.
    fn part(&self, now: Instant, lease: &Lease, items: &Option<Range<u32>>) -> Result<Range<u32>> {
        let range = &self.leased(now, lease)?.2.range;
        let most = range.end - range.start;
        let items = items.clone().unwrap_or(0..most);
        if items.is_empty() || items.end > most {
            let message = format!("items {items:?} of a delivery of {most}");
            return Err(Error::new(Kind::Invalid, message).at(format!("lease {}", lease.epoch)));
        }
        Ok(items)
    }
}

/// What is done with this lease; they stand in the order of their epochs.
fn entry<'a>(all: &'a mut Vec<Settling>, lease: &Lease) -> Option<&'a mut Settling> {
    let at = match all.binary_search_by_key(&lease.epoch, |settling| settling.lease.epoch) {
        Ok(at) => at,
        Err(at) => {
            all.insert(at, Settling { lease: *lease, back: Vec::new(), rejects: Vec::new() });
            at
        }
    };
    all.get_mut(at)
}
