//! What a message carries: bytes, or a value by reference together with its codec.

use super::Codec;
use crate::base::{Error, Kind, Result};
use bytes::Bytes;
use std::{any::Any, fmt, sync::Arc};

type Value = dyn Any + Send + Sync;

/// The codec of a payload with its type erased.
struct Shape {
    encode: fn(&Value, usize) -> Option<Result<Bytes>>,
    decode: fn(&[Bytes]) -> Result<Arc<Value>>,
}

#[derive(Clone)]
enum Form {
    Bytes(Bytes),
    Many(Arc<[Bytes]>),
    Value(Arc<Value>, &'static Shape),
    Values(Arc<Value>, &'static Shape, u32),
}

/// One or many items: bytes, or values by reference with the codec that makes bytes of them on demand.
///
/// In one process a value travels by reference and is never encoded; it becomes bytes only at an edge that needs them.
/// In a running simulation with debug assertions, the memory broker sends every value through its codec and back, so
/// that what works in one process works between two.
///
/// ```
/// use seedpod::queue::{Json, Payload};
/// let one = Payload::value("hello".to_string(), Json);
/// assert_eq!(one.get::<String>(0).map(String::as_str), Some("hello"));
/// assert_eq!(one.bytes(0)?, r#""hello""#);
/// let many = Payload::values(vec![1_u32, 2, 3], Json);
/// assert_eq!((many.len(), many.get::<u32>(2)), (3, Some(&3)));
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone)]
pub struct Payload(Form);

impl Payload {
    /// Many items of bytes, in one batch. Items beyond the 2³²nd are not taken.
    pub fn many(items: impl IntoIterator<Item = Bytes>) -> Payload {
        Payload(Form::Many(items.into_iter().collect()))
    }

    /// One item: a value by reference.
    pub fn value<T: Send + Sync + 'static, C: Codec<T>>(value: T, _codec: C) -> Payload {
        Payload(Form::Value(
            Arc::new(value),
            const {
                &Shape {
                    encode: |value, _| value.downcast_ref::<T>().map(C::encode),
                    decode: |all| match all {
                        [one] => Ok(Arc::new(C::decode(one)?)),
                        _ => Err(Kind::Invalid.into()),
                    },
                }
            },
        ))
    }

    /// Many items: values by reference, in one batch and one allocation. Items beyond the 2³²nd are not taken.
    pub fn values<T: Send + Sync + 'static, C: Codec<T>>(values: Vec<T>, _codec: C) -> Payload {
        let count = values.len().min(u32::MAX as usize) as u32;
        Payload(Form::Values(
            Arc::new(values),
            const {
                &Shape {
                    encode: |values, index| values.downcast_ref::<Vec<T>>()?.get(index).map(C::encode),
                    decode: |all| {
                        let values = all.iter().map(|bytes| C::decode(bytes)).collect::<Result<Vec<T>>>()?;
                        Ok(Arc::new(values))
                    },
                }
            },
            count,
        ))
    }

    /// How many items.
    pub fn len(&self) -> u32 {
        match &self.0 {
            Form::Bytes(_) | Form::Value(..) => 1,
            Form::Many(items) => items.len().min(u32::MAX as usize) as u32,
            Form::Values(.., count) => *count,
        }
    }

    /// How many bytes an item has; 0 where it is a value, since only its codec would tell.
    pub fn size(&self, index: u32) -> usize {
        match &self.0 {
            Form::Bytes(bytes) if index == 0 => bytes.len(),
            Form::Many(items) => items.get(index as usize).map_or(0, Bytes::len),
            _ => 0,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the items are bytes already.
    pub fn is_encoded(&self) -> bool {
        matches!(self.0, Form::Bytes(_) | Form::Many(_))
    }

    /// One item as bytes: shared, or made by its codec.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where there is no such item, or the codec cannot express it.
    pub fn bytes(&self, index: u32) -> Result<Bytes> {
        let found = match &self.0 {
            Form::Bytes(bytes) => (index == 0).then(|| Ok(bytes.clone())),
            Form::Many(items) => items.get(index as usize).cloned().map(Ok),
            Form::Value(value, shape) if index == 0 => (shape.encode)(&**value, 0),
            Form::Value(..) => None,
            Form::Values(values, shape, _) => (shape.encode)(&**values, index as usize),
        };
        found.unwrap_or_else(|| Err(Error::new(Kind::Invalid, format!("no item {index} in a batch of {}", self.len()))))
    }

    /// One item by reference, where it is a value of this type.
    pub fn get<T: 'static>(&self, index: u32) -> Option<&T> {
        match &self.0 {
            Form::Value(value, _) if index == 0 => value.downcast_ref::<T>(),
            Form::Values(values, ..) => values.downcast_ref::<Vec<T>>()?.get(index as usize),
            _ => None,
        }
    }

    /// All items by reference, where they are values of this type.
    pub fn slice<T: 'static>(&self) -> Option<&[T]> {
        match &self.0 {
            Form::Value(value, _) => value.downcast_ref::<T>().map(std::slice::from_ref),
            Form::Values(values, ..) => values.downcast_ref::<Vec<T>>().map(Vec::as_slice),
            _ => None,
        }
    }

    /// The same payload, with every value sent through its codec and back.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where a value does not survive that.
    pub fn round_trip(&self) -> Result<Payload> {
        let again =
            |shape: &Shape| (shape.decode)(&(0..self.len()).map(|i| self.bytes(i)).collect::<Result<Vec<_>>>()?);
        Ok(Payload(match &self.0 {
            Form::Value(_, shape) => Form::Value(again(shape)?, shape),
            Form::Values(_, shape, count) => Form::Values(again(shape)?, shape, *count),
            bytes => bytes.clone(),
        }))
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Payload {
        Payload(Form::Bytes(bytes))
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Payload {
        Payload(Form::Bytes(Bytes::from_static(text.as_bytes())))
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Payload {
        Payload(Form::Bytes(text.into()))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Payload(Form::Bytes(bytes.into()))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Bytes(bytes) => write!(f, "Payload({} bytes)", bytes.len()),
            Form::Many(items) => write!(f, "Payload({} items of bytes)", items.len()),
            Form::Value(..) => f.write_str("Payload(a value)"),
            Form::Values(.., count) => write!(f, "Payload({count} values)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Json;

    #[test]
    fn bytes_on_demand_and_values_by_reference() {
        let payload = Payload::values(vec!["a".to_string(), "b".to_string()], Json);
        assert_eq!(payload.slice::<String>().unwrap(), ["a", "b"]);
        assert_eq!(payload.bytes(1).unwrap(), r#""b""#);
        assert_eq!(payload.bytes(2).unwrap_err().to_string(), "invalid: no item 2 in a batch of 2");
        assert!(payload.get::<u8>(0).is_none());
        let payload = Payload::many([Bytes::from_static(b"x"), Bytes::from_static(b"y")]);
        assert_eq!((payload.len(), payload.bytes(1).unwrap()), (2, Bytes::from_static(b"y")));
        assert!(Payload::from("x").bytes(1).is_err());
        assert!(Payload::many([]).is_empty());
    }

    /// A codec that loses what it is given.
    struct Lossy;
    impl Codec<u32> for Lossy {
        fn encode(_: &u32) -> Result<Bytes> {
            Ok(Bytes::new())
        }
        fn decode(_: &[u8]) -> Result<u32> {
            Err(Error::new(Kind::Invalid, "nothing is left"))
        }
    }

    #[test]
    fn a_round_trip_shows_what_the_codec_does() {
        let payload = Payload::values(vec![1.5_f32, f32::NAN], Json);
        assert!(payload.round_trip().is_err(), "JSON has no NaN");
        let payload = Payload::values(vec![1_u32, 2], Json).round_trip().unwrap();
        assert_eq!(payload.slice::<u32>().unwrap(), [1, 2]);
        let payload = Payload::value(7_u32, Json).round_trip().unwrap();
        assert_eq!(payload.get::<u32>(0), Some(&7));
        assert_eq!(Payload::value(7, Lossy).round_trip().unwrap_err().message(), "nothing is left");
    }
}
