//! Floor 0: the words that every other module speaks.
//!
//! Names, labels and selectors, the error, outcomes, time, chance, faults and locks. It may use no other module, and
//! refuses to know what a service, a container, a broker or a store is.
//!
//! - [`error`]: [`Error`], one pointer, one flat kind, a place and a source — start here
//! - [`answer`]: [`Answer`], a future that may be over already, and [`Few`], a list that holds one inline
//! - [`outcome`]: [`Outcome`], what became of a call
//! - [`name`]: [`Name`], cheap to clone, hashed once; the rules for Kubernetes-style names
//! - [`labels`]: [`Labels`] and [`Selector`], parsed and printed
//! - [`time`]: the pausable clock, the wall clock, [`Deadline`]
//! - [`backoff`]: [`Backoff`], exponential with full jitter
//! - [`random`]: [`Seed`] and [`Rng`], one seed forked by name
//! - [`fault`]: [`Verdict`] and [`Faults`], rules that delay or fail a call
//! - [`repeat`]: [`Repeat`], what may be sent once more
//! - [`hash`]: maps that are only looked up in, with a fixed hasher
//! - [`sync`]: the lock and the atomics that loom can replace

pub mod answer;
pub mod backoff;
pub mod error;
pub mod fault;
pub mod hash;
pub mod labels;
pub mod name;
pub mod outcome;
pub mod random;
pub mod repeat;
pub mod sync;
pub mod time;

pub use answer::{Answer, Few};
pub use backoff::Backoff;
pub use error::{BoxError, Error, Kind, Result};
pub use fault::{Faults, Verdict};
pub use labels::{Labels, Selector};
pub use name::Name;
pub use outcome::Outcome;
pub use random::{Rng, Seed};
pub use repeat::Repeat;
pub use time::Deadline;
