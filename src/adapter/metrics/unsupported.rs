//! What stands for HTTP where the feature `http` is off.

use crate::{
    base::{Error, Kind, Result},
    pod::Context,
};
use bytes::Bytes;
use std::future::Future;

pub(super) async fn answer<F, Fut>(_: &Context, port: u16, _: F) -> Result
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = String> + Send + 'static,
{
    let message = "serving /metrics needs the feature `http` of seedpod; to_file does not";
    Err(Error::new(Kind::Unsupported, message).at(format!("port {port}")))
}

pub(super) async fn get(_: &Context, _: &str, _: usize) -> Result<Bytes> {
    Err(Error::new(Kind::Unsupported, "a source over HTTP needs the feature `http` of seedpod"))
}
