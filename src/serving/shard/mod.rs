//! Keys to slots, slots to shards: which of them owns what, in maps that follow one another.
//!
//! - [`map`]: [`ShardMap`], who owns which key — start here; [`Strategy`], how the owners were found
//! - [`build`]: [`ShardMapBuilder`], a map that is being described; [`member`]: [`Shard`], a name, a weight, a zone
//! - [`next`]: [`Change`], from one map to the one that follows
//! - [`key`]: [`ShardKey`], what a request is sharded by
//! - [`slot`]: [`Slot`], [`Place`], [`Span`]: where keys are
//! - [`ranges`]: [`KeyRange`], the other kind of map
//! - `table`, `fill`: the owners of all slots, and how each strategy finds them (pure); `step`: a map on its way to another

pub mod build;
mod fill;
pub mod hot;
pub mod key;
pub mod map;
pub mod member;
pub mod next;
pub mod plan;
pub mod ranges;
pub mod slot;
pub(crate) mod step;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use build::ShardMapBuilder;
pub use hot::Loads;
pub use key::ShardKey;
pub use map::{ShardMap, Strategy};
pub use member::Shard;
pub use next::Change;
pub use plan::{Move, Plan};
pub use ranges::KeyRange;
pub(crate) use slot::hash;
pub use slot::{Place, SLOTS, Slot, Span};
pub use table::ShardId;
