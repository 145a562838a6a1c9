//! Reads the sinks, by a connection without trouble: one that is full holds up all the others. What is taken is kept in
//! the step that acknowledges it, so that it is known to the item whatever becomes of the broker.

use super::{graph::Plan, trouble::Trouble};
use seedpod::{
    Result,
    base::{Name, time},
    queue::{Broker, Step, Subscription, Want},
};
use std::{sync::Arc, time::Duration};

pub(super) const READ: Duration = Duration::from_millis(30);

/// The readers of all sinks.
#[derive(Clone)]
pub(super) struct Readers {
    sinks: Vec<(Name, Subscription)>,
}

impl Readers {
    pub(super) fn new(plan: &Plan) -> Readers {
        let sink = |number: usize| {
            let name = format!("sink-{number}");
            (Name::from(format!("read/{name}")), plan.graph.subscription(&name).unwrap())
        };
        Readers { sinks: (0..plan.sinks.len()).map(sink).collect() }
    }

    /// Reads until it is killed; what the broker does not take is tried again when there is one that does.
    pub(super) async fn read(self, broker: Arc<Trouble>) {
        loop {
            time::sleep(READ).await;
            let current = broker.current();
            for sink in &self.sinks {
                while matches!(more(&*current, sink).await, Ok(true)) {}
            }
        }
    }

    /// What they have taken, each item as its JSON.
    pub(super) async fn kept(&self, broker: &dyn Broker) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for (key, _) in &self.sinks {
            all.push(kept(broker, key).await.unwrap().1);
        }
        all
    }
}

async fn kept(broker: &dyn Broker, key: &Name) -> Result<(u64, Vec<String>)> {
    let (version, bytes) = broker.load(key).await?;
    let items = if version == 0 { Vec::new() } else { serde_json::from_slice(&bytes).unwrap() };
    Ok((version, items))
}

/// Takes what is there; whether that was something.
async fn more(broker: &dyn Broker, (key, subscription): &(Name, Subscription)) -> Result<bool> {
    let deliveries = broker.lease(subscription, Want::items(1000).wait(Duration::ZERO)).await?;
    if deliveries.is_empty() {
        return Ok(false);
    }
    let (version, mut items) = kept(broker, key).await?;
    let mut step = Step::new();
    for delivery in deliveries {
        let texts = (0..delivery.len()).map(|at| String::from_utf8(delivery.bytes(at).unwrap().to_vec()).unwrap());
        items.extend(texts);
        step = step.ack(delivery.lease);
    }
    broker.settle(step.write(key, version, serde_json::to_vec(&items).unwrap())).await?;
    Ok(true)
}
