//! Adapters beside applications that know nothing of them.

mod logs;
mod metrics;
pub(crate) mod prometheus;
