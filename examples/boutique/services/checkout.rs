//! The checkout: turns a cart into an order that is paid, and hands it to the queue for e-mail and shipping.
//!
//! `GET /costs/{user}?currency=EUR` · `POST /orders` (a purchase, with the order's number as its idempotency key).

use super::{
    super::{
        call::Caller,
        form,
        model::{Cart, Charge, Costs, Money, Order, Product, Purchase, Quote, Receipt},
        refusal::Refusal,
    },
    store::{Change, Records},
};
use axum::{
    Json, Router,
    extract::{FromRef, Path, RawQuery, State},
    routing::{get, post},
};
use seedpod::{
    Error, Kind, Result,
    pod::Context,
    queue::{Broker, BrokerExt, Id, Publish, Topic, TopicOptions},
};
use std::sync::Arc;

#[derive(Clone)]
struct Desk {
    caller: Caller,
    broker: Arc<dyn Broker>,
    orders: Topic,
}

impl FromRef<Desk> for Caller {
    fn from_ref(desk: &Desk) -> Caller {
        desk.caller.clone()
    }
}

/// The topic of paid orders; e-mail and shipping each see every one of them.
pub(super) async fn orders(broker: &dyn Broker) -> Result<Topic> {
    let topic = Topic::new("orders");
    broker.declare(&topic, TopicOptions::new().subscription("email").subscription("shipping")).await?;
    Ok(topic)
}

/// The image.
pub(super) async fn checkout(context: Context) -> Result {
    let broker = context.broker("orders")?;
    let orders = orders(&*broker).await?;
    let desk = Desk { caller: Caller::new(&context), broker, orders };
    let router = Router::new().route("/costs/{user}", get(costs)).route("/orders", post(buy)).with_state(desk);
    super::serve(&context, router).await
}

async fn costs(caller: Caller, Path(user): Path<String>, RawQuery(query): RawQuery) -> Result<Json<Costs>, Refusal> {
    let query = form::parse(&query.unwrap_or_default());
    let currency = query.get("currency").ok_or_else(|| Error::new(Kind::Invalid, "in which currency?"))?;
    Ok(Json(price(&caller, &cart_of(&caller, &user).await?, currency).await?))
}

/// May be asked any number of times for the same order, at any point of an earlier try, even at once.
async fn buy(State(desk): State<Desk>, caller: Caller, Json(purchase): Json<Purchase>) -> Result<Json<Order>, Refusal> {
    let records = Records::new(caller.clone());
    let place = format!("orders/{}", purchase.order);
    if let Some(done) = records.get::<Order>(&place).await? {
        return finish(&caller, &purchase, done.value).await;
    }
    let cart = cart_of(&caller, &purchase.user).await?;
    if cart.lines.is_empty() {
        // another try of this order may have been quicker and emptied it
        let done = records.get::<Order>(&place).await?;
        return Ok(Json(done.ok_or_else(|| Error::new(Kind::Invalid, "the cart is empty"))?.value));
    }

    let costs = price(&caller, &cart, &purchase.currency).await?;
    let charge = Charge { order: purchase.order.clone(), amount: costs.total.clone(), card: purchase.card.clone() };
    let Receipt { transaction } = caller.post("http://payment/charges", &charge).await?;
    let order = Order {
        id: purchase.order.clone(),
        email: purchase.email.clone(),
        address: purchase.address.clone(),
        lines: cart.lines,
        cart: cart.version,
        costs,
        transaction,
    };
    // First to the queue, then on record: a try cut off between the two is made again and publishes again, which the
    // consumers see through. The other way round an order could be on record and never be sent.
    desk.broker.send(Publish::json(&desk.orders, Id::of(&order.id), order.clone())).await?;
    match records.commit(&[Change::create(&place, &order)?]).await {
        Err(error) if !error.is_conflict() => Err(error.into()),
        _ => finish(&caller, &purchase, order).await,
    }
}

/// Empties the cart that has become an order, unless it has changed since.
async fn finish(caller: &Caller, purchase: &Purchase, order: Order) -> Result<Json<Order>, Refusal> {
    caller.delete(format!("http://cart/carts/{}?version={}", purchase.user, order.cart)).await?;
    Ok(Json(order))
}

async fn cart_of(caller: &Caller, user: &str) -> Result<Cart> {
    caller.get(format!("http://cart/carts/{user}")).await
}

async fn price(caller: &Caller, cart: &Cart, currency: &str) -> Result<Costs> {
    let quote: Quote = caller.get(format!("http://shipping/quotes?items={}", cart.items())).await?;
    let products: Vec<Product> = caller.get("http://catalogue/products").await?;
    let mut sum = quote.price;
    for line in &cart.lines {
        let product = products.iter().find(|product| product.id == line.product);
        let product = product.ok_or_else(|| Error::new(Kind::NotFound, "no such product").at(&*line.product))?;
        sum += product.price * i64::from(line.quantity);
    }
    let url = format!("http://currency/convert?to={currency}&amounts={},{sum}", quote.price);
    let [shipping, total]: [Money; 2] = caller.get(url).await?;
    Ok(Costs { shipping, total })
}
