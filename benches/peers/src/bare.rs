//! The bare things: what an expert writes by hand for one case, a file each.

pub mod channel;
pub mod connections;
pub mod disk;
pub mod flow;
pub mod http;
pub mod jetstream;
pub mod p2c;
pub mod round_trip;
pub mod slots;
pub mod tasks;
