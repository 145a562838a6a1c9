//! Pausing a queue for all processes: a row of the broker's state, at which every pump looks.

use super::Queue;
use crate::base::{Kind, Name, Result, time};
use crate::queue::{Step, Topic, Want, consume::LOOK};

pub(super) fn paused_key(topic: &Topic) -> Name {
    Name::from(format!("paused/{topic}"))
}

impl<T, C> Queue<T, C> {
    /// Pauses the queue for the workers of all processes, until it is [resumed](Queue::resume): what runs goes on,
    /// submitting goes on. A worker that has taken a job looks, unless its pump has within a second, and gives it back
    /// uncharged. For one pump alone: [`Control::pause`](crate::queue::Control::pause).
    ///
    /// # Errors
    /// [`Kind::Unsupported`] where the broker keeps no state; else the broker's.
    pub async fn pause(&self) -> Result {
        self.set_paused(true).await
    }

    /// Goes on, within a second.
    ///
    /// # Errors
    /// Those of [`pause`](Queue::pause).
    pub async fn resume(&self) -> Result {
        self.set_paused(false).await
    }

    /// Whether it is paused for all processes.
    ///
    /// # Errors
    /// The broker's.
    pub async fn is_paused(&self) -> Result<bool> {
        let inner = &self.inner;
        if !inner.broker.guarantees().keeps_rows() {
            return Ok(false);
        }
        Ok(inner.broker.load(&paused_key(&inner.topic)).await?.0 > 0)
    }

    async fn set_paused(&self, paused: bool) -> Result {
        self.needs_state("keeps no state, so a queue cannot be paused for all")?;
        let (broker, key) = (&self.inner.broker, paused_key(&self.inner.topic));
        loop {
            let (version, _) = broker.load(&key).await?;
            let step = match (paused, version) {
                (true, 0) => Step::new().write(&key, 0, "paused"),
                (false, version) if version > 0 => Step::new().forget(&key, version),
                _ => return Ok(()),
            };
            match broker.settle(step).await {
                Err(error) if error.kind() == Kind::Conflict => {} // another did one or the other meanwhile
                settled => return settled,
            }
        }
    }

    /// Whether it is not paused, or no longer so within the wait.
    pub(super) async fn until_resumed(&self, want: &Want) -> Result<bool> {
        let until = want.until(time::now());
        while self.is_paused().await? {
            let now = time::now();
            if until.is_some_and(|until| until <= now) {
                return Ok(false);
            }
            let next = time::after(now, LOOK);
            time::sleep_until(until.map_or(next, |until| until.min(next))).await;
        }
        Ok(true)
    }
}
