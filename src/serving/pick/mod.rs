//! How an endpoint is chosen.
//!
//! - [`least_pending`]: [`LeastPending`], fewer calls in flight of two — the default
//! - [`peak_ewma`]: [`PeakEwma`], less latency of two
//! - [`round_robin`]: [`RoundRobin`], each in its turn
//! - [`random`]: [`Random`], whatever comes
//! - [`ring`]: [`Ring`], the same key to the same endpoint
//!
//! and these around another:
//!
//! - [`locality`]: [`Locality`], the near ones first, and on from there what they cannot carry
//! - [`subset`]: [`Subset`], a few of many
//! - [`by_route`]: [`ByRoute`], without those who fail for the request's route
//! - [`affinity`](super::affinity): [`Affinity`](super::Affinity), the requests of a session to one endpoint

pub mod by_route;
pub mod least_pending;
pub mod locality;
pub mod peak_ewma;
pub mod random;
pub mod ring;
#[cfg(test)]
mod ring_tests;
pub mod round_robin;
pub mod subset;
#[cfg(test)]
pub(crate) mod tests;

pub use by_route::ByRoute;
pub use least_pending::LeastPending;
pub use locality::Locality;
pub use peak_ewma::PeakEwma;
pub use random::Random;
pub(crate) use ring::Circle;
pub use ring::Ring;
pub use round_robin::RoundRobin;
pub use subset::Subset;

use super::{Among, Draw, load::Watch};

/// How an endpoint is chosen: [`Replicas::pick_by`](super::Replicas::pick_by).
///
/// Asked at every call, on the caller's thread, so it is quick and never waits. A closure would do, could it be generic:
/// it sees the set at one moment, the request, and the handle's chance, and answers with a place in the set. Pickers
/// nest: one that [narrows](Among::only) the choice asks another.
pub trait Picker<Req: ?Sized> {
    /// The place of the endpoint for this request; none where none can take it.
    fn choose<S>(&self, among: &Among<'_, S>, request: &Req, draw: &mut Draw) -> Option<Choice>;

    /// The choice of an endpoint that is settled already, by a session: a picker that looks at the end of its calls looks
    /// at these, too. One that wraps another asks that one.
    fn fixed<S>(&self, _among: &Among<'_, S>, place: usize) -> Choice {
        Choice::of(place)
    }
}

/// What a [`Picker`] chose.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub(crate) place: usize,
    pub(crate) watch: Watch,
}

impl Choice {
    /// The endpoint at this place.
    pub fn of(place: usize) -> Self {
        Choice { place, watch: Watch::Answer }
    }
}
