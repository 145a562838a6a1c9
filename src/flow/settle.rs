//! How a stage settles: all at once, and while that takes, it holds what it leased.

use super::{
    fault::Fault,
    fused::Made,
    live::{Live, LiveInput, RECONNECT},
    part::Part,
};
use crate::base::{Error, Few, Kind, Result, Rng, time};
use crate::queue::{Charge, Delivery, Lease, Retry, Step};
use std::{future::Future, pin::pin, time::Duration};

/// How long it waits for room once it was told to stop.
const PATIENCE: Duration = Duration::from_secs(1);

impl Live {
    /// Settles all in one step; where that is refused, each by itself.
    pub(super) async fn settle_all(&self, input: &LiveInput, parts: Vec<Part>, rng: &mut Rng) -> Result {
        if parts.is_empty() {
            return Ok(());
        }
        let held: Few<Lease> = parts.iter().map(|part| part.lease()).collect();
        let whole = parts.iter().fold(Step::new(), |step, part| part.settle(step));
        match self.settle(whole, &held, rng).await {
            Ok(()) => parts.iter().for_each(|part| self.count(part)),
            Err(error) => {
                let alone = parts.len() == 1;
                for (at, part) in parts.into_iter().enumerate() {
                    let settled = match alone {
                        true => Err(error.clone()),
                        false => self.settle(part.settle(Step::new()), held.get(at..).unwrap_or_default(), rng).await,
                    };
                    match settled {
                        Ok(()) => self.count(&part),
                        Err(error) if error.kind() == Kind::LeaseLost => self.lose(part.delivery.len()),
                        Err(error) => self.refused(input, &part.delivery, error, rng).await?,
                    }
                }
            }
        }
        Ok(())
    }

    /// What it made cannot be committed: whose fault it is shows when each item is tried alone.
    async fn refused(&self, input: &LiveInput, delivery: &Delivery, error: Error, rng: &mut Rng) -> Result {
        if matches!(error.kind(), Kind::NotFound | Kind::Closed | Kind::Unsupported | Kind::Conflict) {
            return Err(error.at(format!("stage {}", self.name())));
        }
        self.note(format_args!("what it made was refused: {}", error.chain()));
        let step = if delivery.len() == 1 {
            let made = Made { faults: vec![(0, Fault::Failed(error))], ..Made::default() };
            self.part(input, delivery, made, rng).settle(Step::new())
        } else {
            let alone = |at| Retry::new(delivery.lease).items(at..at + 1).charge(Charge::Nothing);
            let mut step = Step::new();
            step.retries.extend((0..delivery.len()).map(alone));
            step
        };
        match self.settle(step, &[delivery.lease], rng).await {
            Err(error) if error.kind() == Kind::LeaseLost => Ok(()),
            settled => settled,
        }
    }

    pub(super) async fn hand_back(&self, deliveries: &[Delivery], rng: &mut Rng) -> Result {
        let mut step = Step::new();
        let back = |delivery: &Delivery| Retry::new(delivery.lease).charge(Charge::Nothing);
        step.retries.extend(deliveries.iter().map(back));
        let held: Few<Lease> = deliveries.iter().map(|delivery| delivery.lease).collect();
        match self.settle(step, &held, rng).await {
            Err(error) if error.kind() == Kind::LeaseLost => Ok(()),
            settled => settled,
        }
    }

    /// Settles; while the broker is out of reach, again and again. Leases are held meanwhile: a full topic further down
    /// may take longer than they last.
    pub(super) async fn settle(&self, mut step: Step, held: &[Lease], rng: &mut Rng) -> Result {
        let mut refused = 0;
        loop {
            let settled = async {
                if !self.atomic && !step.publishes.is_empty() {
                    self.broker.publish(step.publishes.clone()).await?;
                    step.publishes = Few::new(); // confirmed: only now are the inputs acknowledged
                }
                self.broker.settle(step.clone()).await
            };
            let settled = tokio::select! {
                biased;
                settled = self.holding(held, settled) => settled,
                () = self.out_of_patience() => return self.let_go(held).await,
            };
            match settled {
                None => return Err(Error::new(Kind::LeaseLost, "while it waited to be settled")),
                Some(Err(error)) if error.is_retryable() => {
                    let wait = error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, rng));
                    refused += 1;
                    if self.holding(held, time::sleep(wait)).await.is_none() {
                        return Err(Error::new(Kind::LeaseLost, "while the broker was out of reach").because(error));
                    }
                }
                Some(settled) => return settled,
            }
        }
    }

    /// Resolves a while after it was told to stop.
    async fn out_of_patience(&self) {
        self.stopping.cancelled().await;
        time::sleep(PATIENCE).await;
    }

    /// Gives back, uncharged, what finds no room while it has to stop.
    async fn let_go(&self, held: &[Lease]) -> Result {
        for lease in held {
            let back = Retry::new(*lease).charge(Charge::Nothing);
            // where that fails it comes back when its lease has run out
            let _ = self.broker.settle(Step::new().retry(back)).await;
        }
        Err(Error::new(Kind::LeaseLost, "handed back: it found no room, and was told to stop"))
    }

    /// Runs this while the leases are renewed; none where all of them are lost.
    pub(super) async fn holding<F: Future>(&self, held: &[Lease], work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let mut held: Few<Lease> = held.iter().copied().collect();
        loop {
            tokio::select! {
                biased;
                out = &mut work => return Some(out),
                () = time::sleep(self.stage.tuning.hold / 2) => {}
            }
            let mut extend = Step::new();
            extend.extensions.extend(held.iter().map(|lease| (*lease, self.stage.tuning.hold)));
            match self.broker.settle(extend).await {
                Err(error) if error.kind() == Kind::LeaseLost => {
                    let mut left = Few::new();
                    for lease in held {
                        let extended = self.broker.settle(Step::new().extend(lease, self.stage.tuning.hold)).await;
                        if !extended.is_err_and(|error| error.kind() == Kind::LeaseLost) {
                            left.push(lease);
                        }
                    }
                    if left.is_empty() {
                        return None;
                    }
                    held = left;
                }
                _ => {} // out of reach: the lease may last until the next time
            }
        }
    }
}
