//! The body of several items: their lengths, then the items.

use super::malformed;
use crate::base::{Error, Kind, Result};
use crate::queue::Payload;
use bytes::{BufMut, Bytes, BytesMut};

/// The bytes that a length takes.
const LENGTH: usize = size_of::<u32>();

/// All items of this payload behind their lengths.
pub(super) fn join(payload: &Payload) -> Result<Bytes> {
    let items = (0..payload.len()).map(|index| payload.bytes(index)).collect::<Result<Vec<_>>>()?;
    let size = items.iter().map(Bytes::len).sum::<usize>();
    let mut body = BytesMut::with_capacity(size + items.len() * LENGTH);
    for (index, item) in items.iter().enumerate() {
        let length = u32::try_from(item.len()).map_err(|_| {
            Error::new(Kind::Invalid, format!("item {index} has {} bytes, too many for a message", item.len()))
        })?;
        body.put_u32_le(length);
    }
    items.iter().for_each(|item| body.put_slice(item));
    Ok(body.freeze())
}

/// The items of this body, which must hold just so many; they share its memory.
pub(super) fn split(count: u32, body: &Bytes) -> Result<Payload> {
    let head = usize::try_from(count).ok().and_then(|count| count.checked_mul(LENGTH));
    let Some((lengths, _)) = head.and_then(|head| body.split_at_checked(head)) else {
        return Err(malformed(format!("a body of {} bytes does not hold {count} items", body.len())));
    };
    let mut at = lengths.len();
    let mut items = Vec::with_capacity(lengths.len() / LENGTH);
    for length in lengths.as_chunks::<LENGTH>().0 {
        let end = at.saturating_add(u32::from_le_bytes(*length) as usize);
        if end > body.len() {
            return Err(malformed(format!("item {} of {count} ends beyond the body", items.len())));
        }
        items.push(body.slice(at..end));
        at = end;
    }
    if at < body.len() {
        return Err(malformed(format!("{} bytes are left behind the {count} items", body.len() - at)));
    }
    Ok(Payload::many(items))
}
