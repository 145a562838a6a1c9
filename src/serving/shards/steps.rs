//! Which keys move next: derived from the map that counts and the one that is wanted, and from nothing else.

use super::{
    super::ShardMap,
    super::shard::{ShardId, Span},
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
    let parts = now.parts_with(wanted)?;
    let names = |map: &ShardMap| -> Vec<Arc<str>> { map.shards().iter().map(|shard| shard.name.clone()).collect() };
    let (old, new) = (names(now), names(wanted));
    let mut groups: BTreeMap<(&[ShardId], &[ShardId]), Vec<usize>> = BTreeMap::new();
    let same: Vec<Option<ShardId>> = old.iter().map(|name| wanted.id(name)).collect();
    let stays = |(before, after): (&ShardId, &ShardId)| same.get(before.index()) == Some(&Some(*after));
    for (place, part) in parts.iter().enumerate() {
        if !part.before.iter().zip(part.after).all(stays) {
            groups.entry((part.before, part.after)).or_default().push(place);
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    // in the order of their names: numbers are each map's own
    let groups: BTreeMap<_, _> = groups
        .into_iter()
        .map(|((before, after), places)| ((named(&old, before), named(&new, after)), places))
        .collect();
    let version = now.version().saturating_add(1);
    let (mut arrives, mut carried, mut width) = (vec![false; parts.len()], BTreeMap::new(), 0.0);
    'step: for ((before, after), places) in &groups {
        for place in places {
            let Some(span) = parts.get(*place).map(|part| part.span.clone()) else { continue };
            if width > 0.0 && width + size(&span, slots_max) > slots_max {
                break 'step;
            }
            width += size(&span, slots_max);
            if let Some(arrives) = arrives.get_mut(*place) {
                *arrives = true;
            }
            for (from, to, stays, task) in tasks(before, after) {
                let spans: &mut Vec<Span> = carried.entry((task == Task::Leave, from, to, stays, before)).or_default();
                match spans.last_mut() {
                    Some(last) if follows(last, &span) => *last = last.clone().joined(span.clone()),
                    _ => spans.push(span.clone()),
                }
            }
        }
    }
    let map = now.stepped(wanted, &parts, version, |place| arrives.get(place).copied().unwrap_or(false))?;
    let tasks = carried.into_iter().map(|((leaves, from, to, stays, before), spans)| {
        let owners = before.iter().map(|name| (*name).clone()).collect();
        let moving = Moving { from, to, spans: spans.into(), version, stays, owners };
        (moving, if leaves { Task::Leave } else { Task::Carry })
    });
    Ok(Some(Step { tasks: tasks.collect(), map }))
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

/// How much of a step it is; a range is a whole one.
fn size(span: &Span, slots_max: f64) -> f64 {
    match span {
        Span::Keys { .. } => slots_max,
        _ => span.width(),
    }
}

/// Whether the second begins where the first ends.
fn follows(one: &Span, other: &Span) -> bool {
    match (one, other) {
        (Span::Hashes { last, .. }, Span::Hashes { first, .. }) => last.checked_add(1) == Some(*first),
        (Span::Keys { until, .. }, Span::Keys { from, .. }) => until.as_ref() == Some(from),
        _ => false,
    }
}
