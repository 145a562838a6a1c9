//! JSON one level at a time: what nobody looks into stays as it was written, to the last digit.

use crate::base::{Error, Kind, Result};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::fmt;

/// The members of an object, in their order; those of the same name all stand there.
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a RawValue)>);

/// The elements of an array.
pub(super) struct Elements<'a>(pub(super) Vec<&'a RawValue>);

/// Which kind of value it is. Numbers are kept as their text, which no reader has rounded.
pub(super) enum Value<'a> {
    Object(Members<'a>),
    Array(Elements<'a>),
    Text(String),
    Number(&'a str),
    Bool(bool),
    Null,
}

/// Reads a document, which may stand between blanks.
///
/// # Errors
/// [`Kind::Invalid`] with line and column, where it is no JSON.
pub(super) fn document(bytes: &[u8]) -> Result<&RawValue> {
    serde_json::from_slice(bytes).map_err(|error| Error::new(Kind::Invalid, "this is no JSON").because(error))
}

/// Opens a value by one level.
///
/// # Errors
/// [`Kind::Invalid`] for a text with half of a character in it: all else has been checked when it was read.
pub(super) fn open(value: &RawValue) -> Result<Value<'_>> {
    let text = value.get();
    Ok(match text.as_bytes().first() {
        Some(b'{') => Value::Object(serde_json::from_str(text)?),
        Some(b'[') => Value::Array(serde_json::from_str(text)?),
        Some(b'"') => Value::Text(serde_json::from_str(text)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::Number(text),
    })
}

/// Appends this text as a JSON string.
pub(super) fn quote(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 | 0x7f => "\\u00",
            _ => continue,
        };
        out.push_str(text.get(plain..at).unwrap_or_default());
        plain = at + 1;
        out.push_str(escape);
        if escape.len() == 4 {
            for half in [byte >> 4, byte & 15] {
                out.push(HEX.get(usize::from(half)).copied().unwrap_or(b'0').into());
            }
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    elements.push(element);
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order_their_doubles_and_their_digits() {
        let raw = document(br#" {"b": 1.10, "a": [1, {"x": null}], "b": 123456789012345678901} "#).unwrap();
        let Value::Object(Members(members)) = open(raw).unwrap() else { panic!("an object") };
        let told: Vec<_> = members.iter().map(|(name, value)| format!("{name} {}", value.get())).collect();
        assert_eq!(told, ["b 1.10", r#"a [1, {"x": null}]"#, "b 123456789012345678901"]);
        let error = document(b"{\n\"a\": nan}").unwrap_err();
        assert!(error.chain().contains("line 2 column"), "{}", error.chain());
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        let all: String = (0..0x300_u32).filter_map(char::from_u32).collect();
        let mut quoted = String::new();
        quote(&mut quoted, &all);
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), all);
        assert!(quoted.bytes().all(|byte| byte >= 0x20 && byte != 0x7f), "one line");
    }
}
