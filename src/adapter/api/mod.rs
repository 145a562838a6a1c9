//! One HTTP interface made of another.
//!
//! - [`ApiAdapter`]: the container, in front of an application — start here
//! - [`MappingLayer`]: the same as a layer around any service
//! - [`Mapping`], [`Route`]: methods, paths, queries, headers, statuses; [`Edits`]: fields of JSON
//!
//! It refuses to know what the two interfaces are for: what cannot be said by a table is an application's own.

mod container;
mod edits;
mod layer;
mod mapping;
mod route;
mod template;

pub use container::ApiAdapter;
pub use edits::Edits;
pub use layer::{MappingLayer, MappingService};
pub use mapping::Mapping;
pub use route::Route;
