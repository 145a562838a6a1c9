//! Probes and hooks.

use super::view;
use crate::cluster::object::IntOrString;
use std::time::Duration;

view! {
    /// A check that is made again and again: exactly one of `exec`, `http_get`, `tcp_socket` and `grpc`.
    ///
    /// Its times and thresholds are best read by the methods, which know Kubernetes' defaults.
    Probe {
        /// Run a command in the container; 0 is success.
        exec: Option<ExecAction>,
        /// Ask over HTTP; 200 to 399 is success.
        http_get: Option<HttpGetAction>,
        /// Open a connection; that it opens is success.
        tcp_socket: Option<TcpSocketAction>,
        /// Ask gRPC's health service; `SERVING` is success.
        grpc: Option<GrpcAction>,
        /// See [`initial_delay`](Probe::initial_delay).
        initial_delay_seconds: Option<i32>,
        /// See [`period`](Probe::period).
        period_seconds: Option<i32>,
        /// See [`timeout`](Probe::timeout).
        timeout_seconds: Option<i32>,
        /// See [`successes`](Probe::successes).
        success_threshold: Option<i32>,
        /// See [`failures`](Probe::failures).
        failure_threshold: Option<i32>,
        /// How long the container has to end, once this probe has failed; by default as long as its pod.
        termination_grace_period_seconds: Option<i64>,
    }

    /// A command.
    ExecAction {
        /// The command and its arguments; no shell is run.
        command: Vec<String>,
    }

    /// A request over HTTP.
    HttpGetAction {
        /// The path; by default `/`.
        path: Option<String>,
        /// The port, or its name.
        port: Option<IntOrString>,
        /// The host; by default the pod's own address.
        host: Option<String>,
        /// `HTTP` or `HTTPS`; by default `HTTP`.
        scheme: Option<String>,
        /// Headers to send.
        http_headers: Vec<HttpHeader>,
    }

    /// A header of a request.
    HttpHeader {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    }

    /// A connection.
    TcpSocketAction {
        /// The port, or its name.
        port: Option<IntOrString>,
        /// The host; by default the pod's own address.
        host: Option<String>,
    }

    /// A question to gRPC's health service.
    GrpcAction {
        /// The port.
        port: i32,
        /// The service asked about; by default the server as a whole.
        service: Option<String>,
    }

    /// A wait.
    SleepAction {
        /// How many seconds.
        seconds: i64,
    }

    /// What is done after a container's start and before its stop.
    Lifecycle {
        /// Right after the start; when it fails, the container is killed.
        post_start: Option<Handler>,
        /// Before the stop signal; it counts against the grace period.
        pre_stop: Option<Handler>,
    }

    /// What a hook does: exactly one of these.
    Handler {
        /// Run a command in the container.
        exec: Option<ExecAction>,
        /// Ask over HTTP.
        http_get: Option<HttpGetAction>,
        /// Kept for old manifests, as in Kubernetes: accepted, and fails when it is run.
        tcp_socket: Option<TcpSocketAction>,
        /// Wait.
        sleep: Option<SleepAction>,
    }
}

/// As in Kubernetes, 0 counts as nothing said.
fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.filter(|value| *value > 0).map_or(default, |value| value.unsigned_abs().into()))
}

fn count(value: Option<i32>, default: u32) -> u32 {
    value.filter(|value| *value > 0).map_or(default, i32::unsigned_abs)
}

impl Probe {
    /// How long after the container's start the first check is made: Kubernetes' default is at once.
    pub fn initial_delay(&self) -> Duration {
        seconds(self.initial_delay_seconds, 0)
    }

    /// How often the check is made: Kubernetes' default is every 10 s.
    pub fn period(&self) -> Duration {
        seconds(self.period_seconds, 10)
    }

    /// How long one check may take: Kubernetes' default is 1 s.
    pub fn timeout(&self) -> Duration {
        seconds(self.timeout_seconds, 1)
    }

    /// After how many successes in a row it passes: Kubernetes' default is 1.
    pub fn successes(&self) -> u32 {
        count(self.success_threshold, 1)
    }

    /// After how many failures in a row it fails: Kubernetes' default is 3.
    pub fn failures(&self) -> u32 {
        count(self.failure_threshold, 3)
    }
}
