//! What a dead letter says of its end.

use super::{Attempts, Headers, Id, Subscription};

/// Why and where a message was given up: what its headers say in the dead-letter topic.
///
/// The dead letter's own id is derived from the message's, so that giving up twice makes one letter where the
/// dead-letter topic [dedups](crate::queue::TopicOptions::dedup).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Why it was rejected.
    pub reason: String,
    /// Who rejected it.
    pub subscription: Subscription,
    /// The id that the batch had there.
    pub id: Id,
    /// How often it had been tried.
    pub attempts: Attempts,
}

impl DeadLetter {
    /// The port that ids of dead letters are derived with.
    pub const PORT: u32 = u32::MAX;

    const REASON: &str = "dead-letter-reason";
    const TOPIC: &str = "dead-letter-topic";
    const SUBSCRIPTION: &str = "dead-letter-subscription";
    const ID: &str = "dead-letter-id";
    const FAILURES: &str = "dead-letter-failures";
    const CRASHES: &str = "dead-letter-crashes";
    const LAPSES: &str = "dead-letter-lapses";

    /// A dead letter, as brokers make them.
    pub fn new(reason: impl Into<String>, subscription: Subscription, id: Id, attempts: Attempts) -> DeadLetter {
        DeadLetter { reason: reason.into(), subscription, id, attempts }
    }

    /// Says all of this in the headers.
    pub fn write(&self, headers: &mut Headers) {
        headers.insert(Self::REASON, &self.reason);
        headers.insert(Self::TOPIC, self.subscription.topic.as_str());
        headers.insert(Self::SUBSCRIPTION, self.subscription.name.as_str());
        headers.insert(Self::ID, self.id.to_string());
        headers.insert(Self::FAILURES, self.attempts.failures.to_string());
        headers.insert(Self::CRASHES, self.attempts.crashes.to_string());
        headers.insert(Self::LAPSES, self.attempts.lapses.to_string());
    }

    /// What these headers say; nothing where they are not a dead letter's.
    pub fn read(headers: &Headers) -> Option<DeadLetter> {
        let count = |name| headers.get(name)?.parse().ok();
        Some(DeadLetter {
            reason: headers.get(Self::REASON)?.to_string(),
            subscription: Subscription::new(headers.get(Self::TOPIC)?, headers.get(Self::SUBSCRIPTION)?),
            id: headers.get(Self::ID)?.parse().ok()?,
            attempts: Attempts::new(count(Self::FAILURES)?, count(Self::CRASHES)?, count(Self::LAPSES)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let letter = DeadLetter::new("no such card", Subscription::new("a", "b"), Id::of("x"), Attempts::new(1, 2, 3));
        let mut headers = Headers::default();
        assert_eq!(DeadLetter::read(&headers), None);
        letter.write(&mut headers);
        assert_eq!(DeadLetter::read(&headers), Some(letter));
    }
}
