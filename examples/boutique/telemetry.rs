//! What the pods report while they run: requests, errors, latencies per service, and what is in flight in each pod.
//!
//! It stands in for the collector that a real shop would send its metrics to, and lives outside the pods, so that it
//! still knows what was in flight in one that has been killed.

use seedpod::{
    base::{
        sync::{Arc, Lock},
        time::{self, Instant},
    },
    pod::Context,
};
use std::{collections::BTreeMap, time::Duration};

/// What all pods report, one for the whole shop; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telemetry(Arc<Lock<State>>);

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, Figures>,
    pods: BTreeMap<String, Pod>,
}

/// The figures of one service, over all its pods and the whole run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) latency: Histogram,
}

/// How many requests, by operation (`POST /orders`).
pub(crate) type Operations = BTreeMap<String, u32>;

#[derive(Debug, Default)]
struct Pod {
    in_flight: Operations,
    cut: Operations,
}

impl Telemetry {
    /// The name under which containers find it.
    pub(crate) const RESOURCE: &str = "telemetry";

    /// The figures of a service.
    pub(crate) fn figures(&self, service: &str) -> Figures {
        self.0.lock().services.get(service).cloned().unwrap_or_default()
    }

    /// What is in flight in a pod now.
    pub(crate) fn in_flight(&self, pod: &str) -> Operations {
        self.0.lock().pods.get(pod).map(|pod| pod.in_flight.clone()).unwrap_or_default()
    }

    /// What was cut off in a pod: its handlers stopped before they had answered.
    pub(crate) fn cut(&self, pod: &str) -> Operations {
        self.0.lock().pods.get(pod).map(|pod| pod.cut.clone()).unwrap_or_default()
    }
}

/// Who reports: a service, by the name of its container, and one of its pods.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    telemetry: Telemetry,
    service: Arc<str>,
    pod: Arc<str>,
}

impl Reporter {
    pub(crate) fn new(context: &Context) -> Self {
        let telemetry = context.resource::<Telemetry>(Telemetry::RESOURCE);
        Reporter {
            telemetry: telemetry.map_or_else(Telemetry::default, |shared| (*shared).clone()),
            service: context.name().into(),
            pod: context.pod().into(),
        }
    }

    /// A request has arrived. What is returned is told how it ends; dropped before, it was cut off.
    pub(crate) fn arrived(&self, operation: String) -> Flight {
        let mut state = self.telemetry.0.lock();
        let pod = state.pods.entry(self.pod.to_string()).or_default();
        *pod.in_flight.entry(operation.clone()).or_default() += 1;
        drop(state);
        Flight { reporter: self.clone(), operation, since: time::now(), over: false }
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct Flight {
    reporter: Reporter,
    operation: String,
    since: Instant,
    over: bool,
}

impl Flight {
    /// It has been answered.
    pub(crate) fn answered(mut self, well: bool) {
        self.over = true;
        self.count(well);
    }

    fn count(&self, well: bool) {
        let mut state = self.reporter.telemetry.0.lock();
        let figures = state.services.entry(self.reporter.service.to_string()).or_default();
        figures.requests += 1;
        figures.errors += u64::from(!well);
        figures.latency.add(time::now() - self.since);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.over {
            self.count(false);
        }
        let mut state = self.reporter.telemetry.0.lock();
        let pod = state.pods.entry(self.reporter.pod.to_string()).or_default();
        if let Some(count) = pod.in_flight.get_mut(&self.operation) {
            *count -= 1;
            if *count == 0 {
                pod.in_flight.remove(&self.operation);
            }
        }
        if !self.over {
            *pod.cut.entry(self.operation.clone()).or_default() += 1;
        }
    }
}

/// Durations in buckets that each are at most an eighth wide: a quantile is right to about 6 %.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    buckets: BTreeMap<u32, u64>,
    count: u64,
}

impl Histogram {
    pub(crate) fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(8);
        let octave = micros.ilog2();
        let eighth = (micros >> (octave - 3)) as u32 & 7;
        *self.buckets.entry(octave * 8 + eighth).or_default() += 1;
        self.count += 1;
    }

    /// The duration below which this part of all lie; none where there are none.
    pub(crate) fn quantile(&self, part: f64) -> Option<Duration> {
        let wanted = (self.count as f64 * part).ceil() as u64;
        let mut seen = 0;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen += count;
            let middle = (f64::from(8 + bucket % 8) + 0.5) / 8.0 * f64::from(bucket / 8).exp2();
            (seen >= wanted && wanted > 0).then(|| Duration::from_micros(middle as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_an_eighth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=1000).for_each(|millis| histogram.add(Duration::from_millis(millis)));
        for (part, millis) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(part).unwrap().as_secs_f64() * 1000.0;
            assert!((found / millis - 1.0).abs() < 0.125, "{part}: {found}");
        }
    }

    #[tokio::test]
    async fn what_is_dropped_unanswered_was_cut() {
        let telemetry = Telemetry::default();
        let reporter = Reporter { telemetry: telemetry.clone(), service: "checkout".into(), pod: "checkout-1".into() };
        let one = reporter.arrived("POST /orders".into());
        let two = reporter.arrived("POST /orders".into());
        assert_eq!(telemetry.in_flight("checkout-1")["POST /orders"], 2);
        one.answered(true);
        drop(two);
        assert!(telemetry.in_flight("checkout-1").is_empty());
        assert_eq!(telemetry.cut("checkout-1")["POST /orders"], 1);
        let Figures { requests, errors, .. } = telemetry.figures("checkout");
        assert_eq!((requests, errors), (2, 1));
    }
}
