//! The schemes of broker URLs, each made by its feature's file; without the feature, the error names it.

mod absent;
#[cfg(not(feature = "durable"))]
mod without_durable;

#[cfg(feature = "durable")]
use super::durable::durable;
use absent::{amqp, nats};
#[cfg(not(feature = "durable"))]
use without_durable::durable;

use super::{Broker, Memory};
use crate::base::{Error, Kind, Result};
use std::sync::Arc;

/// The broker of this scheme at this URL, not connected yet.
pub(super) fn open(scheme: &str, url: &str) -> Result<Arc<dyn Broker>> {
    match scheme {
        "memory" => Ok(Arc::new(Memory::new())),
        "file" => durable(url),
        "nats" => nats(url),
        "amqp" | "amqps" => amqp(url),
        _ => {
            let message = format!("no broker of scheme {scheme}; there are: memory, file, nats, amqp");
            Err(Error::new(Kind::Unsupported, message))
        }
    }
}
