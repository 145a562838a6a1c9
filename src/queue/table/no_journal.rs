//! Without a broker that keeps its messages elsewhere, no table has a journal.

use super::Chunk;
use crate::{
    base::{Name, time::Instant},
    queue::Id,
};
use bytes::Bytes;
use std::ops::Range;

/// There is none.
pub(in crate::queue) enum Journal {}

impl Journal {
    pub(super) fn store(&mut self, _subscription: u32, _chunk: Chunk, _due: Option<Instant>) {
        match *self {}
    }

    pub(super) fn returned(&mut self, _chunk: &Chunk, _due: Option<Instant>) {
        match *self {}
    }

    pub(super) fn saw(&mut self, _topic: u32, _id: Option<Id>, _forgotten: usize) {
        match *self {}
    }

    pub(super) fn settled(&mut self, _origin: u64, _range: Range<u32>) {
        match *self {}
    }

    pub(super) fn freed(&mut self, _subscription: u32, _origin: u64) {
        match *self {}
    }

    pub(super) fn wrote(&mut self, _key: Name, _state: Option<(u64, Bytes)>) {
        match *self {}
    }
}
