//! The frontend: the shop as a browser sees it. It asks every other service for what a page needs, all at once.
//!
//! What a page can do without (recommendations, advertisements, the list of currencies) does not fail it.

use super::super::{
    call::Caller,
    form,
    model::{Ad, Cart, Costs, Line, Money, Order, Product, Purchase, Recommended},
    page::{self, Frame, Offer},
    refusal,
};
use axum::{
    Router,
    extract::{FromRef, FromRequestParts, Path},
    http::request::Parts,
    response::{AppendHeaders, Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{HeaderMap, header};
use seedpod::{
    Error, Kind, Result,
    base::{Rng, hash, sync::Lock},
    pod::Context,
};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

#[derive(Clone)]
struct Front {
    caller: Caller,
    shop: Arc<str>,
    pod: Arc<str>,
    rng: Arc<Lock<Rng>>,
}

impl FromRef<Front> for Caller {
    fn from_ref(front: &Front) -> Caller {
        front.caller.clone()
    }
}

/// The image.
pub(super) async fn frontend(context: Context) -> Result {
    let front = Front {
        caller: Caller::new(&context),
        shop: context.env("SHOP_NAME").unwrap_or("Shop").into(),
        pod: context.pod().into(),
        rng: Arc::new(Lock::new(context.rng("sessions"))),
    };
    let router = Router::new()
        .route("/", get(home))
        .route("/product/{id}", get(product))
        .route("/cart", get(cart).post(add))
        .route("/checkout", post(checkout))
        .route("/currency", post(currency))
        .route("/style.css", get(async || ([(header::CONTENT_TYPE, "text/css")], page::STYLE)))
        .route("/art.svg", get(async || ([(header::CONTENT_TYPE, "image/svg+xml")], page::ART)))
        .with_state(front);
    super::serve(&context, router).await
}

async fn home(visit: Visit) -> Response {
    let page = async {
        let (frame, offers, recommended, ad) =
            tokio::join!(visit.frame(), visit.offers(), visit.recommended(&[]), visit.ad("garden"));
        let offers = offers?;
        Ok(page::home(&frame, &offers, &page::recommended(&recommended, &offers), &page::ad(ad.as_ref())))
    };
    visit.answer(page.await)
}

async fn product(visit: Visit, Path(id): Path<String>) -> Response {
    let page = async {
        let seen = [id.clone()];
        let (frame, offers, recommended) = tokio::join!(visit.frame(), visit.offers(), visit.recommended(&seen));
        let offers = offers?;
        let offer = offers.iter().find(|offer| offer.product.id == id);
        let offer = offer.ok_or_else(|| Error::new(Kind::NotFound, "there is no such product"))?;
        let ad = visit.ad(&offer.product.category).await;
        Ok(page::product(&frame, offer, &page::recommended(&recommended, &offers), &page::ad(ad.as_ref())))
    };
    visit.answer(page.await)
}

async fn cart(visit: Visit) -> Response {
    let page = async {
        let (frame, cart, offers, costs) = tokio::join!(visit.frame(), visit.cart(), visit.offers(), visit.costs());
        let (cart, offers, costs) = (cart?, offers?, costs?);
        let recommended = visit.recommended(&ids(&cart.lines)).await;
        // the same cart, sent twice, is the same order
        let order = format!("{:016x}", hash::of(format!("{}/{}", visit.session, cart.version).as_bytes()));
        Ok(page::cart(&frame, &cart, &offers, &costs, &order, &page::recommended(&recommended, &offers)))
    };
    visit.answer(page.await)
}

async fn add(visit: Visit, body: String) -> Response {
    let fields = form::parse(&body);
    let added: Result = async {
        let product = fields.get("product").filter(|id| is_token(id));
        let product = product.ok_or_else(|| Error::new(Kind::Invalid, "this form names no product"))?.clone();
        let quantity = fields.get("quantity").and_then(|text| text.parse().ok()).unwrap_or(1).clamp(1, 10);
        let _: Product = visit.caller.get(format!("http://catalogue/products/{product}")).await?;
        let url = format!("http://cart/carts/{}", visit.session);
        let _: Cart = visit.caller.post(url, &Line { product, quantity }).await?;
        Ok(())
    }
    .await;
    match added {
        Ok(()) => visit.with_cookies(Redirect::to("/cart")),
        Err(error) => visit.answer(Err(error)),
    }
}

async fn checkout(visit: Visit, body: String) -> Response {
    let page = async {
        let mut fields = form::parse(&body);
        let mut field = |name: &str| fields.remove(name).unwrap_or_default();
        let purchase = Purchase {
            order: field("order"),
            user: visit.session.clone(),
            currency: visit.currency.clone(),
            email: field("email"),
            address: field("address"),
            card: field("card"),
        };
        if !is_token(&purchase.order) {
            return Err(Error::new(Kind::Invalid, "this form has no order number"));
        }
        // a browser sends no key: the number of the order is as good, and the same when the form is sent again
        let key = visit.key.as_ref().unwrap_or(&purchase.order);
        let order: Order = visit.caller.clone().keyed(key).post("http://checkout/orders", &purchase).await?;
        let seen = ids(&order.lines);
        let (frame, offers, recommended) = tokio::join!(visit.frame(), visit.offers(), visit.recommended(&seen));
        Ok(page::ordered(&frame, &order, &page::recommended(&recommended, &offers.unwrap_or_default())))
    };
    visit.answer(page.await)
}

async fn currency(mut visit: Visit, body: String) -> Response {
    let mut fields = form::parse(&body);
    if let Some(currency) = fields.remove("currency").filter(|currency| is_token(currency)) {
        visit.currency = currency;
    }
    // only within the shop: `//elsewhere` would leave it
    let back = fields.remove("back").filter(|back| back.starts_with('/') && !back.starts_with("//") && back.is_ascii());
    visit.with_cookies(Redirect::to(back.as_deref().unwrap_or("/")))
}

/// Who looks at a page, and at which.
struct Visit {
    front: Front,
    caller: Caller,
    /// The idempotency key that came with the request.
    key: Option<String>,
    session: String,
    currency: String,
    here: String,
}

impl FromRequestParts<Front> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, front: &Front) -> Result<Self, Infallible> {
        let mut cookies = cookies(&parts.headers);
        let mut cookie = |name: &str| cookies.remove(name).filter(|value| is_token(value));
        let fresh = || format!("{:016x}", front.rng.lock().next_u64());
        let caller = Caller::from_request_parts(parts, front).await?;
        let key = caller.key().map(str::to_string);
        Ok(Visit {
            front: front.clone(),
            // where nobody gave a key, the request begins here, and the calls made for it share a new one
            caller: caller.keyed(key.clone().unwrap_or_else(fresh)),
            key,
            session: cookie("session").unwrap_or_else(fresh),
            currency: cookie("currency").unwrap_or_else(|| "EUR".to_string()),
            here: parts.uri.path().to_string(),
        })
    }
}

impl Visit {
    /// What stands around the page; it shows, whatever is missing.
    async fn frame(&self) -> Frame {
        let currencies = self.caller.get("http://currency/currencies");
        let (cart, currencies) = tokio::join!(self.cart(), currencies);
        Frame { items: cart.map_or(0, |cart| cart.items()), ..self.bare(currencies.unwrap_or_default()) }
    }

    fn bare(&self, currencies: Vec<String>) -> Frame {
        Frame {
            shop: self.front.shop.to_string(),
            pod: self.front.pod.to_string(),
            here: self.here.clone(),
            currency: self.currency.clone(),
            currencies,
            items: 0,
        }
    }

    async fn cart(&self) -> Result<Cart> {
        self.caller.get(format!("http://cart/carts/{}", self.session)).await
    }

    /// What the cart costs, shipping included.
    async fn costs(&self) -> Result<Costs> {
        self.caller.get(format!("http://checkout/costs/{}?currency={}", self.session, self.currency)).await
    }

    /// All products, with their prices in the visitor's currency.
    async fn offers(&self) -> Result<Vec<Offer>> {
        let products: Vec<Product> = self.caller.get("http://catalogue/products").await?;
        let amounts: Vec<_> = products.iter().map(|product| product.price.to_string()).collect();
        let url = format!("http://currency/convert?to={}&amounts={}", self.currency, amounts.join(","));
        let prices: Vec<Money> = self.caller.get(url).await?;
        Ok(products.into_iter().zip(prices).map(|(product, price)| Offer { product, price }).collect())
    }

    async fn recommended(&self, seen: &[String]) -> Recommended {
        let url = format!("http://recommendation/recommendations?products={}", seen.join(","));
        self.caller.get(url).await.unwrap_or_default()
    }

    async fn ad(&self, category: &str) -> Option<Ad> {
        self.caller.get(format!("http://ads/ads?category={category}")).await.ok()
    }

    fn answer(&self, page: Result<Html<String>>) -> Response {
        match page {
            Ok(page) => self.with_cookies(page),
            Err(error) => {
                let page = page::sorry(&self.bare(Vec::new()), &error.chain());
                (refusal::status(error.kind()), self.with_cookies(page)).into_response()
            }
        }
    }

    fn with_cookies(&self, answer: impl IntoResponse) -> Response {
        let cookie = |name, value| (header::SET_COOKIE, format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax"));
        let cookies = [cookie("session", &self.session), cookie("currency", &self.currency)];
        (AppendHeaders(cookies), answer).into_response()
    }
}

fn cookies(headers: &HeaderMap) -> BTreeMap<String, String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// What may stand in a URL, a cookie, a key: letters, digits, dashes.
fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn ids(lines: &[Line]) -> Vec<String> {
    lines.iter().map(|line| line.product.clone()).collect()
}
