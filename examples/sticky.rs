//! Sticky sessions: baskets that live in the memory of one server each, and a cookie that finds it again.
//!
//! Three carts stand behind a balancer, all of them real HTTP servers on a network in memory. The balancer remembers
//! nothing: the cookie that it signs names the cart, and only who has the key can read it.
//!
//! ```text
//! cargo run --example sticky
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use http::{
    HeaderValue, Request,
    header::{COOKIE, SET_COOKIE},
};
use seedpod::{
    Error,
    base::{Seed, sync::Lock, time},
    http::{Body, Client, serve},
    layer::HttpStatus,
    net::{Host, HostOptions, Net},
    serving::{
        Endpoints, Replicas,
        affinity::{Cookie, CookieKey},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::IntoFuture,
    sync::Arc,
    time::Duration,
};
use tower::{ServiceExt, service_fn};

const VISITORS: usize = 30;
const THINGS: usize = 5;

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and one seed, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let _simulation = Seed::new(7).simulate();
    runtime.block_on(tell())
}

async fn tell() -> seedpod::Result<String> {
    let net = Net::memory().build();
    let browser = Client::new(&host(&net, "browser")?);
    let mut story =
        vec![format!("{VISITORS} visitors put {THINGS} things each into a basket, which one of 3 carts keeps")];

    let plain = Replicas::new(carts(&net, "plain").await?).classify(HttpStatus);
    let mut visitors: Vec<Visitor> = (0..VISITORS).map(Visitor::new).collect();
    let url = expose(&net, "plain-balancer", plain).await?;
    story.push(format!("without sessions: {}", shop(&browser, &url, &mut visitors).await?));

    let endpoints = carts(&net, "cart").await?;
    let cookie = Cookie::new("seat", CookieKey::new(b"thirty-two bytes, known to no one")?)?.secure(false);
    let sticky = Replicas::new(endpoints.clone()).classify(HttpStatus).sticky(cookie.clone());
    let url = expose(&net, "balancer", sticky.clone()).await?;
    let mut visitors: Vec<Visitor> = (0..VISITORS).map(Visitor::new).collect();
    story.push(format!("with a cookie:    {}", shop(&browser, &url, &mut visitors).await?));
    story.push(format!("the cookie: {}", visitors.first().map_or("", |visitor| &visitor.cookie)));

    let before: Vec<String> = visitors.iter().map(|visitor| visitor.cart.clone()).collect();
    endpoints.drain("cart-b");
    shop(&browser, &url, &mut visitors).await?;
    let moved: Vec<_> = visitors.iter().zip(&before).filter(|(now, before)| now.cart != **before).collect();
    let to: BTreeSet<&str> = moved.iter().map(|(now, _)| now.cart.as_str()).collect();
    let moves: u64 = sticky.stats().moved;
    story.push(format!(
        "cart-b drains: its {} sessions move to {}, in {moves} moves; {} stay where they are",
        moved.len(),
        to.into_iter().collect::<Vec<_>>().join(" and "),
        VISITORS - moved.len()
    ));
    endpoints.drained("cart-b").await?;
    endpoints.remove("cart-b");
    shop(&browser, &url, &mut visitors).await?;
    story.push(format!("cart-b is gone: {} more", sticky.stats().moved - moves));

    let mut thief = Visitor::new(VISITORS);
    thief.cookie = visitors.first().map(|visitor| flip(&visitor.cookie)).unwrap_or_default();
    let forged = thief.cookie.clone();
    thief.put(&browser, &url).await?;
    let new = if thief.cookie == forged { "the forged one" } else { "a new one" };
    story.push(format!(
        "one digit is changed: counted as forged {} time, and answered with {new}",
        sticky.stats().forged
    ));
    time::sleep(Duration::from_secs(3_600)).await;
    if let Some(visitor) = visitors.first_mut() {
        visitor.put(&browser, &url).await?;
    }
    story.push(format!("an hour later: {}", sticky.stats()));

    let strict = Replicas::new(endpoints.clone()).classify(HttpStatus).sticky(cookie).strict(true);
    let first = strict.clone().oneshot(Request::get("/").header("visitor", "0").body(Body::empty())?).await?;
    let mut again = Request::get("/").header("visitor", "0").body(Body::empty())?;
    again.headers_mut().extend(first.headers().get(SET_COOKIE).map(|set| (COOKIE, sent_back(set))));
    endpoints.drain("cart-a");
    endpoints.drain("cart-c");
    let error = strict.oneshot(again).await.err().map(|error| error.to_string());
    story.push(format!("strict sessions do not move: {}", error.unwrap_or_default()));
    Ok(story.join("\n"))
}

fn host(net: &Net, name: &str) -> seedpod::Result<Host> {
    net.host(HostOptions { name: name.into(), ..Default::default() })
}

/// Three carts, each a server that keeps the baskets of its visitors in its memory.
async fn carts(net: &Net, name: &str) -> seedpod::Result<Endpoints<Client>> {
    let (endpoints, balancer) = (Endpoints::named(name), host(net, &format!("{name}-endpoints"))?);
    for letter in ["a", "b", "c"] {
        let (key, baskets) = (format!("cart-{letter}"), Arc::new(Lock::new(BTreeMap::<HeaderValue, usize>::new())));
        let server = host(net, &format!("{name}-{letter}"))?;
        let said = key.clone();
        let keep = service_fn(move |request: Request<Body>| {
            let visitor = request.headers().get("visitor").cloned();
            let things = visitor.map_or(0, |visitor| {
                let mut baskets = baskets.lock();
                let things = baskets.entry(visitor).or_default();
                *things += 1;
                *things
            });
            let answer = format!("{said} {things}");
            async move { Ok::<_, Infallible>(seedpod::http::text(200, answer)) }
        });
        server.scope().spawn(serve(server.listen(80).await?, keep).into_future());
        endpoints.insert(key, Client::new(&balancer).base(&format!("http://{}", server.ip()))?);
    }
    Ok(endpoints)
}

/// Serves this on a host of its own; its address.
async fn expose<S>(net: &Net, name: &str, service: S) -> seedpod::Result<String>
where
    S: tower::Service<Request<Body>, Response = http::Response<Body>, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    let server = host(net, name)?;
    server.scope().spawn(serve(server.listen(80).await?, service).into_future());
    Ok(format!("http://{}/", server.ip()))
}

/// Somebody with a browser.
struct Visitor {
    name: String,
    cookie: String,
    /// Who has answered last, and how many things are in the basket there.
    cart: String,
    things: usize,
}

impl Visitor {
    fn new(number: usize) -> Self {
        Visitor { name: number.to_string(), cookie: String::new(), cart: String::new(), things: 0 }
    }

    /// Puts one thing into the basket.
    async fn put(&mut self, browser: &Client, url: &str) -> seedpod::Result {
        let request = Request::post(url).header("visitor", &self.name).header(COOKIE, &self.cookie);
        let response = browser.clone().oneshot(request.body(Body::empty())?).await?;
        if let Some(set) = response.headers().get(SET_COOKIE) {
            self.cookie = sent_back(set).to_str().unwrap_or_default().to_owned();
        }
        let answer = response.into_body().text().await?;
        let (cart, things) = answer.split_once(' ').unwrap_or_default();
        (self.cart, self.things) = (cart.to_owned(), things.parse().unwrap_or_default());
        Ok(())
    }
}

/// Everybody puts their things into their baskets, one after another; how many find all of them there.
async fn shop(browser: &Client, url: &str, visitors: &mut [Visitor]) -> seedpod::Result<String> {
    for _ in 0..THINGS {
        for visitor in visitors.iter_mut() {
            visitor.put(browser, url).await?;
        }
    }
    let whole = visitors.iter().filter(|visitor| visitor.things == THINGS).count();
    Ok(format!("{whole} of {VISITORS} find all {THINGS} in it"))
}

/// A cookie without its attributes, as browsers send it.
fn sent_back(set: &HeaderValue) -> HeaderValue {
    let pair = set.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    HeaderValue::from_bytes(pair).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The last digit is another one.
fn flip(cookie: &str) -> String {
    let (rest, last) = cookie.split_at(cookie.len().saturating_sub(1));
    format!("{rest}{}", if last == "0" { "1" } else { "0" })
}
