//! How the program is asked to end: by Ctrl-C or SIGTERM. The first time it ends in order, the second time at once.

use seedpod::Result;
use std::process;
use tokio::sync::watch;

/// Whether the program has been asked to end; cheap to clone.
#[derive(Clone)]
pub(crate) struct Ending(watch::Receiver<bool>);

/// The exit code of a program that was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

impl Ending {
    /// Listens to the signals from now on.
    pub(crate) fn listen() -> Result<Self> {
        let (tell, told) = watch::channel(false);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            signals.next().await;
            println!("ending; once more ends it at once");
            tell.send_replace(true);
            signals.next().await;
            process::exit(INTERRUPTED);
        });
        Ok(Ending(told))
    }

    /// Whether it has been.
    pub(crate) fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the program is asked to end.
    pub(crate) async fn asked(mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            std::future::pending().await // nobody listens any more, nobody can ask
        }
    }
}

#[cfg(unix)]
struct Signals([tokio::signal::unix::Signal; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Self> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
