//! The gate in front of one shard's data: only what the shard owns passes, and a part that moves away is sealed.

use super::super::shard::{SLOTS, ShardKey, ShardMap, Slot, Span, Strategy, hash};
use super::{Moved, Moving, ShardMaps};
use crate::base::{
    Error, Kind, Result,
    sync::{
        Lock,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};
use std::{collections::BTreeMap, fmt, pin::pin, sync::Arc};
use tokio::sync::Notify;

/// The bit of a word that says: part of this slot is sealed, look closer.
const SEALED: u32 = 1 << 31;

/// How many counts there are where keys are not sealed by slots: all are marked by each seal, so few, and more than one, so
/// that threads meet seldom.
const WORDS_OF_RANGES: usize = 64;

/// What a fence does with a request. Everything it decides is decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Serve,
    /// Ask under the map of this version.
    Refuse(u64),
}

/// `sealed`: the version at which the key is to be lost, where it is sealed; `known`: the version of the map that the
/// fence knows, and which of the key's owners it is under that; `asked`: the version that the request carries.
pub(super) fn verdict(sealed: Option<u64>, known: u64, place: Option<usize>, asked: Option<u64>) -> Verdict {
    match (sealed, asked, place) {
        (_, Some(asked), _) if asked > known => Verdict::Refuse(known), // it knows more than this fence
        (Some(at), ..) if at > known => Verdict::Refuse(at),            // not decided yet: nobody serves it
        (.., Some(0)) => Verdict::Serve,
        // a copy serves whoever knows that it is one: by an older map it may have been the first
        (_, asked, Some(_)) if asked.is_none_or(|asked| asked == known) => Verdict::Serve,
        _ => Verdict::Refuse(known),
    }
}

/// The gate in front of one shard's data, where the data is: lets through what the shard owns under the map that counts,
/// refuses the rest by [`Moved`], and counts what is inside.
///
/// When a part moves away, it is [sealed](Self::seal): from then on nobody gets in for its keys, and the seal waits until
/// those inside are out. What becomes of it says the next map: of the version for which it was sealed, or a newer one. If
/// the shard owns the part under that map, the move was given up, and it is served again; if not, it is another's.
///
/// ```text
///   owned ──seal(v)──► sealed ──map ≥ v, mine────► owned
///                        └──────map ≥ v, not mine► another's
/// ```
///
/// It takes 256 KiB: a count for each slot. Of a map of ranges it has 64 counts, and each seal concerns them all.
///
/// A handle: clones are the same fence. [`FenceLayer`](super::FenceLayer) puts it in front of a service.
///
/// **Guarantees**
/// - Who got in before the seal is waited for; who comes after it is refused: one atomic step decides.
/// - It asks nobody: the map it knows decides, and an older one only ever makes it refuse.
/// - A further copy serves only requests that carry the version of the map that it knows, or none: whoever has an older map
///   may take it for the first.
/// - Seals come from versions, which only grow: sealed twice is sealed once, and a seal that comes too late is refused.
///
/// **Not guaranteed**: that a fence made anew knows what was sealed before. A shard that comes back while something may be
/// moving away from it therefore begins by making the map that counts the next one, as it is, under the next version, where
/// that is decided: whatever is under way is given up by that. It serves once its fence knows that map.
///
/// ```
/// use seedpod::serving::{Fence, ShardMap, ShardMaps};
///
/// let maps = ShardMaps::new(ShardMap::planned(["s0", "s1"]).build()?);
/// let (s0, s1) = (Fence::new("s0", maps.clone()), Fence::new("s1", maps));
/// assert!(s0.enter("ann", None).is_ok() != s1.enter("ann", None).is_ok());
/// # Ok::<(), seedpod::Error>(())
/// ```
pub struct Fence {
    shared: Arc<Shared>,
}

struct Shared {
    shard: Arc<str>,
    maps: ShardMaps,
    /// Of the first map: what the words are counted by, whatever map comes.
    seed: u64,
    /// Of each slot, or of many slots together: how many are inside, and [`SEALED`].
    words: Box<[AtomicU32]>,
    closer: Lock<Closer>,
    /// Somebody has left a slot of which part is sealed.
    left: Notify,
    refused: AtomicU64,
}

/// What is looked at where part of a slot is sealed.
#[derive(Default)]
struct Closer {
    seals: Vec<Seal>,
    /// Who got in beside a seal, in the same slot.
    beside: BTreeMap<u64, Box<[u8]>>,
    next: u64,
    /// The version of the last move that has brought something here.
    received: u64,
}

struct Seal {
    spans: Arc<[Span]>,
    /// The version at which they are to be lost.
    at: u64,
}

impl Shared {
    /// The number of the word that this slot is counted in.
    #[inline(always)]
    fn at(&self, slot: Slot) -> u16 {
        slot.number() & (self.words.len() - 1) as u16 // there are 64 or 65,536
    }
}

impl Fence {
    /// In front of the data of the shard of this name, following these maps.
    pub fn new(shard: impl Into<Arc<str>>, maps: ShardMaps) -> Self {
        let (seed, words) = match maps.look() {
            map if map.strategy() == Strategy::Ranges => (map.seed(), WORDS_OF_RANGES),
            map => (map.seed(), SLOTS),
        };
        let shared = Shared {
            shard: shard.into(),
            maps,
            seed,
            words: (0..words).map(|_| AtomicU32::new(0)).collect(),
            closer: Lock::default(),
            left: Notify::new(),
            refused: AtomicU64::new(0),
        };
        Fence { shared: Arc::new(shared) }
    }

    /// The shard's name.
    pub fn shard(&self) -> &str {
        &self.shared.shard
    }

    /// The maps that it follows.
    pub fn maps(&self) -> &ShardMaps {
        &self.shared.maps
    }

    /// How many requests it has refused.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }

    /// Whether the shard owns this key, sealed or not: what it does not own can be cleaned away.
    pub fn owns(&self, key: &(impl ShardKey + ?Sized)) -> bool {
        self.place(&self.shared.maps.look(), key).is_some()
    }

    /// Whether the shard is the first owner of this key: of an answer that all shards give parts of, the part that no other
    /// copy gives too.
    pub fn leads(&self, key: &(impl ShardKey + ?Sized)) -> bool {
        self.place(&self.shared.maps.look(), key) == Some(0)
    }

    /// Lets data of this move in, at its new owner: to be asked for each piece that arrives, under the lock that the piece is
    /// written under. So nothing that arrives late overwrites what a later try of the move has brought, or what was written
    /// here since the keys have arrived.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where something of a higher version has arrived before, or a map of this version counts.
    pub fn receive(&self, moving: &Moving) -> Result {
        let at = moving.version;
        let mut closer = self.shared.closer.lock();
        let newest = closer.received.max(self.shared.maps.look().version().saturating_add(1));
        if at < newest {
            let message = format!("too late to bring something for map {at}: map {newest} is the next");
            return Err(Error::new(Kind::Conflict, message).at(self.shared.shard.clone()));
        }
        closer.received = at;
        Ok(())
    }

    /// Gets in for this key, until the pass is dropped. `version` is that of the map which the request was sent under,
    /// where it says so.
    ///
    /// # Errors
    /// [`Moved`], where the shard does not own the key, where it is sealed, or where the request knows a newer map.
    pub fn enter(&self, key: &(impl ShardKey + ?Sized), version: Option<u64>) -> Result<Pass, Moved> {
        let slot = self.shared.at(Slot::of(hash(key, self.shared.seed)));
        // counted before anything is looked at: a seal either sees this one, or is seen by it
        let before = self.word(slot).map_or(0, |word| word.fetch_add(1, AcqRel));
        let pass = Pass { fence: self.shared.clone(), place: Inside::Slot(slot) };
        if before & SEALED != 0 {
            drop(pass);
            return self.enter_beside(key, version);
        }
        let map = self.shared.maps.look();
        match verdict(None, map.version(), self.place(&map, key), version) {
            Verdict::Serve => Ok(pass),
            Verdict::Refuse(version) => Err(self.refuse(version, map.version())),
        }
    }

    /// The same where part of the slot is sealed. Who gets in is counted apart: its slot must become empty.
    #[cold]
    fn enter_beside(&self, key: &(impl ShardKey + ?Sized), version: Option<u64>) -> Result<Pass, Moved> {
        let mut closer = self.shared.closer.lock();
        let map = self.shared.maps.look();
        self.forget(&mut closer, map.version());
        let sealed = closer.seals.iter().filter(|seal| Span::any(&seal.spans, key));
        match verdict(sealed.map(|seal| seal.at).max(), map.version(), self.place(&map, key), version) {
            Verdict::Serve => {
                closer.next += 1;
                let number = closer.next;
                closer.beside.insert(number, key.shard_bytes().as_ref().into());
                Ok(Pass { fence: self.shared.clone(), place: Inside::Beside(number) })
            }
            Verdict::Refuse(version) => Err(self.refuse(version, map.version())),
        }
    }

    /// Seals what moves away and waits until nobody is inside for its keys. Sealed again, it only waits.
    ///
    /// Of a part that is ranges of keys it waits for everyone who was inside at that moment, for whatever key: requests are
    /// counted by the slots of their keys, which say nothing of ranges. Whoever comes later for another key is let in, and
    /// is not waited for.
    ///
    /// **Cancel-safety**: dropped, it stays sealed until a map decides.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where a map of the version for which it is sealed, or a newer one, counts already.
    pub async fn seal(&self, moving: &Moving) -> Result {
        let (spans, at): (Arc<[Span]>, u64) = (moving.spans.clone(), moving.version);
        let slots = self.slots(&spans);
        {
            let mut closer = self.shared.closer.lock();
            let known = self.shared.maps.look().version();
            if at <= known {
                let message = format!("map {known} counts already: too late to seal for map {at}");
                return Err(Error::new(Kind::Conflict, message).at(self.shared.shard.clone()));
            }
            self.forget(&mut closer, known);
            if !closer.seals.iter().any(|seal| seal.at == at && seal.spans == spans) {
                closer.seals.push(Seal { spans: spans.clone(), at });
            }
            for slot in &slots {
                if let Some(word) = self.word(*slot) {
                    word.fetch_or(SEALED, AcqRel);
                }
            }
        }
        for slot in &slots {
            // once empty it stays empty: who comes now counts himself only until he has seen the seal
            self.emptied(|| self.word(*slot).is_none_or(|word| word.load(Acquire) & !SEALED == 0)).await;
        }
        self.emptied(|| !self.shared.closer.lock().beside.values().any(|key| Span::any(&spans, &**key))).await;
        Ok(())
    }

    async fn emptied(&self, is_empty: impl Fn() -> bool) {
        while !is_empty() {
            let mut left = pin!(self.shared.left.notified());
            left.as_mut().enable(); // before looking, so that nobody leaves in between
            if is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Takes away the seals that a map has decided.
    fn forget(&self, closer: &mut Closer, known: u64) {
        let decided: Vec<Seal> = closer.seals.extract_if(.., |seal| seal.at <= known).collect();
        if decided.is_empty() {
            return;
        }
        let kept: Vec<u16> = closer.seals.iter().flat_map(|seal| self.slots(&seal.spans)).collect();
        let kept: std::collections::BTreeSet<u16> = kept.into_iter().collect();
        for slot in decided.iter().flat_map(|seal| self.slots(&seal.spans)).filter(|slot| !kept.contains(slot)) {
            if let Some(word) = self.word(slot) {
                word.fetch_and(!SEALED, AcqRel);
            }
        }
    }

    /// The words that these are counted in.
    fn slots(&self, spans: &[Span]) -> Vec<u16> {
        let by_slot = |span: &Span| matches!(span, Span::Hashes { seed, .. } if *seed == self.shared.seed);
        if self.shared.words.len() == SLOTS && spans.iter().all(by_slot) {
            return spans.iter().flat_map(Span::slots).map(Slot::number).collect();
        }
        Slot::all().map(Slot::number).take(self.shared.words.len()).collect()
    }

    /// Which of the key's owners the shard is.
    fn place(&self, map: &ShardMap, key: &(impl ShardKey + ?Sized)) -> Option<usize> {
        let shards = map.shards();
        map.owners(key)
            .iter()
            .position(|owner| shards.get(owner.index()).is_some_and(|shard| *shard.name == *self.shard()))
    }

    fn refuse(&self, version: u64, known: u64) -> Moved {
        self.shared.refused.fetch_add(1, Relaxed);
        if version > known { Moved::undecided(version) } else { Moved::at(version) }
    }

    #[inline(always)]
    fn word(&self, slot: u16) -> Option<&AtomicU32> {
        self.shared.words.get(usize::from(slot))
    }
}

impl Clone for Fence {
    fn clone(&self) -> Self {
        Fence { shared: self.shared.clone() }
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fence({} under map {})", self.shard(), self.shared.maps.look().version())
    }
}

/// Counts one request inside, until dropped.
#[must_use = "dropping it says that the request is over"]
pub struct Pass {
    fence: Arc<Shared>,
    place: Inside,
}

enum Inside {
    Slot(u16),
    Beside(u64),
}

impl Drop for Pass {
    fn drop(&mut self) {
        let seen = match self.place {
            Inside::Slot(slot) => {
                let word = self.fence.words.get(usize::from(slot));
                word.is_some_and(|word| word.fetch_sub(1, Release) & SEALED != 0)
            }
            Inside::Beside(number) => self.fence.closer.lock().beside.remove(&number).is_some(),
        };
        if seen {
            self.fence.left.notify_waiters();
        }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pass({})", self.fence.shard)
    }
}
