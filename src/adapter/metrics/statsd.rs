//! StatsD's lines.

use super::{
    Dropped, Registry, Type,
    registry::{Sample, Value},
};

/// A line, in its parts.
#[derive(Debug, PartialEq)]
struct Event<'a> {
    name: &'a str,
    values: &'a str,
    kind: Measure,
    rate: f64,
    tags: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Measure {
    Counter,
    Gauge,
    Timer,
    Observed,
}

/// Takes in one line that is not empty.
pub(super) fn take(registry: &mut Registry, line: &[u8]) -> Result<(), Dropped> {
    let line = std::str::from_utf8(line).map_err(|_| Dropped::Malformed)?;
    let event = parse(line)?;
    let mut tags = [("", ""); TAGS_MAX];
    let mut count = 0;
    for tag in event.tags.split(',').filter(|tag| !tag.is_empty()) {
        // a tag without a value is one that is set
        let tag = tag.split_once(':').unwrap_or((tag, "true"));
        *tags.get_mut(count).ok_or(Dropped::Malformed)? = tag;
        count += 1;
    }
    let labels = tags.get(..count).unwrap_or_default();
    // all of a line or nothing: a value that is none must not leave half of it behind
    for text in event.values.split(':') {
        number(&event, text)?;
    }
    for text in event.values.split(':') {
        one(registry, &event, labels, text)?;
    }
    Ok(())
}

fn number(event: &Event<'_>, text: &str) -> Result<f64, Dropped> {
    match float(text) {
        None => Err(Dropped::NotANumber),
        Some(number) if !number.is_finite() => Err(Dropped::NotFinite),
        Some(number) if number < 0.0 && event.kind != Measure::Gauge => Err(Dropped::Negative),
        Some(number) => Ok(number),
    }
}

/// Far more tags than a series should have labels.
const TAGS_MAX: usize = 32;

fn one(registry: &mut Registry, event: &Event<'_>, labels: &[(&str, &str)], text: &str) -> Result<(), Dropped> {
    let number = number(event, text)?;
    let timer;
    let (name, kind) = match event.kind {
        Measure::Counter => (event.name, Type::Counter),
        Measure::Gauge => (event.name, Type::Gauge),
        Measure::Observed => (event.name, Type::Histogram),
        Measure::Timer if event.name.ends_with("seconds") => (event.name, Type::Histogram),
        Measure::Timer => {
            timer = format!("{}_seconds", event.name);
            (timer.as_str(), Type::Histogram)
        }
    };
    let delta = text.starts_with(['+', '-']);
    registry.event(&Sample { name, labels, kind, help: None }, |value| match value {
        Value::Number(value) if event.kind == Measure::Gauge && !delta => {
            *value = number;
            Ok(())
        }
        Value::Number(value) => {
            let sum = *value + number / event.rate;
            if !sum.is_finite() {
                return Err(Dropped::NotFinite);
            }
            *value = sum;
            Ok(())
        }
        Value::Histogram(histogram) => {
            let unit = if event.kind == Measure::Timer { 1e-3 } else { 1.0 };
            // a sample of one in ten stands for ten
            histogram.observe(number * unit, (1.0 / event.rate).round() as u64)
        }
    })
}

/// As StatsD's own reader has it: no hexadecimal, no blanks, no words for numbers but what `f64` reads.
fn float(text: &str) -> Option<f64> {
    text.parse().ok()
}

fn parse(line: &str) -> Result<Event<'_>, Dropped> {
    if line.starts_with("_e{") || line.starts_with("_sc|") {
        return Err(Dropped::Unsupported);
    }
    let (name, rest) = line.split_once(':').ok_or(Dropped::Malformed)?;
    let mut parts = rest.split('|');
    let (values, kind) = parts.next().zip(parts.next()).ok_or(Dropped::Malformed)?;
    let kind = match kind {
        "c" => Measure::Counter,
        "g" => Measure::Gauge,
        "ms" => Measure::Timer,
        "h" | "d" => Measure::Observed,
        "s" => return Err(Dropped::Unsupported),
        _ => return Err(Dropped::Malformed),
    };
    let mut event = Event { name, values, kind, rate: 1.0, tags: "" };
    for part in parts {
        match part.split_at_checked(1) {
            Some(("@", rate)) => {
                let rate = float(rate).filter(|rate| (RATE_MIN..=1.0).contains(rate)).ok_or(Dropped::Malformed)?;
                // how seldom a level is told does not change it
                event.rate = if kind == Measure::Gauge { 1.0 } else { rate };
            }
            Some(("#", tags)) => event.tags = tags,
            // of Datadog: where it comes from, and when; the scrape has both
            Some(("c" | "e", origin)) if origin.starts_with(':') => {}
            Some(("T", time)) if !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()) => {}
            _ => return Err(Dropped::Malformed),
        }
    }
    Ok(event)
}

/// One in a million: what is rarer can only be a mistake, and would let one line count for any number.
const RATE_MIN: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(lines: &str) -> Vec<String> {
        let mut registry = Registry::new();
        registry.statsd(lines.as_bytes());
        let text = registry.exposition();
        let nothing = |line: &&str| line.contains("dropped") && line.ends_with(" 0");
        let told = text.lines().filter(|line| !line.starts_with('#') && !nothing(line));
        told.filter(|line| !line.contains("adapter_series") && !line.contains("adapter_lines"))
            .map(String::from)
            .collect()
    }

    #[test]
    fn counters_add_up_by_their_rate() {
        assert_eq!(shown("a:1|c\na:2|c|@0.5\na:3:4|c"), ["a_total 12"]);
        assert_eq!(shown("a_total:1|c|#x:1,y\na_total:1|c|#y:true,x:1"), [r#"a_total{x="1",y="true"} 2"#]);
    }

    #[test]
    fn gauges_are_set_or_changed() {
        assert_eq!(shown("a:5|g\na:-2|g\na:+1|g\nb:-3|g\na.b:7|g|@0.1|#"), ["a 4", "a_b 7", "b -3"]);
    }

    #[test]
    fn timers_are_seconds_in_buckets() {
        let told = shown("t:250|ms|@0.1\nt:12000|ms\nsize:7|h");
        assert!(told.contains(&r#"t_seconds_bucket{le="0.25"} 10"#.into()), "{told:#?}");
        assert!(
            told.contains(&"t_seconds_sum 14.5".into()) && told.contains(&"t_seconds_count 11".into()),
            "{told:#?}"
        );
        assert!(told.contains(&r#"size_bucket{le="+Inf"} 1"#.into()));
    }

    #[test]
    fn each_wrong_line_is_dropped_alone_and_counted_by_its_reason() {
        for (line, reason) in [
            ("a", "malformed"),
            ("a:1", "malformed"),
            ("a:1|x", "malformed"),
            ("a:1|c|@0", "malformed"),
            ("a:1|c|@2", "malformed"),
            ("a:1|c|@NaN", "malformed"),
            ("a:1|c|%", "malformed"),
            ("a:1|c|", "malformed"),
            ("a:|c", "not_a_number"),
            ("a:1 |c", "not_a_number"),
            ("a:1:x|c", "not_a_number"),
            ("a:nan|g", "not_finite"),
            ("a:inf|c", "not_finite"),
            ("a:-1|c", "negative"),
            ("good:7:-1|c", "negative"),
            ("a:-1|ms", "negative"),
            (":1|c", "name"),
            ("..:1|c", "name"),
            ("seedpod_adapter_up:1|g", "name"),
            ("a:1|c|#x:1,x:2", "duplicate"),
            ("a:1|s", "unsupported"),
            ("_e{1,1}:a|b", "unsupported"),
            ("_sc|a|0", "unsupported"),
            (&"a".repeat(20_000), "too_long"),
        ] {
            let told = shown(&format!("good:1|g\n{line}\n\ngood:+1|g"));
            let counted = format!("seedpod_adapter_dropped_total{{reason=\"{reason}\"}} 1");
            assert_eq!(told, ["good 2".to_owned(), counted], "{line}");
        }
    }

    #[test]
    fn a_name_has_one_type() {
        let told = shown("a:1|g\na:1|h\na_sum:1|g\nh:1|h\nh_count:1|g\na_total:1|g\na:1|c");
        assert_eq!(told.iter().filter(|line| line.contains("_bucket")).count(), 12, "{told:#?}");
        assert!(told.contains(&r#"seedpod_adapter_dropped_total{reason="type_conflict"} 3"#.into()), "{told:#?}");
    }
}
