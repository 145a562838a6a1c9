//! Where endpoints come from: streams of changes, and what fills a set from them.
//!
//! A source is a stream of batches of [`Change`](crate::store::Change)s whose values are [`Member`]s, or whatever a
//! function reads as one: a watched store is a source as it stands, [`Dns`] is one, a cluster's services are.
//!
//! - [`Follow`]: what [`Endpoints::follow`](super::Endpoints::follow) is about to do — start here
//! - [`Member`]: an endpoint as its source knows it
//! - [`Dns`]: names that are resolved again and again; [`Resolution`], what came of it
//! - [`Resolver`]: who is asked; the pod's network ([`Host`](crate::net::Host)) and the [`System`] are ones
//! - `answer`, `refresh`: what records say, and what an answer changes (pure)

mod answer;
mod dns;
mod follow;
mod member;
mod refresh;
mod resolver;

pub use crate::net::Srv;
pub use answer::Family;
pub use dns::{Dns, Resolution};
pub use follow::Follow;
pub use member::Member;
pub use resolver::{Records, Resolver, System};
