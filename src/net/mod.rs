//! Floor 0: byte streams and addresses, in memory and over TCP; what dies together.
//!
//! It may use `base` alone. It refuses to know what travels in the streams, what a pod or a container is (here there
//! are hosts and scopes), and where names come from (a [`Directory`] tells it).
//!
//! - [`Net`]: one network, in memory or over TCP behind the same types — start here
//! - [`Host`]: an address on it; listens and connects
//! - [`Listener`], [`Connection`]: what hyper, axum and tonic run on unchanged
//! - [`Scope`]: the tasks and sockets of one container instance, which a kill ends together
//! - [`Directory`]: who answers for names and virtual addresses
//! - [`Intercept`]: how a sidecar gets between, unseen
//! - [`splice`]: two connections joined into one, as a byte proxy does
//! - [`Event`], [`Connect`]: what observers see, and what fault rules judge
//!
//! # Guarantees
//!
//! - In memory, on one thread and under paused time, everything repeats by the seed, byte for byte.
//! - A kill leaves nothing: no task, no socket, no port; peers see a reset, in memory and over TCP alike.
//! - Every buffer and every backlog is bounded: writers wait, connects are refused.
//!
//! # Not guaranteed
//!
//! - Latency delays bytes and connects, not resets, which take effect at once.
//! - Programs that open sockets of their own are outside of it.

mod builder;
mod connect;
mod connection;
mod directory;
mod event;
mod host;
mod link;
mod listener;
mod network;
mod pipe;
mod scope;
mod socket;
mod splice;
mod tcp;

pub use builder::Builder;
pub use connection::Connection;
pub use directory::{Directory, Origin, Route, Srv};
pub use event::{Connect, Event, Side};
pub use host::{Host, Intercept};
pub use listener::Listener;
pub use network::{HostOptions, Net};
pub use scope::Scope;
pub use splice::splice;

const REFUSED: &str = "connection refused";
const UNREACHABLE: &str = "host unreachable";
const IN_USE: &str = "the port is in use";
