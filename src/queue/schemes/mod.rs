//! The schemes of broker URLs, each made by its feature's file; without the feature, the error names it.

#[cfg_attr(feature = "nats", expect(dead_code, reason = "with the feature of a broker, nobody asks for its error"))]
mod absent;

#[cfg(not(feature = "nats"))]
use absent::nats;
use absent::{amqp, durable};

#[cfg(feature = "nats")]
use super::nats::open as nats;
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
