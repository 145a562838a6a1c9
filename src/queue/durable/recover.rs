//! Opening: what the file says is brought back, down to which leases were held when it was last written.

use super::{
    books::{Books, FORMAT, about, read_declaration},
    clock::Clock,
    rows::{ABOUT, CHAIN, CLOCK, COUNTS, DECLARED, Head, MARK, Row, SEEN, corrupt, key},
    segment::Segment,
    shelf::Shelf,
    side::{Lane, Side},
};
use crate::base::{
    Error, Kind, Result,
    time::{self, WallClock},
};
use crate::disk::{Disk, Reader, Write};
use crate::queue::{
    Id,
    table::{Effects, Table},
};
use std::sync::Arc;

/// Of an epoch and of a row's number the upper bits are the incarnation: each opening of the file counts anew, and
/// nothing that was given out before has the same.
const COUNTED: u32 = 40;

/// Reads all but the messages themselves.
pub(super) fn recover(disk: Arc<Disk>, wall: &WallClock) -> Result<Books> {
    let read = read(&disk, wall);
    let (books, mut charged) = read.map_err(|error| match error.kind() {
        Kind::Corrupt => disk.give_up(error),
        _ => error,
    })?;
    charged.push(about(books.incarnation, false)); // in one commit: what was handed out is charged once per opening
    disk.commit(charged)?;
    Ok(books)
}

fn read(disk: &Arc<Disk>, wall: &WallClock) -> Result<(Books, Vec<Write>)> {
    let (last, clean) = match disk.get(&key(ABOUT, &[]))? {
        Some(about) => {
            let mut about = Reader::new(&about);
            let format = about.u32()?;
            if format != FORMAT {
                let message = format!("the file has format {format}, and this is made for format {FORMAT}");
                return Err(Error::new(Kind::Unsupported, message));
            }
            (about.u32()?, about.u8()? == 1)
        }
        None => (0, true), // new
    };
    let incarnation = last.wrapping_add(1);
    let first = u64::from(incarnation) << COUNTED;
    let clock = disk.get(&key(CLOCK, &[]))?.map_or(Ok(0), |value| Reader::new(&value).u64())?;
    let clock = Clock::new(wall, clock);
    let (mut table, mut shelf, mut declared) = (Table::journaled(first), Shelf::new(clock, first, clean), 0);
    let mut effects = Effects::default(); // nobody waits yet
    each(disk, DECLARED, |_, value| {
        let (topic, options) = read_declaration(value)?;
        declared += 1;
        table
            .declare(time::now(), &topic, options, &mut effects)
            .map(drop)
            .map_err(|_| corrupt("a topic was declared that cannot be"))
    })?;
    each(disk, COUNTS, |under, value| {
        let (topic, mut value) = (under.u32()?, Reader::new(value));
        let known = table.recall_counts(topic, value.u64()?, value.u64()?);
        if known { Ok(()) } else { Err(corrupt("a topic is counted that was never declared")) }
    })?;
    shelf.seen.resize_with(table.topics() as usize, Default::default);
    each(disk, SEEN, |under, value| {
        let (topic, at, number) = (under.u32()?, under.u64()?, under.u64()?);
        let id = Id::from_u128(Reader::new(value).u128()?);
        table.recall_id(topic, clock.moment(at), id);
        let seen = shelf.seen.get_mut(topic as usize).ok_or_else(|| corrupt("an id is of no topic"))?;
        seen.push_back((at, number));
        Ok(())
    })?;
    let mut charged = Vec::new();
    disk.scan(&[MARK], &[MARK + 1], |under, value| {
        let row = under.strip_prefix(&[MARK]).ok_or_else(|| corrupt("a row of no known kind"))?;
        charged.extend(shelf.recall(Segment::read_mark(Row::read(row)?, value)?));
        Ok(true)
    })?;
    let now = clock.micros(time::now());
    let subscriptions: Vec<u32> = table.subscriptions().map(|(at, ..)| at).collect();
    shelf.sides.resize_with(subscriptions.len(), Side::default);
    for (subscription, side) in subscriptions.into_iter().zip(&mut shelf.sides) {
        lanes(disk, subscription, side, now)?;
    }
    disk.scan(&[CHAIN], &[CHAIN + 1], |under, value| {
        let Row::Chain { subscription, key, number } = Row::read(under)? else { return Ok(false) };
        let side =
            shelf.sides.get_mut(subscription as usize).ok_or_else(|| corrupt("a message is of no subscription"))?;
        let head = Head::read(&mut Reader::new(value))?;
        let chain = side.chains.entry(key).or_default();
        chain.rows += 1;
        if chain.rows == 1 {
            chain.head = Some(number);
            side.heads.insert((head.lane(), head.at, number, key));
            side.delay(now, &head, number);
        } else {
            side.blocked += head.items as usize;
        }
        Ok(true)
    })?;
    Ok((Books::new(disk.clone(), table, shelf, declared, incarnation), charged))
}

/// Each row of this kind, by what stands behind the kind in its key.
fn each(disk: &Disk, kind: u8, mut visit: impl FnMut(&mut Reader<'_>, &[u8]) -> Result) -> Result {
    disk.scan(&[kind], &[kind + 1], |under, value| {
        let mut under = Reader::new(under);
        under.u8()?;
        visit(&mut under, value).map(|()| true)
    })
}

/// Where each lane of a subscription begins, and what of it is not due: what is due is not looked at.
fn lanes(disk: &Disk, subscription: u32, side: &mut Side, now: u64) -> Result {
    let row = |lane, at, number| Row::Lane { subscription, lane, at, number }.key();
    let last = row(u8::MAX, u64::MAX, u64::MAX);
    let mut from = Some(0);
    while let Some(lane) = from {
        let mut first = None;
        disk.scan(&row(lane, 0, 0), &last, |under, _| {
            first = Some(Row::read(under)?);
            Ok(false)
        })?;
        let Some(Row::Lane { lane, at, .. }) = first else { return Ok(()) };
        side.lanes.insert(lane, Lane::from(at));
        disk.scan(&row(lane, now.saturating_add(1), 0), &row(lane, u64::MAX, u64::MAX), |under, value| {
            let head = Head::read(&mut Reader::new(value))?;
            side.delay(now, &head, Row::read(under)?.number());
            Ok(true)
        })?;
        from = lane.checked_add(1);
    }
    Ok(())
}
