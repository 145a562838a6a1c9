//! The schemes of broker URLs, each made by its feature's file; without the feature, the error names it.

#[cfg(not(feature = "amqp"))]
mod without_amqp;
#[cfg(not(feature = "durable"))]
mod without_durable;
#[cfg(not(feature = "nats"))]
mod without_nats;

#[cfg(feature = "amqp")]
use super::amqp::open as amqp;
#[cfg(feature = "durable")]
use super::durable::durable;
#[cfg(feature = "nats")]
use super::nats::open as nats;
#[cfg(not(feature = "amqp"))]
use without_amqp::amqp;
#[cfg(not(feature = "durable"))]
use without_durable::durable;
#[cfg(not(feature = "nats"))]
use without_nats::nats;

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
        _ => unsupported(format!("no broker of scheme {scheme}; there are: memory, file, nats, amqp")),
    }
}

fn unsupported(message: impl Into<String>) -> Result<Arc<dyn Broker>> {
    Err(Error::new(Kind::Unsupported, message.into()))
}
/// The URL as errors and logs may show it: without user and password.
pub(super) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    // everything up to the last @ may be a password
    let host = rest.rsplit_once('@').map(|(_, host)| host);
    let slashes = if host.is_some() && rest.starts_with("//") { "//" } else { "" };
    let colon = if url.contains(':') { ":" } else { "" };
    format!("{scheme}{colon}{slashes}{}", host.unwrap_or(rest))
}
