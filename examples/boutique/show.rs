//! The show: the shop opens, people shop, things go wrong, and in the end the books are compared.

use super::{
    call::{self, Caller},
    disruption,
    shop::Shop,
    summary::{self, Summary},
    table::Table,
    traffic::{self, Tally},
};
use seedpod::{
    Result,
    base::{
        Seed,
        sync::{
            Arc, Lock,
            atomic::{AtomicBool, Ordering},
        },
        time,
    },
};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many people shop at once.
const SHOPPERS: u64 = 12;

/// How long a shopper waits for a page, and how often their client tries.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 8;

/// How long the queue may take to be worked off when the shoppers are gone.
const WORKED_OFF_WITHIN: Duration = Duration::from_secs(20);

/// Plays the show in an open shop, for this long or until all disruptions are over; or until it is to end early.
pub(crate) async fn play(
    shop: &Shop,
    seed: Seed,
    length: Duration,
    early: impl Future<Output = ()>,
    table: &mut Table,
) -> Result<Summary> {
    let began = time::now();
    let tally = Arc::new(Lock::new(Tally::default()));
    let closing = Arc::new(AtomicBool::new(false));
    let stack = call::stack(shop.http(), seed.fork("shoppers' client"), PATIENCE, ATTEMPTS);
    let traffic = traffic::shop(closing.clone(), SHOPPERS, seed, stack, tally.clone());

    let (tell, mut told) = mpsc::channel(16);
    let plot = async {
        let disrupt = async {
            let plan = disruption::plan(seed, length);
            let told = disruption::disrupt(shop, seed, plan, began, async |line| drop(tell.send(line).await)).await;
            time::sleep_until(began + length).await;
            told
        };
        let told = tokio::select! {
            biased;
            () = early => Ok(()),
            told = disrupt => told,
        };
        closing.store(true, Ordering::Relaxed);
        told
    };
    let play = async { tokio::join!(traffic, plot).1 };
    tokio::pin!(play);
    let heading = || {
        let Tally { requests, failed, ref orders, .. } = *tally.lock();
        let (after, orders) = (began.elapsed().as_secs(), orders.len());
        format!("after {after} s: {requests} requests by shoppers, {failed} failed, {orders} orders")
    };
    let interval = table.interval();
    let mut next = began + interval;
    let played = loop {
        tokio::select! {
            biased;
            played = &mut play => break played,
            Some(line) = told.recv() => table.say(&format!(">> {line}"))?,
            () = time::sleep_until(next) => {
                table.draw(&heading(), &shop.rows()?)?;
                next += interval;
            }
        }
    };
    while let Ok(line) = told.try_recv() {
        table.say(&format!(">> {line}"))?;
    }
    table.draw(&heading(), &shop.rows()?)?;
    played?;

    let tally = tally.lock().clone();
    for failure in &tally.failures {
        table.say(&format!("failed: {failure}"))?;
    }
    summary::take(&Caller::outside(shop.http()), &tally, shop.restarts()?, time::now() + WORKED_OFF_WITHIN).await
}
