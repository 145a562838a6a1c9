//! Metrics of any application, as Prometheus reads them.
//!
//! - [`MetricsAdapter`]: the container — start here
//! - [`Registry`]: what it keeps, usable alone: events and documents in, text out
//! - [`Shape`]: what documents look like: JSON or key-value text, and what is what in them
//! - [`Dropped`]: why something was not taken in; [`Type`], [`Buckets`]
//!
//! It refuses to know who scrapes, and to guess: a number is untyped until a rule says what it is.

mod container;
mod document;
mod dropped;
mod exposition;
mod histogram;
#[cfg(feature = "http")]
mod http;
mod key_values;
mod name;
mod registry;
mod shape;
mod statsd;
#[cfg(not(feature = "http"))]
mod unsupported;

#[cfg(feature = "http")]
use http::{answer, get};
#[cfg(not(feature = "http"))]
use unsupported::{answer, get};

pub use container::MetricsAdapter;
pub use dropped::Dropped;
pub use exposition::CONTENT_TYPE;
pub use histogram::Buckets;
pub use registry::{Registry, Type};
pub use shape::Shape;
