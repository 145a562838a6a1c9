//! Shipping: says what sending costs, and sends what has been ordered, order by order from the queue.
//!
//! `GET /quotes?items=3` · subscription `shipping` of the topic `orders`.

use super::{
    super::{form, model::Quote, refusal::Refusal},
    work,
};
use axum::{Json, Router, extract::RawQuery, routing::get};
use seedpod::{Error, Kind, Result, pod::Context};

/// The image.
pub(super) async fn shipping(context: Context) -> Result {
    let router = Router::new().route("/quotes", get(quote));
    let sent =
        work::orders(&context, "shipping", |order| format!("to {}: {} products", order.address, order.lines.len()));
    tokio::try_join!(super::serve(&context, router), sent)?;
    Ok(())
}

/// From ten items on, shipping is free.
async fn quote(RawQuery(query): RawQuery) -> Result<Json<Quote>, Refusal> {
    let query = form::parse(&query.unwrap_or_default());
    let items: Option<i64> = query.get("items").and_then(|items| items.parse().ok());
    let items = items.ok_or_else(|| Error::new(Kind::Invalid, "how many items?"))?;
    Ok(Json(Quote { price: if items >= 10 { 0 } else { 490 + 20 * items } }))
}
