//! What the tests of both binaries run a future in.

use seedpod::base::Seed;

/// Runs a future on a paused current-thread runtime under this seed, as a simulation.
pub(crate) fn simulate<F: Future>(seed: Seed, future: F) -> F::Output {
    let _simulation = seed.simulate();
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Panics of the engine below are contained, and no news.
pub(crate) fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let engine = panic.location().is_some_and(|at| at.file().contains("redb"));
            if !engine && !panic.to_string().contains("as it was told to") {
                usual(panic);
            }
        }));
    });
}
