//! What stands for HTTP and gRPC checks where the feature `http` is off.

use crate::{
    base::{Error, Kind, Result},
    pod::Context,
};

pub(super) async fn get(_: &Context, port: u16, path: &str, _: &[(String, String)]) -> Result {
    Err(unsupported("an HTTP").at(format!("port {port}, path {path}")))
}

pub(super) async fn health(_: &Context, port: u16, _: &str) -> Result {
    Err(unsupported("a gRPC").at(format!("port {port}")))
}

fn unsupported(kind: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{kind} check needs the feature `http` of seedpod"))
}
