//! The pages of the shop: plain HTML from the server, which works without JavaScript.

use super::model::{Ad, Cart, Costs, Money, Order, Product, Recommended};
use axum::response::Html;
use std::fmt::Write;

pub(crate) const STYLE: &str = include_str!("style.css");
pub(crate) const ART: &str = include_str!("art.svg");

/// What every page shows around its content.
pub(crate) struct Frame {
    pub(crate) shop: String,
    pub(crate) pod: String,
    pub(crate) here: String,
    pub(crate) currency: String,
    pub(crate) currencies: Vec<String>,
    pub(crate) items: u32,
}

/// A product with its price in the shopper's currency.
pub(crate) struct Offer {
    pub(crate) product: Product,
    pub(crate) price: Money,
}

impl Frame {
    fn page(&self, title: &str, main: &str) -> Html<String> {
        let currencies = self.currencies.iter().fold(String::new(), |options, currency| {
            let selected = if *currency == self.currency { " selected" } else { "" };
            options + &format!("<option{selected}>{}</option>", text(currency))
        });
        let page = include_str!("layout.html")
            .replace("{{title}}", &text(title))
            .replace("{{shop}}", &text(&self.shop))
            .replace("{{currencies}}", &currencies)
            .replace("{{here}}", &text(&self.here))
            .replace("{{items}}", &self.items.to_string())
            .replace("{{pod}}", &text(&self.pod))
            .replace("{{main}}", main); // last: what is in it is not looked at again
        Html(page)
    }
}

/// The product grid.
pub(crate) fn home(frame: &Frame, offers: &[Offer], recommended: &str, ad: &str) -> Html<String> {
    let main = format!(
        r#"<section class="hero"><h1>Good things for house and garden</h1>
<p class="lead">Chosen with care, packed by hand, sent today. Shipping is free from ten items on.</p></section>
<h2>All products</h2>{}{recommended}{ad}"#,
        grid(offers.iter()),
    );
    frame.page("Home", &main)
}

/// One product.
pub(crate) fn product(frame: &Frame, offer: &Offer, recommended: &str, ad: &str) -> Html<String> {
    let Product { id, name, category, description, .. } = &offer.product;
    let main = format!(
        r#"<section class="product">{art}<div><h1>{name}</h1><p class="note">{category}</p><p>{description}</p>
<p class="price">{price}</p>
<form class="row" method="post" action="/cart"><input type="hidden" name="product" value="{id}">
<label>Quantity <input type="number" name="quantity" value="1" min="1" max="10"></label>
<button class="button">Add to cart</button></form></div></section>{recommended}{ad}"#,
        art = art(id),
        name = text(name),
        category = text(category),
        description = text(description),
        price = text(&offer.price.to_string()),
        id = text(id),
    );
    frame.page(name, &main)
}

/// The cart, with the form that turns it into the order of this number.
pub(crate) fn cart(
    frame: &Frame,
    cart: &Cart,
    offers: &[Offer],
    costs: &Costs,
    order: &str,
    recommended: &str,
) -> Html<String> {
    if cart.lines.is_empty() {
        return frame.page(
            "Cart",
            &format!(r#"<h1>Your cart is empty</h1><p><a href="/">Find something</a></p>{recommended}"#),
        );
    }
    let mut rows = String::new();
    for line in &cart.lines {
        let Some(offer) = offers.iter().find(|offer| offer.product.id == line.product) else { continue };
        let price = Money::new(offer.price.minor * i64::from(line.quantity), &frame.currency);
        let (art, name) = (art(&line.product), text(&offer.product.name));
        let _ = write!(
            rows,
            r#"<tr><td>{art}{name}</td><td class="number">{}</td><td class="number">{}</td></tr>"#,
            line.quantity,
            text(&price.to_string())
        );
    }
    let main = format!(
        r#"<h1>Your cart</h1><table><thead><tr><th>Product</th><th class="number">Quantity</th><th class="number">Price</th></tr></thead>
<tbody>{rows}<tr><td>Shipping</td><td></td><td class="number">{shipping}</td></tr></tbody>
<tfoot><tr><td>Total</td><td></td><td class="number">{total}</td></tr></tfoot></table>
<h2>Checkout</h2><form class="stack" method="post" action="/checkout"><input type="hidden" name="order" value="{order}">
<label>E-mail <input type="email" name="email" value="you@example.org" required></label>
<label>Address <input name="address" value="1 Garden Lane, Springfield" required></label>
<label>Card number <input name="card" value="4432801561520454" required></label>
<button class="button">Place the order</button></form>{recommended}"#,
        shipping = text(&costs.shipping.to_string()),
        total = text(&costs.total.to_string()),
        order = text(order),
    );
    frame.page("Cart", &main)
}

/// The confirmation of an order.
pub(crate) fn ordered(frame: &Frame, order: &Order, recommended: &str) -> Html<String> {
    let main = format!(
        r#"<section class="hero"><h1>Thank you for your order</h1>
<p class="lead">Order <b id="order">{id}</b> is paid: {total}, of which {shipping} for shipping. A confirmation goes to {email};
the parcel goes to {address}.</p><p class="note">Transaction {transaction}</p></section>{recommended}"#,
        id = text(&order.id),
        total = text(&order.costs.total.to_string()),
        shipping = text(&order.costs.shipping.to_string()),
        email = text(&order.email),
        address = text(&order.address),
        transaction = text(&order.transaction),
    );
    frame.page("Thank you", &main)
}

/// A page that says what went wrong.
pub(crate) fn sorry(frame: &Frame, what: &str) -> Html<String> {
    frame.page("Sorry", &format!(r#"<h1>Sorry</h1><p>{}</p><p><a href="/">Back to the shop</a></p>"#, text(what)))
}

/// What else to look at; nothing where nobody recommends anything.
pub(crate) fn recommended(recommended: &Recommended, offers: &[Offer]) -> String {
    let chosen = |offer: &&Offer| recommended.products.contains(&offer.product.id);
    match recommended.products.is_empty() {
        true => String::new(),
        false => format!(
            r#"<h2>{}<span class="badge">recommendation {}</span></h2>{}"#,
            text(&recommended.reason),
            text(&recommended.version),
            grid(offers.iter().filter(chosen)),
        ),
    }
}

/// An advertisement; nothing where there is none.
pub(crate) fn ad(ad: Option<&Ad>) -> String {
    ad.map_or_else(String::new, |ad| {
        format!(
            r#"<a class="ad" href="/product/{}"><small>Advertisement</small>{}</a>"#,
            text(&ad.product),
            text(&ad.text)
        )
    })
}

fn grid<'a>(offers: impl Iterator<Item = &'a Offer>) -> String {
    let cards = offers.map(|Offer { product, price }| {
        format!(
            r#"<li><a class="card" href="/product/{id}">{art}<div><b>{name}</b><small>{category}</small>
<span class="price">{price}</span></div></a></li>"#,
            id = text(&product.id),
            art = art(&product.id),
            name = text(&product.name),
            category = text(&product.category),
            price = text(&price.to_string()),
        )
    });
    format!(r#"<ul class="grid">{}</ul>"#, cards.collect::<String>())
}

fn art(id: &str) -> String {
    format!(r#"<svg viewBox="0 0 64 64" aria-hidden="true"><use href="/art.svg#{}"/></svg>"#, text(id))
}

/// Text as HTML: nothing in it is markup.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_shopper_types_is_markup() {
        let frame = Frame {
            shop: "Shop".into(),
            pod: "p".into(),
            here: "/\"><script>".into(),
            currency: "EUR".into(),
            currencies: vec!["EUR".into(), "USD".into()],
            items: 0,
        };
        let Html(page) = sorry(&frame, "<script>alert('{{here}}')</script>");
        assert!(!page.contains("<script>"), "{page}");
        assert!(page.contains("{{here}}"), "what stands in the content is left alone");
        assert!(page.contains("<option selected>EUR</option><option>USD</option>"));
    }
}
