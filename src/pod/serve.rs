//! The pump from connections to calls.

use super::{Container, Context};
use crate::{
    base::{BoxError, Error, Kind, Result, sync::Arc},
    net::Connection,
};
use futures::{FutureExt, future::BoxFuture};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Service, ServiceExt};

/// Serves the connections on a port of the pod with this service: a container.
///
/// See [`Serve`].
///
/// ```
/// use seedpod::net::{Connection, Net};
/// use seedpod::pod::{ContainerSpec, Pod, PodSpec, serve};
/// use tokio::io::AsyncWriteExt;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
/// let greeter = tower::service_fn(|mut connection: Connection| async move { connection.write_all(b"hello").await });
/// let net = Net::memory().build();
/// let pod = Pod::start(PodSpec::new("greeter").container(ContainerSpec::new("app", serve(7070, greeter))), &net)?;
/// # pod.until(|status| status.ready.holds).await;
/// # drop(pod); Ok::<_, seedpod::Error>(()) }).unwrap();
/// ```
pub fn serve<S>(port: u16, service: S) -> Serve<S> {
    Serve { port, service, limit: Serve::<S>::LIMIT }
}

/// Connections on a port → [`Service`]: one call per connection, which is over when the call is.
///
/// 1. It listens, and says that it is [ready](Context::ready).
/// 2. Each connection gets a clone of the service, which is driven to readiness inside the connection's own task.
/// 3. Asked to stop, it takes in who waits already, closes the port, waits for the calls that run, and ends well. The
///    pod's grace bounds that.
///
/// At the limit of connections it accepts no more: they wait in the backlog of the port, and beyond that are refused. An
/// error of the service ends its connection and is logged; a panic too, and is counted in the scope.
#[derive(Clone, Debug)]
#[must_use = "it is a container: a pod has to run it"]
pub struct Serve<S> {
    port: u16,
    service: S,
    limit: usize,
}

impl<S> Serve<S> {
    /// How many connections are served at a time by default: Envoy's for a cluster.
    pub const LIMIT: usize = 1024;

    /// Serves at most this many connections at a time; at least 1.
    pub fn limit(self, connections: usize) -> Self {
        Serve { limit: connections.clamp(1, u32::MAX as usize), ..self }
    }
}

impl<S> Container for Serve<S>
where
    S: Service<Connection, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    S::Future: Send,
{
    fn run(&self, context: Context) -> BoxFuture<'static, Result> {
        Box::pin(pump(self.clone(), context))
    }
}

async fn pump<S>(Serve { port, service, limit }: Serve<S>, context: Context) -> Result
where
    S: Service<Connection, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    S::Future: Send,
{
    let mut listener = context.listen(port).await?;
    context.ready();
    let places = Arc::new(Semaphore::new(limit));
    let stopped = context.stopped();
    tokio::pin!(stopped);
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await.map_err(|error| Error::adopt(error, Kind::Closed))?;
            Ok::<_, Error>((place, listener.accept().await?))
        };
        let (place, connection) = tokio::select! {
            biased;
            () = &mut stopped => break,
            accepted = accept => accepted?,
        };
        context.spawn(attend(service.clone(), connection, context.clone(), place));
    }
    // who had come before the stop is served: closing the port now would reset them
    while let Ok(place) = places.clone().try_acquire_owned()
        && let Some(Ok(connection)) = listener.accept().now_or_never()
    {
        context.spawn(attend(service.clone(), connection, context.clone(), place));
    }
    drop(listener);
    let all = u32::try_from(limit).unwrap_or(u32::MAX);
    places.acquire_many(all).await.map(drop).map_err(|error| Error::adopt(error, Kind::Closed))
}

async fn attend<S>(service: S, connection: Connection, context: Context, place: OwnedSemaphorePermit)
where
    S: Service<Connection, Response = ()>,
    S::Error: Into<BoxError> + 'static,
{
    let peer = connection.peer_addr();
    if let Err(error) = service.oneshot(connection).await {
        context.log(format!("connection from {peer}: {}", Error::adopt(error, Kind::Failed).chain()));
    }
    drop(place);
}
