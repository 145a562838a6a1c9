//! What stands on the disk: the keys of all rows, and segments, which hold what is published together.
//!
//! | row | under | holds |
//! | --- | --- | --- |
//! | about | `a` | format, incarnation, whether it was closed in order |
//! | clock | `c` | the broker's clock at the last commit |
//! | declared | `d`, number | a topic as it was declared, in that order: topics and subscriptions get their numbers by it |
//! | counts | `n`, topic | what is stored and what was rejected |
//! | seen | `i`, topic, time, number | an id that is remembered |
//! | segment | `l`, subscription, lane, time, number | messages without a key; a lane is 255 less the priority |
//! | chain | `k`, subscription, hash of the key, number | one message with a key |
//! | mark | `m`, key of a segment or chain | what of it is done, started, tried before |
//! | state | `s`, name | version and value |
//!
//! The time of a segment is when it was published, or when it is due: the order of keys is the order of delivery, and what
//! is new or becomes due always comes behind what was read.

use super::clock::Clock;
use crate::base::{Error, Kind, Name, Result};
use crate::disk::{Key, Reader, Writer};
use crate::queue::{Attempts, Batch, Headers, Id, Payload, table::Chunk};
use bytes::Bytes;
use std::{ops::Range, sync::Arc};

pub(super) const ABOUT: u8 = b'a';
pub(super) const CLOCK: u8 = b'c';
pub(super) const DECLARED: u8 = b'd';
pub(super) const COUNTS: u8 = b'n';
pub(super) const SEEN: u8 = b'i';
pub(super) const LANE: u8 = b'l';
pub(super) const CHAIN: u8 = b'k';
pub(super) const MARK: u8 = b'm';
pub(super) const STATE: u8 = b's';

/// A key of this kind, with these parts.
pub(super) fn key(kind: u8, parts: &[&[u8]]) -> Key {
    let mut key = Key::from_slice(&[kind]);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// Where messages stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row {
    Lane { subscription: u32, lane: u8, at: u64, number: u64 },
    Chain { subscription: u32, key: u64, number: u64 },
}

impl Row {
    pub(super) fn number(self) -> u64 {
        let (Row::Lane { number, .. } | Row::Chain { number, .. }) = self;
        number
    }

    pub(super) fn subscription(self) -> u32 {
        let (Row::Lane { subscription, .. } | Row::Chain { subscription, .. }) = self;
        subscription
    }

    pub(super) fn key(self) -> Key {
        match self {
            Row::Lane { subscription, lane, at, number } => {
                key(LANE, &[&subscription.to_be_bytes(), &[lane], &at.to_be_bytes(), &number.to_be_bytes()])
            }
            Row::Chain { subscription, key: of, number } => {
                key(CHAIN, &[&subscription.to_be_bytes(), &of.to_be_bytes(), &number.to_be_bytes()])
            }
        }
    }

    pub(super) fn mark(self) -> Key {
        key(MARK, &[&self.key()])
    }

    pub(super) fn read(key: &[u8]) -> Result<Row> {
        let mut reader = Reader::new(key);
        let kind = reader.u8()?;
        let subscription = reader.u32()?;
        let row = match kind {
            LANE => Row::Lane { subscription, lane: reader.u8()?, at: reader.u64()?, number: reader.u64()? },
            CHAIN => Row::Chain { subscription, key: reader.u64()?, number: reader.u64()? },
            _ => return Err(corrupt("a row of no known kind")),
        };
        if reader.left() > 0 { Err(corrupt("a row of no known kind")) } else { Ok(row) }
    }
}

pub(super) fn corrupt(message: &'static str) -> Error {
    Error::new(Kind::Corrupt, message)
}

pub(super) fn write_attempts(to: &mut Writer, attempts: Attempts) {
    to.u16(attempts.failures);
    to.u16(attempts.crashes);
    to.u16(attempts.lapses);
}

pub(super) fn read_attempts(from: &mut Reader<'_>) -> Result<Attempts> {
    Ok(Attempts::new(from.u16()?, from.u16()?, from.u16()?))
}

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) items: u32,
    pub(super) priority: u8,
    /// When it was published, or is due.
    pub(super) at: u64,
}

impl Head {
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Head> {
        Ok(Head { items: from.u32()?, priority: from.u8()?, at: from.u64()? })
    }

    pub(super) fn lane(&self) -> u8 {
        u8::MAX - self.priority
    }
}

const HAS_ATTEMPTS: u8 = 1;
const HAS_KEY: u8 = 2;
const HAS_HEADERS: u8 = 4;
const IS_PART: u8 = 8;

/// Items of one batch at most: what is left of one is loaded with empty places for the others.
pub(super) const ITEMS: u32 = 1 << 20;

/// A segment of these chunks.
pub(super) fn write_segment(head: Head, chunks: &[Chunk], clock: &Clock) -> Result<Vec<u8>> {
    let size = |chunk: &Chunk| chunk.range.clone().map(|item| 4 + chunk.batch.payload.size(item)).sum::<usize>();
    let mut to = Writer::with_capacity(16 + chunks.iter().map(|chunk| 64 + size(chunk)).sum::<usize>());
    to.u32(head.items);
    to.u8(head.priority);
    to.u64(head.at);
    for chunk in chunks {
        let Chunk { batch, range, attempts } = chunk;
        let total = batch.payload.len();
        let (whole, headers) = (*range == (0..total), batch.headers.iter().count());
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        to.u8(flag(*attempts != Attempts::default(), HAS_ATTEMPTS)
            | flag(batch.key.is_some(), HAS_KEY)
            | flag(headers > 0, HAS_HEADERS)
            | flag(!whole, IS_PART));
        to.u128(batch.id.as_u128());
        to.u64(clock.micros(batch.published));
        if *attempts != Attempts::default() {
            write_attempts(&mut to, *attempts);
        }
        if let Some(key) = &batch.key {
            to.text(key.as_str());
        }
        if headers > 0 {
            to.u32(headers as u32);
            for (name, value) in batch.headers.iter() {
                to.text(name);
                to.text(value);
            }
        }
        if !whole {
            to.u32(range.start);
            to.u32(total);
        }
        to.u32(chunk.len());
        let items: Vec<Bytes> = range.clone().map(|item| batch.payload.bytes(item)).collect::<Result<_>>()?;
        items.iter().for_each(|item| to.u32(item.len() as u32));
        items.iter().for_each(|item| to.raw(item));
    }
    Ok(to.0)
}

/// The chunks of a segment, each with where its items begin in it. Their origin is that place in this slot.
pub(super) fn read_segment(body: &[u8], slot: u32, clock: &Clock) -> Result<(Head, Vec<(u32, Chunk)>)> {
    let shared = Bytes::copy_from_slice(body);
    let mut from = Reader::new(&shared);
    let head = Head::read(&mut from)?;
    let (mut chunks, mut base) = (Vec::new(), 0_u32);
    while from.left() > 0 {
        let flags = from.u8()?;
        let id = Id::from_u128(from.u128()?);
        let published = clock.moment(from.u64()?);
        let attempts = if flags & HAS_ATTEMPTS > 0 { read_attempts(&mut from)? } else { Attempts::default() };
        let key = if flags & HAS_KEY > 0 { Some(Name::from(from.text()?)) } else { None };
        let mut headers = Headers::default();
        for _ in 0..if flags & HAS_HEADERS > 0 { from.u32()? } else { 0 } {
            headers.insert(from.text()?, from.text()?);
        }
        let part = if flags & IS_PART > 0 { Some((from.u32()?, from.u32()?)) } else { None };
        let count = from.u32()?;
        let lengths = from.take(4 * count as usize)?.chunks_exact(4);
        let lengths: Vec<usize> = lengths.map(|four| Reader::new(four).u32().unwrap_or(0) as usize).collect();
        let mut items = Vec::with_capacity(lengths.len());
        for length in lengths {
            items.push(shared.slice_ref(from.take(length)?));
        }
        let (first, payload) = match part {
            Some((first, total)) if total > ITEMS || u64::from(first) + u64::from(count) > u64::from(total) => {
                return Err(corrupt("a segment holds items beyond the end of their batch"));
            }
            Some((first, total)) => {
                // ids go by the place in the whole batch, so the others leave theirs empty
                let after = (total as usize).saturating_sub(first as usize + items.len());
                let empty = |count| std::iter::repeat_n(Bytes::new(), count);
                (first, Payload::many(empty(first as usize).chain(items).chain(empty(after))))
            }
            None => match <[Bytes; 1]>::try_from(items) {
                Ok([one]) => (0, Payload::from(one)),
                Err(items) => (0, Payload::many(items)),
            },
        };
        let range = first..first.saturating_add(count);
        let origin = u64::from(slot) << 32 | u64::from(base.wrapping_sub(first));
        let batch = Batch { id, payload, priority: head.priority, key, headers, published, origin };
        chunks.push((base, Chunk { batch: Arc::new(batch), range, attempts }));
        base = base.saturating_add(count);
    }
    if base != head.items {
        return Err(corrupt("a segment holds another number of items than it says"));
    }
    Ok((head, chunks))
}

/// Where items of a batch stand in its segment: the slot, and which there.
pub(super) fn place(origin: u64, range: &Range<u32>) -> (usize, Range<u32>) {
    let first = (origin as u32).wrapping_add(range.start);
    ((origin >> 32) as usize, first..first.saturating_add(range.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Seed, time, time::WallClock};
    use crate::queue::Publish;

    fn chunk(rng: &mut crate::base::Rng, priority: u8) -> Chunk {
        let items = 1 + rng.below(5) as u32;
        let payload = Payload::many((0..items).map(|_| Bytes::from(vec![rng.below(256) as u8; rng.below(9) as usize])));
        let mut publish = Publish::new("t", Id::from_u128(rng.next_u64().into()), payload).priority(priority);
        if rng.chance(0.3) {
            publish = publish.key("a key");
        }
        if rng.chance(0.3) {
            publish = publish.header("name", "value").header("other", "");
        }
        let first = rng.below(items.into()) as u32;
        let attempts = Attempts::new(rng.below(2) as u16, rng.below(2) as u16, 0);
        Chunk { batch: Arc::new(Batch::new(publish, time::now())), range: first..items, attempts }
    }

    #[test]
    fn segments_come_back_and_what_is_cut_short_is_an_error() {
        let clock = Clock::new(&WallClock::ambient(), 0);
        for seed in 0..200 {
            let mut rng = Seed::new(seed).rng();
            let priority = rng.below(256) as u8;
            let chunks: Vec<Chunk> = (0..1 + rng.below(6)).map(|_| chunk(&mut rng, priority)).collect();
            let items = chunks.iter().map(Chunk::len).sum();
            let head = Head { items, priority, at: rng.next_u64() };
            let bytes = write_segment(head, &chunks, &clock).unwrap();
            let (read, again) = read_segment(&bytes, 3, &clock).unwrap();
            assert_eq!((read, again.len()), (head, chunks.len()));
            let mut base = 0;
            for (old, (at, new)) in chunks.iter().zip(again) {
                assert_eq!((at, &new.range, new.attempts), (base, &old.range, old.attempts));
                assert_eq!((new.batch.id, &new.batch.key), (old.batch.id, &old.batch.key));
                assert_eq!(new.batch.headers, old.batch.headers);
                assert_eq!(new.batch.payload.len(), old.batch.payload.len(), "ids of items depend on it");
                for item in old.range.clone() {
                    assert_eq!(new.batch.payload.bytes(item).unwrap(), old.batch.payload.bytes(item).unwrap());
                    assert_eq!(new.batch.item_id(item), old.batch.item_id(item));
                }
                assert_eq!(place(new.batch.origin, &new.range), (3, base..base + old.len()));
                base += old.len();
            }
            for length in 0..bytes.len() {
                assert!(read_segment(&bytes[..length], 3, &clock).is_err(), "seed {seed}: {length} bytes");
            }
            let mut noise = bytes.clone();
            for _ in 0..50 {
                noise[rng.below(bytes.len() as u64) as usize] = rng.below(256) as u8;
                let _ = read_segment(&noise, 3, &clock); // whatever it says, it says it without a panic
            }
        }
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_delivery() {
        let lane = |subscription, lane, at, number| Row::Lane { subscription, lane, at, number };
        let rows = [lane(1, 0, 7, 3), lane(1, 255, 6, 4), lane(1, 255, 7, 2), lane(1, 255, 7, 3), lane(2, 0, 0, 0)];
        assert!(rows.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        let chain = Row::Chain { subscription: 1, key: 2, number: 3 };
        for row in rows.into_iter().chain([chain]) {
            assert_eq!(Row::read(&row.key()).unwrap(), row);
            assert!(Row::read(&row.key()[1..]).is_err());
        }
    }
}
