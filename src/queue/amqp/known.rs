//! What this handle knows of topics: what it declared, found or made on the server, and what only it can count.

use super::delay::Delay;
use crate::base::{Error, Kind, Name, Result, hash::Map, time::Instant};
use crate::queue::{Bound, Subscription, Topic, TopicOptions};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one topic.
#[derive(Debug, Default)]
struct Known {
    /// As it was declared through this handle; without its subscriptions.
    options: Option<TopicOptions>,
    /// Declared only as another's dead letters.
    implied: bool,
    /// Those that are there for sure.
    subscriptions: BTreeSet<Name>,
    /// How many levels of its delays have an exchange.
    levels: u32,
    /// Which levels have a queue, one bit each.
    rungs: u32,
    rejected: u64,
    /// How many items that went away through this handle are due when.
    delayed: BTreeMap<Instant, usize>,
}

/// What is known of all topics; one that is not in here may be there all the same.
#[derive(Debug, Default)]
pub(super) struct Topics(Map<Topic, Known>);

/// What is to be made before something can be delayed so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Levels without an exchange, from the lowest.
    pub(super) levels: std::ops::Range<u32>,
    /// Levels without a queue.
    pub(super) rungs: Vec<u32>,
}

impl Topics {
    /// Whether these options contradict an earlier declaration.
    ///
    /// # Errors
    /// [`Kind::Conflict`], naming the topic.
    pub(super) fn check(&self, topic: &Topic, options: &TopicOptions) -> Result {
        let Some(known) = self.0.get(topic) else { return Ok(()) };
        match &known.options {
            Some(there) if !known.implied && *there != bare(options) => {
                let message = format!("it is declared as {there:?}, not as {:?}", bare(options));
                Err(Error::new(Kind::Conflict, message).at(format!("topic {topic}")))
            }
            _ => Ok(()),
        }
    }

    /// It is declared so.
    pub(super) fn declared(&mut self, topic: &Topic, options: &TopicOptions, implied: bool) {
        let known = self.0.entry(topic.clone()).or_default();
        if known.options.is_none() || (known.implied && !implied) {
            (known.options, known.implied) = (Some(bare(options)), implied);
        }
        known.subscriptions.extend(options.subscriptions.iter().cloned());
    }

    /// It is there, whoever declared it.
    pub(super) fn found(&mut self, topic: &Topic) {
        self.0.entry(topic.clone()).or_default();
    }

    /// The subscription is there.
    pub(super) fn found_subscription(&mut self, subscription: &Subscription) {
        self.0.entry(subscription.topic.clone()).or_default().subscriptions.insert(subscription.name.clone());
    }

    /// It is not there any more: somebody deleted it, or it is another server.
    pub(super) fn forget(&mut self, topic: &Topic) {
        self.0.remove(topic);
    }

    pub(super) fn knows(&self, topic: &Topic) -> bool {
        self.0.contains_key(topic)
    }

    pub(super) fn knows_subscription(&self, subscription: &Subscription) -> bool {
        self.0.get(&subscription.topic).is_some_and(|known| known.subscriptions.contains(&subscription.name))
    }

    pub(super) fn subscriptions(&self, topic: &Topic) -> Vec<Subscription> {
        let names = self.0.get(topic).into_iter().flat_map(|known| &known.subscriptions);
        names.map(|name| topic.subscription(name.clone())).collect()
    }

    /// What is done at its capacity: what was declared here, or the default.
    pub(super) fn bound(&self, topic: &Topic) -> Bound {
        self.0.get(topic).and_then(|known| Some(known.options.as_ref()?.bound)).unwrap_or_default()
    }

    /// What is done at the capacity of its dead letters.
    pub(super) fn bound_of_dead(&self, topic: &Topic) -> Bound {
        let dead = self.0.get(topic).and_then(|known| known.options.as_ref()?.dead_letters.clone());
        dead.map_or(Bound::default(), |dead| self.bound(&dead))
    }

    /// What must be made so that something can be delayed so.
    pub(super) fn missing(&self, topic: &Topic, delay: Delay) -> Missing {
        let (levels, rungs) = self.0.get(topic).map_or((0, 0), |known| (known.levels, known.rungs));
        Missing {
            levels: levels..levels.max(delay.top() + 1),
            rungs: delay.levels().filter(|at| rungs >> at & 1 == 0).collect(),
        }
    }

    /// That was made.
    pub(super) fn made(&mut self, topic: &Topic, missing: &Missing) {
        if let Some(known) = self.0.get_mut(topic) {
            known.levels = known.levels.max(missing.levels.end);
            known.rungs |= missing.rungs.iter().fold(0, |all, at| all | 1 << at);
        }
    }

    pub(super) fn delayed(&mut self, topic: &Topic, due: Instant, items: usize) {
        if let Some(known) = self.0.get_mut(topic) {
            *known.delayed.entry(due).or_default() += items;
        }
    }

    pub(super) fn rejected(&mut self, topic: &Topic, items: u64) {
        if let Some(known) = self.0.get_mut(topic) {
            known.rejected += items;
        }
    }

    /// How many items that this handle delayed are not due yet, and how many it rejected.
    pub(super) fn counts(&mut self, topic: &Topic, now: Instant) -> (usize, u64) {
        let Some(known) = self.0.get_mut(topic) else { return (0, 0) };
        known.delayed = known.delayed.split_off(&now);
        (known.delayed.values().sum(), known.rejected)
    }
}

fn bare(options: &TopicOptions) -> TopicOptions {
    TopicOptions { subscriptions: Vec::new(), ..options.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time;
    use std::time::Duration;

    #[test]
    fn a_level_is_made_once_and_all_below_with_it() {
        let (mut topics, topic) = (Topics::default(), Topic::new("a"));
        topics.found(&topic);
        let delay = Delay::of(Duration::from_millis(500)).unwrap();
        let missing = topics.missing(&topic, delay);
        assert_eq!(missing, Missing { levels: 0..3, rungs: vec![2, 0] });
        topics.made(&topic, &missing);
        let longer = Delay::of(Duration::from_millis(1300)).unwrap();
        assert_eq!(topics.missing(&topic, longer), Missing { levels: 3..4, rungs: vec![3] });
        assert_eq!(topics.missing(&topic, delay), Missing { levels: 3..3, rungs: vec![] });
        topics.forget(&topic);
        assert_eq!(topics.missing(&topic, delay).levels, 0..3, "as if it had never been");
    }

    #[test]
    fn what_is_declared_otherwise_is_a_conflict_unless_it_was_only_implied() {
        let (mut topics, topic) = (Topics::default(), Topic::new("a"));
        topics.declared(&topic, &TopicOptions::new().subscription("dead-letters"), true);
        let wanted = TopicOptions::new().capacity(3).subscription("x");
        topics.check(&topic, &wanted).unwrap();
        topics.declared(&topic, &wanted, false);
        topics.declared(&topic, &TopicOptions::new(), true);
        assert_eq!(topics.subscriptions(&topic), [topic.subscription("dead-letters"), topic.subscription("x")]);
        topics.check(&topic, &TopicOptions::new().capacity(3)).unwrap();
        let error = topics.check(&topic, &TopicOptions::new()).unwrap_err();
        assert_eq!((error.kind(), error.place()), (Kind::Conflict, Some("topic a")));
    }

    #[test]
    fn what_is_due_is_not_delayed() {
        let (mut topics, topic, now) = (Topics::default(), Topic::new("a"), time::now());
        topics.found(&topic);
        topics.delayed(&topic, now + Duration::from_secs(1), 2);
        topics.delayed(&topic, now + Duration::from_secs(2), 1);
        assert_eq!(topics.counts(&topic, now).0, 3);
        assert_eq!(topics.counts(&topic, now + Duration::from_millis(1500)).0, 1);
        assert_eq!(topics.counts(&topic, now).0, 1, "what was due is forgotten");
    }
}
