//! Metrics in a JSON document.

use super::{
    Dropped, Registry, Shape, Type,
    histogram::Histogram,
    registry::{Reading, Value},
};
use crate::{
    adapter::json::{self, Elements, Members},
    base::{Error, Kind, Result},
};
use serde_json::value::RawValue;

/// How deep documents are followed. Each level is read when it is opened, so this bounds the work, too.
const DEPTH_MAX: usize = 16;

/// Where a walk is: the names of the metric's path, and the labels.
struct Place<'a> {
    path: Vec<&'a str>,
    labels: Vec<(&'a str, &'a str)>,
    depth: usize,
    /// What stood at this path has been opened into labels: its rules have done their work.
    opened: bool,
}

pub(super) fn read(shape: &Shape, registry: &mut Registry, reading: Reading, bytes: &[u8]) -> Result {
    let value = json::document(bytes)?;
    if !value.get().starts_with(['{', '[']) {
        return Err(Error::new(Kind::Invalid, "neither an object nor a list"));
    }
    let mut walk = Walk { shape, registry, reading };
    walk.value(&Place { path: Vec::new(), labels: Vec::new(), depth: 0, opened: false }, value);
    Ok(())
}

struct Walk<'r> {
    shape: &'r Shape,
    registry: &'r mut Registry,
    reading: Reading,
}

impl<'r> Walk<'r> {
    /// The label that the names in the object here are values of.
    fn label(&self, place: &Place<'_>) -> Option<&'r str> {
        if place.opened { None } else { self.shape.labelled(&place.path) }
    }

    /// The member by which the elements of the list here name themselves.
    fn member(&self, place: &Place<'_>) -> Option<&'r str> {
        if place.opened { None } else { self.shape.member(&place.path) }
    }

    fn value(&mut self, place: &Place<'_>, value: &RawValue) {
        if self.shape.ignored(&place.path) {
            return;
        }
        if place.depth > DEPTH_MAX {
            return self.registry.drop(Dropped::TooDeep);
        }
        let histogram = self.shape.kind(&place.path) == Some(Type::Histogram)
            && self.label(place).is_none()
            && self.member(place).is_none();
        let taken = match json::open(value) {
            Ok(json::Value::Object(members)) if histogram => {
                told(&members).map(|histogram| Value::Histogram(histogram.into()))
            }
            Ok(json::Value::Object(members)) => return self.object(place, &members),
            Ok(json::Value::Array(elements)) => return self.list(place, &elements),
            Ok(json::Value::Number(text)) => number(text).map(Value::Number),
            Ok(json::Value::Bool(holds)) => Ok(Value::Number(if holds { 1.0 } else { 0.0 })),
            Ok(json::Value::Text(_) | json::Value::Null) | Err(_) => Err(Dropped::NotANumber),
        };
        self.shape.value(self.registry, self.reading, &place.path, &place.labels, taken);
    }

    fn object(&mut self, place: &Place<'_>, members: &Members<'_>) {
        let label = self.label(place);
        for (name, value) in &members.0 {
            let mut inside = place.inside();
            match label {
                Some(label) => {
                    inside.labels.push((label, name));
                    inside.opened = true;
                }
                None => inside.path.push(name),
            }
            self.value(&inside, value);
        }
    }

    fn list(&mut self, place: &Place<'_>, elements: &Elements<'_>) {
        let member = self.member(place);
        // lists in lists
        let nth = place.labels.iter().filter(|(label, _)| label.starts_with("index")).count() + 1;
        let label = if nth == 1 { "index".to_owned() } else { format!("index_{nth}") };
        for (index, value) in elements.0.iter().enumerate() {
            let opened = match (member, json::open(value)) {
                (Some(member), Ok(json::Value::Object(members))) => named(member, members),
                (Some(_), _) => None,
                (None, _) => {
                    let index = index.to_string();
                    let mut inside = place.inside();
                    inside.labels.push((&label, &index));
                    inside.opened = place.opened;
                    self.value(&inside, value);
                    continue;
                }
            };
            let (Some(member), Some((name, members))) = (member, opened) else {
                self.registry.drop(Dropped::Malformed);
                continue;
            };
            let mut inside = place.inside();
            inside.labels.push((member, &name));
            inside.opened = true;
            self.object(&inside, &members);
        }
    }
}

impl<'a> Place<'a> {
    fn inside(&self) -> Place<'a> {
        Place { path: self.path.clone(), labels: self.labels.clone(), depth: self.depth + 1, opened: false }
    }
}

/// What an element calls itself, and the rest of it.
fn named<'a>(member: &str, Members(mut members): Members<'a>) -> Option<(String, Members<'a>)> {
    let at = members.iter().position(|(name, _)| name == member)?;
    let name = match json::open(members.remove(at).1).ok()? {
        json::Value::Text(text) => text,
        json::Value::Number(text) => text.to_owned(),
        _ => return None,
    };
    Some((name, Members(members)))
}

fn number(text: &str) -> Result<f64, Dropped> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err(Dropped::NotFinite), // such as 1e999
        Err(_) => Err(Dropped::NotANumber),
    }
}

/// `{"count": 4, "sum": 1.5, "buckets": {"0.1": 3, "+Inf": 4}}`
fn told(Members(members): &Members<'_>) -> Result<Histogram, Dropped> {
    let member = |name: &str| members.iter().find(|(member, _)| member == name).map(|(_, value)| *value);
    let plain = |name: &str| member(name).ok_or(Dropped::Malformed).and_then(|value| number(value.get()));
    let count = whole(plain("count")?)?;
    let buckets = member("buckets").and_then(|value| json::open(value).ok());
    let mut cumulative = Vec::new();
    match buckets {
        Some(json::Value::Object(Members(buckets))) => {
            for (bound, up_to) in &buckets {
                cumulative.push((bound_of(bound)?, whole(number(up_to.get())?)?));
            }
        }
        Some(json::Value::Array(Elements(buckets))) => {
            for pair in buckets {
                let Ok(json::Value::Array(Elements(pair))) = json::open(pair) else { return Err(Dropped::Malformed) };
                let [bound, up_to] = *pair else { return Err(Dropped::Malformed) };
                cumulative.push((bound_of(bound.get().trim_matches('"'))?, whole(number(up_to.get())?)?));
            }
        }
        _ => return Err(Dropped::Malformed),
    }
    if cumulative.len() > 1000 {
        return Err(Dropped::TooLong);
    }
    // the bucket of everything, where it is told, is what is counted in all
    if cumulative.iter().any(|(bound, up_to)| *bound == f64::INFINITY && *up_to != count) {
        return Err(Dropped::Malformed);
    }
    Histogram::told(cumulative, count, plain("sum")?)
}

fn bound_of(text: &str) -> Result<f64, Dropped> {
    let text = text.strip_prefix('+').unwrap_or(text);
    text.parse().map_err(|_| Dropped::Malformed)
}

fn whole(number: f64) -> Result<u64, Dropped> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    match number {
        number if number < 0.0 => Err(Dropped::Negative),
        number if number.fract() != 0.0 || number > EXACT => Err(Dropped::Malformed),
        number => Ok(number as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(shape: &Shape, document: &str) -> Vec<String> {
        let mut registry = Registry::new();
        registry.read("app", shape, document.as_bytes()).unwrap();
        let text = registry.exposition();
        let own = |line: &&str| line.starts_with('#') || line.contains("adapter_") && !line.contains("dropped");
        let told = text.lines().filter(|line| !(own(line) || line.contains("dropped") && line.ends_with(" 0")));
        told.map(|line| line.replace("seedpod_adapter_dropped_total", "dropped")).collect()
    }

    #[test]
    fn lists_by_index_or_by_what_they_call_themselves() {
        let document =
            r#"{"cpus": [0.5, 0.25], "workers": [{"id": "w1", "jobs": 3}, {"jobs": 1}, {"id": 7, "jobs": 2}]}"#;
        assert_eq!(
            shown(&Shape::json().list("workers", "id"), document),
            [
                r#"cpus{index="0"} 0.5"#,
                r#"cpus{index="1"} 0.25"#,
                r#"workers_jobs{id="7"} 2"#,
                r#"workers_jobs{id="w1"} 3"#,
                r#"dropped{reason="malformed"} 1"#,
            ]
        );
    }

    #[test]
    fn names_in_an_object_become_a_label_once() {
        let document = r#"{"queues": {"mail": {"len": 3, "by": {"x": 1}}, "sms": {"len": 0}}, "n": [[1, 2], [3]],
            "h": {"get": {"count": 1, "sum": 1, "buckets": {}}}}"#;
        let shape = Shape::json().label("queues", "queue").label("queues.by", "by").label("h", "route").histogram("h");
        assert_eq!(
            shown(&shape, document),
            [
                r#"h_bucket{route="get",le="+Inf"} 1"#,
                r#"h_sum{route="get"} 1"#,
                r#"h_count{route="get"} 1"#,
                r#"n{index="0",index_2="0"} 1"#,
                r#"n{index="0",index_2="1"} 2"#,
                r#"n{index="1",index_2="0"} 3"#,
                r#"queues_by{by="x",queue="mail"} 1"#,
                r#"queues_len{queue="mail"} 3"#,
                r#"queues_len{queue="sms"} 0"#,
            ]
        );
    }

    #[test]
    fn what_is_no_number_is_dropped_and_counted() {
        let document =
            r#"{"a": "1", "b": null, "c": 1e999, "d": 1, "e": [], "f": {}, "d": 2, "x.y": 1, "x": {"y": 2}}"#;
        assert_eq!(
            shown(&Shape::json().counter("neg"), document),
            [
                "d 1",
                "x_y 1",
                r#"dropped{reason="not_a_number"} 2"#,
                r#"dropped{reason="not_finite"} 1"#,
                r#"dropped{reason="duplicate"} 2"#,
            ]
        );
        assert_eq!(shown(&Shape::json().counter("a"), r#"{"a": -1}"#), [r#"dropped{reason="negative"} 1"#]);
        let deep = format!("{}1{}", r#"{"a":"#.repeat(40), "}".repeat(40));
        assert_eq!(shown(&Shape::json(), &deep), [r#"dropped{reason="too_deep"} 1"#]);
    }

    #[test]
    fn histograms_as_told() {
        let shape = Shape::json().histogram("http.*");
        let good = r#"{"http": {"get": {"count": 4, "sum": 1.5, "buckets": {"0.5": 4, "0.1": 3, "+Inf": 4}}}}"#;
        let told = shown(&shape, good);
        assert_eq!(told[0], r#"http_get_bucket{le="0.1"} 3"#);
        assert_eq!(told.len(), 5);
        assert_eq!(
            shown(&shape, r#"{"http": {"get": {"count": 4, "sum": 1.5, "buckets": [[0.1, 3], ["0.5", 4]]}}}"#),
            told
        );
        for bad in [
            r#"{"http": {"get": {"sum": 1, "buckets": {}}}}"#,
            r#"{"http": {"get": {"count": 4, "sum": 1, "buckets": {"0.1": 3, "0.5": 2}}}}"#,
            r#"{"http": {"get": {"count": 1, "sum": 1, "buckets": {"+Inf": 2}}}}"#,
            r#"{"http": {"get": {"count": 1.5, "sum": 1, "buckets": {}}}}"#,
            r#"{"http": {"get": {"count": 1, "sum": 1, "buckets": [[1]]}}}"#,
            r#"{"http": {"get": 7}}"#,
        ] {
            assert_eq!(shown(&shape, bad), [r#"dropped{reason="malformed"} 1"#], "{bad}");
        }
    }

    #[test]
    fn a_document_that_is_none_takes_the_old_series_away() {
        let mut registry = Registry::new();
        let shape = Shape::json();
        registry.read("app", &shape, br#"{"a": 1, "b": 2}"#).unwrap();
        registry.read("other", &shape, br#"{"c": 1, "a": 9}"#).unwrap();
        registry.read("app", &shape, br#"{"b": 3}"#).unwrap();
        assert_eq!((registry.series(), registry.dropped(Dropped::Duplicate)), (2, 1));
        let error = registry.read("app", &shape, b"{\"b\": }").unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(
            error.chain().starts_with("metrics of app: invalid: this is no JSON: ")
                && error.chain().contains("line 1 column 7")
        );
        assert!(registry.read("app", &shape, b"7").is_err());
        let text = registry.exposition();
        assert!(
            text.contains("seedpod_adapter_up{source=\"app\"} 0\n")
                && text.contains("seedpod_adapter_up{source=\"other\"} 1\n")
        );
        assert!(
            text.contains("failures_total{source=\"app\"} 2\n") && !text.contains("\nb 3") && text.contains("\nc 1\n")
        );
    }
}
