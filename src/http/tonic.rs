//! gRPC by tonic on our network: channels, and what its server wants of a connection.
//!
//! A tonic router is a service: [`serve`](super::serve) takes it as it is. A [`Client`](super::Client) with
//! [`http2`](super::Client::http2) is a transport for tonic's generated clients, and so is a [`channel`].

use super::Peer;
use crate::{
    base::{Error, Kind, Result},
    net::{Connection, Host},
};
use ::tonic::{
    Code, Status,
    transport::{Channel, Endpoint, server::Connected},
};
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use std::{
    error::Error as StdError,
    task::{Context, Poll},
};

/// tonic's channel over a host's network, for generated clients. It connects at its first request, and again when
/// its connection has ended; its tasks belong to the host's scope. Without a port it is 80.
///
/// ```no_run
/// # async fn example(host: seedpod::net::Host) -> seedpod::Result {
/// let channel = seedpod::http::tonic::channel(&host, "http://cart:7070")?;
/// let mut grpc = tonic::client::Grpc::new(channel);
/// # let _ = &mut grpc; Ok(()) }
/// ```
///
/// # Errors
/// [`Kind::Invalid`] where the address is none.
pub fn channel(host: &Host, url: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| Error::new(Kind::Invalid, "this is not an address").at(url).because(error))?;
    Ok(endpoint.executor(host.scope().clone()).connect_with_connector_lazy(Connector(host.clone())))
}

/// Connects to the authority of an address over a host's network: what tonic's `Endpoint` and hyper-util's client take.
#[derive(Clone, Debug)]
pub struct Connector(pub Host);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<TokioIo<Connection>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = self.0.clone();
        Box::pin(async move {
            let name = uri.host().ok_or_else(|| Error::new(Kind::Invalid, "the address names no host"))?;
            let target = format!("{name}:{}", uri.port_u16().unwrap_or(80));
            Ok(TokioIo::new(host.connect(&target).await?))
        })
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer::of(self)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let mut next = status.source();
        while let Some(source) = next {
            if let Some(ours) = source.downcast_ref::<Error>() {
                return ours.clone();
            }
            next = source.source();
        }
        let kind = match status.code() {
            Code::DeadlineExceeded => Kind::Timeout,
            Code::ResourceExhausted => Kind::Overloaded,
            Code::Unavailable | Code::Cancelled => Kind::Unavailable,
            Code::PermissionDenied | Code::Unauthenticated => Kind::Rejected,
            Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => Kind::Conflict,
            Code::NotFound => Kind::NotFound,
            Code::InvalidArgument | Code::OutOfRange => Kind::Invalid,
            Code::Unimplemented => Kind::Unsupported,
            Code::DataLoss => Kind::Corrupt,
            _ => Kind::Failed,
        };
        Error::new(kind, "").because(status)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            Kind::Timeout => Code::DeadlineExceeded,
            Kind::Overloaded => Code::ResourceExhausted,
            Kind::Unavailable | Kind::Closed => Code::Unavailable,
            Kind::Rejected => Code::PermissionDenied,
            Kind::Conflict | Kind::LeaseLost => Code::Aborted,
            Kind::NotFound => Code::NotFound,
            Kind::Invalid => Code::InvalidArgument,
            Kind::Unsupported => Code::Unimplemented,
            Kind::Corrupt => Code::DataLoss,
            _ => Code::Internal,
        };
        Status::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_the_trip() {
        for kind in [Kind::Timeout, Kind::Overloaded, Kind::Unavailable, Kind::NotFound, Kind::Invalid, Kind::Corrupt] {
            assert_eq!(Error::from(Status::from(Error::from(kind))).kind(), kind);
        }
    }
}
