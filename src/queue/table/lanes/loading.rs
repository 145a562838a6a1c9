//! What comes back to a subscription from where it was kept.

use super::{Chunk, Effects, End, Lanes};
use crate::base::time::Instant;
use std::collections::VecDeque;

impl Lanes {
    /// How many items of this priority or a higher one can be leased at once: of a key, one for sure.
    pub(in crate::queue::table) fn ready_from(&self, priority: u8) -> usize {
        let lanes = self.lanes.iter().take_while(|(of, _)| *of >= priority);
        let sure = |chunk: &Chunk| if chunk.batch.key.is_some() { 1 } else { chunk.len() as usize };
        lanes.flat_map(|(_, lane)| lane).map(sure).sum()
    }

    /// Takes in what was kept on a disk.
    pub(in crate::queue::table) fn load(
        &mut self,
        due: Option<Instant>,
        chunk: Chunk,
        end: End,
        effects: &mut Effects,
    ) {
        if let Some(key) = &chunk.batch.key {
            if let Some(behind) = self.keys.get_mut(key) {
                self.blocked += chunk.len() as usize;
                behind.push_back((due, chunk));
                return;
            }
            self.keys.insert(key.clone(), VecDeque::new());
        }
        self.place(due, chunk, end, effects);
    }
}
