//! How far a run is.

use crate::base::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use std::fmt;

/// How far a run is: a handle that can be asked at any time, from anywhere; printed, it is a bar.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    all_bytes: AtomicU64,
    texts: AtomicU64,
    all_texts: AtomicU64,
    skipped: AtomicU64,
}

const BAR: usize = 24;

impl Progress {
    /// Bytes that were worked on.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Relaxed)
    }

    /// Bytes that there are; 0 until they have been looked through.
    pub fn all_bytes(&self) -> u64 {
        self.0.all_bytes.load(Relaxed)
    }

    /// From 0.0 to 1.0.
    pub fn fraction(&self) -> f64 {
        match self.all_bytes() {
            0 => 0.0,
            all => self.bytes() as f64 / all as f64,
        }
    }

    pub(super) fn begin(&self, texts: u64, bytes: u64) {
        self.0.all_texts.store(texts, Relaxed);
        self.0.all_bytes.store(bytes, Relaxed);
    }

    pub(super) fn add(&self, texts: u64, bytes: u64) {
        self.0.texts.fetch_add(texts, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn skip(&self, bytes: u64) {
        self.0.skipped.fetch_add(1, Relaxed);
        self.0.bytes.fetch_add(bytes, Relaxed);
    }
}

/// `[############------------]  50 %  1.2 of 2.4 MB, 7 of 12 files, 1 skipped`
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { texts, all_texts, skipped, .. } = &*self.0;
        let fraction = self.fraction().min(1.0);
        let full = (fraction * BAR as f64) as usize;
        write!(f, "[{}{}] {:3.0} %", "#".repeat(full), "-".repeat(BAR - full), (fraction * 100.0).floor())?;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(f, "  {:.1} of {:.1} MB", megabytes(self.bytes()), megabytes(self.all_bytes()))?;
        write!(f, ", {} of {} files", texts.load(Relaxed), all_texts.load(Relaxed))?;
        match skipped.load(Relaxed) {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_it_is() {
        let progress = Progress::default();
        assert_eq!(progress.to_string(), "[------------------------]   0 %  0.0 of 0.0 MB, 0 of 0 files");
        progress.begin(4, 10_000_000);
        progress.add(2, 4_000_000);
        progress.skip(1_000_000);
        assert_eq!(progress.to_string(), "[############------------]  50 %  5.0 of 10.0 MB, 2 of 4 files, 1 skipped");
        progress.add(1, 5_000_000);
        assert_eq!(progress.to_string(), "[########################] 100 %  10.0 of 10.0 MB, 3 of 4 files, 1 skipped");
    }
}
