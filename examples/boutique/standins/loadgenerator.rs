//! The load generator of the Online Boutique: users who look at the frontend's page, over and over.

use futures::future::join_all;
use seedpod::{Error, Kind, Result, base::time, pod::Context};
use std::time::Duration;

/// The image: so many `USERS`, each of whom asks for a page once a second.
pub(super) async fn loadgenerator(context: Context) -> Result {
    let frontend = context.env("FRONTEND_ADDR").ok_or_else(|| Error::new(Kind::Invalid, "FRONTEND_ADDR is not set"))?;
    let users: u64 = context.env("USERS").and_then(|users| users.parse().ok()).unwrap_or(1);
    let (client, url) = (context.http(), format!("http://{frontend}/"));
    let visit = async |user: u64| {
        time::sleep(Duration::from_millis(1000 * user / users.max(1))).await; // spread over the second
        loop {
            match client.get(&url).await {
                Ok(page) => context.log(format!("GET / {}", page.status().as_u16())),
                Err(error) => context.log(format!("GET / {}", error.chain())),
            }
            time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = context.stopped() => Ok(()),
        _ = join_all((0..users).map(visit)) => Ok(()),
    }
}
