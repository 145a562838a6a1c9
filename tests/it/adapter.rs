//! Adapters beside applications that know nothing of them.

mod metrics;
pub(crate) mod prometheus;
