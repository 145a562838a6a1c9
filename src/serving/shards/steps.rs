//! Which keys move next: derived from the map that counts and the one that is wanted, and from nothing else.

use super::{
    super::ShardMap,
    super::shard::{ShardId, Slot, Span, rows::Rows},
    Moving,
};
use crate::base::Result;
use std::{collections::BTreeMap, sync::Arc};

/// What one shard has to do with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Give its keys to a new owner, or what has changed to the owner that is to answer first.
    Carry,
    /// Only stop owning them.
    Leave,
}

/// Keys that arrive together: by one map.
#[derive(Debug)]
pub(super) struct Step {
    /// First those that carry: they are sealed in this order.
    pub(super) tasks: Vec<(Moving, Task)>,
    /// The map by which they arrive.
    pub(super) map: ShardMap,
}

/// The next step from the map of now to the wanted one, of about so many slots; none where each key has its owners.
///
/// Keys whose owners differ come in groups of the same owners before and after; a step is one group or several. The first
/// owner has what counts: it is what new owners get theirs from, and what is sealed; so are those that leave.
pub(super) fn next(now: &ShardMap, wanted: &ShardMap, slots_max: f64) -> Result<Option<Step>> {
    let names = |map: &ShardMap| -> Vec<Arc<str>> { map.shards().iter().map(|shard| shard.name.clone()).collect() };
    let (old, new) = (names(now), names(wanted));
    let (mut befores, mut afters) = (Rows::new(), Rows::new());
    let mut groups: BTreeMap<(usize, usize), Vec<Span>> = BTreeMap::new();
    for change in now.changes_to(wanted)? {
        let owners = (befores.number(change.before), afters.number(change.after));
        groups.entry(owners).or_default().push(change.span);
    }
    if groups.is_empty() {
        return Ok(None);
    }
    // in the order of their names: numbers are each map's own
    let groups: BTreeMap<_, _> = groups
        .into_iter()
        .map(|((before, after), spans)| (befores.of(before), afters.of(after), spans))
        .map(|(before, after, spans)| ((named(&old, before), named(&new, after)), (after, spans)))
        .collect();
    let version = now.version().saturating_add(1);
    let (mut arrived, mut carried, mut room) = (Vec::new(), BTreeMap::new(), slots_max);
    for ((before, names), (after, spans)) in &groups {
        let (mut taken, mut is_full): (Vec<Span>, _) = (Vec::new(), false);
        for span in spans {
            let is_first = arrived.is_empty() && taken.is_empty();
            let first = beginning(span, room).or_else(|| is_first.then(|| span.clone()));
            is_full = first.as_ref() != Some(span);
            room -= first.as_ref().map_or(0.0, Span::width);
            taken.extend(first);
            if is_full {
                break;
            }
        }
        if !taken.is_empty() {
            for (from, to, stays, task) in tasks(before, names) {
                let spans: &mut Vec<Span> = carried.entry((task == Task::Leave, from, to, stays, before)).or_default();
                spans.extend_from_slice(&taken);
            }
        }
        arrived.extend(taken.into_iter().map(|span| (span, *after)));
        if is_full {
            break;
        }
    }
    let map = now.stepped(wanted, &arrived, version)?;
    let tasks = carried.into_iter().map(|((leaves, from, to, stays, before), spans)| {
        let owners = before.iter().map(|name| (*name).clone()).collect();
        let moving = Moving { from, to, spans: Span::in_order(spans).into(), version, stays, owners };
        (moving, if leaves { Task::Leave } else { Task::Carry })
    });
    Ok(Some(Step { tasks: tasks.collect(), map }))
}

/// As much of it as there is room for, up to the end of a slot; none of a range, of which one moves at a time.
fn beginning(span: &Span, room: f64) -> Option<Span> {
    let Span::Hashes { seed, first, last } = *span else { return None };
    if span.width() <= room {
        return Some(span.clone());
    }
    let start = f64::from(Slot::of(first).number());
    let begun = (first - Slot::of(first).first()) as f64 / (1_u64 << 48) as f64;
    let end = (start + begun + room).floor(); // it is of parts of slots, which such numbers are exact for
    (end > start).then(|| Span::Hashes { seed, first, last: last.min(Slot::new(end as u16 - 1).last()) })
}

fn named<'a>(names: &'a [Arc<str>], owners: &[ShardId]) -> Vec<&'a Arc<str>> {
    owners.iter().filter_map(|owner| names.get(owner.index())).collect()
}

/// What has to be done so that keys with these owners get those: from whom, to whom, whether the former stays an owner.
fn tasks(before: &[&Arc<str>], after: &[&Arc<str>]) -> Vec<(Arc<str>, Arc<str>, bool, Task)> {
    let (Some(source), Some(first)) = (before.first(), after.first()) else { return Vec::new() };
    let stays = |shard: &Arc<str>| after.contains(&shard);
    let joining = after.iter().filter(|shard| !before.contains(shard) || (**shard == *first && first != source));
    let leaving = before.iter().filter(|shard| !stays(shard));
    let carry = joining.map(|to| ((*source).clone(), (*to).clone(), stays(source), Task::Carry));
    let carries: Vec<_> = carry.collect();
    let others = leaving.filter(|shard| **shard != *source || carries.is_empty());
    let leave: Vec<_> = others.map(|from| ((*from).clone(), (*first).clone(), false, Task::Leave)).collect();
    carries.into_iter().chain(leave).collect()
}
