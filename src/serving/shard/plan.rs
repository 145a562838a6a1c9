//! What lies between two maps: which keys change hands, who must copy them, and whether it is worth it.

use super::{ShardId, ShardMap, numbers::Numbers, ranges::Ranges, rows::Rows, slot::Span, table::Table};
use crate::base::{Error, Kind, Result};
use bytes::Bytes;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// What lies between two maps: to be read before it is done, then done move by move.
///
/// ```
/// use seedpod::serving::ShardMap;
///
/// let map = ShardMap::planned(["s0", "s1", "s2"]).build()?;
/// let plan = map.plan(&map.next(|change| {
///     change.add("s3");
/// })?)?;
/// assert_eq!(plan.to_string(), "\
/// version 1 to 2: 25.0 % of the keys change hands, 25.0 % are copied; the fullest shard has 1.000 of its due, then 1.000
///   s0 to s3: 5462 slots in 1 run
///   s1 to s3: 5461 slots in 1 run
///   s2 to s3: 5461 slots in 1 run
/// ");
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The map that it starts from.
    pub before: ShardMap,
    /// The map that it leads to.
    pub after: ShardMap,
    /// What changes hands or is copied, in the order of the keys; neighbours of one fate in one.
    pub moves: Vec<Move>,
    /// The share of the keys whose first owner changes, from 0.0 to 1.0.
    pub handed: f64,
    /// The share of what is stored that a shard gets which did not have it: all copies of all keys are 1.0.
    pub churn: f64,
}

/// A stretch of keys, and who owns it before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Move {
    /// The keys.
    pub span: Span,
    /// The names of the owners before, the one that answers first.
    pub before: Arc<[Arc<str>]>,
    /// The names of the owners after.
    pub after: Arc<[Arc<str>]>,
}

impl Move {
    /// Who answers before.
    pub fn from(&self) -> &str {
        self.before.first().map_or("", |name| name)
    }

    /// Who answers after.
    pub fn to(&self) -> &str {
        self.after.first().map_or("", |name| name)
    }

    /// Whether another shard answers after it. Otherwise only copies change.
    pub fn is_handed(&self) -> bool {
        self.from() != self.to()
    }

    /// Those that must get the keys: they own them after and did not before.
    pub fn gaining(&self) -> impl Iterator<Item = &Arc<str>> {
        self.after.iter().filter(|name| !self.before.contains(name))
    }

    /// Those that may forget the keys: they owned them before and do not after.
    pub fn losing(&self) -> impl Iterator<Item = &Arc<str>> {
        self.before.iter().filter(|name| !self.after.contains(name))
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} to {}", self.span, self.before.join(", "), self.after.join(", "))
    }
}

impl ShardMap {
    /// What lies between this map and that one.
    ///
    /// # Errors
    /// [`Kind::Conflict`] where that one's version is not higher; [`Kind::Unsupported`] where keys are found in another way
    /// there: by another seed, or by ranges instead of slots.
    pub fn plan(&self, after: &ShardMap) -> Result<Plan> {
        let place = || format!("plan from version {} to {}", self.version(), after.version());
        if after.version() <= self.version() {
            return Err(Error::new(Kind::Conflict, "a plan leads to a higher version").at(place()));
        }
        let by_slots = self.table().is_some();
        if by_slots != after.table().is_some() {
            return Err(Error::new(Kind::Unsupported, "one map is of slots, the other of ranges").at(place()));
        }
        if by_slots && self.seed() != after.seed() {
            return Err(Error::new(Kind::Unsupported, "the maps hash keys by different seeds").at(place()));
        }
        let mut plan = Plan { before: self.clone(), after: after.clone(), moves: Vec::new(), handed: 0.0, churn: 0.0 };
        let now = Numbers::new(self, after);
        let same = |old: &ShardId, new: &ShardId| now.is_same(*old, *new);
        let places = if by_slots { self.places() } else { cut(self, after).count() } as f64;
        let mut last: Option<(&[ShardId], &[ShardId])> = None;
        let (mut old_names, mut new_names) = (Names::new(self), Names::new(after));
        for (span, old, new) in changes(self, after) {
            let width = if by_slots { span.width() } else { 1.0 } / places;
            let handed = !matches!((old, new), ([old, ..], [new, ..]) if same(old, new));
            let gaining = new.iter().filter(|new| !old.iter().any(|old| same(old, new))).count();
            plan.handed += if handed { width } else { 0.0 };
            plan.churn += gaining as f64 * width / after.copies() as f64;
            match plan.moves.last_mut() {
                // of ranges that meet
                Some(step) if last == Some((old, new)) && step.span.meets(&span) => {
                    step.span = step.span.clone().joined(span);
                }
                _ => plan.moves.push(Move { span, before: old_names.of(old), after: new_names.of(new) }),
            }
            last = Some((old, new));
        }
        Ok(plan)
    }

    /// What the fullest shard answers for, against what its weight says: 1.0 is even. Of ranges, each counts the same.
    pub fn imbalance(&self) -> f64 {
        let mut shares = vec![0.0; self.shards().len()];
        for (span, owners) in self.holdings() {
            let width = if self.table().is_some() { span.width() } else { 1.0 };
            if let Some(share) = owners.first().and_then(|owner| shares.get_mut(owner.index())) {
                *share += width;
            }
        }
        self.fullest(&shares)
    }

    /// The most that a shard has of these, one for each, against what its weight says.
    pub(super) fn fullest(&self, shares: &[f64]) -> f64 {
        let (total, weights): (f64, u64) =
            (shares.iter().sum(), self.shards().iter().map(|shard| u64::from(shard.weight)).sum());
        let due = |weight: u32| total * f64::from(weight) / weights.max(1) as f64;
        let against = |(share, shard): (&f64, &super::Shard)| match share {
            share if *share > 0.0 => share / due(shard.weight),
            _ => 0.0,
        };
        shares.iter().zip(self.shards()).map(against).fold(0.0, f64::max)
    }
}

/// The names of owners, once for all who have the same.
struct Names<'a> {
    map: &'a ShardMap,
    rows: Rows<'a>,
    names: Vec<Arc<[Arc<str>]>>,
}

impl<'a> Names<'a> {
    fn new(map: &'a ShardMap) -> Self {
        Names { map, rows: Rows::new(), names: Vec::new() }
    }

    fn of(&mut self, owners: &'a [ShardId]) -> Arc<[Arc<str>]> {
        let number = self.rows.number(owners);
        if let Some(known) = self.names.get(number) {
            return known.clone();
        }
        let name = |owner: &ShardId| self.map.shards().get(owner.index()).map(|shard| shard.name.clone());
        let names: Arc<[_]> = owners.iter().filter_map(name).collect();
        self.names.push(names.clone());
        names
    }
}

/// What two maps of one kind give to different owners, in order: the longest stretches of one fate, with the owners in each;
/// of ranges, none longer than it is in either map.
pub(super) fn changes<'a>(
    before: &'a ShardMap,
    after: &'a ShardMap,
) -> Box<dyn Iterator<Item = (Span, &'a [ShardId], &'a [ShardId])> + 'a> {
    let (now, seed) = (Numbers::new(before, after), before.seed());
    if let (Some(old), Some(new)) = (before.table(), after.table()) {
        let span = move |(first, last)| Span::Hashes { seed, first, last };
        return Box::new(Table::changes(old, new, now).map(move |(hashes, old, new)| (span(hashes), old, new)));
    }
    Box::new(cut(before, after).filter(move |(_, owners, others)| !now.are_same(owners, others)))
}

/// Every range of both maps, cut where either is, with the owners in each.
pub(super) fn cut<'a>(
    before: &'a ShardMap,
    after: &'a ShardMap,
) -> impl Iterator<Item = (Span, &'a [ShardId], &'a [ShardId])> {
    let ranges = before.key_ranges().zip(after.key_ranges()).map(|(old, new)| ranges(old, new));
    ranges.into_iter().flatten()
}

fn ranges<'a>(
    old: &'a Ranges,
    new: &'a Ranges,
) -> impl Iterator<Item = (Span, &'a [ShardId], &'a [ShardId])> + use<'a> {
    let (mut one, mut other, mut from) = (0, 0, Some(Bytes::new()));
    std::iter::from_fn(move || {
        let from_now = from.take()?;
        let (end, others_end) = (old.range(one).until, new.range(other).until);
        let owners = (old.owners(one), new.owners(other));
        // no key is behind the end where there is none
        let until = match (&end, &others_end) {
            (Some(end), Some(others_end)) => Some(end.min(others_end).clone()),
            _ => end.clone().or_else(|| others_end.clone()),
        };
        one += usize::from(end == until);
        other += usize::from(others_end == until);
        from = until.clone();
        Some((Span::Keys { from: from_now, until }, owners.0, owners.1))
    })
}

impl fmt::Display for Plan {
    /// In a line what it brings and costs, then who gives how much to whom: from the owner that answers, to those that
    /// get a copy or are to answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (&self.before, &self.after);
        writeln!(
            f,
            "version {} to {}: {:.1} % of the keys change hands, {:.1} % are copied; the fullest shard has {:.3} of its \
             due, then {:.3}",
            before.version(),
            after.version(),
            self.handed * 100.0,
            self.churn * 100.0,
            before.imbalance(),
            after.imbalance(),
        )?;
        let mut pairs: BTreeMap<(&str, &str, bool), (f64, usize)> = BTreeMap::new();
        for step in &self.moves {
            let answers = Some(step.to()).filter(|to| step.is_handed() && step.before.iter().any(|it| &**it == *to));
            let gaining = step.gaining().map(|to| (&**to, true));
            for (to, copied) in gaining.chain(answers.map(|to| (to, false))) {
                let sum = pairs.entry((step.from(), to, !copied)).or_default();
                *sum = (sum.0 + step.span.width(), sum.1 + 1);
            }
        }
        for ((from, to, has_it), (slots, runs)) in pairs {
            let plural = |one: bool| if one { "" } else { "s" };
            let has_it = if has_it { ", of which it has a copy" } else { "" };
            match before.table() {
                Some(_) => {
                    let (slot, run) = (plural(slots == 1.0), plural(runs == 1));
                    writeln!(f, "  {from} to {to}: {slots} slot{slot} in {runs} run{run}{has_it}")?;
                }
                None => writeln!(f, "  {from} to {to}: {runs} range{}{has_it}", plural(runs == 1))?,
            }
        }
        Ok(())
    }
}
