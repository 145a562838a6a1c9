//! What is measured of a queue, in one snapshot, and as Prometheus reads it.

use serde::Serialize;
use std::{fmt::Write, time::Duration};

/// What a [`Meter`](super::Meter) has measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// Items that could be worked on now, and are not.
    pub depth: usize,
    /// How long ago the oldest of them was published.
    pub oldest: Option<Duration>,
    /// Items that arrive, per second.
    pub arrival_rate: f64,
    /// The mean time between two arrivals; none while nothing arrives.
    pub interarrival: Option<Duration>,
    /// The squared coefficient of variation of that time: 0 for a beat, 1 at random, more in bursts.
    pub arrival_variation: Option<f64>,
    /// How long a worker takes over an item, on average, those under way included.
    pub service_time: Option<Duration>,
    /// The squared coefficient of variation of that time, of those that are over: 0 where all take as long.
    pub service_variation: Option<f64>,
    /// Workers that the arrivals keep busy: rate × service time.
    pub load: f64,
    /// The part of their time that the workers are busy.
    pub utilisation: Option<f64>,
    /// The workers that are known of.
    pub workers: u32,
    /// Items that are worked on now.
    pub busy: u32,
    /// Items that were worked on with success.
    pub done: u64,
    /// Items that were worked on in vain.
    pub failed: u64,
    /// Items whose work was given up: killed, or its lease was lost.
    pub lost: u64,
}

impl Metrics {
    /// Those of these queues in Prometheus' text format: what is not known is left out. Times are in seconds.
    ///
    /// ```
    /// use seedpod::queue::scale::{Meter, Metrics};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let meter = Meter::default();
    /// meter.begin().done();
    /// let text = Metrics::prometheus(&[("orders", meter.read())]);
    /// assert!(text.contains("# TYPE seedpod_queue_done_total counter\nseedpod_queue_done_total{queue=\"orders\"} 1\n"));
    /// assert!(!text.contains("oldest"), "nobody has told how old it is");
    /// # });
    /// ```
    pub fn prometheus(queues: &[(&str, Metrics)]) -> String {
        let mut text = String::new();
        for family in FAMILIES {
            let mut headed = false;
            for (queue, metrics) in queues {
                let Some(value) = (family.read)(metrics) else { continue };
                if !std::mem::replace(&mut headed, true) {
                    let kind = if family.name.ends_with("_total") { "counter" } else { "gauge" };
                    let _ = writeln!(text, "# HELP seedpod_queue_{} {}", family.name, family.help);
                    let _ = writeln!(text, "# TYPE seedpod_queue_{} {kind}", family.name);
                }
                let _ = writeln!(text, "seedpod_queue_{}{{queue=\"{}\"}} {value}", family.name, escaped(queue));
            }
        }
        text
    }
}

struct Family {
    name: &'static str,
    help: &'static str,
    read: fn(&Metrics) -> Option<f64>,
}

const fn family(name: &'static str, help: &'static str, read: fn(&Metrics) -> Option<f64>) -> Family {
    Family { name, help, read }
}

const FAMILIES: &[Family] = &[
    family("depth", "Items that could be worked on now, and are not.", |it| Some(it.depth as f64)),
    family("oldest_seconds", "How long ago the oldest of them was published.", |it| seconds(it.oldest)),
    family("arrival_rate", "Items that arrive, per second.", |it| Some(it.arrival_rate)),
    family("interarrival_seconds", "The mean time between two arrivals.", |it| seconds(it.interarrival)),
    family("arrival_variation", "The squared coefficient of variation of that time.", |it| it.arrival_variation),
    family("service_seconds", "How long a worker takes over an item.", |it| seconds(it.service_time)),
    family("service_variation", "The squared coefficient of variation of that time.", |it| it.service_variation),
    family("load", "Workers that the arrivals keep busy.", |it| Some(it.load)),
    family("utilisation", "The part of their time that the workers are busy.", |it| it.utilisation),
    family("workers", "The workers that are known of.", |it| Some(it.workers.into())),
    family("busy", "Items that are worked on now.", |it| Some(it.busy.into())),
    family("done_total", "Items that were worked on with success.", |it| Some(it.done as f64)),
    family("failed_total", "Items that were worked on in vain.", |it| Some(it.failed as f64)),
    family("lost_total", "Items whose work was given up.", |it| Some(it.lost as f64)),
];

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_hostile_names_are_escaped() {
        let some = Metrics { depth: 3, oldest: Some(Duration::from_millis(1500)), ..Metrics::default() };
        let text = Metrics::prometheus(&[("a", some), ("b\"\\\n", Metrics::default())]);
        let depth = "# HELP seedpod_queue_depth Items that could be worked on now, and are not.\n\
                     # TYPE seedpod_queue_depth gauge\n\
                     seedpod_queue_depth{queue=\"a\"} 3\n\
                     seedpod_queue_depth{queue=\"b\\\"\\\\\\n\"} 0\n";
        assert!(text.starts_with(depth), "{text}");
        assert!(text.contains("seedpod_queue_oldest_seconds{queue=\"a\"} 1.5\n"));
        assert_eq!(text.matches("# TYPE").count(), text.matches("# HELP").count());
    }
}
