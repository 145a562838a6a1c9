//! Services: addresses that stay while the pods behind them come and go.
//!
//! The decisions are pure ([`slices`], [`Addresses`], [`Name`]); the shell below them keeps a table of routes and
//! answers the network's questions from it. It may use `base`, `net`, `serving` and this module's objects, and refuses
//! to know kubelets and controllers.
//!
//! - [`slices`]: which pods stand behind a service, and in what condition — start here
//! - [`Addresses`]: cluster addresses, 10.96.0.0/12
//! - [`Name`]: what a DNS name means inside the cluster
//! - [`Services`]: the pods behind a service as endpoints, for clients that balance by themselves

mod addresses;
mod directory;
mod members;
mod name;
mod routes;
mod services;
mod slices;

pub(super) use directory::{Names, SERVICE_LABEL};
pub(super) use routes::Routes;

pub use addresses::Addresses;
pub use name::{Name, search};
pub use services::Services;
pub use slices::{Endpoint, Member, Port, Resolved, SLICE_MAX, Slice, Target, slices};
