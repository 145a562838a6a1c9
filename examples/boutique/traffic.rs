//! The shoppers: each looks around, fills a cart, perhaps changes the currency, and mostly buys in the end.
//!
//! They use the pages of the shop as a browser without JavaScript would: links, forms, cookies. Their client has a
//! deadline and tries again, with the same idempotency key, as a careful client does.

use super::{call::Stack, form};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use seedpod::{
    Error, Kind, Result,
    base::{
        Rng, Seed,
        sync::{
            Arc, Lock,
            atomic::{AtomicBool, Ordering},
        },
        time,
    },
    layer::http::IDEMPOTENCY_KEY,
};
use std::{collections::BTreeSet, time::Duration};
use tokio::task::JoinSet;
use tower::ServiceExt;

/// What the shoppers have seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Orders whose checkout was answered with 200.
    pub(crate) orders: BTreeSet<String>,
    /// The first few failures, in words.
    pub(crate) failures: Vec<String>,
}

/// What a shopper does next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Home,
    Currency(&'static str),
    Look(&'static str),
    Add(&'static str, u64),
    Cart,
    Checkout,
}

const PRODUCTS: [&str; 13] = [
    "mug",
    "kettle",
    "lamp",
    "blanket",
    "clock",
    "boots",
    "tent",
    "sunglasses",
    "scarf",
    "can",
    "pot",
    "gloves",
    "seeds",
];
const CURRENCIES: [&str; 5] = ["EUR", "USD", "GBP", "CHF", "JPY"];

/// One visit to the shop, drawn.
fn visit(rng: &mut Rng) -> Vec<Step> {
    let mut steps = vec![Step::Home];
    if rng.chance(0.25) {
        steps.extend(rng.choose(&CURRENCIES).map(|currency| Step::Currency(currency)));
    }
    for _ in 0..rng.range(1..4) {
        let product = rng.choose(&PRODUCTS).copied().unwrap_or("mug");
        steps.push(Step::Look(product));
        if rng.chance(0.8) {
            steps.push(Step::Add(product, rng.range(1..4)));
        }
    }
    steps.push(Step::Cart);
    if steps.iter().any(|step| matches!(step, Step::Add(..))) && rng.chance(0.9) {
        steps.push(Step::Checkout);
    }
    steps
}

/// Sends so many shoppers to the shop until it is closing; they are gone when this returns.
pub(crate) async fn shop(closing: Arc<AtomicBool>, shoppers: u64, seed: Seed, stack: Stack, tally: Arc<Lock<Tally>>) {
    let mut tasks = JoinSet::new();
    for number in 0..shoppers {
        let rng = seed.fork("shoppers").fork_index(number).rng();
        let (stack, tally) = (stack.clone(), tally.clone());
        let shopper = Shopper { rng, stack, tally, session: String::new(), currency: "EUR" };
        tasks.spawn(shopper.shop(closing.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

struct Shopper {
    rng: Rng,
    stack: Stack,
    tally: Arc<Lock<Tally>>,
    session: String,
    currency: &'static str,
}

impl Shopper {
    async fn shop(mut self, closing: Arc<AtomicBool>) {
        loop {
            self.session = format!("{:016x}", self.rng.next_u64());
            let mut order = None;
            for step in visit(&mut self.rng) {
                let think = Duration::from_millis(self.rng.range(10..70));
                time::sleep(think).await;
                if closing.load(Ordering::Relaxed) {
                    return;
                }
                match self.take(&step, order.take()).await {
                    Ok(number) => order = number,
                    Err(error) => {
                        let mut tally = self.tally.lock();
                        tally.failed += 1;
                        if tally.failures.len() < 10 {
                            tally.failures.push(format!("{step:?}: {}", error.chain()));
                        }
                        break; // a shopper who sees an error starts anew
                    }
                }
            }
        }
    }

    /// Does one step; the cart page gives out the number of the order.
    async fn take(&mut self, step: &Step, order: Option<String>) -> Result<Option<String>> {
        let key = format!("{:016x}", self.rng.next_u64());
        match *step {
            Step::Home => self.get("/").await.map(|_| None),
            Step::Look(product) => self.get(&format!("/product/{product}")).await.map(|_| None),
            Step::Cart => {
                let page = self.get("/cart").await?;
                Ok(between(&page, r#"name="order" value=""#, "\"").map(str::to_string))
            }
            Step::Currency(currency) => {
                self.post("/currency", &key, &[("currency", currency), ("back", "/")], StatusCode::SEE_OTHER).await?;
                self.currency = currency;
                Ok(None)
            }
            Step::Add(product, quantity) => {
                let fields = [("product", product), ("quantity", &quantity.to_string())];
                self.post("/cart", &key, &fields, StatusCode::SEE_OTHER).await.map(|_| None)
            }
            Step::Checkout => {
                let order = order.ok_or_else(|| Error::new(Kind::Failed, "the cart page has no order number"))?;
                let fields = [
                    ("order", order.as_str()),
                    ("email", "shopper@example.org"),
                    ("address", "1 Garden Lane, Springfield"),
                    ("card", "4432801561520454"),
                ];
                let page = self.post("/checkout", &order, &fields, StatusCode::OK).await?;
                let confirmed = between(&page, r#"id="order">"#, "<").map(str::to_string);
                self.tally.lock().orders.extend(confirmed);
                Ok(None)
            }
        }
    }

    async fn get(&self, path: &str) -> Result<String> {
        self.send(Request::get(format!("http://frontend{path}")), Bytes::new(), StatusCode::OK).await
    }

    async fn post(&self, path: &str, key: &str, fields: &[(&str, &str)], expected: StatusCode) -> Result<String> {
        let request = Request::post(format!("http://frontend{path}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(IDEMPOTENCY_KEY, key);
        self.send(request, form::print(fields).into(), expected).await
    }

    async fn send(&self, request: http::request::Builder, body: Bytes, expected: StatusCode) -> Result<String> {
        self.tally.lock().requests += 1;
        let cookies = format!("session={}; currency={}", self.session, self.currency);
        let request = request.header(header::COOKIE, cookies).body(body)?;
        let response: Response<Bytes> = self.stack.clone().oneshot(request).await?;
        let page = String::from_utf8_lossy(response.body()).into_owned();
        match response.status() {
            status if status == expected => Ok(page),
            status => {
                let said = between(&page, "<h1>Sorry</h1><p>", "</p>").unwrap_or(&page);
                Err(Error::new(Kind::Failed, format!("{status}: {said}")))
            }
        }
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_buys_has_something_in_the_cart() {
        let mut rng = Seed::new(1).rng();
        let visits: Vec<_> = (0..10_000).map(|_| visit(&mut rng)).collect();
        let bought = visits.iter().filter(|steps| steps.contains(&Step::Checkout)).count();
        assert!((7_000..9_500).contains(&bought), "{bought}");
        for steps in visits.iter().filter(|steps| steps.contains(&Step::Checkout)) {
            assert!(steps.iter().any(|step| matches!(step, Step::Add(..))));
            assert_eq!(steps[steps.len() - 2..], [Step::Cart, Step::Checkout]);
        }
        assert_eq!(visit(&mut Seed::new(7).rng()), visit(&mut Seed::new(7).rng()));
    }
}
