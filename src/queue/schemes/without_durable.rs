//! Files of messages, which this build leaves out.

use crate::base::{Error, Kind, Result};
use crate::queue::Broker;
use std::sync::Arc;

pub(super) fn durable(_url: &str) -> Result<Arc<dyn Broker>> {
    Err(Error::new(Kind::Unsupported, "this broker needs the feature durable of seedpod"))
}
