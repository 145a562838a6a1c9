//! The catalogue: what there is to buy. Its products come from a ConfigMap, mounted as a volume.
//!
//! `GET /products` · `GET /products/{id}`.

use super::super::{model::Product, refusal::Refusal};
use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use seedpod::{Error, Kind, Result, pod::Context};
use std::sync::Arc;

/// The image.
pub(super) async fn catalogue(context: Context) -> Result {
    let text = context.volume("catalogue")?.read("products.json")?;
    let products: Vec<Product> = serde_json::from_slice(&text)?;
    let router = Router::new()
        .route("/products", get(async |State(products): State<Arc<[Product]>>| Json(products)))
        .route("/products/{id}", get(one))
        .with_state(products.into());
    super::serve(&context, router).await
}

async fn one(State(products): State<Arc<[Product]>>, Path(id): Path<String>) -> Result<Json<Product>, Refusal> {
    match products.iter().find(|product| product.id == id) {
        Some(product) => Ok(Json(product.clone())),
        None => Err(Error::new(Kind::NotFound, "no such product").at(id).into()),
    }
}
