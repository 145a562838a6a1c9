//! The store against a naive model: a million random steps, and watchers of every speed.

use super::{Change, Entry, Expect, Key, Page, Since, Snapshot, Store, Watch, Write};
use crate::base::{Rng, Seed};
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};

type View = BTreeMap<Key, Entry<u64>>;

/// All that ever happened, and nothing clever.
struct Naive {
    now: View,
    revision: u64,
    /// Each change with its revision: what is there afterwards.
    log: Vec<(u64, Key, Option<Entry<u64>>)>,
    removals: Vec<u64>,
    tombstones: usize,
}

impl Naive {
    fn commit(&mut self, writes: &[Write<u64>]) -> Result<u64, String> {
        for write in writes {
            let there = self.now.get(&write.key).map(|entry| entry.revision);
            let said = there.map_or("nothing".into(), |revision| format!("revision {revision}"));
            let (fine, wanted) = match write.expect {
                Expect::Any => continue,
                Expect::Absent => (there.is_none(), "nothing".to_string()),
                Expect::Revision(revision) => (there == Some(revision), format!("revision {revision}")),
            };
            if !fine {
                return Err(format!("{}: conflict: expected {wanted}, {said} is there", write.key));
            }
        }
        let revision = self.revision + 1;
        for write in writes {
            let before = self.now.remove(&write.key);
            let after = write.value.map(|value| {
                let created = before.as_ref().map_or(revision, |entry| entry.created);
                Entry { key: write.key.clone(), created, revision, value }
            });
            if before.is_none() && after.is_none() {
                continue;
            }
            self.revision = revision;
            if after.is_none() {
                self.removals.push(revision);
            }
            self.now.extend(after.clone().map(|entry| (write.key.clone(), entry)));
            self.log.push((revision, write.key.clone(), after));
        }
        Ok(self.revision)
    }

    fn forgotten(&self) -> u64 {
        self.removals.iter().rev().nth(self.tombstones).copied().unwrap_or(0)
    }

    /// The changes under a prefix after a revision.
    fn after<'a>(&'a self, prefix: &'a str, revision: u64) -> impl Iterator<Item = &'a (u64, Key, Option<Entry<u64>>)> {
        let from = self.log.partition_point(|(at, ..)| *at <= revision);
        self.log[from..].iter().filter(move |(_, key, _)| key.is_under(prefix))
    }
}

struct Watcher {
    watch: Watch<u64>,
    /// What it was told adds up to.
    view: View,
    /// What the store held under its prefix when it was at `at`.
    truth: View,
    at: u64,
    told: bool,
    /// The first batch may be everything.
    may_reset: bool,
    eagerness: f64,
    from_start: bool,
}

#[derive(Default, Debug)]
struct Seen {
    resets: usize,
    batches: usize,
    caught_up: usize,
    conflicts: usize,
    rewound: usize,
}

impl Watcher {
    fn read(&mut self, naive: &Naive, seen: &mut Seen) -> bool {
        let before = self.watch.revision();
        let Some(batch) = self.watch.next().now_or_never() else {
            assert!(self.told || !self.from_start, "from the start there is always something to tell");
            return false;
        };
        let batch = batch.expect("the store lives");
        assert!(!batch.is_empty());
        seen.batches += 1;
        let keys: BTreeSet<_> = batch.iter().flat_map(Change::entries).map(|entry| &entry.key).collect();
        let steps = naive.after(self.watch.prefix(), before).take_while(|(at, ..)| *at <= self.watch.revision());
        let told: usize = batch.iter().map(|change| change.entries().len()).sum();
        assert!(keys.len() == told || steps.count() == told, "each step, or each key once");
        let mut last = self.at;
        for change in &batch {
            match change {
                Change::Reset { entries, revision } => {
                    assert_eq!(batch.len(), 1);
                    let unread = naive.after(self.watch.prefix(), self.at).next().map(|(revision, ..)| revision - 1);
                    let lost = unread.is_some_and(|seen| naive.forgotten() > seen);
                    assert!(self.may_reset || lost, "a reset though nothing was forgotten");
                    assert!(*revision >= last);
                    seen.resets += usize::from(!self.may_reset);
                    self.view = entries.iter().map(|entry| (entry.key.clone(), entry.clone())).collect();
                }
                Change::Put { entry, old } => {
                    assert!(entry.revision > self.at && entry.revision >= last, "never backwards");
                    let before = self.view.insert(entry.key.clone(), entry.clone());
                    if old.is_some() {
                        assert_eq!(*old, before.map(|entry| entry.value), "the value replaced");
                    } else if before.is_some() {
                        seen.caught_up += 1;
                    }
                }
                Change::Remove(entry) => {
                    assert!(entry.revision > self.at && entry.revision >= last, "never backwards");
                    assert!(self.view.remove(&entry.key).is_some(), "what was not there cannot go");
                }
            }
            last = change.revision();
            assert!(change.entries().iter().all(|entry| entry.key.is_under(self.watch.prefix())));
        }
        assert!(self.watch.revision() >= last);
        for (revision, key, entry) in naive.after(self.watch.prefix(), self.at) {
            if *revision > self.watch.revision() {
                break;
            }
            match entry {
                Some(entry) => drop(self.truth.insert(key.clone(), entry.clone())),
                None => drop(self.truth.remove(key)),
            }
        }
        self.at = self.watch.revision();
        (self.told, self.may_reset) = (true, false);
        assert_eq!(self.view, self.truth, "the view is the store at revision {}", self.at);
        true
    }
}

fn watcher(store: &Store<u64>, naive: &Naive, rng: &mut Rng, seen: &mut Seen) -> Watcher {
    let prefix = ["", "a/", "b/", "a/1/", "a/1/3", "b/2/0", "a", "c/"][rng.below(8) as usize];
    let from_start = rng.chance(0.5);
    let eagerness = [0.5, 0.05, 0.005, 0.0005][rng.below(4) as usize];
    let mut truth = View::new();
    let after = if from_start { 0 } else { naive.revision.saturating_sub(rng.below(40)) };
    for (revision, key, entry) in naive.after(prefix, 0) {
        if !from_start && *revision <= after {
            match entry {
                Some(entry) => drop(truth.insert(key.clone(), entry.clone())),
                None => drop(truth.remove(key)),
            }
        }
    }
    let since = if from_start { Since::Start } else { Since::After(after) };
    let watch = store.watch(prefix, since);
    seen.rewound += usize::from(!from_start && watch.first.is_none());
    let may_reset = from_start || naive.forgotten() > after;
    let told = !from_start;
    Watcher { watch, view: truth.clone(), truth, at: after, told, may_reset, eagerness, from_start }
}

fn key(rng: &mut Rng) -> Key {
    let (top, middle, leaf) = (["a", "b"][rng.below(2) as usize], rng.below(3), rng.below(5));
    if rng.chance(0.02) { Key::new(top) } else { Key::new(&format!("{top}/{middle}/{leaf}")) }
}

fn run(seed: u64, steps: u64, ring: usize, tombstones: usize) -> Seen {
    let mut rng = Seed::new(seed).rng();
    let store: Store<u64> = Store::builder().ring(ring).tombstones(tombstones).build();
    let mut naive = Naive { now: View::new(), revision: 0, log: Vec::new(), removals: Vec::new(), tombstones };
    let mut watchers: Vec<Watcher> = Vec::new();
    let mut seen = Seen::default();
    let mut kept: Option<(Snapshot<u64>, View)> = None;
    for step in 0..steps {
        if rng.chance(0.6) {
            let many = if rng.chance(0.2) { 1 + rng.below(9) } else { 1 };
            let keys: BTreeSet<Key> = (0..many).map(|_| key(&mut rng)).collect();
            let writes: Vec<_> = keys
                .into_iter()
                .map(|key| Write {
                    expect: match rng.below(16) {
                        0 => Expect::Absent,
                        1 => Expect::Revision(naive.revision.saturating_sub(rng.below(4))),
                        2 | 3 => naive.now.get(&key).map_or(Expect::Absent, |entry| Expect::Revision(entry.revision)),
                        _ => Expect::Any,
                    },
                    value: (!rng.chance(0.4)).then_some(step),
                    key,
                })
                .collect();
            let wanted = naive.commit(&writes);
            seen.conflicts += usize::from(wanted.is_err());
            let got = store.commit(writes).now_or_never().unwrap().map_err(|error| error.to_string());
            assert_eq!(got, wanted);
        }
        for watcher in &mut watchers {
            if rng.chance(watcher.eagerness) {
                watcher.read(&naive, &mut seen);
            }
        }
        if rng.chance(0.0005) && !watchers.is_empty() {
            watchers.swap_remove(rng.below(watchers.len() as u64) as usize);
        }
        if rng.chance(0.001) && watchers.len() < 8 {
            watchers.push(watcher(&store, &naive, &mut rng, &mut seen));
        }
        if rng.chance(0.01) {
            let key = key(&mut rng);
            assert_eq!(store.get(&key), naive.now.get(&key).cloned());
            let (from, limit) = (rng.chance(0.5).then(|| key.clone()), rng.below(12) as usize);
            let prefix = ["", "a/", "b/1/", "a/1/3"][rng.below(4) as usize];
            let mut rest = naive.now.values().filter(|entry| entry.key.is_under(prefix));
            let mut rest = rest.by_ref().filter(|entry| from.as_ref().is_none_or(|from| entry.key >= *from));
            let entries = rest.by_ref().take(limit).cloned().collect();
            let next = rest.next().map(|entry| entry.key.clone());
            let page = Page { entries, revision: naive.revision, next };
            assert_eq!(store.list(prefix, from.as_ref(), limit), page);
        }
        if rng.chance(0.002)
            && let Some((snapshot, view)) = kept.replace((store.snapshot(), naive.now.clone()))
        {
            assert_eq!(snapshot.list("", None, usize::MAX).entries, view.into_values().collect::<Vec<_>>());
        }
        if step % 20_000 == 0 && watchers.iter().all(|watcher| watcher.told) {
            // the naive log is only needed from the slowest watcher on, and 100 more for new ones
            let slowest = watchers.iter().map(|watcher| watcher.at).chain([naive.revision]).min().unwrap();
            trim(&mut naive, slowest.saturating_sub(100));
        }
    }
    for watcher in &mut watchers {
        while watcher.read(&naive, &mut seen) {}
        let now = naive.now.iter().filter(|(key, _)| key.is_under(watcher.watch.prefix()));
        assert!(watcher.view.iter().eq(now), "at the end all see what is there");
    }
    let watches = watchers.len();
    assert_eq!(store.stats().watches, watches);
    drop(watchers);
    assert_eq!((store.stats().watches, store.stats().prefixes), (0, 0), "no seat and no ring is left");
    seen
}

/// Forgets steps up to a revision, but keeps what they add up to.
fn trim(naive: &mut Naive, upto: u64) {
    let from = naive.log.partition_point(|(at, ..)| *at <= upto);
    let mut sum: BTreeMap<Key, (u64, Option<Entry<u64>>)> = BTreeMap::new();
    for (revision, key, entry) in naive.log.drain(..from) {
        sum.insert(key, (revision, entry));
    }
    let mut sum: Vec<_> = sum.into_iter().map(|(key, (revision, entry))| (revision, key, entry)).collect();
    sum.sort_by_key(|(revision, ..)| *revision);
    naive.log.splice(..0, sum);
}

#[test]
fn a_million_steps_equal_the_model() {
    let mut total = Seen::default();
    let bounds = [(1, 1), (2, 8), (4, 1), (4, 4096), (16, 16), (16, 200), (64, 4096), (256, 64), (1024, 4096), (8, 30)];
    for (seed, (ring, tombstones)) in bounds.into_iter().enumerate() {
        let seen = run(seed as u64, 100_000, ring, tombstones);
        total.resets += seen.resets;
        total.batches += seen.batches;
        total.caught_up += seen.caught_up;
        total.conflicts += seen.conflicts;
        total.rewound += seen.rewound;
    }
    // what the steps were to meet, they have met
    assert!(total.resets > 100 && total.batches > 10_000 && total.caught_up > 1_000, "{total:?}");
    assert!(total.conflicts > 1_000 && total.rewound > 20, "{total:?}");
}
