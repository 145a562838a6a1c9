//! A number or a text: ports by name, shares in per cent.

use crate::base::{Error, Kind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A number or a text: a port or its name, a count or a share of one.
///
/// ```
/// use seedpod::cluster::object::IntOrString;
/// let quarter = IntOrString::from("25%");
/// assert_eq!(quarter.of(10, true)?, 3, "surge rounds up");
/// assert_eq!(quarter.of(10, false)?, 2, "unavailable rounds down");
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    /// A number.
    Int(i32),
    /// A text.
    String(String),
}

impl IntOrString {
    /// The count that is meant, where the whole is `total`: the number itself, or the share in per cent.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a text that is no whole number of per cent.
    pub fn of(&self, total: i32, round_up: bool) -> Result<i32> {
        let text = match self {
            IntOrString::Int(number) => return Ok(*number),
            IntOrString::String(text) => text,
        };
        let share = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let share: i64 = share.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("{text:?} must be a whole number or a whole number of per cent: 25%"))
        })?;
        let hundredfold = share.saturating_mul(total.into());
        let count = if round_up { hundredfold.saturating_add(99) } else { hundredfold }.div_euclid(100);
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }
}

impl From<i32> for IntOrString {
    fn from(number: i32) -> Self {
        IntOrString::Int(number)
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> Self {
        IntOrString::String(text.into())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IntOrString::Int(number) => write!(f, "{number}"),
            IntOrString::String(text) => f.write_str(text),
        }
    }
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            IntOrString::Int(number) => serializer.serialize_i32(*number),
            IntOrString::String(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IntOrString, E> {
                Ok(text.into())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<IntOrString, E> {
                i32::try_from(number).map(IntOrString::Int).map_err(|_| E::custom("the number is out of range"))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<IntOrString, E> {
                i32::try_from(number).map(IntOrString::Int).map_err(|_| E::custom("the number is out of range"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, total, up, down) in
            [("25%", 1, 1, 0), ("25%", 4, 1, 1), ("0%", 9, 0, 0), ("100%", 7, 7, 7), ("150%", 2, 3, 3)]
        {
            let share = IntOrString::from(text);
            assert_eq!(
                (share.of(total, true).unwrap(), share.of(total, false).unwrap()),
                (up, down),
                "{text} of {total}"
            );
        }
        for bad in ["", "%", "25", "2.5%", "-5%", "http"] {
            assert!(IntOrString::from(bad).of(1, true).is_err(), "{bad}");
        }
    }
}
