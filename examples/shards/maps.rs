//! The map that counts, in a pod of its own, and how the others learn of it.
//!
//! `GET /map` gives it; `GET /map?after=7` waits until there is a newer one than map 7. `PUT /map` makes another count, if
//! its version is higher: whoever comes second is told so by 409.

use super::refusal::refused;
use futures::{Stream, StreamExt, stream};
use http::{Method, Request, Response};
use seedpod::{
    Error, Result,
    base::{Deadline, Kind, time},
    http::{Body, Client, json, serve, successful, text},
    pod::Context,
    serving::{ShardMap, ShardMaps},
};
use std::time::Duration;
use tower::service_fn;

const URL: &str = "http://maps/map";

/// How long an asker waits for a newer map until he has to ask again.
const PATIENCE: Duration = Duration::from_secs(20);

/// The image.
pub(crate) async fn maps(context: Context) -> Result {
    let told = |name: &str| context.env(name).ok_or_else(|| Error::new(Kind::Invalid, "it is not set").at(name));
    let copies = told("COPIES")?.parse().map_err(|error| Error::new(Kind::Invalid, "no number").because(error))?;
    let maps = ShardMaps::new(ShardMap::planned(told("SHARDS")?.split(' ')).copies(copies).build()?);
    let answer = service_fn(move |request: Request<Body>| {
        let maps = maps.clone();
        async move { Ok::<_, Error>(answer(&maps, request).await.unwrap_or_else(|error| refused(&error))) }
    });
    serve(context.listen(8080).await?, answer).until(context.stopped()).await
}

async fn answer(maps: &ShardMaps, request: Request<Body>) -> Result<Response<Body>> {
    match *request.method() {
        Method::GET => {
            let after = request.uri().query().and_then(|query| query.strip_prefix("after=")?.parse().ok());
            let wanted = after.map_or(0, |after: u64| after.saturating_add(1));
            let newer = Deadline::within(PATIENCE).bound(maps.at_least(wanted)).await;
            Ok(json(200, &newer.unwrap_or_else(|_| maps.current())))
        }
        Method::PUT => {
            maps.publish(request.into_body().json().await?)?;
            Ok(text(204, ""))
        }
        _ => Ok(text(405, "")),
    }
}

/// Makes this map count.
pub(crate) async fn publish(client: &Client, map: &ShardMap) -> Result {
    let request = Request::put(URL).body(serde_json::to_vec(map)?.into())?;
    successful(client.request(request).await?).map(drop)
}

/// The map that counts now, or one that is newer than that of this version.
pub(crate) async fn read(client: &Client, after: Option<u64>) -> Result<ShardMap> {
    let url = after.map_or(URL.to_owned(), |after| format!("{URL}?after={after}"));
    successful(client.get(&url).await?)?.into_body().json().await
}

/// The map that counts, in this container: it follows for as long as the container runs.
pub(crate) async fn follow(context: &Context) -> ShardMaps {
    let mut newer = Box::pin(newer(context.http()));
    let first = newer.next().await;
    let maps = ShardMaps::new(first.unwrap_or_else(|| unreachable!("the stream has no end")));
    let follower = maps.clone();
    context.spawn(async move { follower.follow(newer).await });
    maps
}

/// The map that counts, and each newer one. Where nobody answers, it asks again.
fn newer(client: Client) -> impl Stream<Item = ShardMap> + Send {
    stream::unfold(None, move |after| {
        let client = client.clone();
        async move {
            loop {
                match read(&client, after).await {
                    Ok(map) => return Some((map.clone(), Some(map.version()))),
                    Err(_) => time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
    })
}
