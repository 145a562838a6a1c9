//! From options to what must be there on the server: exchanges, quorum queues, bindings. Nothing here talks to it.

use super::{
    delay::{self, LEVELS},
    names::{self, EVERYONE, Names},
};
use crate::base::{Error, Kind, Result};
use crate::queue::{Amqp, DEAD_LETTERS, Topic, TopicOptions};

/// How many messages wait at one level of a topic's delays, at most; beyond it, delaying is refused as overloaded.
pub(super) const DELAYED_MAX: u64 = 1 << 20;

/// One thing that must be there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Make {
    /// An exchange that sends to all that are bound to it, or to those whose pattern matches.
    Exchange { name: String, by_pattern: bool },
    /// A quorum queue. An implied one may be there with other arguments.
    Queue { name: String, arguments: Arguments, implied: bool },
    /// A queue gets what the exchange sends for this key.
    Bind { queue: String, to: String, key: String },
    /// An exchange gets what another sends for this key.
    Chain { exchange: String, to: String, key: String },
}

/// How a queue is declared; the server refuses another declaration of the same queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    /// Ready messages, at most; beyond it, publishing is refused.
    pub(super) length: u64,
    /// How often a message may come back before it is given up.
    pub(super) deliveries: Option<u32>,
    /// How long a message stays, in milliseconds.
    pub(super) stays: Option<u64>,
    /// Where those go that are given up, or have stayed long enough: kept until they have arrived there.
    pub(super) onward: Option<String>,
}

/// All that a topic needs, in an order in which a contradiction shows before anything depends on it.
///
/// # Errors
/// [`Kind::Invalid`], naming the topic, for names that the server has no room for and options that contradict
/// themselves; [`Kind::Unsupported`] for what RabbitMQ cannot do.
pub(super) fn of(topic: &Topic, options: &TopicOptions, deliveries: u32) -> Result<Vec<Make>> {
    check(topic, options)?;
    let names = Names::of(topic)?;
    let exchange = |name: &str, by_pattern| Make::Exchange { name: name.to_string(), by_pattern };
    let mut all = vec![
        exchange(names.exchange(), false),
        exchange(&names.dead(), false),
        exchange(&names.due(), true),
        chain(names.exchange(), &names.due(), &format!("#.{EVERYONE}")),
    ];
    let mut onward = None;
    if let Some(dead) = &options.dead_letters {
        let implied = TopicOptions::new();
        all.extend(of(dead, &implied, deliveries)?);
        all.extend(subscription(dead, DEAD_LETTERS, arguments(&implied, None, deliveries), true)?);
        onward = Some(Names::of(dead)?.exchange().to_string());
    }
    for name in &options.subscriptions {
        all.extend(subscription(topic, name.as_str(), arguments(options, onward.clone(), deliveries), false)?);
    }
    if let Some(onward) = onward {
        all.push(chain(&onward, &names.dead(), ""));
    }
    Ok(all)
}

fn check(topic: &Topic, options: &TopicOptions) -> Result {
    let refuse = |kind, message: &'static str| Err(Error::new(kind, message).at(format!("topic {topic}")));
    if options.dead_letters.as_ref() == Some(topic) {
        return refuse(Kind::Invalid, "its dead letters cannot go to itself");
    }
    if options.capacity == 0 {
        return refuse(Kind::Invalid, "its capacity is 0");
    }
    Amqp::GUARANTEES.check(topic, options)
}

fn arguments(options: &TopicOptions, onward: Option<String>, deliveries: u32) -> Arguments {
    // without dead letters the server would drop what comes back too often
    let deliveries = onward.is_some().then_some(deliveries);
    Arguments { length: options.capacity as u64, deliveries, stays: None, onward }
}

fn subscription(topic: &Topic, name: &str, arguments: Arguments, implied: bool) -> Result<[Make; 3]> {
    let subscription = topic.subscription(name);
    let (names, queue) = (Names::of(topic)?, names::queue(&subscription)?);
    let key = format!("#.{}", names::word(&subscription));
    Ok([
        Make::Queue { name: queue.clone(), arguments, implied },
        Make::Bind { queue: queue.clone(), to: names.exchange().to_string(), key: String::new() },
        Make::Bind { queue, to: names.due(), key },
    ])
}

fn chain(exchange: &str, to: &str, key: &str) -> Make {
    Make::Chain { exchange: exchange.to_string(), to: to.to_string(), key: key.to_string() }
}

/// The exchange of one level of a topic's delays, and the way past it.
pub(super) fn level(names: &Names, level: u32) -> [Make; 2] {
    let own = names.delay(level);
    let past = chain(&below(names, level), &own, &delay::pattern(level, false));
    [Make::Exchange { name: own, by_pattern: true }, past]
}

/// The queue of one level of a topic's delays, in which what it sends there waits.
pub(super) fn rung(names: &Names, level: u32) -> [Make; 2] {
    let own = names.delay(level);
    let stays = delay::wait_at(level.min(LEVELS - 1)).as_millis() as u64;
    let onward = Some(below(names, level));
    let arguments = Arguments { length: DELAYED_MAX, deliveries: None, stays: Some(stays), onward };
    [
        Make::Queue { name: own.clone(), arguments, implied: false },
        Make::Bind { queue: own.clone(), to: own, key: delay::pattern(level, true) },
    ]
}

fn below(names: &Names, level: u32) -> String {
    level.checked_sub(1).map_or_else(|| names.due(), |next| names.delay(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, time::Duration};

    fn orders() -> Topic {
        Topic::new("orders")
    }

    fn queues(all: &[Make]) -> Vec<(&str, &Arguments)> {
        fn queue(make: &Make) -> Option<(&str, &Arguments)> {
            match make {
                Make::Queue { name, arguments, .. } => Some((name.as_str(), arguments)),
                _ => None,
            }
        }
        all.iter().filter_map(queue).collect()
    }

    #[test]
    fn a_subscription_is_a_bounded_quorum_queue_that_gives_up_to_the_dead_letters() {
        let options = TopicOptions::new().subscription("mailer").capacity(9).dead_letters("dead");
        let all = of(&orders(), &options, 20).unwrap();
        let [(dead, kept), (mailer, own)] = queues(&all)[..] else { panic!("{all:?}") };
        assert_eq!((dead, kept.length, kept.deliveries, &kept.onward), ("dead/dead-letters", 65_536, None, &None));
        assert_eq!((mailer, own.length, own.deliveries), ("orders/mailer", 9, Some(20)));
        assert_eq!(own.onward.as_deref(), Some("dead"));
        assert!(all.contains(&chain("dead", "orders//dead", "")), "and so does whoever rejects");
        let plain = of(&orders(), &TopicOptions::new().subscription("mailer"), 20).unwrap();
        assert_eq!(queues(&plain)[0].1.deliveries, None, "the server would drop them");
    }

    #[test]
    fn what_is_used_is_made_before() {
        let options = TopicOptions::new().subscription("a").subscription("b").dead_letters("dead");
        let names = Names::of(&orders()).unwrap();
        let mut all = of(&orders(), &options, 20).unwrap();
        for at in 0..LEVELS {
            all.extend(level(&names, at));
            all.extend(rung(&names, at));
        }
        let (mut exchanges, mut made) = (BTreeSet::new(), BTreeSet::new());
        for make in &all {
            match make {
                Make::Exchange { name, .. } => drop(exchanges.insert(name.clone())),
                Make::Queue { name, arguments, .. } => {
                    assert!(arguments.onward.as_ref().is_none_or(|to| exchanges.contains(to)), "{make:?}");
                    made.insert(name.clone());
                }
                Make::Bind { queue, to, .. } => assert!(made.contains(queue) && exchanges.contains(to), "{make:?}"),
                Make::Chain { exchange, to, .. } => {
                    assert!(exchanges.contains(exchange) && exchanges.contains(to), "{make:?}");
                }
            }
        }
        assert_eq!(made.len(), 3 + LEVELS as usize);
    }

    #[test]
    fn contradictions_and_what_rabbitmq_cannot_do() {
        let refused = |options: TopicOptions| of(&orders(), &options, 20).unwrap_err();
        assert_eq!(refused(TopicOptions::new().capacity(0)).kind(), Kind::Invalid);
        assert_eq!(refused(TopicOptions::new().dead_letters("orders")).kind(), Kind::Invalid);
        let error = refused(TopicOptions::new().dedup(Duration::from_secs(1)));
        assert_eq!(error.to_string(), "topic orders: unsupported: the broker amqp remembers no ids");
    }
}
