//! Probes: whether a container has started, lives, and may get traffic.
//!
//! - [`Probe`]: what is checked ([`Check`]) and at which pace
//! - `Prober`: the decision: when a check is due, and what its result changes; pure
//! - `run`: the checks themselves, `ask`: from outside; `http` and `grpc` are files behind the feature `http`

#[cfg(feature = "serving")]
mod ask;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod http;
mod prober;
mod run;
#[cfg(not(feature = "http"))]
mod unsupported;

#[cfg(feature = "serving")]
pub(crate) use ask::ask;
#[cfg(feature = "http")]
use http::{get, health};
pub(crate) use prober::{Outcome, Prober};
pub(crate) use run::run;
#[cfg(not(feature = "http"))]
use unsupported::{get, health};

use super::Context;
use crate::base::{BoxError, Error, Kind, Result};
use futures::{TryFutureExt, future::BoxFuture};
use std::{fmt, future::Future, sync::Arc, time::Duration};

/// A function that checks a container from inside.
pub type CheckFunction = Arc<dyn Fn(Context) -> BoxFuture<'static, Result> + Send + Sync>;

/// What is checked.
#[derive(Clone)]
#[non_exhaustive]
pub enum Check {
    /// The image's exec function answers this command with exit code 0.
    Exec(Vec<String>),
    /// This function returns `Ok`.
    Function(CheckFunction),
    /// The container has called [`Context::ready`]. Takes effect at once, at no pace.
    Reported,
    /// A connection to this port can be opened.
    Tcp(u16),
    /// A GET of this path on this port is answered with a status from 200 to 399. Needs the feature `http`.
    Http {
        /// The port, on the pod's own address.
        port: u16,
        /// Path and query.
        path: String,
        /// Headers to send.
        headers: Vec<(String, String)>,
    },
    /// gRPC's health check on this port says `SERVING`. Needs the feature `http`.
    Grpc {
        /// The port, on the pod's own address.
        port: u16,
        /// The service asked about; empty for the server as a whole.
        service: String,
    },
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Exec(command) => f.debug_tuple("Exec").field(command).finish(),
            Check::Function(_) => f.write_str("Function(..)"),
            Check::Reported => f.write_str("Reported"),
            Check::Tcp(port) => f.debug_tuple("Tcp").field(port).finish(),
            Check::Http { port, path, .. } => f.debug_struct("Http").field("port", port).field("path", path).finish(),
            Check::Grpc { port, service } => {
                f.debug_struct("Grpc").field("port", port).field("service", service).finish()
            }
        }
    }
}

/// What is checked, and how often.
///
/// The defaults are Kubernetes': at once, every 10 s, for at most 1 s, one success to pass, three failures to fail.
/// A check that cannot be made at all (a feature that is off) counts neither way, and says so in the status.
///
/// ```
/// use seedpod::pod::Probe;
/// use std::time::Duration;
/// let readiness = Probe::tcp(7070).period(Duration::from_secs(2)).failures(1);
/// assert_eq!(readiness.timeout, Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a probe does nothing until a container has it"]
pub struct Probe {
    /// What is checked.
    pub check: Check,
    /// From the container's start to the first check: 0 s.
    pub initial_delay: Duration,
    /// From one check to the next: 10 s.
    pub period: Duration,
    /// How long a check may take: 1 s.
    pub timeout: Duration,
    /// Successes in a row that make it pass: 1. Liveness and startup probes pass at the first whatever stands here.
    pub successes: u32,
    /// Failures in a row that make it fail: 3.
    pub failures: u32,
}

impl Probe {
    /// This check at Kubernetes' default pace.
    pub fn new(check: Check) -> Self {
        Probe {
            check,
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            successes: 1,
            failures: 3,
        }
    }

    /// See [`Check::Exec`].
    pub fn exec(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Probe::new(Check::Exec(command.into_iter().map(Into::into).collect()))
    }

    /// See [`Check::Function`].
    pub fn function<F, Fut, E>(check: F) -> Self
    where
        F: Fn(Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Probe::new(Check::Function(function(check)))
    }

    /// See [`Check::Reported`].
    pub fn reported() -> Self {
        Probe::new(Check::Reported)
    }

    /// See [`Check::Tcp`].
    pub fn tcp(port: u16) -> Self {
        Probe::new(Check::Tcp(port))
    }

    /// See [`Check::Http`].
    pub fn http(port: u16, path: impl Into<String>) -> Self {
        Probe::new(Check::Http { port, path: path.into(), headers: Vec::new() })
    }

    /// See [`Check::Grpc`].
    pub fn grpc(port: u16) -> Self {
        Probe::new(Check::Grpc { port, service: String::new() })
    }

    /// The first check comes this long after the container's start.
    pub fn initial_delay(self, initial_delay: Duration) -> Self {
        Probe { initial_delay, ..self }
    }

    /// A check comes this long after the one before; at least 1 ms.
    pub fn period(self, period: Duration) -> Self {
        Probe { period: period.max(Duration::from_millis(1)), ..self }
    }

    /// A check may take this long.
    pub fn timeout(self, timeout: Duration) -> Self {
        Probe { timeout, ..self }
    }

    /// This many successes in a row make it pass; at least 1.
    pub fn successes(self, successes: u32) -> Self {
        Probe { successes: successes.max(1), ..self }
    }

    /// This many failures in a row make it fail; at least 1.
    pub fn failures(self, failures: u32) -> Self {
        Probe { failures: failures.max(1), ..self }
    }
}

/// Boxes a function that checks, whatever its error.
pub(crate) fn function<F, Fut, E>(check: F) -> CheckFunction
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<BoxError> + 'static,
{
    Arc::new(move |context| Box::pin(check(context).map_err(|error| Error::adopt(error, Kind::Failed))))
}
