//! Throttle: not faster than so many items per second.

use crate::flow::Stream;

impl<In, C> Stream<In, C> {
    /// The stage in the making takes at most so many items per second, evenly, in each process that runs it: its workers
    /// share the rate. What waits, waits in its topic. 0 counts as 1.
    ///
    /// ```
    /// use seedpod::{flow::Flow, queue::{Id, Memory}};
    /// use std::{sync::Arc, time::Duration};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
    /// let mut flow = Flow::new("mails");
    /// flow.source::<u32>("mails").throttle(5).map(|mail| mail + 1).sink("sent");
    /// let run = flow.build()?.on(Arc::new(Memory::new()));
    /// run.input::<u32>("mails").await?.batch(Id::of("monday"), (0..100).collect()).await?;
    /// let begin = tokio::time::Instant::now();
    /// run.until_drained().await?;
    /// assert!(begin.elapsed() >= Duration::from_secs(19));
    /// # Ok(()) }
    /// ```
    pub fn throttle(self, per_second: u32) -> Self {
        self.tune(|stage| stage.per_second(per_second))
    }
}
