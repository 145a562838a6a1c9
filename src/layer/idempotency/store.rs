//! Where first answers are kept: a small seam, and memory behind it.

use crate::base::{
    Answer, Error, Kind,
    hash::Fixed,
    sync::{Arc, Lock},
    time::{self, Instant},
};
use std::{
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    time::Duration,
};

/// By which a repeated request is recognised: a name that its sender chose, and a fingerprint of what it asks for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdempotencyKey {
    name: Arc<str>,
    fingerprint: u64,
}

impl IdempotencyKey {
    /// This name; all requests under it are taken for the same.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        IdempotencyKey { name: name.into(), fingerprint: 0 }
    }

    /// For this content, and no other.
    #[must_use]
    pub fn of(self, content: &(impl Hash + ?Sized)) -> Self {
        let mut hasher = Fixed::default();
        content.hash(&mut hasher);
        IdempotencyKey { fingerprint: hasher.finish(), ..self }
    }

    /// What its sender chose.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same for the same content, in every process.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:016x})", self.name, self.fingerprint)
    }
}

/// What there is under a key.
#[derive(Debug)]
pub enum Claim<T> {
    /// Nothing was: the request is to be carried out under this ticket.
    Mine(u64),
    /// The answer that was kept of this very request.
    Known(Arc<T>),
    /// This very request is claimed, and not yet answered.
    UnderWay,
    /// It stands for another request, answered or not.
    Other,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Answers kept now.
    pub answers: usize,
    /// Keys claimed now.
    pub claims: usize,
    /// Bytes of the answers, as weighed.
    pub bytes: usize,
    /// Answers that had to go before their window was over.
    pub evicted: u64,
}

/// Keeps first answers by their key. Object-safe, so that they may live in storage which processes share.
///
/// 1. [`claim`](Self::claim): one alone gets [`Claim::Mine`] until it keeps an answer, releases the key, or its lease is over.
/// 2. [`keep`](Self::keep) the answer for the window, under the ticket; or [`release`](Self::release) the key.
pub trait IdempotencyStore<T>: Send + Sync + 'static {
    /// Claims a key for so long, or says what there is.
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, lease: Duration) -> Answer<'a, Claim<T>>;

    /// Keeps the answer in place of the claim.
    ///
    /// # Errors
    /// [`Kind::LeaseLost`] where the claim is no longer held under this ticket; [`Kind::Overloaded`] where there is no room
    /// for it: then the key is free again.
    fn keep<'a>(&'a self, key: &'a IdempotencyKey, ticket: u64, answer: Arc<T>, window: Duration) -> Answer<'a, ()>;

    /// Gives the claim back without an answer. It must not block: what takes time is done behind it, or left to the lease.
    fn release(&self, key: &IdempotencyKey, ticket: u64);

    /// What it holds, where it can tell.
    fn held(&self) -> Held {
        Held::default()
    }
}

/// What an answer counts beside what is weighed: its places in the maps.
const OVERHEAD: usize = 128;

/// Keeps answers in memory, the oldest going first: 64 MiB and 100,000 of them, unless set otherwise.
///
/// Cheap to clone; clones share what is kept. A claim in it holds until it is kept or released: both happen in this process.
pub struct IdempotencyMemory<T> {
    kept: Arc<Lock<Kept<T>>>,
    weigh: Arc<dyn Fn(&T) -> usize + Send + Sync>,
}

struct Kept<T> {
    slots: BTreeMap<Arc<str>, Slot<T>>,
    /// The answers in the order in which they came.
    order: BTreeMap<u64, Arc<str>>,
    tickets: u64,
    held: Held,
    most: (usize, usize),
}

struct Slot<T> {
    fingerprint: u64,
    ticket: u64,
    answer: Option<(Arc<T>, Instant, usize)>,
}

impl<T> IdempotencyMemory<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        let (slots, order) = (BTreeMap::new(), BTreeMap::new());
        let kept = Kept { slots, order, tickets: 0, held: Held::default(), most: (64 << 20, 100_000) };
        IdempotencyMemory { kept: Arc::new(Lock::new(kept)), weigh: Arc::new(|_| size_of::<T>()) }
    }

    /// How many bytes are kept, as weighed.
    #[must_use]
    pub fn bytes(self, most: usize) -> Self {
        self.kept.lock().most.0 = most;
        self
    }

    /// How many answers are kept.
    #[must_use]
    pub fn answers(self, most: usize) -> Self {
        self.kept.lock().most.1 = most;
        self
    }

    /// Tells how many bytes an answer owns; the key and 128 more are counted for its places.
    #[must_use]
    pub fn weigh(mut self, weigh: impl Fn(&T) -> usize + Send + Sync + 'static) -> Self {
        self.weigh = Arc::new(weigh);
        self
    }
}

impl<T> Kept<T> {
    /// Drops what has come first, while it is over or there is no room.
    fn tidy(&mut self, now: Instant) -> Vec<Slot<T>> {
        let mut gone = Vec::new();
        while let Some((ticket, name)) = self.order.first_key_value() {
            let Some((_, until, _)) = self.slots.get(name).and_then(|slot| slot.answer.as_ref()) else { break };
            let (ticket, name, over) = (*ticket, name.clone(), *until <= now);
            if !over && self.held.bytes <= self.most.0 && self.held.answers <= self.most.1 {
                break;
            }
            self.held.evicted += u64::from(!over);
            self.order.remove(&ticket);
            gone.extend(self.forget(&name));
        }
        gone
    }

    fn forget(&mut self, name: &str) -> Option<Slot<T>> {
        let slot = self.slots.remove(name)?;
        match &slot.answer {
            Some((_, _, bytes)) => {
                self.held.bytes -= bytes;
                self.held.answers -= 1;
                self.order.remove(&slot.ticket);
            }
            None => self.held.claims -= 1,
        }
        Some(slot)
    }
}

impl<T: Send + Sync + 'static> IdempotencyStore<T> for IdempotencyMemory<T> {
    fn claim<'a>(&'a self, key: &'a IdempotencyKey, _: Duration) -> Answer<'a, Claim<T>> {
        let (mut kept, now) = (self.kept.lock(), time::now());
        let mut gone = None;
        match kept.slots.get(&key.name) {
            Some(Slot { answer: Some((_, until, _)), .. }) if *until <= now => gone = kept.forget(&key.name),
            Some(slot) if slot.fingerprint != key.fingerprint => return Answer::ok(Claim::Other),
            Some(Slot { answer: Some((answer, ..)), .. }) => return Answer::ok(Claim::Known(answer.clone())),
            Some(_) => return Answer::ok(Claim::UnderWay),
            None => {}
        }
        kept.tickets += 1;
        kept.held.claims += 1;
        let ticket = kept.tickets;
        kept.slots.insert(key.name.clone(), Slot { fingerprint: key.fingerprint, ticket, answer: None });
        drop(kept);
        drop(gone);
        Answer::ok(Claim::Mine(ticket))
    }

    fn keep<'a>(&'a self, key: &'a IdempotencyKey, ticket: u64, answer: Arc<T>, window: Duration) -> Answer<'a, ()> {
        let (bytes, now) = ((self.weigh)(&answer).saturating_add(key.name.len() + OVERHEAD), time::now());
        let mut kept = self.kept.lock();
        if bytes > kept.most.0 || kept.most.1 == 0 {
            drop(kept);
            self.release(key, ticket);
            return Answer::now(Err(Error::new(Kind::Overloaded, "larger than all that may be kept").at(key.name())));
        }
        let Some(slot) = kept.slots.get_mut(&key.name).filter(|slot| slot.ticket == ticket && slot.answer.is_none())
        else {
            return Answer::now(Err(Error::new(Kind::LeaseLost, "its key is no longer claimed").at(key.name())));
        };
        slot.answer = Some((answer, time::after(now, window), bytes));
        kept.held.claims -= 1;
        kept.held.answers += 1;
        kept.held.bytes = kept.held.bytes.saturating_add(bytes);
        kept.order.insert(ticket, key.name.clone());
        let gone = kept.tidy(now);
        drop(kept);
        drop(gone);
        Answer::ok(())
    }

    fn release(&self, key: &IdempotencyKey, ticket: u64) {
        let mut kept = self.kept.lock();
        if kept.slots.get(&key.name).is_some_and(|slot| slot.ticket == ticket && slot.answer.is_none()) {
            kept.forget(&key.name);
        }
    }

    fn held(&self) -> Held {
        self.kept.lock().held
    }
}

impl<T> Default for IdempotencyMemory<T> {
    fn default() -> Self {
        IdempotencyMemory::new()
    }
}

impl<T> Clone for IdempotencyMemory<T> {
    fn clone(&self) -> Self {
        IdempotencyMemory { kept: self.kept.clone(), weigh: self.weigh.clone() }
    }
}

impl<T> fmt::Debug for IdempotencyMemory<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kept.lock().held.fmt(f)
    }
}
