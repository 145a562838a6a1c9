//! The ids that a topic has seen of late.

#[cfg(feature = "durable")]
mod recall;

use crate::base::{hash::Set, time::Instant};
use crate::queue::{Id, TopicOptions};
use std::{collections::VecDeque, time::Duration};

pub(super) struct Dedup {
    window: Duration,
    seen: Set<Id>,
    /// The same ids, the oldest first.
    order: VecDeque<(Instant, Id)>,
}

impl Dedup {
    pub(super) fn new(window: Duration) -> Dedup {
        Dedup { window, seen: Set::default(), order: VecDeque::new() }
    }

    /// Whether this id is news; from now on it is not. Counts the ids that are forgotten by now.
    pub(super) fn is_new(&mut self, now: Instant, id: Id, forgotten: &mut usize) -> bool {
        while let Some((seen, oldest)) = self.order.front().copied()
            && (now.saturating_duration_since(seen) >= self.window || self.order.len() >= TopicOptions::DEDUP_IDS)
        {
            self.order.pop_front();
            self.seen.remove(&oldest);
            *forgotten += 1;
        }
        let new = self.seen.insert(id);
        if new {
            self.order.push_back((now, id));
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;

    #[test]
    fn remembers_for_the_window_and_no_more_than_the_bound() {
        let (mut dedup, start) = (Dedup::new(Duration::from_secs(10)), time::now());
        let mut forgotten = 0;
        assert!(dedup.is_new(start, Id::of("a"), &mut forgotten));
        assert!(!dedup.is_new(start + Duration::from_millis(9_999), Id::of("a"), &mut forgotten));
        assert!(
            dedup.is_new(start + Duration::from_secs(10), Id::of("a"), &mut forgotten),
            "counted from the first time"
        );
        for number in 0..TopicOptions::DEDUP_IDS as u128 + 5 {
            assert!(dedup.is_new(start + Duration::from_secs(11), Id::from_u128(number), &mut forgotten));
        }
        assert_eq!(forgotten, 7, "the first a by its time, the second and five more by their number");
        assert_eq!((dedup.seen.len(), dedup.order.len()), (TopicOptions::DEDUP_IDS, TopicOptions::DEDUP_IDS));
        assert!(dedup.is_new(start + Duration::from_secs(11), Id::from_u128(0), &mut forgotten), "forgotten early");
    }
}
