//! What an application may send its adapters.

use super::{run, words};
use crate::prometheus;
use seedpod::adapter::{
    api::Edits,
    logs::{Format, Translator},
    metrics::{Dropped, Registry, Shape},
};
use serde_json::Value;
use std::time::SystemTime;

/// Whatever came in, what goes out is valid, and nothing disappears uncounted. Whether all of it was taken in.
fn shown(registry: &Registry) -> bool {
    let text = registry.exposition();
    let samples = prometheus::read(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    let dropped: u64 = Dropped::ALL.iter().map(|reason| registry.dropped(*reason)).sum();
    let told: f64 = samples.iter().filter(|(name, _)| name.contains("_dropped_total")).map(|(_, count)| count).sum();
    assert_eq!(told, dropped as f64);
    assert!(registry.series() <= SERIES_MAX);
    dropped == 0
}

const SERIES_MAX: usize = 40;

fn registry() -> Registry {
    Registry::new().prefix("shop").label("app", "cart").series_max(SERIES_MAX)
}

fn statsd(text: &str) -> bool {
    let mut registry = registry();
    registry.statsd(text.as_bytes());
    let lines = text.split('\n').filter(|line| !line.is_empty() && *line != "\r").count();
    let dropped: u64 = Dropped::ALL.iter().map(|reason| registry.dropped(*reason)).sum();
    assert!(dropped <= lines as u64, "one reason for each line at most");
    shown(&registry)
}

fn document(text: &str, shape: &Shape) -> bool {
    let mut registry = registry();
    registry.read("app", &Shape::json(), br#"{"old": 1, "a": 2}"#).unwrap();
    let read = registry.read("app", shape, text.as_bytes());
    if let Err(error) = &read {
        assert_eq!((registry.series(), error.place()), (0, Some("metrics of app")));
    }
    assert!(!registry.exposition().contains("shop_old"), "what the document does not mention is gone");
    shown(&registry) && read.is_ok()
}

fn json(text: &str) -> bool {
    document(text, &Shape::json().counter("a").histogram("h").label("by", "x").list("l", "id").scale("s", 1e308))
}

fn key_values(text: &str) -> bool {
    document(text, &Shape::key_values().counter("a*").ignore("END"))
}

fn translated(text: &str, format: Format) -> bool {
    let mut translator = Translator::new(format).bytes_max(200).join_traces();
    let mut records = 0;
    let mut take = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(record["message"].is_string() && record["time"].is_string() && !line.contains('\n'), "{line}");
        assert!(line.len() < 64 * 1024 * 8, "bounded");
        records += 1;
    };
    translator.feed(text.as_bytes(), SystemTime::UNIX_EPOCH, &mut take);
    translator.finish(SystemTime::UNIX_EPOCH, &mut take);
    let counts = translator.counts();
    assert_eq!((counts.lines, counts.records), (counts.empty + counts.records + counts.joined, records));
    counts.not_understood == 0 && records > 0
}

fn edited(text: &str) -> bool {
    let edits =
        Edits::new().rename("a", "b.c").rename("l.*.id", "l.*.no").add("d", 1).remove("h.sum").set("l.*.k", true);
    match edits.apply(text.as_bytes()) {
        Ok(edited) => {
            serde_json::from_str::<serde::de::IgnoredAny>(&edited).unwrap_or_else(|error| panic!("{error}: {edited}"));
            assert!(edited.len() <= 4 * text.len() + 1000);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), seedpod::Kind::Invalid);
            false
        }
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn malformed_statsd() {
    let good = texts(&[
        "a:1|c\nb.c:2.5|g\nd:320|ms|@0.1|#route:cart,ok\n",
        "a:1:2:3|h\na:+4|g\n",
        "a:1|c|T1700000000|c:abc|#x:1\r\nz:9|d\n",
        "a:1|c|#le:1,__name__:x,app:y\n",
    ]);
    let words = words(
        ": | c g ms h d s @ @0.1 # , 1 -1 + nan inf 1e308 1e999 _e{ _sc| seedpod_adapter_up _total _bucket le é 0x1 |@ |#",
        &["\n", "\r\n", " ", "\"", "\\", "\u{0}"],
    );
    run("malformed_statsd", &good, &words, statsd);
}

#[test]
fn malformed_metrics_in_json() {
    let good = texts(&[
        r#"{"a": 1, "b": {"c": true, "d": [1, 2]}, "by": {"x": {"n": 1}, "y": {"n": 2}}}"#,
        r#"{"h": {"count": 3, "sum": 1.5, "buckets": {"0.1": 1, "+Inf": 3}}, "l": [{"id": "x", "n": 1}, {"id": 2, "n": 0}]}"#,
        r#"[{"a": 0.5}, {"a": 1e3}]"#,
        r#"{"s": 0.5, "h": {"count": 3, "sum": 1, "buckets": [[0.5, 1], ["1", 2]]}}"#,
    ]);
    let words = words(
        r#"{ } [ ] , : " \ "a": "h": "count":-1 "le" 1e999 -1 null true "x" {"a":1} [1] "sum":"x" "buckets": é \ud800 \u0000 NaN"#,
        &["\n", " ", "\u{0}"],
    );
    run("malformed_metrics_in_json", &good, &words, json);
}

#[test]
fn malformed_key_values() {
    let good = texts(&[
        "a=1\nb.c: 2.5\n\n# comment\nd 3\n",
        "STAT x 1\r\nSTAT y 2\r\nEND\r\n",
        "db0:keys=1,expires=0\nz=1e3\n",
    ]);
    let words = words(
        "= : , 1 -1 nan -inf 1e999 a STAT # é _ .. seedpod_adapter_up",
        &["\n", "\r\n", " ", "\t", "\"", "\u{0}"],
    );
    run("malformed_key_values", &good, &words, key_values);
}

#[test]
fn malformed_logs() {
    let logfmt =
        texts(&["ts=2024-05-01T12:00:00Z level=info msg=\"a \\\"b\\\"\" n=1\nx=y z\n", "plain words err=1\n\tat x\n"]);
    let access = texts(&[
        "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a.gif HTTP/1.0\" 200 2326\n",
        "::1 - - [10/Oct/2000:13:55:36 +0000] \"\\x16\" 400 - \"-\" \"Mozilla \\\"x\\\"\"\n",
    ]);
    let syslog = texts(&[
        "<34>Oct 11 22:14:15 host su[77]: failed\n",
        "<165>1 2003-10-11T22:14:15.003Z host app - ID47 [ex@1 a=\"1\\]\" b=\"2\"] text\n",
        "<0>1 - - - - - - \u{feff}bom\n",
    ]);
    let json = texts(&[
        "{\"ts\":1700000000.5,\"lvl\":50,\"msg\":\"a\\nb\",\"o\":{\"x\":[1]}}\n{\"time\":\"soon\",\"level\":\"audit\"}\n",
        "{\"log\":\"x\\n\",\"date\":\"2024-05-01 12:00:00\",\"n\":1e400}\n  at y\n",
    ]);
    let words = words(
        "= \" \\ [ ] < > { } , : <34> 1 - Oct 11 22:14:15 10/Oct/2000:13:55:36 2024-02-30T00:00:00Z 99999999999999999999 é level=",
        &["\n", "\r", "\t", " ", "\u{0}", "Caused by: ", "Traceback (most recent call last):\n", "\\u0000", "\\ud800"],
    );
    run("malformed_logfmt", &logfmt, &words, |text| translated(text, Format::logfmt()));
    run("malformed_access_logs", &access, &words, |text| translated(text, Format::access()));
    run("malformed_syslog", &syslog, &words, |text| translated(text, Format::syslog()));
    run("malformed_json_logs", &json, &words, |text| translated(text, Format::json()));
}

#[test]
fn malformed_mapped_json() {
    let good = texts(&[
        r#"{"a": 1.50, "l": [{"id": 1}, 2, {"id": null}], "h": {"sum": 1}}"#,
        r#"{"b": {"c": 1}, "a": {"x": [1e400]}, "a": 2}"#,
        r#"{"l": {"x": {"id": 1}}, "d": null}"#,
    ]);
    let words = words(r#"{ } [ ] , : " \ "a": "b": "l": 1 null {"id":1} é \ud800 \u0041 1e400"#, &["\n", " ", "\u{0}"]);
    run("malformed_mapped_json", &good, &words, edited);
}
