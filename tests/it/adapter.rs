//! Adapters beside applications that know nothing of them.

mod api;
mod health;
mod logs;
mod metrics;
pub(crate) mod prometheus;
