//! What shards are told once: how long a request waits for a newer map, how many may, what is bounded and measured.

use super::bounded::Bound;
use std::time::Duration;

/// The longest that a request waits for the map that a fence has named.
const HOLD: Duration = Duration::from_secs(10);

/// The most requests that wait at a time: linkerd's request queue.
const HELD: u32 = 10_000;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) hold: Duration,
    pub(super) held: u32,
    pub(super) bound: Option<Bound>,
    /// One in how many requests is counted to its slot.
    pub(super) measured: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { hold: HOLD, held: HELD, bound: None, measured: None }
    }
}
