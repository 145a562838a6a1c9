//! A message as AMQP carries it: from a publish to properties and a body, and back from whatever comes.

use super::names;
use crate::base::Result;
use crate::queue::{Attempts, DeadLetter, Id, Payload, Publish, Subscription, Topic, wire};
use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

/// The header that is a property of its own in AMQP.
const CONTENT_TYPE: &str = "content-type";
const FAILURES: &str = "Seedpod-Failures";
const CRASHES: &str = "Seedpod-Crashes";
const LAPSES: &str = "Seedpod-Lapses";
/// How often the message came back to its queue, which the server counts.
const RETURNS: &str = "x-delivery-count";
/// Where the message died before, the last time first: the server keeps it.
const DEATHS: &str = "x-death";
/// What stays after a crash.
const PERSISTENT: u8 = 2;
/// The longest text that AMQP's short strings hold, in bytes.
const SHORT_MAX: usize = 255;

/// The messages of a batch: one for each item, since the server hands out, counts and settles messages.
///
/// # Errors
/// [`Kind::Invalid`](crate::base::Kind::Invalid) where a value cannot be encoded or the headers are too large.
pub(super) fn split(publish: &Publish) -> Result<Vec<Publish>> {
    let count = publish.payload.len();
    if count == 1 {
        return Ok(vec![publish.clone()]);
    }
    let item = |index: u32| {
        let place = || format!("topic {}, message {}", publish.topic, publish.id);
        let bytes = publish.payload.bytes(index).map_err(|error| error.at(place()))?;
        Ok(Publish { id: publish.id.item(index), payload: Payload::from(bytes), ..publish.clone() })
    };
    (0..count).map(item).collect()
}

/// What goes to the server for this message, which has one item or is one that came as several.
///
/// # Errors
/// As for [`split`].
pub(super) fn write(publish: &Publish, attempts: Attempts, seconds: u64) -> Result<(BasicProperties, Bytes)> {
    let frame = wire::write(publish)?;
    let mut table = FieldTable::default();
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(ShortString::from(publish.id.to_string()))
        .with_timestamp(seconds);
    for (name, value) in frame.headers {
        if name == CONTENT_TYPE && value.len() <= SHORT_MAX {
            properties = properties.with_content_type(ShortString::from(value));
        } else {
            table.insert(ShortString::from(name.into_owned()), AMQPValue::LongString(value.into()));
        }
    }
    let counts = [(FAILURES, attempts.failures), (CRASHES, attempts.crashes), (LAPSES, attempts.lapses)];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        table.insert(ShortString::from(name), AMQPValue::LongInt(i32::from(count)));
    }
    Ok((properties.with_headers(table), frame.body))
}

/// What came from the server.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// As it was published.
    pub(super) publish: Publish,
    /// How often it was tried before: what its headers say, and what the server counts as lapses.
    pub(super) attempts: Attempts,
    /// When it was published, in seconds since 1970, where its publisher said so.
    pub(super) seconds: Option<u64>,
}

/// Reads what came to this topic; a stranger's message too.
///
/// # Errors
/// [`Kind::Invalid`](crate::base::Kind::Invalid) for what cannot be read; reading it again cannot help.
pub(super) fn read(topic: &Topic, properties: &BasicProperties, body: Bytes) -> Result<Letter> {
    let table = properties.headers().as_ref();
    let texts = table.into_iter().flat_map(|table| table.inner().iter()).filter_map(|(name, value)| {
        let text = text(value)?;
        Some((name.as_str(), text))
    });
    let content_type = properties.content_type().as_ref().map(|value| (CONTENT_TYPE, value.as_str().to_string()));
    let headers: Vec<(&str, String)> = texts.chain(content_type).collect();
    let otherwise = strangers_id(properties, &body);
    let given = headers.iter().map(|(name, value)| (*name, value.as_str()));
    let mut publish = wire::read(topic, given, body, otherwise)?;
    publish.delay = std::time::Duration::ZERO; // it has waited
    let count = |name| table.map_or(0, |table| number(table, name));
    let mut attempts = Attempts::new(count(FAILURES), count(CRASHES), count(LAPSES));
    if let Some(home) = table.and_then(given_up_in)
        && DeadLetter::read(&publish.headers).is_none()
    {
        // how often it came back in that queue, the server does not say: once at least
        let returns = attempts.lapses.saturating_add(count(RETURNS).max(1));
        let history = Attempts::new(attempts.failures, attempts.crashes, returns);
        DeadLetter::new(OVER_THE_LIMIT, home.clone(), publish.id, history).write(&mut publish.headers);
        publish.id = Id::derive(&home.name, publish.id, DeadLetter::PORT, 0);
        attempts = Attempts::default(); // a dead letter is tried anew
    } else {
        attempts.lapses = attempts.lapses.saturating_add(count(RETURNS));
    }
    Ok(Letter { publish, attempts, seconds: *properties.timestamp() })
}

/// Why the server gives messages up.
const OVER_THE_LIMIT: &str = "it came back to its queue too often";

/// The id of a message that says none: of what its publisher calls it, else of what it is.
pub(super) fn strangers_id(properties: &BasicProperties, body: &Bytes) -> Id {
    match properties.message_id() {
        Some(name) => Id::of(format!("amqp message {name}")),
        None => Id::of(body),
    }
}

/// A value as text: numbers and truth values too, since others write such headers. None for what has no plain text.
fn text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.to_string(),
        AMQPValue::ShortString(text) => text.as_str().to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        value => integer(value)?.to_string(),
    })
}

fn integer(value: &AMQPValue) -> Option<i128> {
    Some(match *value {
        AMQPValue::ShortShortInt(value) => value.into(),
        AMQPValue::ShortShortUInt(value) => value.into(),
        AMQPValue::ShortInt(value) => value.into(),
        AMQPValue::ShortUInt(value) => value.into(),
        AMQPValue::LongInt(value) => value.into(),
        AMQPValue::LongUInt(value) => value.into(),
        AMQPValue::LongLongInt(value) => value.into(),
        _ => return None,
    })
}

/// A count; 0 where there is none, and the most where it is more.
fn number(table: &FieldTable, name: &str) -> u16 {
    let value = table.inner().get(name).and_then(integer).unwrap_or(0);
    value.clamp(0, u16::MAX.into()) as u16
}

/// The subscription in which the server gave this message up because it came back too often, if that is how it died.
fn given_up_in(table: &FieldTable) -> Option<Subscription> {
    let Some(AMQPValue::FieldArray(deaths)) = table.inner().get(DEATHS) else { return None };
    let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
    if text(last.inner().get("reason")?)? != "delivery_limit" {
        return None;
    }
    names::subscription(&text(last.inner().get("queue")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Kind, Seed};
    use crate::queue::Json;
    use lapin::types::FieldArray;

    fn orders() -> Topic {
        Topic::new("orders")
    }

    fn table(properties: &BasicProperties) -> FieldTable {
        properties.headers().clone().unwrap_or_default()
    }

    #[test]
    fn what_was_written_reads_back_with_its_attempts() {
        let publish = Publish::new(orders(), Id::of("a"), "text")
            .header("content-type", "text/plain")
            .header("origin", "here")
            .header("née", "grün");
        let (properties, body) = write(&publish, Attempts::new(1, 2, 3), 77).unwrap();
        assert_eq!(properties.content_type().as_ref().map(ShortString::as_str), Some("text/plain"));
        assert_eq!(properties.delivery_mode(), &Some(PERSISTENT));
        let mut returned = table(&properties);
        returned.insert(RETURNS.into(), AMQPValue::LongLongInt(4));
        let letter = read(&orders(), &properties.with_headers(returned), body).unwrap();
        assert_eq!((letter.publish.id, &letter.publish.headers), (Id::of("a"), &publish.headers));
        assert_eq!((letter.attempts, letter.seconds), (Attempts::new(1, 2, 7), Some(77)));
        assert_eq!(letter.publish.payload.bytes(0).unwrap(), "text");
    }

    #[test]
    fn a_batch_is_a_message_per_item_under_the_items_own_id() {
        let batch = Publish::new(orders(), Id::of("batch"), Payload::values(vec![1_u32, 2], Json)).header("a", "b");
        let all = split(&batch).unwrap();
        assert_eq!(
            all.iter().map(|one| one.id).collect::<Vec<_>>(),
            [Id::of("batch").item(0), Id::of("batch").item(1)]
        );
        assert_eq!(all[1].payload.bytes(0).unwrap(), "2");
        assert_eq!(all[1].headers.get("a"), Some("b"));
        assert_eq!(split(&Publish::new(orders(), Id::of("x"), "y")).unwrap()[0].id, Id::of("x"));
        assert!(split(&Publish::new(orders(), Id::of("x"), Payload::many([]))).unwrap().is_empty());
    }

    #[test]
    fn a_strangers_message_is_taken_as_it_is() {
        let mut headers = FieldTable::default();
        headers.insert("count".into(), AMQPValue::LongInt(-7));
        headers.insert("yes".into(), AMQPValue::Boolean(true));
        headers.insert("bytes".into(), AMQPValue::LongString(vec![0xFF].into()));
        headers.insert("table".into(), AMQPValue::FieldTable(FieldTable::default()));
        let properties = BasicProperties::default().with_headers(headers).with_content_type("text/x".into());
        let body = Bytes::from_static(b"\xFF\0");
        let letter = read(&orders(), &properties, body.clone()).unwrap();
        let expected = [("content-type", "text/x"), ("count", "-7"), ("yes", "true")];
        assert_eq!(letter.publish.headers.iter().collect::<Vec<_>>(), expected);
        assert_eq!((letter.publish.id, letter.attempts), (Id::of(&body), Attempts::default()));
        let named = read(&orders(), &properties.with_message_id("17".into()), body).unwrap();
        assert_eq!(named.publish.id, Id::of("amqp message 17"));
    }

    #[test]
    fn what_the_server_gave_up_is_a_dead_letter_with_its_history() {
        let (properties, body) = write(&Publish::new(orders(), Id::of("a"), "x"), Attempts::new(1, 0, 2), 0).unwrap();
        let death = |reason: &'static str, queue: &'static str| {
            let mut death = FieldTable::default();
            death.insert("reason".into(), AMQPValue::LongString(reason.into()));
            death.insert("queue".into(), AMQPValue::LongString(queue.into()));
            let mut headers = table(&properties);
            headers.insert(DEATHS.into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)])));
            read(&"dead".into(), &properties.clone().with_headers(headers), body.clone()).unwrap()
        };
        let letter = death("delivery_limit", "orders/mailer");
        let home = Subscription::new("orders", "mailer");
        let history = DeadLetter::new(OVER_THE_LIMIT, home.clone(), Id::of("a"), Attempts::new(1, 0, 3));
        assert_eq!(DeadLetter::read(&letter.publish.headers), Some(history));
        assert_eq!(letter.publish.id, Id::derive(&home.name, Id::of("a"), DeadLetter::PORT, 0));
        assert_eq!(letter.attempts, Attempts::default());
        for (reason, queue) in [("expired", "orders/mailer"), ("delivery_limit", "strange"), ("maxlen", "a/b")] {
            let letter = death(reason, queue);
            assert_eq!((letter.publish.id, letter.attempts.failures), (Id::of("a"), 1), "{reason} {queue}");
        }
    }

    #[test]
    fn hostile_headers_are_an_error_or_a_message_and_never_a_panic() {
        let (properties, body) = write(&Publish::new(orders(), Id::of("a"), "x"), Attempts::new(1, 2, 3), 0).unwrap();
        let mut rng = Seed::new(11).rng();
        let values = |rng: &mut crate::base::Rng| match rng.next_u64() % 8 {
            0 => AMQPValue::Void,
            1 => AMQPValue::LongLongInt(rng.next_u64() as i64),
            2 => AMQPValue::LongString(vec![rng.next_u64() as u8; (rng.next_u64() % 40) as usize].into()),
            3 => AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void])),
            4 => AMQPValue::FieldTable(FieldTable::default()),
            5 => AMQPValue::Double(f64::from_bits(rng.next_u64())),
            6 => AMQPValue::LongString("1".into()),
            _ => AMQPValue::Boolean(true),
        };
        let names = [FAILURES, CRASHES, LAPSES, RETURNS, DEATHS, "Seedpod-Wire", "Seedpod-Id", "Seedpod-Items", "a"];
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut headers = table(&properties);
            for _ in 0..=rng.next_u64() % 3 {
                let name = names[(rng.next_u64() % names.len() as u64) as usize];
                headers.insert(name.into(), values(&mut rng));
            }
            match read(&orders(), &properties.clone().with_headers(headers), body.clone()) {
                Ok(letter) => assert!(letter.publish.payload.len() <= 1),
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Invalid);
                    refused += 1;
                }
            }
        }
        assert!(refused > 5_000, "{refused}");
    }
}
