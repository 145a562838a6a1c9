//! Records: sealed with a checksum over key and value, written and read field by field.

use crate::base::{Error, Kind, Result};
use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What a record stands under. Numbers in it are big-endian, so that the order of keys is that of the numbers.
pub(crate) type Key = SmallVec<[u8; 32]>;

const SEAL: usize = 8;

/// The key is part of it: a record that stands in another's place is as wrong as one that was changed.
fn checksum(key: &[u8], body: &[u8]) -> [u8; SEAL] {
    xxh3_64_with_seed(body, xxh3_64(key)).to_le_bytes()
}

/// Appends the checksum.
pub(super) fn seal(key: &[u8], body: &mut Vec<u8>) {
    let sum = checksum(key, body);
    body.extend_from_slice(&sum);
}

/// What was sealed.
pub(super) fn open<'a>(key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8]> {
    match sealed.split_last_chunk::<SEAL>() {
        Some((body, sum)) if *sum == checksum(key, body) => Ok(body),
        _ => {
            Err(Error::new(Kind::Corrupt, format!("the record under {key:02x?} does not read back as it was written")))
        }
    }
}

/// Fields, one after the other.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Writer {
        Writer(Vec::with_capacity(bytes + SEAL))
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Text with its length.
    pub(crate) fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.raw(text.as_bytes());
    }
}

/// Reads fields back; what is cut short or malformed is an error, never a panic.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.0.split_at_checked(count) else {
            return Err(Error::new(Kind::Corrupt, "a record is cut short"));
        };
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128> {
        self.array().map(u128::from_be_bytes)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str> {
        let count = self.u32()? as usize;
        std::str::from_utf8(self.take(count)?)
            .map_err(|_| Error::new(Kind::Corrupt, "a record holds no text where one belongs"))
    }

    pub(crate) fn left(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_sees_every_bit_and_the_key() {
        let mut sealed = b"some body".to_vec();
        seal(b"key", &mut sealed);
        assert_eq!(open(b"key", &sealed).unwrap(), b"some body");
        assert_eq!(open(b"kez", &sealed).unwrap_err().kind(), Kind::Corrupt);
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(b"key", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(b"key", &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn fields_come_back_and_nothing_is_read_beyond_the_end() {
        let mut writer = Writer::default();
        writer.u8(1);
        writer.u64(2);
        writer.text("three");
        let bytes = writer.0;
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.u8().unwrap(), reader.u64().unwrap(), reader.text().unwrap()), (1, 2, "three"));
        assert_eq!(reader.u8().unwrap_err().kind(), Kind::Corrupt);
        for length in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..length]);
            assert!(reader.u8().and_then(|_| reader.u64()).and_then(|_| reader.text().map(drop)).is_err());
        }
    }
}
