//! What things are called on the server: one name for each topic, subscription and delay, and none for two of them.

use super::delay::LEVELS;
use crate::base::{Error, Kind, Result};
use crate::queue::{Subscription, Topic};

/// The longest name that AMQP has room for, in bytes.
const NAME_MAX: usize = 255;

/// The names of a topic's exchanges. Its subscriptions' queues are called `topic/subscription`.
///
/// | name | what is sent there |
/// | --- | --- |
/// | `topic` | what is published: a copy goes to every subscription |
/// | `topic//dead` | what is rejected: it goes on to the topic of the dead letters, if any |
/// | `topic//delay/n` | what is delayed, and still has to wait up to 2ⁿ⁺¹ ticks |
/// | `topic//due` | what has waited: it goes to the topic, or back to one subscription |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    topic: String,
}

impl Names {
    /// The names of this topic.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where the topic has no name, or one that is too long for the server.
    pub(super) fn of(topic: &Topic) -> Result<Names> {
        let invalid = |message: String| Err(Error::new(Kind::Invalid, message).at(format!("topic {topic}")));
        if topic.as_str().is_empty() {
            return invalid("AMQP has no exchange without a name".to_string());
        }
        let names = Names { topic: escaped(topic.as_str()) };
        let longest = names.delay(LEVELS - 1).len();
        if longest > NAME_MAX {
            return invalid(format!("its name is {} bytes too long for AMQP", longest - NAME_MAX));
        }
        Ok(names)
    }

    pub(super) fn exchange(&self) -> &str {
        &self.topic
    }

    pub(super) fn dead(&self) -> String {
        format!("{}//dead", self.topic)
    }

    pub(super) fn due(&self) -> String {
        format!("{}//due", self.topic)
    }

    pub(super) fn delay(&self, level: u32) -> String {
        format!("{}//delay/{level}", self.topic)
    }
}

/// The queue of this subscription.
///
/// # Errors
/// [`Kind::Invalid`] where the name is too long for the server.
pub(super) fn queue(subscription: &Subscription) -> Result<String> {
    let name = format!("{}/{}", Names::of(&subscription.topic)?.topic, escaped(subscription.name.as_str()));
    let longest = name.len().max(delay_key_length(&word(subscription)));
    if longest > NAME_MAX {
        let message = format!("its name is {} bytes too long for AMQP", longest - NAME_MAX);
        return Err(Error::new(Kind::Invalid, message).at(format!("subscription {subscription}")));
    }
    Ok(name)
}

/// The subscription of this queue, where it is one of ours.
pub(super) fn subscription(queue: &str) -> Option<Subscription> {
    let (topic, name) = queue.split_once('/')?;
    if name.contains('/') {
        return None;
    }
    Some(Subscription::new(unescaped(topic)?, unescaped(name)?))
}

/// The last word of a delayed message's routing key: for all subscriptions of the topic.
pub(super) const EVERYONE: &str = "every";

/// The last word of a delayed message's routing key: for this subscription alone.
pub(super) fn word(subscription: &Subscription) -> String {
    format!("only-{}", escaped(subscription.name.as_str()).replace('.', "%2E"))
}

fn delay_key_length(word: &str) -> usize {
    2 * LEVELS as usize + word.len()
}

/// Without `/`, which has a meaning here, and not beginning like the server's own names.
fn escaped(name: &str) -> String {
    let escaped = name.replace('%', "%25").replace('/', "%2F");
    match escaped.strip_prefix("amq.") {
        Some(rest) => format!("%61mq.{rest}"),
        None => escaped,
    }
}

fn unescaped(name: &str) -> Option<String> {
    let mut parts = name.split('%');
    let mut text = parts.next()?.to_string();
    for part in parts {
        let letter = match part.get(..2)? {
            "25" => '%',
            "2F" => '/',
            "61" => 'a',
            _ => return None,
        };
        text.push(letter);
        text.push_str(part.get(2..)?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;
    use std::collections::BTreeMap;

    #[test]
    fn names_of_a_topic() {
        let names = Names::of(&Topic::new("orders.eu")).unwrap();
        assert_eq!((names.exchange(), names.dead().as_str()), ("orders.eu", "orders.eu//dead"));
        assert_eq!((names.due().as_str(), names.delay(7).as_str()), ("orders.eu//due", "orders.eu//delay/7"));
        assert_eq!(Names::of(&Topic::new("amq.topic")).unwrap().exchange(), "%61mq.topic");
        assert_eq!(queue(&Subscription::new("a/b", "c.d")).unwrap(), "a%2Fb/c.d");
        assert_eq!(word(&Subscription::new("a/b", "c.d")), "only-c%2Ed");
        assert_eq!(subscription("a//dead"), None, "an exchange, and no queue");
    }

    #[test]
    fn what_the_server_has_no_room_for_is_refused_by_name() {
        let error = Names::of(&Topic::new("")).unwrap_err();
        assert_eq!(error.to_string(), "topic : invalid: AMQP has no exchange without a name");
        let long = "x".repeat(250);
        let error = queue(&Subscription::new(&*long, "y")).unwrap_err();
        assert_eq!(error.message(), "its name is 5 bytes too long for AMQP");
        let error = queue(&Subscription::new("y", &*long)).unwrap_err();
        assert!(error.place().unwrap().starts_with("subscription y/xxx"), "{error}");
    }

    #[test]
    fn no_two_things_share_a_name_and_queues_tell_whose_they_are() {
        let letters = ["a", "b", "/", "%", ".", "amq.", "2", "F", "é", "*", "#", "61"];
        let mut rng = Seed::new(5).rng();
        let mut text = || (0..rng.next_u64() % 6).map(|_| letters[(rng.next_u64() % 12) as usize]).collect::<String>();
        let mut seen = BTreeMap::<String, String>::new();
        for _ in 0..200_000 {
            let (topic, name) = (text(), text());
            let Ok(names) = Names::of(&Topic::new(&*topic)) else { continue };
            let whose = Subscription::new(&*topic, &*name);
            let own = queue(&whose).unwrap();
            assert_eq!(subscription(&own), Some(whose.clone()), "{own}");
            assert!(!own.starts_with("amq.") && !names.exchange().starts_with("amq."));
            assert!(!word(&whose).contains('.'));
            let things = [
                (names.exchange().to_string(), format!("topic {topic:?}")),
                (names.dead(), format!("dead {topic:?}")),
                (names.due(), format!("due {topic:?}")),
                (names.delay(3), format!("delay {topic:?}")),
                (own, format!("queue {topic:?} {name:?}")),
            ];
            for (name, thing) in things {
                let before = seen.entry(name).or_insert_with(|| thing.clone());
                assert_eq!(*before, thing);
            }
        }
    }
}
