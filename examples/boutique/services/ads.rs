//! Advertisements: one line for each category.
//!
//! `GET /ads?category=kitchen`.

use super::super::{form, model::Ad};
use axum::{Json, Router, extract::RawQuery, routing::get};
use seedpod::{Result, pod::Context};

const ADS: [(&str, &str, &str); 5] = [
    ("kitchen", "Fresh beans need a good mug. Two for the price of one and a half.", "mug"),
    ("home", "Evenings are longer than you think: our lamp, 20 % off this week.", "lamp"),
    ("outdoor", "The path is the goal. The boots are how you get there.", "boots"),
    ("clothing", "Good shade for fair weather: sunglasses that last.", "sunglasses"),
    ("garden", "Sow today: a packet of seed pods free with every watering can.", "can"),
];

/// The image.
pub(super) async fn ads(context: Context) -> Result {
    super::serve(&context, Router::new().route("/ads", get(choose))).await
}

async fn choose(RawQuery(query): RawQuery) -> Json<Ad> {
    let query = form::parse(&query.unwrap_or_default());
    let wanted = query.get("category").map_or("garden", String::as_str);
    let found = ADS.iter().find(|(category, ..)| *category == wanted);
    let (_, text, product) = found.unwrap_or(&("", "Everything here grew in one process.", "pot"));
    Json(Ad { text: text.to_string(), product: product.to_string() })
}
