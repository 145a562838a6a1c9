//! What has been taken in: series by name and labels, bounded, each thing that was not taken in counted.

use super::{Buckets, Dropped, Shape, histogram::Histogram, name};
use crate::{
    adapter::{Line, Lines},
    base::Result,
};
use std::collections::BTreeMap;

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Type {
    /// It only grows, until it begins again at nothing. Its name ends in `_total`, here too where the application's does not.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Observations counted in buckets.
    Histogram,
    /// The application does not say.
    Untyped,
}

impl Type {
    /// As it stands in a line of `TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
            Type::Untyped => "untyped",
        }
    }
}

/// What has been taken in, ready to be written in Prometheus' text format; pure.
///
/// Two kinds of input meet here. *Events* (StatsD) add to what is there. *Documents* ([`read`](Registry::read): JSON,
/// key-value text) replace what the same source said before; what a document does not mention any more is gone.
///
/// ```
/// use seedpod::adapter::metrics::{Registry, Shape};
/// let mut registry = Registry::new().label("app", "cart");
/// registry.statsd(b"orders:1|c\norders:2|c\nnonsense\n");
/// registry.read("stats", &Shape::json().gauge("queue.depth"), br#"{"queue": {"depth": 7}}"#)?;
/// let text = registry.exposition();
/// assert!(text.contains("# TYPE orders_total counter\norders_total{app=\"cart\"} 3\n"));
/// assert!(text.contains("queue_depth{app=\"cart\"} 7\n"));
/// assert!(text.contains("seedpod_adapter_dropped_total{app=\"cart\",reason=\"malformed\"} 1\n"));
/// # seedpod::Result::<()>::Ok(())
/// ```
///
/// # Guarantees
/// - What is written is valid: names and labels are made so, values are escaped, no series stands there twice, a name has
///   one type, buckets add up.
/// - Bounded: at most [`series_max`](Registry::series_max) series, lines of at most [`Lines::BYTES_MAX`]. What is beyond is
///   dropped, and counted by its reason; series that are there go on.
/// - Order is by name and labels: the same input gives the same text.
#[derive(Clone, Debug)]
pub struct Registry {
    prefix: String,
    labels: Vec<(String, String)>,
    buckets: Buckets,
    series_max: usize,
    families: BTreeMap<Box<str>, Family>,
    series: usize,
    dropped: [u64; Dropped::ALL.len()],
    lines: u64,
    sources: BTreeMap<Box<str>, Source>,
    scratch: Scratch,
}

#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) kind: Type,
    pub(super) help: Option<Box<str>>,
    /// By the rendered labels.
    pub(super) series: BTreeMap<Box<str>, Series>,
}

#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) owner: Owner,
    pub(super) value: Value,
}

/// Who says what the value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody yet: it is not shown.
    Nobody,
    Events,
    Document(Reading),
}

/// The how manieth document of which source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    source: usize,
    number: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Number(f64),
    Histogram(Box<Histogram>),
}

#[derive(Clone, Debug)]
pub(super) struct Source {
    index: usize,
    readings: u64,
    pub(super) failures: u64,
    pub(super) up: bool,
}

/// Buffers that are used again, so that an event of a known series allocates nothing.
#[derive(Clone, Debug, Default)]
struct Scratch {
    name: String,
    labels: String,
}

/// One value on its way in.
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: &'a [(&'a str, &'a str)],
    pub(super) kind: Type,
    pub(super) help: Option<&'a str>,
}

impl Registry {
    /// How many series there may be where nothing else is said: 10,000, far above what one application should have.
    pub const SERIES_MAX: usize = 10_000;

    /// With nothing in it.
    pub fn new() -> Self {
        Registry {
            prefix: String::new(),
            labels: Vec::new(),
            buckets: Buckets::default(),
            series_max: Registry::SERIES_MAX,
            families: BTreeMap::new(),
            series: 0,
            dropped: [0; Dropped::ALL.len()],
            lines: 0,
            sources: BTreeMap::new(),
            scratch: Scratch::default(),
        }
    }

    /// Puts this and a `_` before the name of each metric.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = name::joined([prefix, ""]);
        self
    }

    /// Puts this label on each series. A label of the application that has the same name becomes `exported_…`, as
    /// Prometheus does.
    #[must_use]
    pub fn label(mut self, label: &str, value: impl Into<String>) -> Self {
        let label = name::label(label, &[]).into_owned();
        self.labels.retain(|(own, _)| *own != label);
        self.labels.push((label, value.into()));
        self.labels.sort_unstable();
        self
    }

    /// Counts the observations of StatsD in these buckets. Default: [`Buckets::default`].
    #[must_use]
    pub fn buckets(mut self, buckets: Buckets) -> Self {
        self.buckets = buckets;
        self
    }

    /// Keeps at most this many series (a histogram is one). Default: [`Registry::SERIES_MAX`].
    #[must_use]
    pub fn series_max(mut self, series: usize) -> Self {
        self.series_max = series;
        self
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.series
    }

    /// Whether the last reading of this source went well; none where it was never read.
    pub fn is_up(&self, source: &str) -> Option<bool> {
        self.sources.get(source).map(|source| source.up)
    }

    /// How many lines and values were not taken in for this reason.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or_default()
    }

    /// Takes in the lines of StatsD in these bytes: a datagram, or a piece of a stream that ends with a line.
    ///
    /// `name:value|type`, with `|@rate`, Datadog's tags (`|#key:value,…`) and several values (`name:1:2:3|ms`). Counters
    /// (`c`) are added up by their rate, gauges (`g`) are set, or changed where the value has a sign; timers (`ms`) are
    /// histograms in seconds, `h` and `d` in their own unit.
    ///
    /// A name gets `_total` as a counter and `_seconds` as a timer, where it does not end so. What is wrong with a line
    /// drops that line alone.
    pub fn statsd(&mut self, bytes: &[u8]) {
        let mut lines = Lines::default();
        lines.feed(bytes, |line| self.statsd_line(line));
        lines.finish(|line| self.statsd_line(line));
    }

    /// Takes in one line of StatsD.
    pub fn statsd_line(&mut self, line: Line<'_>) {
        if line.bytes.is_empty() && line.cut == 0 {
            return;
        }
        self.lines += 1;
        let taken = match line.cut {
            0 => super::statsd::take(self, line.bytes),
            _ => Err(Dropped::TooLong),
        };
        if let Err(reason) = taken {
            self.drop(reason);
        }
    }

    /// Takes in a document of this source: its series replace those that the source had before.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) with line and column, where it is not of that shape at all. The source has no series then, and
    /// counts as down: what is old is not shown as new.
    pub fn read(&mut self, source: &str, shape: &Shape, document: &[u8]) -> Result {
        let (index, number) = match self.sources.get_mut(source) {
            Some(known) => {
                known.readings += 1;
                (known.index, known.readings)
            }
            None => {
                let index = self.sources.len();
                self.sources.insert(source.into(), Source { index, readings: 1, failures: 0, up: true });
                (index, 1)
            }
        };
        let reading = Reading { source: index, number };
        let read = shape.read(self, reading, document);
        self.forget(|of| of.source == index && (read.is_err() || of.number != number));
        if let Some(known) = self.sources.get_mut(source) {
            known.up = read.is_ok();
            known.failures += u64::from(read.is_err());
        }
        read.map_err(|error| error.at(format!("metrics of {source}")))
    }

    /// Says that this source could not be read: its series go, and it counts as down.
    pub fn failed(&mut self, source: &str) {
        let index = self.sources.len();
        let known = self.sources.entry(source.into()).or_insert(Source { index, readings: 0, failures: 0, up: false });
        known.up = false;
        known.failures += 1;
        let index = known.index;
        self.forget(|of| of.source == index);
    }

    fn forget(&mut self, gone: impl Fn(Reading) -> bool) {
        let mut left = 0;
        self.families.retain(|_, family| {
            family.series.retain(|_, series| match series.owner {
                Owner::Document(reading) => !gone(reading),
                Owner::Nobody | Owner::Events => true,
            });
            left += family.series.len();
            !family.series.is_empty()
        });
        self.series = left;
    }

    /// Counts what is not taken in.
    pub(super) fn drop(&mut self, reason: Dropped) {
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// The place of one series, made where it is new.
    fn place(&mut self, sample: &Sample<'_>, scratch: &mut Scratch) -> Result<&mut Series, Dropped> {
        let Scratch { name, labels } = scratch;
        name::full(name, &self.prefix, sample.name, sample.kind)?;
        name::render(labels, &self.labels, sample.labels)?;
        // looked up twice where it is there: a look-up that may insert would copy the name first
        if !self.families.contains_key(name.as_str()) {
            self.check_name(name, sample.kind)?;
            self.check_room()?;
            let family = Family { kind: sample.kind, help: sample.help.map(Into::into), series: BTreeMap::new() };
            self.families.insert(name.as_str().into(), family);
        }
        let full = self.check_room();
        let family = self.families.get_mut(name.as_str()).ok_or(Dropped::Name)?;
        if family.kind != sample.kind {
            return Err(Dropped::TypeConflict);
        }
        if !family.series.contains_key(labels.as_str()) {
            full?;
            let value = match sample.kind {
                Type::Histogram => Value::Histogram(Histogram::new(&self.buckets).into()),
                _ => Value::Number(0.0),
            };
            family.series.insert(labels.as_str().into(), Series { owner: Owner::Nobody, value });
            self.series += 1;
        }
        family.series.get_mut(labels.as_str()).ok_or(Dropped::Name)
    }

    fn check_room(&self) -> Result<(), Dropped> {
        if self.series < self.series_max { Ok(()) } else { Err(Dropped::SeriesLimit) }
    }

    /// Whether a new metric of this name would say something else of what is there: a histogram `a` writes `a_count`.
    fn check_name(&self, name: &str, kind: Type) -> Result<(), Dropped> {
        if name.starts_with(name::OWN) {
            return Err(Dropped::Name);
        }
        const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];
        let histogram = |name: &str| self.families.get(name).is_some_and(|family| family.kind == Type::Histogram);
        let of_one = PARTS.iter().filter_map(|part| name.strip_suffix(part)).any(histogram);
        let has_one = kind == Type::Histogram
            && PARTS.iter().any(|part| self.families.contains_key(format!("{name}{part}").as_str()));
        if of_one || has_one { Err(Dropped::TypeConflict) } else { Ok(()) }
    }

    /// An event: changes a series, or makes it.
    pub(super) fn event(
        &mut self,
        sample: &Sample<'_>,
        change: impl FnOnce(&mut Value) -> Result<(), Dropped>,
    ) -> Result<(), Dropped> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let changed = self.place(sample, &mut scratch).and_then(|series| match series.owner {
            Owner::Document(_) => Err(Dropped::Duplicate),
            Owner::Nobody | Owner::Events => {
                change(&mut series.value)?;
                series.owner = Owner::Events;
                Ok(())
            }
        });
        self.scratch = scratch;
        changed
    }

    /// A value of a document: once in each reading.
    pub(super) fn set(&mut self, reading: Reading, sample: &Sample<'_>, value: Value) -> Result<(), Dropped> {
        match &value {
            Value::Number(number) if !number.is_finite() => return Err(Dropped::NotFinite),
            Value::Number(number) if sample.kind == Type::Counter && *number < 0.0 => return Err(Dropped::Negative),
            _ => {}
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let set = self.place(sample, &mut scratch).and_then(|series| match series.owner {
            Owner::Document(of) if of.source != reading.source || of.number == reading.number => {
                Err(Dropped::Duplicate)
            }
            Owner::Events => Err(Dropped::Duplicate),
            Owner::Nobody | Owner::Document(_) => {
                *series = Series { owner: Owner::Document(reading), value };
                Ok(())
            }
        });
        self.scratch = scratch;
        set
    }

    /// All that is there, in Prometheus' text format 0.0.4, and what the adapter says of itself.
    pub fn exposition(&self) -> String {
        let mut out = String::with_capacity(64 * (self.series + 16));
        for (name, family) in &self.families {
            super::exposition::family(&mut out, name, family);
        }
        let sources = || self.sources.iter().map(|(name, source)| (&**name, source));
        let own = super::exposition::Own {
            labels: &self.labels,
            dropped: &self.dropped,
            lines: self.lines,
            series: self.series,
        };
        own.write(&mut out, &sources);
        out
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new()
    }
}
