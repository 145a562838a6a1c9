//! Prometheus' text format, version 0.0.4, as it is written.

use super::{
    Dropped, Type, name,
    registry::{Family, Owner, Source, Value},
};

/// The media type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn head(out: &mut String, name: &str, kind: Type, help: Option<&str>) {
    if let Some(help) = help {
        for part in ["# HELP ", name, " "] {
            out.push_str(part);
        }
        name::help(out, help);
        out.push('\n');
    }
    for part in ["# TYPE ", name, " ", kind.as_str(), "\n"] {
        out.push_str(part);
    }
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    out.push_str(name);
    if !labels.is_empty() {
        out.push('{');
        out.push_str(labels);
        out.push('}');
    }
    out.push(' ');
    name::number(out, value);
    out.push('\n');
}

/// Appends a metric with all of its series.
pub(super) fn family(out: &mut String, name: &str, family: &Family) {
    let mut shown = family.series.iter().filter(|(_, series)| series.owner != Owner::Nobody).peekable();
    if shown.peek().is_some() {
        head(out, name, family.kind, family.help.as_deref());
    }
    for (labels, series) in shown {
        match &series.value {
            Value::Number(value) => line(out, name, labels, *value),
            Value::Histogram(histogram) => histogram.write(out, name, labels),
        }
    }
}

/// What the adapter says of itself.
pub(super) struct Own<'a> {
    pub(super) labels: &'a [(String, String)],
    pub(super) dropped: &'a [u64],
    pub(super) lines: u64,
    pub(super) series: usize,
}

impl Own<'_> {
    pub(super) fn write<'a, I>(&self, out: &mut String, sources: &dyn Fn() -> I)
    where
        I: Iterator<Item = (&'a str, &'a Source)>,
    {
        let dropped = Dropped::ALL.iter().zip(self.dropped).map(|(reason, count)| (reason.as_str(), *count as f64));
        let help = "Lines and values that were not taken in.";
        self.own(out, "dropped_total", Type::Counter, help, "reason", dropped);
        let failures = sources().map(|(name, source)| (name, source.failures as f64));
        self.own(out, "failures_total", Type::Counter, "Readings of a source that failed.", "source", failures);
        let lines = [("", self.lines as f64)].into_iter();
        self.own(out, "lines_total", Type::Counter, "Lines of StatsD that arrived.", "", lines);
        let series = [("", self.series as f64)].into_iter();
        self.own(out, "series", Type::Gauge, "Series of the application.", "", series);
        let up = sources().map(|(name, source)| (name, if source.up { 1.0 } else { 0.0 }));
        self.own(out, "up", Type::Gauge, "Whether the last reading of a source went well.", "source", up);
    }

    fn own<'a>(
        &self,
        out: &mut String,
        name: &str,
        kind: Type,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, f64)>,
    ) {
        let name = format!("{}{name}", name::OWN);
        let mut labels = String::new();
        let mut values = values.peekable();
        if values.peek().is_some() {
            head(out, &name, kind, Some(help));
        }
        for (value, number) in values {
            let named: &[(&str, &str)] = if label.is_empty() { &[] } else { &[(label, value)] };
            if name::render(&mut labels, self.labels, named).is_ok() {
                line(out, &name, &labels, number);
            }
        }
    }
}
