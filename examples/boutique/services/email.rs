//! E-mail: confirms what has been ordered, order by order from the queue. It serves nothing but its probes.
//!
//! Subscription `email` of the topic `orders`.

use super::work;
use axum::Router;
use seedpod::{Error, Kind, Result, pod::Context};

/// The image.
pub(super) async fn email(context: Context) -> Result {
    let sender = context.env("SENDER").ok_or_else(|| Error::new(Kind::NotFound, "SENDER is not set"))?.to_string();
    let sent = work::orders(&context, "email", move |order| {
        format!("from {sender} to {}: your order {} over {}", order.email, order.id, order.costs.total)
    });
    tokio::try_join!(super::serve(&context, Router::new()), sent)?;
    Ok(())
}
