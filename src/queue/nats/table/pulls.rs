//! Pull requests under way, and the lanes on which their messages come in.

use super::Table;
use crate::base::time::Instant;
use crate::queue::nats::letters::Lane;
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// How many lanes are kept for later.
const LANES_MAX: usize = 64;

/// A request for messages.
pub(in crate::queue::nats) struct Pull {
    pub(in crate::queue::nats) station: usize,
    /// Before it was sent.
    pub(in crate::queue::nats) asked: Instant,
    /// The server has answered it by then.
    ends: Instant,
    pub(in crate::queue::nats) left: u32,
    /// Messages that have come, and whose note is being read.
    pub(in crate::queue::nats) arriving: u32,
    pub(in crate::queue::nats) over: bool,
    /// Whether the server has said that nothing more comes, or all has come.
    pub(in crate::queue::nats) ended: bool,
    /// Where what comes of it comes in.
    lane: Option<Lane>,
    /// What the server said of it that was not the usual end.
    pub(in crate::queue::nats) trouble: Option<String>,
    /// Nobody waits for it.
    abandoned: bool,
    pub(in crate::queue::nats) changed: Arc<Notify>,
}

impl Table {
    /// Begins a pull request for so many messages.
    pub(in crate::queue::nats) fn pull(
        &mut self,
        now: Instant,
        station: usize,
        count: u32,
        ends: Instant,
    ) -> (u64, Arc<Notify>) {
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
    pub(in crate::queue::nats) fn free_lane(&mut self) -> Option<Lane> {
        self.lanes.pop()
    }

    /// What comes of the request comes in on this lane; where the server is to answer.
    pub(in crate::queue::nats) fn assign(&mut self, number: u64, lane: Lane) -> String {
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

    pub(in crate::queue::nats) fn pulling(&mut self, number: u64) -> Option<&mut Pull> {
        self.pulls.get_mut(&number)
    }

    /// Whether all has come that will come of it.
    pub(in crate::queue::nats) fn is_over(&self, number: u64) -> bool {
        self.pulls.get(&number).is_none_or(|pull| pull.over && pull.arriving == 0)
    }

    /// What went wrong with it.
    pub(in crate::queue::nats) fn trouble(&self, number: u64) -> Option<String> {
        self.pulls.get(&number)?.trouble.clone()
    }

    /// Nobody waits for it any more.
    pub(in crate::queue::nats) fn abandon(&mut self, number: u64) {
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
    pub(in crate::queue::nats) fn tell(&mut self, number: u64) {
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
    pub(in crate::queue::nats) fn forget_pulls(&mut self) {
        for pull in self.pulls.values_mut() {
            pull.over = true;
            pull.changed.notify_one();
        }
        self.pulls.retain(|_, pull| !pull.abandoned || pull.arriving > 0);
    }

    /// Forgets requests that the server should have answered long ago.
    pub(in crate::queue::nats) fn sweep(&mut self, now: Instant) {
        let patience = Duration::from_secs(10);
        self.pulls.retain(|_, pull| !pull.abandoned || pull.ends + patience > now);
    }
}
