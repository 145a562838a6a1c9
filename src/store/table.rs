//! The entries, and the removals that are remembered: what a store is, without locks and watchers.

use super::{
    Change, Entry, Key, Page, Write,
    key::{covers, normal},
};
use crate::base::{Error, Few, Kind, Result};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound::{Included, Unbounded},
    sync::Arc,
};

#[derive(Clone)]
struct Row<V> {
    created: u64,
    revision: u64,
    value: V,
}

type Rows<V> = BTreeMap<Key, Row<V>>;

fn entry<V: Clone>(key: &Key, row: &Row<V>) -> Entry<V> {
    Entry { key: key.clone(), created: row.created, revision: row.revision, value: row.value.clone() }
}

/// The rows under a prefix in normal form, from this text on.
fn rows<'a, V>(rows: &'a Rows<V>, prefix: &'a str, from: &'a str) -> impl Iterator<Item = (&'a Key, &'a Row<V>)> {
    rows.range::<str, _>((Included(from.max(prefix)), Unbounded)).take_while(move |(key, _)| covers(prefix, key))
}

fn page<V: Clone>(all: &Rows<V>, prefix: &str, from: Option<&Key>, limit: usize, revision: u64) -> Page<V> {
    let prefix = normal(prefix);
    let mut rest = rows(all, &prefix, from.map_or("", |from| from));
    let entries = rest.by_ref().take(limit).map(|(key, row)| entry(key, row)).collect();
    Page { entries, revision, next: rest.next().map(|(key, _)| key.clone()) }
}

pub(super) struct Table<V> {
    rows: Arc<Rows<V>>,
    pub(super) revision: u64,
    /// The latest removals, in the order of their revisions; those up to `forgotten` may be missing.
    removed: VecDeque<Entry<V>>,
    forgotten: u64,
    tombstones: usize,
}

impl<V: Clone> Table<V> {
    pub(super) fn new(tombstones: usize) -> Self {
        Table { rows: Arc::default(), revision: 0, removed: VecDeque::new(), forgotten: 0, tombstones }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn remembered(&self) -> usize {
        self.removed.len()
    }

    pub(super) fn get(&self, key: &str) -> Option<Entry<V>> {
        self.rows.get_key_value(&*normal(key)).map(|(key, row)| entry(key, row))
    }

    pub(super) fn page(&self, prefix: &str, from: Option<&Key>, limit: usize) -> Page<V> {
        page(&self.rows, prefix, from, limit, self.revision)
    }

    pub(super) fn snapshot(&self) -> Snapshot<V> {
        Snapshot { rows: self.rows.clone(), revision: self.revision }
    }

    /// Whether all of a commit may be written.
    pub(super) fn check(&self, writes: &[Write<V>]) -> Result {
        for write in writes {
            if write.key.is_empty() {
                return Err(Error::new(Kind::Invalid, "nothing can be stored under the empty key"));
            }
            if write.expect != super::Expect::Any {
                let found = self.rows.get(&*write.key).map(|row| row.revision);
                if !write.expect.allows(found) {
                    return Err(write.expect.conflict(&write.key, found));
                }
            }
        }
        if writes.len() > 1 {
            let mut seen = BTreeSet::new();
            if let Some(twice) = writes.iter().find(|write| !seen.insert(&write.key)) {
                return Err(Error::new(Kind::Invalid, "written twice in one commit").at(&twice.key));
            }
        }
        Ok(())
    }

    /// Writes all of a checked commit under the next revision, unless it changes nothing. What is forgotten for it goes
    /// to `spent`, to be dropped when nothing is locked.
    pub(super) fn apply(&mut self, writes: Vec<Write<V>>, spent: &mut Vec<Entry<V>>) -> Few<Change<V>> {
        let revision = self.revision + 1;
        let mut changes = Few::new();
        let rows = Arc::make_mut(&mut self.rows);
        for Write { key, value, .. } in writes {
            match value {
                Some(value) => changes.push(put(rows, key, value, revision)),
                None => {
                    let Some((key, Row { created, value, .. })) = rows.remove_entry(&*key) else { continue };
                    let gone = Entry { key, created, revision, value };
                    if self.removed.len() >= self.tombstones.max(1)
                        && let Some(oldest) = self.removed.pop_front()
                    {
                        self.forgotten = oldest.revision;
                        spent.push(oldest);
                    }
                    self.removed.push_back(gone.clone());
                    changes.push(Change::Remove(gone));
                }
            }
        }
        if !changes.is_empty() {
            self.revision = revision;
        }
        changes
    }

    /// Everything under a prefix in normal form.
    pub(super) fn reset(&self, prefix: &str) -> Change<V> {
        let entries = rows(&self.rows, prefix, "").map(|(key, row)| entry(key, row)).collect();
        Change::Reset { entries, revision: self.revision }
    }

    /// What is different under a prefix in normal form since a revision: each key once, in the order of revisions.
    /// `None` when removals since then are forgotten, or the revision is not of this store.
    pub(super) fn since(&self, prefix: &str, seen: u64) -> Option<Vec<Change<V>>> {
        if seen < self.forgotten || seen > self.revision {
            return None;
        }
        let mut changes: Vec<Change<V>> = rows(&self.rows, prefix, "")
            .filter(|(_, row)| row.revision > seen)
            .map(|(key, row)| Change::Put { entry: entry(key, row), old: None })
            .collect();
        // A key may have gone more than once. It counts if it was there then, and is not there now.
        let mut gone: BTreeMap<&Key, (bool, &Entry<V>)> = BTreeMap::new();
        let after = self.removed.partition_point(|entry| entry.revision <= seen);
        for entry in self.removed.range(after..).filter(|entry| covers(prefix, &entry.key)) {
            let was_there = entry.created <= seen;
            gone.entry(&entry.key).and_modify(|(_, last)| *last = entry).or_insert((was_there, entry));
        }
        let gone = gone.into_values().filter(|(was_there, last)| *was_there && !self.rows.contains_key(&*last.key));
        changes.extend(gone.map(|(_, last)| Change::Remove(last.clone())));
        changes.sort_by_key(Change::revision);
        Some(changes)
    }
}

fn put<V>(rows: &mut Rows<V>, key: Key, value: V, revision: u64) -> Change<V>
where
    V: Clone,
{
    let entry = |created| Entry { key: key.clone(), created, revision, value: value.clone() };
    match rows.get_mut(&*key) {
        Some(row) => {
            let entry = entry(row.created);
            let old = std::mem::replace(&mut row.value, value);
            row.revision = revision;
            Change::Put { entry, old: Some(old) }
        }
        None => {
            let entry = entry(revision);
            rows.insert(key, Row { created: revision, revision, value });
            Change::Put { entry, old: None }
        }
    }
}

/// A store as it was at one revision; later commits do not move it.
///
/// Taking one costs a reference count. The price comes later: the first commit beside a living snapshot copies the table
/// once (keys and values by their handles, some 80 ns per entry), so take one to read much at once, then drop it.
pub struct Snapshot<V> {
    rows: Arc<Rows<V>>,
    revision: u64,
}

impl<V: Clone> Snapshot<V> {
    /// The revision it was taken at.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The entry under this key.
    pub fn get(&self, key: &str) -> Option<Entry<V>> {
        self.rows.get_key_value(&*normal(key)).map(|(key, row)| entry(key, row))
    }

    /// Up to `limit` entries under a prefix, from a key on, as [`Store::list`](super::Store::list).
    pub fn list(&self, prefix: &str, from: Option<&Key>, limit: usize) -> Page<V> {
        page(&self.rows, prefix, from, limit, self.revision)
    }
}

impl<V> Clone for Snapshot<V> {
    fn clone(&self) -> Self {
        Snapshot { rows: self.rows.clone(), revision: self.revision }
    }
}

impl<V> std::fmt::Debug for Snapshot<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("revision", &self.revision).field("entries", &self.rows.len()).finish()
    }
}
