//! The broker on NATS JetStream against real servers: Debian's old one, and the newest.

mod broken;
mod conformance;
mod edges;
mod example;
mod servers;
