//! Work inside a measured closure that is not what is measured.

use crate::measure::cpu;
use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

static NANOS: AtomicU64 = AtomicU64::new(0);
static COUNTING: AtomicBool = AtomicBool::new(false);

/// Does this beside what is measured: to set up, to take down. Its time and its instructions do not count.
pub fn apart<T>(work: impl FnOnce() -> T) -> T {
    if COUNTING.load(Relaxed) {
        return seedpod_peers_apart(work);
    }
    let start = cpu();
    let done = work();
    NANOS.fetch_add((cpu() - start).as_nanos() as u64, Relaxed);
    done
}

/// Where callgrind stops to collect; found by its name.
#[inline(never)]
fn seedpod_peers_apart<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Whether callgrind collects from now on.
pub(crate) fn counting(collects: bool) {
    COUNTING.store(collects, Relaxed);
}

/// The nanoseconds that were spent apart since the last call.
pub(crate) fn taken() -> u64 {
    NANOS.swap(0, Relaxed)
}
