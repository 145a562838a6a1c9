//! Replicas: three endpoints behind one service, one of them slow, the set changing while requests flow.
//!
//! Power of two choices: of two endpoints drawn at random the one with fewer calls in flight is taken. So the slow one
//! gets less without anybody having measured it.
//!
//! ```text
//! cargo run --example replicas
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error,
    base::{Seed, time},
    serving::{Endpoints, Replicas},
};
use std::{collections::BTreeMap, time::Duration};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

type Greeter = BoxCloneSyncService<&'static str, &'static str, Error>;

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and one seed, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

async fn tell() -> seedpod::Result<String> {
    let mut story = Vec::new();
    let endpoints = Endpoints::named("greeter").seed(Seed::new(7));
    for (name, millis) in [("fast", 10), ("steady", 10), ("slow", 50)] {
        endpoints.insert(name, greeter(name, millis));
    }
    let replicas = Replicas::new(endpoints.clone());
    story.push(format!("{} replicas: {}", endpoints.len(), endpoints.keys().join(", ")));

    story.push(format!("3,000 calls, 30 at a time: {}", counted(replicas.clone()).await?));
    endpoints.remove("slow");
    story.push(format!("without the slow one:      {}", counted(replicas.clone()).await?));

    endpoints.update(|change| change.clear());
    let error = replicas.oneshot("anybody").await.err().map(|error| error.to_string());
    story.push(format!("with nobody there:         {}", error.unwrap_or_default()));
    Ok(story.join("\n"))
}

/// A service that takes its time and says who it is.
fn greeter(name: &'static str, millis: u64) -> Greeter {
    BoxCloneSyncService::new(service_fn(move |_request: &'static str| async move {
        time::sleep(Duration::from_millis(millis)).await;
        Ok(name)
    }))
}

/// Who answered how often, of 30 callers with 100 calls each.
async fn counted<S>(service: S) -> seedpod::Result<String>
where
    S: Service<&'static str, Response = &'static str, Error = Error> + Clone,
{
    let callers = (0..30).map(|_| {
        let service = service.clone();
        async move {
            let mut answers = Vec::new();
            for _ in 0..100 {
                answers.push(service.clone().oneshot("hello").await?);
            }
            Ok::<_, Error>(answers)
        }
    });
    let mut counts = BTreeMap::<&str, u32>::new();
    for name in futures::future::try_join_all(callers).await?.into_iter().flatten() {
        *counts.entry(name).or_default() += 1;
    }
    Ok(counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", "))
}
