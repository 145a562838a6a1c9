//! How much more two threads complete than one.

use crate::{measure::setting, selected};
use std::time::{Duration, Instant};

/// A case about threads: of the time that passes, not of CPU time.
pub struct Scaling {
    name: String,
    at_least: f64,
}

impl Scaling {
    /// A case of this name; two threads are to complete so many times what one does.
    pub fn new(name: impl Into<String>, at_least: f64) -> Self {
        Scaling { name: name.into(), at_least }
    }

    /// Measures and prints. `work` lets so many threads do so many operations each.
    pub fn run(self, work: impl Fn(u64, u64)) {
        if !selected(&self.name) {
            return;
        }
        let passed = |threads, count| {
            let start = Instant::now();
            work(threads, count);
            start.elapsed()
        };
        let slice = Duration::from_millis(setting("PEERS_SLICE_MS", 20));
        let mut count = 16;
        while passed(1, count) < slice {
            count *= 2;
        }
        let round = |_| 2.0 * passed(1, count).as_secs_f64() / passed(2, count).as_secs_f64();
        let mut times: Vec<f64> = (0..setting("PEERS_ROUNDS", 11).max(1)).map(round).collect();
        times.sort_by(f64::total_cmp);
        let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!("{:<42} two threads complete {median:.2} times one, {least:.2}..{most:.2}", self.name);
        println!("verdict {} ours_over_target={:.2} ahead_of_best_peer=none\n", self.name, self.at_least / median);
    }
}
