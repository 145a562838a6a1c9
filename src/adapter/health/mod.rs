//! Health of any application, as Kubernetes and gRPC ask for it.
//!
//! - [`HealthAdapter`]: the container — start here
//! - [`says`], [`fresh`]: checks by a text protocol and by a file's age; `answers` (feature `http`): by what a page says
//!
//! Each check is a [`Probe`](crate::pod::Probe): it can stand in a container's own probes as well.

#[cfg(feature = "http")]
mod asked;
mod board;
mod check;
mod container;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod page;
#[cfg(not(feature = "http"))]
mod unsupported;

#[cfg(feature = "http")]
use http::answer;
#[cfg(not(feature = "http"))]
use unsupported::answer;

pub use check::{fresh, says};
pub use container::HealthAdapter;
#[cfg(feature = "http")]
pub use page::answers;
