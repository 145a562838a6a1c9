//! What stands for HTTP and gRPC checks where the feature `http` is off.

use super::run::Target;
use crate::base::{Error, Kind, Result};

pub(super) async fn get(target: &Target, path: &str, _: &[(String, String)]) -> Result {
    Err(unsupported("an HTTP").at(format!("{}, path {path}", target.place)))
}

pub(super) async fn health(target: &Target, _: &str) -> Result {
    Err(unsupported("a gRPC").at(target.place.as_str()))
}

fn unsupported(kind: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{kind} check needs the feature `http` of seedpod"))
}
