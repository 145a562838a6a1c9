//! gRPC without generated code: messages are bytes, and an empty message is valid for every type.
//!
//! The health protocol (`grpc.health.v1.Health/Check`) needs one number of one field; that much is written by hand.

use axum::http::uri::PathAndQuery;
use bytes::{Buf, BufMut, Bytes};
use futures::future::BoxFuture;
use seedpod::{Error, Kind, Result, http::Client};
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::UnaryService,
};
use tower::Service;

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// `HealthCheckResponse { status: SERVING }`: field 1, a varint, 1.
const SERVING: &[u8] = &[0x08, 0x01];

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// What a server does for a method of its own, given by its path: `/hipstershop.CartService/GetCart`.
pub(super) type Method = Arc<dyn Fn(String) -> BoxFuture<'static, Result> + Send + Sync>;

/// A gRPC server: healthy from the start, its methods answered with an empty message once `method` has done its part.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) method: Method,
}

impl<B> Service<http::Request<B>> for Server
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<seedpod::BoxError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let unary = Unary { path: request.uri().path().to_string(), method: self.method.clone() };
        Box::pin(async move { Ok(tonic::server::Grpc::new(Plain).unary(unary, request).await) })
    }
}

struct Unary {
    path: String,
    method: Method,
}

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        if self.path == CHECK {
            return Box::pin(async { Ok(Response::new(Bytes::from_static(SERVING))) });
        }
        let done = (self.method)(self.path.clone());
        Box::pin(async move {
            done.await?;
            Ok(Response::new(Bytes::new()))
        })
    }
}

/// Calls a method with an empty message; the client must speak HTTP/2.
pub(super) async fn call(client: &Client, address: &str, method: &'static str) -> Result {
    let origin = format!("http://{address}").parse()?;
    let mut grpc = tonic::client::Grpc::with_origin(client.clone(), origin);
    grpc.ready().await.map_err(|error| Error::adopt(error, Kind::Unavailable))?;
    let path = PathAndQuery::from_static(method);
    let answer = grpc.unary(Request::new(Bytes::new()), path, Plain).await;
    answer.map(drop).map_err(|status| Error::from(status).at(format!("{address}{method}")))
}
