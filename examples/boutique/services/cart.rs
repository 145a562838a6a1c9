//! Carts: what each shopper has put aside. The pods hold nothing; carts live in the store.
//!
//! `GET /carts/{user}` · `POST /carts/{user}` (a line, with an idempotency key) · `DELETE /carts/{user}?version=…`.

use super::{
    super::{
        call::Caller,
        form,
        model::{Cart, Line},
        refusal::Refusal,
    },
    store::{Change, Record, Records},
};
use axum::{
    Json, Router,
    extract::{Path, RawQuery},
    routing::get,
};
use seedpod::{Error, Kind, Result, pod::Context};
use serde::{Deserialize, Serialize};

/// A cart as it is stored, with the keys of the last requests that changed it: what was added is not added again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    lines: Vec<Line>,
    applied: Vec<String>,
}

/// How many requests a cart remembers.
const REMEMBERED: usize = 32;

/// How often a change is tried against other changes of the same cart.
const TRIES: usize = 8;

/// The image.
pub(super) async fn cart(context: Context) -> Result {
    let router =
        Router::new().route("/carts/{user}", get(read).post(add).delete(empty)).with_state(Caller::new(&context));
    super::serve(&context, router).await
}

async fn read(caller: Caller, Path(user): Path<String>) -> Result<Json<Cart>, Refusal> {
    let stored = load(&Records::new(caller), &user).await?;
    Ok(Json(Cart { lines: stored.value.lines, version: stored.revision }))
}

async fn add(caller: Caller, Path(user): Path<String>, Json(line): Json<Line>) -> Result<Json<Cart>, Refusal> {
    let key = caller.key().map(str::to_string);
    let key = key.ok_or_else(|| Error::new(Kind::Invalid, "adding to a cart needs an idempotency key"))?;
    let records = Records::new(caller);
    for _ in 0..TRIES {
        let Record { key: place, revision, value: mut stored } = load(&records, &user).await?;
        if stored.applied.contains(&key) {
            return Ok(Json(Cart { lines: stored.lines, version: revision }));
        }
        put(&mut stored.lines, &line);
        stored.applied.push(key.clone());
        let forgotten = stored.applied.len().saturating_sub(REMEMBERED);
        stored.applied.drain(..forgotten);
        match records.commit(&[Change::replace(place, revision, &stored)?]).await {
            Ok(version) => return Ok(Json(Cart { lines: stored.lines, version })),
            Err(error) if error.is_conflict() => {} // somebody was quicker, perhaps we ourselves: look again
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::new(Kind::Overloaded, "too many changes at once").at(user).into())
}

/// Empties a cart that has not changed since this version; what was put in later stays.
async fn empty(caller: Caller, Path(user): Path<String>, RawQuery(query): RawQuery) -> Result<Json<()>, Refusal> {
    let version = form::parse(&query.unwrap_or_default()).get("version").and_then(|text| text.parse().ok());
    let version = version.ok_or_else(|| Error::new(Kind::Invalid, "which version is to go?"))?;
    match Records::new(caller).commit(&[Change::remove(place(&user), version)]).await {
        Err(error) if !error.is_conflict() => Err(error.into()),
        _ => Ok(Json(())),
    }
}

fn put(lines: &mut Vec<Line>, line: &Line) {
    match lines.iter_mut().find(|there| there.product == line.product) {
        Some(there) => there.quantity += line.quantity,
        None => lines.push(line.clone()),
    }
}

async fn load(records: &Records, user: &str) -> Result<Record<Stored>> {
    let nothing = || Record { key: place(user), revision: 0, value: Stored::default() };
    Ok(records.get(&place(user)).await?.unwrap_or_else(nothing))
}

fn place(user: &str) -> String {
    format!("carts/{user}")
}
