//! What the next commit writes: put together while the one before it is under way.

use super::rows::{Head, Row};
use crate::base::{Name, Result};
use crate::disk::Write;
use crate::queue::table::Chunk;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;

/// A segment takes in what comes for the same place until it has this many items, or bytes.
const ITEMS: u32 = 256;
const BYTES: usize = 64 << 10;

/// A segment or a chained message that is not on the disk yet.
pub(super) struct NewRow {
    pub(super) row: Row,
    pub(super) head: Head,
    pub(super) chunks: Vec<Chunk>,
    bytes: usize,
    /// Behind another of its key.
    pub(super) behind: bool,
}

impl NewRow {
    pub(super) fn new(row: Row, priority: u8, at: u64, behind: bool) -> NewRow {
        NewRow { row, head: Head { items: 0, priority, at }, chunks: Vec::new(), bytes: 0, behind }
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.head.items += chunk.len();
        self.bytes += chunk.range.clone().map(|item| chunk.batch.payload.size(item)).sum::<usize>();
        self.chunks.push(chunk);
    }

    fn is_full(&self) -> bool {
        self.head.items >= ITEMS || self.bytes >= BYTES
    }
}

/// Who waits for a commit.
pub(super) type Reply = oneshot::Receiver<Result>;

#[derive(Default)]
pub(super) struct Pending {
    /// Segments that take in more: by subscription, lane and when they are due.
    open: BTreeMap<(u32, u8, u64), NewRow>,
    full: Vec<NewRow>,
    /// Rows that are done, and whether they have a mark.
    pub(super) gone: Vec<(Row, bool)>,
    /// Segments in work whose marks are to be written.
    pub(super) marks: BTreeSet<usize>,
    /// Those of them that nobody waits for: only a start was noted.
    pub(super) starts: BTreeSet<usize>,
    /// Subscriptions whose topic's counts have changed.
    pub(super) counted: BTreeSet<u32>,
    /// What is written as it stands.
    pub(super) writes: Vec<Write>,
    pub(super) state: Vec<Name>,
    pub(super) replies: Vec<oneshot::Sender<Result>>,
}

impl Pending {
    /// Into the segment that takes in what comes for this place, or a new one: whether it is new.
    pub(super) fn append(&mut self, place: (u32, u8, u64), chunk: Chunk, new: impl FnOnce() -> NewRow) -> bool {
        let segment = self.open.entry(place).or_insert_with(new);
        let is_new = segment.chunks.is_empty();
        segment.push(chunk);
        if segment.is_full() {
            self.full.extend(self.open.remove(&place));
        }
        is_new
    }

    pub(super) fn push(&mut self, row: NewRow) {
        self.full.push(row);
    }

    /// All new rows, which take in nothing more.
    pub(super) fn take_rows(&mut self) -> Vec<NewRow> {
        let mut rows = std::mem::take(&mut self.full);
        rows.extend(std::mem::take(&mut self.open).into_values());
        rows
    }

    /// Waits for the commit of all that is pending now.
    pub(super) fn wait(&mut self) -> Reply {
        let (reply, wait) = oneshot::channel();
        self.replies.push(reply);
        wait
    }

    /// The segment in this slot is gone.
    pub(super) fn forget(&mut self, slot: usize) {
        self.marks.remove(&slot);
        self.starts.remove(&slot);
    }
}
