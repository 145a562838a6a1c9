//! A control loop: what is wanted is written in a store; the loop makes it so, one key at a time.
//!
//! Keys are queued, not objects: a hundred changes of one key while it is worked on are one more call, which reads what
//! is wanted by then. A failure comes back with a growing wait.
//!
//! ```text
//! cargo run --example reconcile
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::{sync::Lock, time},
    control::{self, Next},
    store::{Key, Store},
};
use std::{sync::Arc, time::Duration};
use tower::service_fn;

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

async fn tell() -> seedpod::Result<String> {
    let said = Arc::new(Lock::new(Vec::new()));
    let store = Store::new(); // wanted/<name> and actual/<name>: how many workers
    let scale = service_fn({
        let (store, said) = (store.clone(), said.clone());
        move |key: Key| step(store.clone(), said.clone(), key)
    });
    let scaler = control::reconcile(store.clone(), scale).prefix("wanted/");

    let day = async {
        store.put("wanted/resize", 3).await?;
        time::sleep(Duration::from_secs(20)).await;
        said.lock().push("-- a hundred changes at once".to_string());
        for workers in 1..=100 {
            store.put("wanted/resize", workers % 3).await?;
        }
        time::sleep(Duration::from_secs(20)).await;
        said.lock().push("-- not wanted any more".to_string());
        store.remove("wanted/resize").await?;
        time::sleep(Duration::from_secs(20)).await;
        Ok::<_, Error>(())
    };
    scaler.run_until(async { drop(day.await) }).await?;
    let story = said.lock().join("\n");
    Ok(story)
}

/// One step towards what is wanted, then come back: the loop holds no state of its own.
async fn step(store: Store<u32>, said: Arc<Lock<Vec<String>>>, key: Key) -> seedpod::Result<Next> {
    let place = Key::from(["actual", key.name()]);
    let wanted = store.get(&key).map_or(0, |entry| entry.value);
    let actual = store.get(&place).map_or(0, |entry| entry.value);
    if wanted == actual {
        said.lock().push(format!("{}: {actual} as wanted", key.name()));
        return Ok(Next::Done);
    }
    if actual == 1 && wanted == 3 && said.lock().iter().all(|line| !line.contains("failed")) {
        said.lock().push(format!("{}: starting the next one failed", key.name()));
        return Err(Error::new(Kind::Unavailable, "no room"));
    }
    let next = if wanted > actual { actual + 1 } else { actual - 1 };
    said.lock().push(format!("{}: {actual} -> {next}", key.name()));
    store.put(&place, next).await?;
    Ok(Next::After(Duration::from_secs(1)))
}
