//! Names that JetStream takes, made of names that may be any text.

use crate::base::{Name, hash};
use std::fmt::Write;

/// What every stream, consumer and subject of a broker begins with, and how they are called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

/// The longest name that goes as it is: file systems take 255 bytes, and servers make folders of these.
const LONGEST: usize = 120;

impl Names {
    /// Those that begin with this; it must be a plain token.
    pub(super) fn new(prefix: &str) -> Option<Names> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let fits = (1..=40).contains(&prefix.len()) && prefix.bytes().all(plain);
        fits.then(|| Names { prefix: prefix.to_string() })
    }

    /// The stream that is a topic.
    pub(super) fn stream(&self, topic: &Name) -> String {
        format!("{}-topic-{}", self.prefix, token(topic.as_str()))
    }

    /// Where messages of so many items are published to a topic: the server counts messages by subject.
    pub(super) fn subject(&self, topic: &Name, items: u32) -> String {
        format!("{}.{}.{items}", self.prefix, token(topic.as_str()))
    }

    /// All subjects of a topic.
    pub(super) fn subjects(&self, topic: &Name) -> String {
        format!("{}.{}.*", self.prefix, token(topic.as_str()))
    }

    /// The consumer that is a subscription.
    pub(super) fn consumer(&self, subscription: &Name) -> String {
        token(subscription.as_str())
    }

    /// The stream that keeps what JetStream cannot count: how messages were tried in vain, and which items are done.
    pub(super) fn notes(&self) -> String {
        format!("{}-notes", self.prefix)
    }

    /// The subject of the note on this message of a topic, for this subscription.
    pub(super) fn note(&self, topic: &Name, subscription: &Name, sequence: u64) -> String {
        format!("{}-notes.{}.{}.{sequence}", self.prefix, token(topic.as_str()), token(subscription.as_str()))
    }

    /// The subjects of all notes on messages of a topic.
    pub(super) fn notes_on(&self, topic: &Name) -> String {
        format!("{}-notes.{}.>", self.prefix, token(topic.as_str()))
    }

    /// The key-value bucket of the state, as a stream.
    pub(super) fn bucket(&self) -> String {
        format!("KV_{}-state", self.prefix)
    }

    /// The subject of this state.
    pub(super) fn state(&self, key: &Name) -> String {
        format!("$KV.{}-state.{}", self.prefix, token(key.as_str()))
    }
}

/// Letters, digits, `-` and `_` as they are, all else as `=` and two hexadecimal digits per byte: no two texts alike.
/// What would be too long is cut, and ends with its hash.
fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(byte as char);
        } else {
            let _ = write!(token, "={byte:02x}");
        }
    }
    if token.is_empty() {
        return "=".to_string();
    }
    if token.len() > LONGEST {
        token.truncate(LONGEST);
        let _ = write!(token, "=={:016x}", hash::of(text.as_bytes()));
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_a_token_of_its_own() {
        let names = Names::new("seedpod").unwrap();
        assert_eq!(names.stream(&"orders.eu".into()), "seedpod-topic-orders=2eeu");
        assert_eq!(names.subject(&"a b".into(), 3), "seedpod.a=20b.3");
        assert_eq!(names.subjects(&"*".into()), "seedpod.=2a.*");
        assert_eq!(names.note(&"t".into(), &"s>".into(), 7), "seedpod-notes.t.s=3e.7");
        assert_eq!((token(""), token("ü")), ("=".into(), "=c3=bc".into()));
        let (one, other) = (token(&"x".repeat(500)), token(&"x".repeat(501)));
        assert!(one != other && one.len() < 150, "{one}");
        assert!(["", "a.b", "a b", "é"].iter().all(|bad| Names::new(bad).is_none()));
    }
}
