//! Where in a queue a job goes: by level of priority and share of its tenants.

use crate::base::hash;
use crate::queue::{Subscription, Topic, lines::Lines};
use std::{sync::Arc, time::Duration};

/// The lines of a queue.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The queue's own topic: the first line.
    own: Topic,
    /// The other lines, level by level from the lowest.
    others: Vec<Topic>,
    /// Of priority, and what a wait is worth; none where the broker's own priorities are used.
    levels: Option<(u8, Duration)>,
    shares: usize,
}

impl Layout {
    pub(super) fn new(topic: &Topic, levels: Option<(u8, Duration)>, shares: u16) -> Layout {
        let (count, shares) = (levels.map_or(1, |(levels, _)| levels.max(1)), usize::from(shares.max(1)));
        let all = (0..count).flat_map(|level| (0..shares).map(move |share| (level, share)));
        let others = all.skip(1).map(|(level, share)| Topic::new(format!("{topic}.line-{level}-{share}"))).collect();
        Layout { own: topic.clone(), others, levels, shares }
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &Topic> {
        std::iter::once(&self.own).chain(&self.others)
    }

    /// The topic of a job, and with which priority it goes there.
    pub(super) fn place(&self, priority: u8, tenant: Option<&str>) -> (&Topic, u8) {
        let (level, priority) = match self.levels {
            Some((levels, _)) => (usize::from(priority.min(levels.saturating_sub(1))), 0),
            None => (0, priority),
        };
        let share = tenant.map_or(0, |tenant| hash::of(tenant.as_bytes()) as usize % self.shares);
        let line = (level * self.shares + share).checked_sub(1);
        (line.and_then(|line| self.others.get(line)).unwrap_or(&self.own), priority)
    }

    /// The lines of this subscription, by turns.
    pub(super) fn lines(&self, home: &Arc<Subscription>) -> Lines {
        let line = |topic: &Topic| Arc::new(topic.subscription(&home.name));
        let (levels, step) =
            self.levels.map_or((1, Duration::ZERO), |(levels, step)| (usize::from(levels.max(1)), step));
        if self.others.is_empty() {
            return Lines::one(home.clone());
        }
        Lines::by_turns(self.topics().map(line).collect(), levels, self.shares, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_shares_are_topics_and_one_line_is_the_queue_itself() {
        let queue = Topic::new("q");
        let plain = Layout::new(&queue, None, 1);
        assert_eq!(plain.place(9, Some("acme")), (&queue, 9), "the broker's own priorities");
        let layout = Layout::new(&queue, Some((3, Duration::ZERO)), 2);
        let names: Vec<_> = layout.topics().map(Topic::as_str).collect();
        assert_eq!(names, ["q", "q.line-0-1", "q.line-1-0", "q.line-1-1", "q.line-2-0", "q.line-2-1"]);
        assert_eq!(layout.place(0, None), (&queue, 0));
        assert_eq!(layout.place(200, None).0.as_str(), "q.line-2-0", "beyond the highest is the highest");
        let of = |tenant: &str| layout.place(1, Some(tenant)).0.clone();
        assert_eq!(of("acme"), of("acme"));
        assert!((0..20).any(|tenant| of(&tenant.to_string()) != of("acme")));
    }
}
