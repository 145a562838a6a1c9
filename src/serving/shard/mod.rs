//! Keys to slots, slots to shards: which of them owns what, in maps that follow one another.
//!
//! - [`map`]: [`ShardMap`], who owns which key — start here; [`Strategy`], how the owners were found
//! - [`build`]: [`ShardMapBuilder`], a map that is being described; [`member`]: [`Shard`], a name, a weight, a zone
//! - [`next`]: [`Change`], from one map to the one that follows; [`plan`]: [`Plan`], what lies between two
//! - [`hot`]: [`Loads`], what each slot has to do, and a next map in which the busiest shard has less
//! - [`key`]: [`ShardKey`], what a request is sharded by
//! - [`slot`]: [`Slot`], [`Place`], [`Span`]: where keys are
//! - [`ranges`]: [`KeyRange`], the other kind of map
//! - `table`, `fill`: the owners of all slots, and how each strategy finds them (pure); `walk`: who stands in for
//!   them; `relieve`: the busiest shard's relief (pure); `parts`: who owns what; `numbers`, `rows`:
//!   shards from map to map, and equal owners; `wire`: a map as it is sent; `step`: a map on its way to another
//!
//! # Slots
//!
//! ```text
//! key ── bytes ── XXH3 under the map's seed ──┬─ top 16 bits: one of 65,536 slots ── owners, by one load
//!                                             └─ the next 8: which part of a slot that is split
//! ```
//!
//! A slot is what is owned, copied, moved, counted and, where it is too hot for a shard, split. Strategies differ in how they
//! fill the table and in nothing else: a look-up costs the hash and one load under each. Bytes, hash and slots, and what
//! every stateless strategy fills, are a contract between processes and releases, pinned by tests.
//!
//! # Which strategy
//!
//! - **[Planned](ShardMap::planned)** where somebody gives the map out: even to one slot however many shards there are, the
//!   fewest moves, and the one that can follow [load](ShardMap::relieve). Whoever uses it must be told the map.
//! - **[Rendezvous](ShardMap::rendezvous)** where clients share nothing but names: weights to the point, further copies that
//!   follow of themselves, no needless move. The first choice up to about a hundred shards.
//! - **[Ring](ShardMap::ring)** where others have one: as rendezvous, less even, quicker to build for many shards.
//!   **[`consistent_hash_ring`](ShardMap::consistent_hash_ring)** is the same by that crate.
//! - **[Maglev](ShardMap::maglev)** where names alone decide and shares must be even: a few keys move that need not. For
//!   caches, or for shards that all can read.
//! - **[Jump](ShardMap::jump)** for numbered shards (`db-0`, `db-1` and so on) that come and go at the end.
//! - **[Ranges](ShardMap::ranges)** where neighbouring keys belong together: scans, prefixes, tenants. Nothing spreads them
//!   but you.
//!
//! The keys of the fullest shard against the mean (1,000,000 keys), what moves when a shard comes or goes against what it
//! gets or had, for 10, 100 and 1000 shards of equal weight; and the time to build a map of 1000:
//!
//! | | fullest / mean | moved / due | 1000 built in |
//! | --- | --- | --- | --- |
//! | perfect hashing, no map | 1.01 / 1.02 / 1.10 | 5.5 / 51 / 506 | |
//! | planned | 1.01 / 1.02 / 1.10 | 1 / 1 / 1 | 0.9 ms |
//! | Maglev | 1.00 / 1.02 / 1.09 | 1.03 / 1.57 / 7.0 | 3 ms |
//! | ring, 320 points | 1.08 / 1.17 / 1.37 | 1 / 1 / 1 | 19 ms |
//! | rendezvous | 1.02 / 1.12 / 1.43 | 1 / 1 / 1 | 150 ms |
//! | jump | 1.02 / 1.10 / 1.43 | 1 / 1 / 1 | 9 ms |
//! | `consistent_hash_ring`, 160 points, not wrapped | 1.16 / 1.20 / 1.28 | | seconds |
//!
//! That is the first owner's; further copies, too, move to who comes and from who goes alone, but under Maglev, where they
//! move a little more, and in planned maps whose zones are crowded.
//!
//! With a thousand shards a slot is a sixty-fifth of a share, so that strategies which draw slots by chance cannot be more
//! even than chance: of 65 that come by chance a shard has 8 more or less, and the fullest of a thousand a third more. More
//! points help no further there: a ring of 320 is 1.07 times as uneven as one without slots. Plan, or take Maglev, beyond a
//! few hundred. Further copies of a planned map are even, too, as far as
//! zones allow it.

pub mod build;
mod fill;
pub mod hot;
pub mod key;
pub mod map;
pub mod member;
pub mod next;
mod numbers;
mod parts;
pub mod plan;
pub mod ranges;
mod relieve;
pub(crate) mod rows;
pub mod slot;
pub(crate) mod step;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod walk;
mod wire;

pub use build::ShardMapBuilder;
pub use hot::Loads;
pub(crate) use hot::PARTS;
pub use key::ShardKey;
pub use map::{ShardMap, Strategy};
pub use member::Shard;
pub use next::Change;
pub use plan::{Move, Plan};
pub use ranges::KeyRange;
pub(crate) use slot::hash;
pub use slot::{Place, SLOTS, Slot, Span};
pub use table::ShardId;
