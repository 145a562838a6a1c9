//! How values become bytes, and come back: JSON, and a compact binary form.

use crate::base::{Error, Kind, Result};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// How a value of type `T` becomes bytes, and comes back.
pub trait Codec<T>: 'static {
    /// What the bytes are, as a media type.
    const CONTENT_TYPE: &'static str = "application/octet-stream";

    /// The value as bytes.
    ///
    /// # Errors
    /// Whatever the format cannot express, as [`Kind::Invalid`].
    fn encode(value: &T) -> Result<Bytes>;

    /// The value from its bytes.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where these are not the bytes of such a value.
    fn decode(bytes: &[u8]) -> Result<T>;
}

/// JSON, by serde.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    const CONTENT_TYPE: &'static str = "application/json";

    fn encode(value: &T) -> Result<Bytes> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn decode(bytes: &[u8]) -> Result<T> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// The postcard format by serde: compact, without names of fields. Values of another shape are told apart only where
/// their bytes do not fit, so give the [schema](crate::queue::Schema) a new version whenever the type changes.
///
/// ```
/// use seedpod::queue::{Codec, Postcard};
/// let bytes = <Postcard as Codec<(u32, String)>>::encode(&(7, "seven".into()))?;
/// assert_eq!(bytes.len(), 7);
/// assert_eq!(<Postcard as Codec<(u32, String)>>::decode(&bytes)?, (7, "seven".into()));
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    const CONTENT_TYPE: &'static str = "application/vnd.postcard";

    fn encode(value: &T) -> Result<Bytes> {
        let bytes = postcard::to_allocvec(value);
        bytes.map(Bytes::from).map_err(|error| Error::new(Kind::Invalid, "postcard cannot express it").because(error))
    }

    fn decode(bytes: &[u8]) -> Result<T> {
        let (value, rest) = postcard::take_from_bytes(bytes)
            .map_err(|error| Error::new(Kind::Invalid, "these are not the postcard bytes expected").because(error))?;
        if !rest.is_empty() {
            return Err(Error::new(Kind::Invalid, format!("{} bytes are left behind the value", rest.len())));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postcard_refuses_what_is_cut_short_or_has_more() {
        let bytes = <Postcard as Codec<Vec<u32>>>::encode(&vec![1, 2, 300]).unwrap();
        for cut in 0..bytes.len() {
            let error = <Postcard as Codec<Vec<u32>>>::decode(&bytes[..cut]).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid, "{cut}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let error = <Postcard as Codec<Vec<u32>>>::decode(&longer).unwrap_err();
        assert_eq!(error.to_string(), "invalid: 1 bytes are left behind the value");
    }
}
