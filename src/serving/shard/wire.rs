//! A map on the wire: what all who use it must agree on, checked on the way in.

use super::{
    KeyRange, Shard, ShardId, ShardMap, ShardMapBuilder, Span, Strategy,
    build::{self, Rules},
    map::Inner,
    ranges::Draft,
    slot::SLOTS,
    table::{DEPTH_MAX, Split, Table},
};
use crate::base::{Error, Kind, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};
use xxhash_rust::xxh3::Xxh3Default;

/// The form that is written and read here.
const FORMAT: u32 = 1;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    format: u32,
    version: u64,
    seed: u64,
    strategy: Strategy,
    points: u32,
    copies: usize,
    apart: bool,
    shards: Vec<Shard>,
    /// Of a planned map: how many neighbouring slots have these owners, by their numbers in the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    slots: Vec<(u32, Vec<u16>)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    splits: Vec<WireSplit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<WireRange>,
    /// Over all owners: who finds others by the same rules has another map.
    check: u64,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSplit {
    slot: u16,
    halved: u8,
    owners: Vec<u16>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRange {
    /// Two hexadecimal digits for each byte.
    from: String,
    owners: Vec<u16>,
}

/// A span; keys are two hexadecimal digits for each byte.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(super) enum WireSpan {
    Hashes {
        seed: u64,
        first: u64,
        last: u64,
    },
    Keys {
        from: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<String>,
    },
}

impl From<Span> for WireSpan {
    fn from(span: Span) -> WireSpan {
        match span {
            Span::Hashes { seed, first, last } => WireSpan::Hashes { seed, first, last },
            Span::Keys { from, until } => WireSpan::Keys { from: hex(&from), until: until.map(|until| hex(&until)) },
        }
    }
}

impl TryFrom<WireSpan> for Span {
    type Error = Error;

    fn try_from(wire: WireSpan) -> Result<Span> {
        match wire {
            WireSpan::Hashes { seed, first, last } if first <= last => Ok(Span::Hashes { seed, first, last }),
            WireSpan::Hashes { .. } => Err(corrupt("a span of hashes ends before it begins")),
            WireSpan::Keys { from, until } => {
                let from = Bytes::from(bytes(&from)?);
                let until = until.map(|until| bytes(&until).map(Bytes::from)).transpose()?;
                match until.as_ref().is_none_or(|until| from < *until) {
                    true => Ok(Span::Keys { from, until }),
                    false => Err(corrupt("a span of keys ends before it begins")),
                }
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn numbers(owners: &[ShardId]) -> Vec<u16> {
    owners.iter().map(|owner| owner.0).collect()
}

impl From<ShardMap> for Wire {
    fn from(map: ShardMap) -> Wire {
        let rules = map.rules();
        let mut wire = Wire {
            format: FORMAT,
            version: map.version(),
            seed: rules.seed,
            strategy: rules.strategy,
            points: rules.points,
            copies: rules.copies,
            apart: rules.apart,
            shards: map.shards().to_vec(),
            slots: Vec::new(),
            splits: Vec::new(),
            ranges: Vec::new(),
            check: check(&map),
        };
        if let (Some(table), Strategy::Planned) = (map.table(), rules.strategy) {
            let mut before: &[ShardId] = &[];
            for owners in table.slots() {
                match wire.slots.last_mut() {
                    Some((count, _)) if before == owners => *count += 1,
                    _ => wire.slots.push((1, numbers(owners))),
                }
                before = owners;
            }
            let split = |it: &Split| WireSplit { slot: it.slot, halved: it.depth, owners: numbers(&it.owners) };
            wire.splits = table.splits().iter().map(split).collect();
        }
        if let Some(ranges) = map.key_ranges() {
            let range = |at| WireRange { from: hex(&ranges.range(at).from), owners: numbers(ranges.owners(at)) };
            wire.ranges = (0..ranges.len()).map(range).collect();
        }
        wire
    }
}

impl TryFrom<Wire> for ShardMap {
    type Error = Error;

    fn try_from(wire: Wire) -> Result<ShardMap> {
        let place = format!("shard map, version {}", wire.version);
        if wire.format != FORMAT {
            let why = format!("it is written in form {}, this reads form {FORMAT}", wire.format);
            return Err(Error::new(Kind::Unsupported, why).at(place));
        }
        let expected = wire.check;
        let map = read(wire).map_err(|error| error.at(place.clone()))?;
        if check(&map) != expected {
            return Err(Error::new(Kind::Corrupt, "its owners are not those that were written").at(place));
        }
        Ok(map)
    }
}

fn read(wire: Wire) -> Result<ShardMap> {
    let rules =
        Rules { strategy: wire.strategy, points: wire.points, copies: wire.copies, apart: wire.apart, seed: wire.seed };
    let told = [!wire.slots.is_empty(), !wire.ranges.is_empty()];
    if told != [wire.strategy == Strategy::Planned, wire.strategy == Strategy::Ranges] {
        return Err(corrupt(
            "it tells the slots of a planned map or the ranges of one of ranges, and nothing of others",
        ));
    }
    match wire.strategy {
        Strategy::Planned => planned(wire, rules),
        Strategy::Ranges => {
            let owners = |numbers: &[u16]| -> Vec<Shard> {
                numbers.iter().filter_map(|number| wire.shards.get(usize::from(*number)).cloned()).collect()
            };
            let mut ranges = Vec::with_capacity(wire.ranges.len());
            for (at, range) in wire.ranges.iter().enumerate() {
                let next = wire.ranges.get(at + 1).map(|next| bytes(&next.from)).transpose()?;
                let range_of = KeyRange { from: bytes(&range.from)?.into(), until: next.map(Into::into) };
                ranges.push(Draft { range: range_of, owners: owners(&range.owners) });
            }
            ShardMapBuilder { rules, version: wire.version, shards: wire.shards.clone(), ranges }.build()
        }
        _ => ShardMapBuilder { rules, version: wire.version, shards: wire.shards, ranges: Vec::new() }.build(),
    }
}

/// Its slots are told: each must be owned as the rules say.
fn planned(wire: Wire, rules: Rules) -> Result<ShardMap> {
    let mut mistakes = Vec::new();
    build::check(&rules, &wire.shards, &mut mistakes);
    build::check_version(wire.version, &mut mistakes);
    if let Some(first) = mistakes.into_iter().next() {
        return Err(Error::new(Kind::Invalid, first));
    }
    if !wire.shards.is_sorted() {
        return Err(corrupt("its shards are not in order"));
    }
    let row = |numbers: &[u16]| -> Result<Vec<ShardId>> {
        let owners: Vec<ShardId> = numbers.iter().map(|number| ShardId(*number)).collect();
        match owns(&rules, &wire.shards, &owners) {
            true => Ok(owners),
            false => Err(corrupt("a slot is not owned as the map's rules say")),
        }
    };
    let mut splits = Vec::with_capacity(wire.splits.len());
    for split in &wire.splits {
        let parts = split.owners.chunks(rules.copies).map(row).collect::<Result<Vec<_>>>()?;
        let follows = splits.last().is_none_or(|last: &Split| last.slot < split.slot);
        if !follows || !(1..=DEPTH_MAX).contains(&split.halved) || parts.len() != 1 << split.halved {
            return Err(corrupt("a slot is not split into parts as it says"));
        }
        splits.push(Split { slot: split.slot, depth: split.halved, owners: parts.concat().into() });
    }
    let mut owners = Vec::with_capacity(SLOTS * rules.copies);
    for (count, numbers) in &wire.slots {
        let at = owners.len() / rules.copies;
        if *count as usize > SLOTS - at.min(SLOTS) || *count == 0 {
            return Err(corrupt("it does not tell of 65536 slots"));
        }
        // a split slot's owners are told by its parts
        let split = |slot: usize| splits.binary_search_by_key(&slot, |split| usize::from(split.slot)).is_ok();
        let owned = match (at..at + *count as usize).all(split) {
            true => vec![ShardId(0); rules.copies],
            false => row(numbers)?,
        };
        owners.extend(owned.repeat(*count as usize));
    }
    if owners.len() != SLOTS * rules.copies {
        return Err(corrupt("it does not tell of 65536 slots"));
    }
    let table = Table::new(rules.copies, owners, splits);
    let index = build::index(&wire.shards);
    Ok(ShardMap::from(Inner::new(wire.version, rules, wire.shards, index, table.into())))
}

/// Whether these may own a slot: as many as there are copies, all of them there, different, and apart.
fn owns(rules: &Rules, shards: &[Shard], owners: &[ShardId]) -> bool {
    let known: Vec<&Shard> = owners.iter().filter_map(|owner| shards.get(owner.index())).collect();
    let different: BTreeSet<_> = known.iter().map(|shard| &shard.name).collect();
    let zones: BTreeSet<_> = known.iter().map(|shard| &shard.zone).collect();
    [owners.len(), known.len(), different.len()] == [rules.copies; 3] && (!rules.apart || zones.len() == rules.copies)
}

fn corrupt(why: &'static str) -> Error {
    Error::new(Kind::Corrupt, why)
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digit = |digit: &u8| (*digit as char).to_digit(16).filter(|_| !digit.is_ascii_uppercase());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? * 16 + digit(low)?) as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| corrupt("a range does not begin with a key"))
}

/// Over all that must be equal where a map is used.
fn check(map: &ShardMap) -> u64 {
    let mut sum = Xxh3Default::new();
    let mut add = |bytes: &[u8]| {
        sum.update(&(bytes.len() as u64).to_be_bytes());
        sum.update(bytes);
    };
    add(&map.version().to_be_bytes());
    add(&map.seed().to_be_bytes());
    for shard in map.shards() {
        add(shard.name.as_bytes());
        add(&shard.weight.to_be_bytes());
        add(shard.zone.as_ref().map_or(&[], |zone: &Arc<str>| zone.as_bytes()));
    }
    for (span, owners) in map.runs() {
        match span {
            Span::Hashes { last, .. } => add(&last.to_be_bytes()),
            Span::Keys { from, .. } => add(&from),
        }
        owners.iter().for_each(|owner| add(&owner.0.to_be_bytes()));
    }
    sum.digest()
}
