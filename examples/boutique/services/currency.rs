//! Currencies: converts the catalogue's euros. The rates come from a ConfigMap, as an environment variable.
//!
//! `GET /currencies` · `GET /convert?to=USD&amounts=1250,899`.

use super::super::{form, model::Money, refusal::Refusal};
use axum::{
    Json, Router,
    extract::{RawQuery, State},
    routing::get,
};
use seedpod::{Error, Kind, Result, pod::Context};
use std::{collections::BTreeMap, sync::Arc};

type Rates = Arc<BTreeMap<String, f64>>;

/// The image.
pub(super) async fn currency(context: Context) -> Result {
    let rates = context.env("RATES").ok_or_else(|| Error::new(Kind::NotFound, "RATES is not set"))?;
    let rates: BTreeMap<String, f64> = serde_json::from_str(rates)?;
    let router = Router::new()
        .route("/currencies", get(async |State(rates): State<Rates>| Json(rates.keys().cloned().collect::<Vec<_>>())))
        .route("/convert", get(convert))
        .with_state(Arc::new(rates));
    super::serve(&context, router).await
}

async fn convert(State(rates): State<Rates>, RawQuery(query): RawQuery) -> Result<Json<Vec<Money>>, Refusal> {
    let query = form::parse(&query.unwrap_or_default());
    let (to, amounts) = match (query.get("to"), query.get("amounts")) {
        (Some(to), Some(amounts)) => (to, amounts),
        _ => return Err(Error::new(Kind::Invalid, "convert needs `to` and `amounts`").into()),
    };
    let rate = rates.get(to).ok_or_else(|| Error::new(Kind::NotFound, "no such currency").at(to.as_str()))?;
    let amounts = amounts.split(',').filter(|amount| !amount.is_empty()).map(|amount| match amount.parse() {
        Ok(cents) => Ok(exchange(cents, to, *rate)),
        Err(_) => Err(Error::new(Kind::Invalid, format!("{amount:?} is no amount"))),
    });
    Ok(Json(amounts.collect::<Result<_>>()?))
}

fn exchange(cents: i64, to: &str, rate: f64) -> Money {
    let units = cents as f64 / 100.0 * rate;
    Money::new((units * 10_f64.powi(Money::digits(to) as i32)).round() as i64, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_keeps_its_own_digits() {
        assert_eq!(exchange(1250, "USD", 1.08).to_string(), "$13.50");
        assert_eq!(exchange(1250, "JPY", 162.4).to_string(), "¥2030");
        assert_eq!(exchange(1, "EUR", 1.0).to_string(), "€0.01");
    }
}
