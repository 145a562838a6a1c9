//! Work from the queue: each order's effect, carried out once.

use super::{
    super::{call::Caller, model::Order, telemetry::Reporter},
    Ledger, checkout,
};
use seedpod::{
    Result,
    base::Backoff,
    pod::{Container, Context},
    queue::{self, Message},
};
use std::{sync::Arc, time::Duration};

/// Takes orders from this subscription until the container is told to stop, and writes down what was done for each.
///
/// An order is acknowledged only once its effect is in the ledger. Where the pod dies between the two, the order comes
/// to another pod when its lease has run out, and the claim tells that one that all is done.
pub(super) async fn orders(
    context: &Context,
    effect: &'static str,
    does: impl Fn(&Order) -> String + Send + Sync + 'static,
) -> Result {
    let broker = context.broker("orders")?;
    let orders = checkout::orders(&*broker).await?;
    let (caller, ledger, does) = (Caller::new(context), Ledger::new(context, effect), Arc::new(does));
    let reporter = Reporter::new(context);
    let once = tower::service_fn(move |message: Message| {
        let (caller, ledger, does) = (caller.clone(), ledger.clone(), does.clone());
        let flight = reporter.arrived("order".to_string());
        async move {
            let order: Order = message.json()?;
            let done = ledger.once(&caller.keyed(&order.id), &order.id, &order.id, does(&order)).await;
            flight.answered(done.is_ok());
            done.map(drop)
        }
    });
    queue::consume(broker, orders.subscription(effect), once)
        .concurrency(4)
        .hold(Duration::from_secs(3))
        .backoff(Backoff::new(Duration::from_millis(100), Duration::from_secs(2)))
        .run(context.clone())
        .await
}
