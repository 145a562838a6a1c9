//! How a message looks on a broker that is a server: headers that say what it is, and a body that holds its items.
//!
//! The same on NATS and on AMQP, and a contract between versions: golden vectors hold it.
//!
//! | header | holds | without it |
//! | --- | --- | --- |
//! | `Seedpod-Wire` | the version of this form: `1` | a stranger's message: its body is one item, its headers are kept |
//! | `Seedpod-Id` | the batch's id, 32 hexadecimal digits | malformed |
//! | `Seedpod-Items` | how many items the body holds, each with its length | the body is the only item |
//! | `Seedpod-Key` | the key, as a JSON string | no key |
//! | `Seedpod-Priority` | the priority, 0 to 255 | 0 |
//! | `Seedpod-Delay` | the delay from the publish on, in milliseconds | none |
//! | `Seedpod-Headers` | the headers of the message that no wire would carry as they are, as one JSON object | none |
//! | any other | a header of the message, such as `content-type` or `traceparent`, as it is | |
//!
//! A header goes as it is where its name is a token of HTTP, not one that a broker or this form gives a meaning to
//! (`seedpod-`, `nats-`, `x-`, `cc`, `bcc`, in any case), and its value is printable ASCII. A body of `n` items begins
//! with `n` lengths, each 32 bits, little-endian; then the items follow, one behind the other, and nothing else.
//!
//! What comes in is believed in nothing: whatever does not read exactly as this is an error, never a panic, and takes
//! no memory beyond its own size.

mod body;
mod headers;
#[cfg(test)]
mod tests;

use super::{Id, Payload, Publish, Topic};
use crate::base::{Error, Kind, Name, Result};
use bytes::Bytes;
use std::{borrow::Cow, time::Duration};

/// The version of this form.
const VERSION: &str = "1";
/// The most bytes that the names and values of all headers may have together.
pub(in crate::queue) const HEADERS_MAX: usize = 64 << 10;

const WIRE: &str = "Seedpod-Wire";
const ID: &str = "Seedpod-Id";
const ITEMS: &str = "Seedpod-Items";
const KEY: &str = "Seedpod-Key";
const PRIORITY: &str = "Seedpod-Priority";
const DELAY: &str = "Seedpod-Delay";
const HEADERS: &str = "Seedpod-Headers";

/// A message as it goes to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::queue) struct Frame {
    /// Names, which are tokens of HTTP, and values without control characters.
    pub(in crate::queue) headers: Vec<(Cow<'static, str>, String)>,
    /// The items.
    pub(in crate::queue) body: Bytes,
}

impl Frame {
    /// How many bytes its headers and its body have, without what the protocol adds.
    pub(in crate::queue) fn size(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() + self.body.len()
    }
}

/// The frame of this batch; its values are encoded.
///
/// # Errors
/// [`Kind::Invalid`], naming topic and message, where a value cannot be encoded, or headers or an item are too large.
pub(in crate::queue) fn write(publish: &Publish) -> Result<Frame> {
    frame(publish).map_err(|error| error.at(format!("topic {}, message {}", publish.topic, publish.id)))
}

fn frame(publish: &Publish) -> Result<Frame> {
    let count = publish.payload.len();
    let mut headers = vec![(Cow::from(WIRE), VERSION.to_string()), (Cow::from(ID), publish.id.to_string())];
    let body = if count == 1 {
        publish.payload.bytes(0)?
    } else {
        headers.push((Cow::from(ITEMS), count.to_string()));
        body::join(&publish.payload)?
    };
    if let Some(key) = &publish.key {
        headers.push((Cow::from(KEY), serde_json::to_string(key.as_str())?));
    }
    if publish.priority > 0 {
        headers.push((Cow::from(PRIORITY), publish.priority.to_string()));
    }
    if !publish.delay.is_zero() {
        headers.push((Cow::from(DELAY), publish.delay.as_nanos().div_ceil(1_000_000).to_string()));
    }
    headers::write(&publish.headers, &mut headers)?;
    let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > HEADERS_MAX {
        return Err(Error::new(Kind::Invalid, format!("its headers have {size} bytes, at most {HEADERS_MAX} may be")));
    }
    Ok(Frame { headers, body })
}

/// The batch that this frame holds, as it was published to this topic. A stranger's message gets the id `otherwise`.
///
/// # Errors
/// [`Kind::Invalid`], saying what is malformed. The message is then best given up, as [`unreadable`] has it: to read it
/// again would not help.
pub(in crate::queue) fn read<'a>(
    topic: &Topic,
    given: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: Bytes,
    otherwise: Id,
) -> Result<Publish> {
    let mut ours = Ours::default();
    let mut publish = Publish::new(topic, otherwise, Payload::from(Bytes::new()));
    let mut size = 0_usize;
    for (name, value) in given {
        size = size.saturating_add(name.len()).saturating_add(value.len());
        if size > HEADERS_MAX {
            return Err(malformed(format!("its headers have more than {HEADERS_MAX} bytes")));
        }
        match ours.slot(name) {
            Some(slot @ None) => *slot = Some(value),
            Some(Some(_)) => return Err(malformed(format!("header {name} stands there twice"))),
            None if headers::is_reserved(name) => {} // a broker's own
            None => publish.headers.insert(name, value),
        }
    }
    let Some(version) = ours.wire else {
        if ours != Ours::default() {
            return Err(malformed(format!("header {WIRE} is missing")));
        }
        publish.payload = Payload::from(body);
        return Ok(publish);
    };
    if version != VERSION {
        return Err(malformed(format!("wire version {version:.16?} is not known here, {VERSION} is")));
    }
    let id = ours.id.ok_or_else(|| malformed(format!("header {ID} is missing")))?;
    publish.id = id.parse().map_err(|_| malformed(format!("header {ID} is no message id: {id:.40?}")))?;
    publish.payload = match ours.items {
        None => Payload::from(body),
        Some(items) => body::split(number(ITEMS, items)?, &body)?,
    };
    if let Some(key) = ours.key {
        let key: String =
            serde_json::from_str(key).map_err(|_| malformed(format!("header {KEY} is no JSON string: {key:.40?}")))?;
        publish.key = Some(Name::from(key));
    }
    if let Some(priority) = ours.priority {
        publish.priority = number(PRIORITY, priority)?;
    }
    if let Some(delay) = ours.delay {
        publish.delay = Duration::from_millis(number(DELAY, delay)?);
    }
    if let Some(more) = ours.headers {
        headers::read(more, &mut publish.headers)?;
    }
    Ok(publish)
}

/// What goes to the dead letters of a message that cannot be read: its body as the only item, and none of its headers.
pub(in crate::queue) fn unreadable(topic: &Topic, body: Bytes, id: Id) -> Publish {
    Publish::new(topic, id, body)
}

/// The headers of this form, as they were found.
#[derive(Default, PartialEq, Eq)]
struct Ours<'a> {
    wire: Option<&'a str>,
    id: Option<&'a str>,
    items: Option<&'a str>,
    key: Option<&'a str>,
    priority: Option<&'a str>,
    delay: Option<&'a str>,
    headers: Option<&'a str>,
}

impl<'a> Ours<'a> {
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        match name {
            WIRE => Some(&mut self.wire),
            ID => Some(&mut self.id),
            ITEMS => Some(&mut self.items),
            KEY => Some(&mut self.key),
            PRIORITY => Some(&mut self.priority),
            DELAY => Some(&mut self.delay),
            HEADERS => Some(&mut self.headers),
            _ => None,
        }
    }
}

/// A number in decimal digits and nothing else: no sign, no space.
fn number<N: std::str::FromStr>(header: &str, text: &str) -> Result<N> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| malformed(format!("header {header} is no such number: {text:.40?}")))
}

#[cold]
fn malformed(message: String) -> Error {
    Error::new(Kind::Invalid, message)
}
