//! Payments: charges a card, once per idempotency key. It signs with the key that it shares with the bank, a Secret.
//!
//! `POST /charges` (a charge, with an idempotency key).

use super::{
    super::{
        call::Caller,
        model::{Charge, Receipt},
        refusal::Refusal,
    },
    Ledger,
};
use axum::{
    Json, Router,
    extract::{FromRef, State},
    routing::post,
};
use seedpod::{
    Error, Kind, Result,
    base::{Rng, hash, sync::Lock, time},
    pod::Context,
};
use std::{sync::Arc, time::Duration};

#[derive(Clone)]
struct Till {
    caller: Caller,
    ledger: Ledger,
    secret: String,
    rng: Arc<Lock<Rng>>,
}

impl FromRef<Till> for Caller {
    fn from_ref(till: &Till) -> Caller {
        till.caller.clone()
    }
}

/// The image.
pub(super) async fn payment(context: Context) -> Result {
    super::serve(&context, router(&context)?).await
}

/// What it serves.
pub(crate) fn router(context: &Context) -> Result<Router> {
    let secret = context.env("BANK_KEY").ok_or_else(|| Error::new(Kind::NotFound, "BANK_KEY is not set"))?;
    let till = Till {
        caller: Caller::new(context),
        ledger: Ledger::new(context, "payment"),
        secret: secret.to_string(),
        rng: Arc::new(Lock::new(context.rng("bank"))),
    };
    Ok(Router::new().route("/charges", post(charge)).with_state(till))
}

async fn charge(
    State(till): State<Till>,
    caller: Caller,
    Json(charge): Json<Charge>,
) -> Result<Json<Receipt>, Refusal> {
    let key = caller.key().ok_or_else(|| Error::new(Kind::Invalid, "a charge needs an idempotency key"))?;
    if charge.card.len() < 12 || charge.amount.minor <= 0 {
        return Err(Error::new(Kind::Rejected, "the bank does not take this card").into());
    }
    let signed = hash::of(format!("{}/{}/{}", till.secret, charge.order, charge.amount).as_bytes());
    let receipt = Receipt { transaction: format!("tx-{signed:016x}") };
    let receipt = till.ledger.once(&caller, key, &charge.order, receipt).await?;
    let wait = Duration::from_millis(till.rng.lock().range(10..40)); // banks take their time to confirm
    time::sleep(wait).await;
    Ok(Json(receipt))
}
