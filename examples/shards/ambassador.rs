//! The ambassador: a container beside the application, through which the whole store is one port of localhost.
//!
//! It finds the shards by the cluster's service `db`, each pod under its name, follows the map, and sends each request to
//! the shard that owns its key. What a shard refuses, because the key moves, waits here for the next map and goes on: the
//! application only sees that it took a little longer.

use super::{
    maps,
    refusal::refused,
    shard::{BY_KEY, InPath},
};
use bytes::Bytes;
use http::{Request, Response};
use seedpod::{
    Error, Result,
    cluster::service::Services,
    http::{Body, Client, serve},
    pod::Context,
    serving::{Endpoints, Member, Moved, Shards, Versioned},
};
use std::{future::IntoFuture, net::SocketAddr};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

const PORT: u16 = 9000;

type Endpoint = BoxCloneSyncService<Request<Bytes>, Response<Body>, Error>;
type Store = Shards<Endpoint, Versioned<InPath>>;

/// The image.
pub(crate) async fn ambassador(context: Context) -> Result {
    let (endpoints, client) = (Endpoints::named("db"), context.http());
    let pods = Services::of(&context)?.watch("db")?;
    let connect = move |address: &SocketAddr| endpoint(client.clone(), *address);
    context.spawn(endpoints.follow(pods, Member::of, connect).into_future());
    let store = Shards::routed(maps::follow(&context).await, BY_KEY, endpoints);
    let answer = service_fn(move |request: Request<Body>| {
        let store = store.clone();
        async move { Ok::<_, Error>(ask(store, request).await.unwrap_or_else(|error| refused(&error))) }
    });
    serve(context.listen(PORT).await?, answer).until(context.stopped()).await
}

/// Reads the request to its end, so that it can be sent again where its key moves.
async fn ask(store: Store, request: Request<Body>) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    store.oneshot(Request::from_parts(head, body.bytes().await?)).await
}

/// A shard, at its pod's address.
fn endpoint(client: Client, address: SocketAddr) -> Endpoint {
    BoxCloneSyncService::new(service_fn(move |request: Request<Bytes>| {
        let client = client.clone();
        async move {
            let (mut head, body) = request.into_parts();
            head.uri = format!("http://{address}{}", head.uri.path()).parse()?;
            Moved::read(client.request(Request::from_parts(head, body.into())).await)
        }
    }))
}
