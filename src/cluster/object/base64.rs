//! Bytes as base64 text, and bytes that nobody should read by accident.

use crate::base::Result;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, ops::Deref};

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The standard base64 text of these bytes, padded.
pub(super) fn encode(bytes: &[u8]) -> String {
    let letter = |sextet: u32| LETTERS.get((sextet & 63) as usize).map_or('=', |byte| char::from(*byte));
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let [one, two, three] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let word = one << 16 | two << 8 | three;
        text.push(letter(word >> 18));
        text.push(letter(word >> 12));
        text.push(if chunk.len() > 1 { letter(word >> 6) } else { '=' });
        text.push(if chunk.len() > 2 { letter(word) } else { '=' });
    }
    text
}

/// The bytes of a standard base64 text; line ends in it are ignored, padding is required.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let letters: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    let body = letters.strip_suffix(b"==").or_else(|| letters.strip_suffix(b"=")).unwrap_or(&letters);
    if !letters.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(letters.len() / 4 * 3);
    for chunk in body.chunks(4) {
        let mut word = 0;
        for at in 0..4 {
            let sextet = match chunk.get(at) {
                Some(letter) => LETTERS.iter().position(|known| known == letter)?,
                None => 0,
            };
            word = word << 6 | u32::try_from(sextet).ok()?;
        }
        let [_, one, two, three] = word.to_be_bytes();
        let three = [one, two, three];
        let (kept, spare) = three.split_at(chunk.len().saturating_sub(1));
        if spare.iter().any(|byte| *byte != 0) {
            return None; // bits that no encoder leaves there
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

/// Bytes that are base64 in JSON, and that printing for debugging does not reveal: the values of secrets.
///
/// ```
/// use seedpod::cluster::object::Sensitive;
/// let password = Sensitive::from("hunter2");
/// assert_eq!(format!("{password:?}"), "[7 bytes]");
/// assert_eq!(password.as_str(), Some("hunter2"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sensitive(Vec<u8>);

impl Sensitive {
    /// The bytes as base64, as they stand in JSON.
    pub fn to_base64(&self) -> String {
        encode(&self.0)
    }

    /// The text, where the bytes are one.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl Deref for Sensitive {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Sensitive {
    fn from(text: &str) -> Self {
        Sensitive(text.into())
    }
}

impl From<Vec<u8>> for Sensitive {
    fn from(bytes: Vec<u8>) -> Self {
        Sensitive(bytes)
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.0.len())
    }
}

impl Serialize for Sensitive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Sensitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        // the text is not repeated: it may be a secret that someone forgot to encode
        decode(&text).map(Sensitive).ok_or_else(|| de::Error::custom("must be base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), bytes.as_bytes());
        }
        for bad in ["Z", "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zm 9", "Zm9v=", "é=="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
