//! The words of a store: entries, writes, expectations, changes, pages.

use super::Key;
use crate::base::{Error, Kind};

/// A value as it stands in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<V> {
    /// Where it stands.
    pub key: Key,
    /// The revision that made the key exist. A key that was removed and made again is another thing of the same name:
    /// this tells them apart.
    pub created: u64,
    /// The revision that wrote this value; in a [`Change::Remove`], the one that removed it.
    pub revision: u64,
    /// The value.
    pub value: V,
}

/// What must be there for a write to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing is there.
    Absent,
    /// The entry of this revision is there.
    Revision(u64),
}

impl Expect {
    /// Whether what is there (its revision, or nothing) is what is expected.
    pub fn allows(self, found: Option<u64>) -> bool {
        match self {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(revision) => found == Some(revision),
        }
    }

    #[cold]
    pub(super) fn conflict(self, key: &Key, found: Option<u64>) -> Error {
        let expected = match self {
            Expect::Revision(revision) => format!("revision {revision}"),
            Expect::Absent | Expect::Any => "nothing".to_string(),
        };
        let found = found.map_or("nothing".to_string(), |revision| format!("revision {revision}"));
        Error::new(Kind::Conflict, format!("expected {expected}, {found} is there")).at(key)
    }
}

/// One write of a commit.
#[derive(Clone, Debug)]
pub struct Write<V> {
    /// Where to.
    pub key: Key,
    /// What must be there now.
    pub expect: Expect,
    /// What is to be there; `None` removes. Removing what is not there changes nothing.
    pub value: Option<V>,
}

impl<V> Write<V> {
    /// Puts a value there, whatever is there now.
    pub fn put(key: impl Into<Key>, value: V) -> Self {
        Write { key: key.into(), expect: Expect::Any, value: Some(value) }
    }

    /// Puts a value where nothing is.
    pub fn create(key: impl Into<Key>, value: V) -> Self {
        Write { key: key.into(), expect: Expect::Absent, value: Some(value) }
    }

    /// Puts a value in the place of this very entry.
    pub fn replace(entry: &Entry<V>, value: V) -> Self {
        Write { key: entry.key.clone(), expect: Expect::Revision(entry.revision), value: Some(value) }
    }

    /// Removes what is there, if anything is.
    pub fn remove(key: impl Into<Key>) -> Self {
        Write { key: key.into(), expect: Expect::Any, value: None }
    }

    /// Only if this is there.
    #[must_use]
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }
}

/// What a watch tells.
///
/// Who keeps a view of the watched prefix obeys all three: `Reset` replaces the view, `Put` and `Remove` change one
/// entry of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<V> {
    /// Everything that is there, in the order of keys: forget what you knew. First of all, and again only where the
    /// watcher was so slow that removals have been forgotten meanwhile.
    Reset {
        /// All entries under the prefix.
        entries: Vec<Entry<V>>,
        /// The store's revision at that moment.
        revision: u64,
    },
    /// An entry is new or has a new value.
    Put {
        /// As it is now.
        entry: Entry<V>,
        /// The value it replaced. `None` where the key is new, and where a slow watcher catches up: the step before is
        /// not known then.
        old: Option<V>,
    },
    /// An entry is gone. This is the last that was known of it, with the revision that removed it.
    Remove(Entry<V>),
}

impl<V> Change<V> {
    /// The revision that made it so.
    pub fn revision(&self) -> u64 {
        match self {
            Change::Reset { revision, .. } => *revision,
            Change::Put { entry, .. } | Change::Remove(entry) => entry.revision,
        }
    }

    /// The entries it is about: all of a reset, the one put, the one removed.
    pub fn entries(&self) -> &[Entry<V>] {
        match self {
            Change::Reset { entries, .. } => entries,
            Change::Put { entry, .. } | Change::Remove(entry) => std::slice::from_ref(entry),
        }
    }

    /// The values it is about, before and after: what an index over owners or labels must look at.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        let old = if let Change::Put { old, .. } = self { old.as_ref() } else { None };
        self.entries().iter().map(|entry| &entry.value).chain(old)
    }
}

/// Part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<V> {
    /// In the order of keys.
    pub entries: Vec<Entry<V>>,
    /// The store's revision when this page was read.
    pub revision: u64,
    /// Where the next page starts; `None` after the last.
    pub next: Option<Key>,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// With everything that is there now.
    Start,
    /// With what changed after this revision, for who has listed or watched before.
    After(u64),
}
