//! What the tests of both binaries run a future in.

use seedpod::base::Seed;

/// Runs a future on a paused current-thread runtime under this seed, as a simulation.
pub(crate) fn simulate<F: Future>(seed: Seed, future: F) -> F::Output {
    let _simulation = seed.simulate();
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}
