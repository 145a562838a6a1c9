//! Which shard owns which key: an immutable value of a version.

use super::{
    Change, ShardKey, ShardMapBuilder,
    build::Rules,
    fill::{Roster, Walks},
    member::Shard,
    ranges::{Draft, KeyRange, Ranges},
    slot::{At, Place, SLOTS, Slot, hash},
    table::{ShardId, Table},
    wire::Wire,
};
use crate::base::Result;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

/// How a map finds the owners of its slots. [The module](super) says when to choose which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// From the map before: [`ShardMap::planned`].
    Planned,
    /// From names alone: [`ShardMap::ring`].
    Ring,
    /// From names alone: [`ShardMap::consistent_hash_ring`].
    ConsistentHashRing,
    /// From names alone: [`ShardMap::rendezvous`].
    Rendezvous,
    /// From the number of shards alone: [`ShardMap::jump`].
    Jump,
    /// From names alone: [`ShardMap::maglev`].
    Maglev,
    /// As told: [`ShardMap::ranges`].
    Ranges,
}

impl Strategy {
    /// Whether all who know the shards get the same owners without sharing anything else.
    pub fn is_stateless(self) -> bool {
        !matches!(self, Strategy::Planned | Strategy::Ranges)
    }

    /// Its name, as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::Planned => "planned",
            Strategy::Ring => "ring",
            Strategy::ConsistentHashRing => "consistent_hash_ring",
            Strategy::Rendezvous => "rendezvous",
            Strategy::Jump => "jump",
            Strategy::Maglev => "maglev",
            Strategy::Ranges => "ranges",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which shard owns which key: an immutable value of a version, cheap to clone.
///
/// A key's hash says its [`Slot`], the slot its owners; in a map of [ranges](Self::ranges) the key itself says its range.
/// Another map is made from it by [`next`](Self::next), with the version that follows.
///
/// ```
/// use seedpod::serving::ShardMap;
///
/// let map = ShardMap::planned(["s0", "s1", "s2"]).copies(2).build()?;
/// let [first, second] = map.owners("ann") else { unreachable!("two copies") };
/// assert_eq!(map.owner("ann"), *first);
/// assert_ne!(first, second);
/// let wider = map.next(|change| {
///     change.add("s3");
/// })?;
/// assert_eq!((wider.version(), wider.shards().len()), (2, 4));
/// assert_eq!(wider.share("s3"), 0.25);
/// # Ok::<(), seedpod::Error>(())
/// ```
///
/// **Guarantees**
/// - Every key has as many owners as the map has copies, all different, in different zones where that was demanded.
/// - Equal rules, shards and, where it is planned, maps before give equal owners in every process; hash, slot and each
///   strategy are pinned by tests. The order in which shards are named says nothing, but to [`jump`](Self::jump).
/// - To find the first owner takes the hash of the key and one load.
/// - It can be sent (`serde`): rules, names and, where names alone do not decide, owners. Whoever reads it checks that it
///   is whole and finds the very same owners.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct ShardMap(Arc<Inner>);

pub(super) struct Inner {
    version: u64,
    rules: Rules,
    shards: Vec<Shard>,
    index: BTreeMap<Arc<str>, ShardId>,
    layout: Layout,
    walks: OnceLock<(Roster, Walks)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Slots(Table),
    Ranges(Ranges),
}

impl Inner {
    pub(super) fn new(
        version: u64,
        rules: Rules,
        shards: Vec<Shard>,
        index: BTreeMap<Arc<str>, ShardId>,
        layout: Layout,
    ) -> Self {
        Inner { version, rules, shards, index, layout, walks: OnceLock::new() }
    }
}

impl From<Table> for Layout {
    fn from(table: Table) -> Self {
        Layout::Slots(table)
    }
}

impl From<Inner> for ShardMap {
    fn from(inner: Inner) -> Self {
        ShardMap(Arc::new(inner))
    }
}

impl ShardMap {
    /// Even to one slot, and the next map by the fewest moves. It is the only one that remembers, and so the one that can
    /// follow [load](Self::relieve): whoever uses it must be given the map itself.
    pub fn planned(shards: impl IntoIterator<Item: Into<Shard>>) -> ShardMapBuilder {
        ShardMapBuilder::new(Strategy::Planned, shards)
    }

    /// By a ring of hashes on which each shard has [points](ShardMapBuilder::points): names alone decide.
    pub fn ring(shards: impl IntoIterator<Item: Into<Shard>>) -> ShardMapBuilder {
        ShardMapBuilder::new(Strategy::Ring, shards)
    }

    /// By the ring of the crate [`consistent_hash_ring`](https://docs.rs/consistent_hash_ring), asked once for every slot.
    /// As even as [`ring`](Self::ring), with other owners; it inserts its points one by one, which takes seconds for a
    /// thousand shards.
    pub fn consistent_hash_ring(shards: impl IntoIterator<Item: Into<Shard>>) -> ShardMapBuilder {
        ShardMapBuilder::new(Strategy::ConsistentHashRing, shards)
    }

    /// By the highest score of slot and name: names alone decide, and copies follow of themselves.
    pub fn rendezvous(shards: impl IntoIterator<Item: Into<Shard>>) -> ShardMapBuilder {
        ShardMapBuilder::new(Strategy::Rendezvous, shards)
    }

    /// By the number of shards, in the order in which they are named: they come and go at the end only, and know no weights.
    /// Names say where further copies are.
    pub fn jump(shards: impl IntoIterator<Item: Into<Shard>>) -> ShardMapBuilder {
        ShardMapBuilder::new(Strategy::Jump, shards)
    }

    /// By turns, each shard taking the next free slot of its own order: even to one slot and stateless, for a few needless
    /// moves. Names say where further copies are.
    pub fn maglev(shards: impl IntoIterator<Item: Into<Shard>>) -> ShardMapBuilder {
        ShardMapBuilder::new(Strategy::Maglev, shards)
    }

    /// By ranges of keys instead of slots: each says its owners, the first of them answers. They may come in any order, and
    /// must be of all keys.
    ///
    /// ```
    /// use seedpod::serving::{Shard, ShardMap};
    ///
    /// let map = ShardMap::ranges().range(.."m", ["s0", "s1"]).range("m".., ["s1", "s2"]).build()?;
    /// assert_eq!(map.name(map.owner("ann")), "s0");
    /// assert_eq!(map.name(map.owner("zoe")), "s1");
    ///
    /// let wrong = ShardMap::ranges().range(.."g", ["s0"]).range("k".., ["s1"]).build().unwrap_err();
    /// assert_eq!(wrong.to_string(), r#"shard map: invalid: keys from "g" until "k" have no owner"#);
    /// # Ok::<(), seedpod::Error>(())
    /// ```
    pub fn ranges() -> ShardMapBuilder {
        ShardMapBuilder::new(Strategy::Ranges, [] as [Shard; 0])
    }

    /// Its version. Of two maps of one lineage the one with the higher version holds.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// The seed of the hash of keys.
    pub fn seed(&self) -> u64 {
        self.0.rules.seed
    }

    /// How the owners were found.
    pub fn strategy(&self) -> Strategy {
        self.0.rules.strategy
    }

    /// How many owners each key has.
    pub fn copies(&self) -> usize {
        self.0.rules.copies
    }

    /// Whether the owners of a key are in different zones.
    pub fn is_apart(&self) -> bool {
        self.0.rules.apart
    }

    /// The shards: by name, and those of [`jump`](Self::jump) by number.
    pub fn shards(&self) -> &[Shard] {
        &self.0.shards
    }

    /// The name of one of its shards; empty where the number is another map's.
    pub fn name(&self, shard: ShardId) -> &str {
        self.0.shards.get(shard.index()).map_or("", |shard| &shard.name)
    }

    /// The number of the shard of this name.
    pub fn id(&self, name: &str) -> Option<ShardId> {
        self.0.index.get(name).copied()
    }

    /// The shard that answers for this key.
    #[inline]
    pub fn owner(&self, key: &(impl ShardKey + ?Sized)) -> ShardId {
        match &self.0.layout {
            Layout::Slots(table) => table.owner(hash(key, self.0.rules.seed)),
            Layout::Ranges(ranges) => first(ranges.owners(ranges.locate(key.shard_bytes().as_ref()))),
        }
    }

    /// All shards that own this key, the one that answers first.
    #[inline]
    pub fn owners(&self, key: &(impl ShardKey + ?Sized)) -> &[ShardId] {
        self.owners_at(self.locate(key))
    }

    /// Where this key is, to ask more than once.
    #[inline]
    pub fn locate(&self, key: &(impl ShardKey + ?Sized)) -> Place {
        match &self.0.layout {
            Layout::Slots(_) => Place(At::Hash(hash(key, self.0.rules.seed))),
            Layout::Ranges(ranges) => Place(At::Range(ranges.locate(key.shard_bytes().as_ref()))),
        }
    }

    /// The shard that answers at this place of this map.
    #[inline]
    pub fn owner_at(&self, place: Place) -> ShardId {
        match (&self.0.layout, place.0) {
            (Layout::Slots(table), At::Hash(hash)) => table.owner(hash),
            _ => first(self.owners_at(place)),
        }
    }

    /// All shards that own this place of this map; none where the place is another kind of map's.
    #[inline]
    pub fn owners_at(&self, place: Place) -> &[ShardId] {
        match (&self.0.layout, place.0) {
            (Layout::Slots(table), At::Hash(hash)) => table.owners(hash),
            (Layout::Ranges(ranges), At::Range(range)) => ranges.owners(range),
            _ => &[],
        }
    }

    /// How many places there are to [count by](Place::index): 65,536 slots, or as many as there are ranges.
    pub fn places(&self) -> usize {
        match &self.0.layout {
            Layout::Slots(_) => SLOTS,
            Layout::Ranges(ranges) => ranges.len(),
        }
    }

    /// This map with other shards and the version that follows, by the same rules; a planned one by the fewest moves to
    /// where each has as many slots as it is due, also where [relief](Self::relieve) had made that uneven.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::base::Kind::NotFound) for a shard that it does not have, and those of
    /// [`build`](ShardMapBuilder::build).
    pub fn next(&self, change: impl FnOnce(&mut Change)) -> Result<ShardMap> {
        let mut next = Change::of(self);
        change(&mut next);
        next.build(self)
    }

    /// Who says in what order the shards would own a slot, made when it is first asked for.
    pub(super) fn walks(&self) -> &(Roster, Walks) {
        self.0.walks.get_or_init(|| {
            let roster = self.roster();
            let walks = Walks::new(self.rules(), &roster);
            (roster, walks)
        })
    }

    pub(super) fn roster(&self) -> Roster {
        Roster::new(&self.0.rules, &self.0.shards)
    }

    pub(super) fn table(&self) -> Option<&Table> {
        match &self.0.layout {
            Layout::Slots(table) => Some(table),
            Layout::Ranges(_) => None,
        }
    }

    /// The slots that are split, in order.
    pub(crate) fn split_slots(&self) -> impl Iterator<Item = Slot> {
        self.table().into_iter().flat_map(Table::splits).map(|split| Slot::new(split.slot))
    }

    pub(super) fn key_ranges(&self) -> Option<&Ranges> {
        match &self.0.layout {
            Layout::Slots(_) => None,
            Layout::Ranges(ranges) => Some(ranges),
        }
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.0.rules
    }
}

fn first(owners: &[ShardId]) -> ShardId {
    owners.first().copied().unwrap_or(ShardId(0))
}

impl PartialEq for ShardMap {
    /// Whether both say the same: version, rules, shards and owners.
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.0, &other.0);
        Arc::ptr_eq(ours, theirs)
            || (ours.version == theirs.version
                && ours.rules == theirs.rules
                && ours.shards == theirs.shards
                && ours.layout == theirs.layout)
    }
}

impl fmt::Debug for ShardMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShardMap({self})")
    }
}

impl fmt::Display for ShardMap {
    /// `planned, version 3, 5 shards, 2 copies in different zones`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let shards = self.shards().len();
        write!(f, "{}, version {}, {shards} shard{}", self.strategy(), self.version(), plural(shards))?;
        if self.copies() > 1 {
            write!(f, ", {} copies{}", self.copies(), if self.is_apart() { " in different zones" } else { "" })?;
        }
        Ok(())
    }
}

impl ShardMapBuilder {
    /// A range of keys and its owners, of which the first answers.
    pub fn range(mut self, range: impl Into<KeyRange>, owners: impl IntoIterator<Item: Into<Shard>>) -> Self {
        self.ranges.push(Draft { range: range.into(), owners: owners.into_iter().map(Into::into).collect() });
        self
    }
}
