//! The state of a batch that a join waits for.

use crate::queue::Topic;
use serde::{Deserialize, Serialize};

/// What makes a stage a join.
#[derive(Clone, Debug)]
pub(super) struct Barrier {
    /// Where other stages tell it what will not come.
    pub(super) account: Topic,
}

/// A batch under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row<P> {
    /// The weight that is accounted for.
    pub(super) sum: u64,
    pub(super) arrived: u64,
    pub(super) ended: u64,
    pub(super) failed: u64,
    pub(super) reasons: Vec<String>,
    pub(super) partial: Option<P>,
    /// Its time is over.
    pub(super) due: bool,
    /// It has fired, and is kept until the last item is accounted for.
    pub(super) fired: bool,
    /// What its items weigh for joins further down, which wait for what it makes of them.
    carried: Vec<(String, u64)>,
}

impl<P> Default for Row<P> {
    fn default() -> Self {
        Row {
            sum: 0,
            arrived: 0,
            ended: 0,
            failed: 0,
            reasons: Vec::new(),
            partial: None,
            due: false,
            fired: false,
            carried: Vec::new(),
        }
    }
}

impl<P> Row<P> {
    pub(super) fn carry(&mut self, header: &str, weight: u64) {
        match self.carried.iter_mut().find(|(name, _)| name == header) {
            Some((_, sum)) => *sum = sum.wrapping_add(weight),
            None => self.carried.push((header.to_string(), weight)),
        }
    }

    pub(super) fn carried(&self, header: impl AsRef<str>) -> u64 {
        self.carried.iter().find(|(name, _)| name == header.as_ref()).map_or(0, |(_, sum)| *sum)
    }
}
