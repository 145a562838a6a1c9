//! Floor 4: what an application says, made to say it as all others do.
//!
//! An adapter is one more container in the pod: it turns the application's own interface into the one that the rest of the
//! system expects. The application is not changed, and does not know. It may use `base`, `net`, `pod`, and `http` in files
//! behind that feature. It refuses to know where what it makes goes to: who scrapes, ships or probes.
//!
//! - [`metrics`]: JSON, StatsD, key-value text → Prometheus: [`MetricsAdapter`] — start here
//! - [`health`]: text protocols, pages, ports, files, functions → `/healthz`, `/readyz`, gRPC's health: [`HealthAdapter`]
//! - [`logs`]: plain text, logfmt, access logs, syslog, other JSON, stack traces → JSON lines: [`LogAdapter`]
//! - `api` (feature `http`): one HTTP interface made of another: `ApiAdapter`
//! - [`Lines`]: bytes cut into lines, within a bound
//!
//! Each is a container with parameters, and its core is usable alone, without a container.

#[cfg(feature = "http")]
pub mod api;
pub mod health;
mod json;
mod lines;
pub mod logs;
pub mod metrics;

#[cfg(feature = "http")]
pub use api::ApiAdapter;
pub use health::HealthAdapter;
pub use lines::{Line, Lines};
pub use logs::LogAdapter;
pub use metrics::MetricsAdapter;
