//! Floor 1: HTTP/1.1 and HTTP/2 over [`net`](crate::net).
//!
//! It may use `base` and `net`. It refuses to know routes (axum's and tonic's routers are services like any other),
//! retries and deadlines (layers do that), and what runs the server.
//!
//! - [`serve`]: any tower HTTP service on a listener — start here
//! - [`Client`]: a service over a host's network, with its own pool
//! - [`Body`]: the body of what is sent and of what is received
//! - [`text`], [`html`], [`json`]: responses in one line
//! - [`successful`]: a response that tells of a failure, as an error
//! - `axum`, `tonic` (features of these names): their small traits on our listener and connections
//!
//! Both ends take bodies of the same type, so a client can be served as it is: that is a proxy.

mod body;
mod client;
mod date;
mod error;
mod handler;
mod pool;
mod respond;
mod serve;

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "tonic")]
pub mod tonic;

pub use body::Body;
pub use client::Client;
pub use error::successful;
pub use handler::Peer;
pub use respond::{html, json, text};
pub use serve::{Serve, Serving, serve};
