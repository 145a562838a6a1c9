//! Recommendations, in two versions that can be told apart: what is popular, and what goes with the basket.
//!
//! `GET /recommendations?products=mug,lamp`.

use super::super::{
    call::Caller,
    form,
    model::{Product, Recommended},
    refusal::Refusal,
};
use axum::{Json, Router, extract::RawQuery, routing::get};
use seedpod::{Result, pod::Context};

/// How many products are recommended.
const SHOWN: usize = 4;

/// The image `v1`: the same popular things for everybody.
pub(super) async fn recommendation_v1(context: Context) -> Result {
    run(context, "v1", "Popular in the shop", |product, _| usize::from(product.price > 5000)).await
}

/// The image `v2`: things of the same kind first.
pub(super) async fn recommendation_v2(context: Context) -> Result {
    run(context, "v2", "Goes well with your choice", |product, seen| {
        usize::from(!seen.iter().any(|other| other.category == product.category))
    })
    .await
}

async fn run(
    context: Context,
    version: &'static str,
    reason: &'static str,
    rank: fn(&Product, seen: &[&Product]) -> usize,
) -> Result {
    let recommend = async move |caller: Caller, RawQuery(query): RawQuery| -> Result<Json<Recommended>, Refusal> {
        let query = form::parse(&query.unwrap_or_default());
        let seen: Vec<_> = query.get("products").into_iter().flat_map(|ids| ids.split(',')).collect();
        let products: Vec<Product> = caller.get("http://catalogue/products").await?;
        let (seen, mut others): (Vec<_>, Vec<_>) = products.iter().partition(|product| seen.contains(&&*product.id));
        others.sort_by_key(|product| rank(product, &seen)); // stable: the catalogue's order among equals
        let products = others.iter().take(SHOWN).map(|product| product.id.clone()).collect();
        Ok(Json(Recommended { version: version.into(), reason: reason.into(), products }))
    };
    let router = Router::new().route("/recommendations", get(recommend)).with_state(Caller::new(&context));
    super::serve(&context, router).await
}
