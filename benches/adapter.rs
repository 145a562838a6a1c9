//! Lines per second through the metric and log adapters, beside what reads the same lines and does nothing with them.
//! `cargo bench --bench adapter`.
#![allow(missing_docs, reason = "criterion's macros write functions without them")]
#![allow(clippy::expect_used, reason = "the inputs here are valid")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedpod::adapter::{
    logs::{Format, Translator},
    metrics::{Registry, Shape},
};
use std::{fmt::Write, hint::black_box, time::SystemTime};

/// Lines of each input.
const LINES: u64 = 1_000;

fn lines(line: impl Fn(u64) -> String) -> String {
    (0..LINES).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{}", line(number));
        text
    })
}

fn metrics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("adapter/metrics");
    group.throughput(Throughput::Elements(LINES));

    let plain = lines(|number| format!("shop.orders.{}:{}|c", number % 50, number));
    let tagged = lines(|number| format!("shop.latency:{number}|ms|#route:r{},zone:eu", number % 50));
    for (name, text) in [("statsd", &plain), ("statsd with tags", &tagged)] {
        let mut registry = Registry::new();
        group.bench_function(name, |bencher| bencher.iter(|| registry.statsd(black_box(text.as_bytes()))));
    }
    // lines, parts and a number: what any reader must do
    group.bench_function("statsd, bare parse", |bencher| {
        bencher.iter(|| {
            let number = |line: &str| line.split_once(':')?.1.split_once('|')?.0.parse::<f64>().ok();
            black_box(&plain).lines().filter_map(number).sum::<f64>()
        });
    });

    let pairs = lines(|number| format!("queue.depth.{number}={number}.5"));
    let shape = Shape::key_values();
    let mut registry = Registry::new();
    group.bench_function("key-value text", |bencher| {
        bencher.iter(|| registry.read("app", &shape, black_box(pairs.as_bytes())).expect("it is good"));
    });

    let members: Vec<_> = (0..LINES).map(|number| format!("\"m{number}\":{{\"depth\":{number}}}")).collect();
    let document = format!("{{{}}}", members.join(","));
    let shape = Shape::json();
    let mut registry = Registry::new();
    group.bench_function("json", |bencher| {
        bencher.iter(|| registry.read("app", &shape, black_box(document.as_bytes())).expect("it is good"));
    });
    group.bench_function("json, bare parse", |bencher| {
        bencher.iter(|| serde_json::from_str::<serde_json::Value>(black_box(&document)).expect("it is good"));
    });
    group.bench_function("exposition", |bencher| bencher.iter(|| registry.exposition()));
    group.finish();
}

fn logs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("adapter/logs");
    group.throughput(Throughput::Elements(LINES));
    let json = lines(|number| {
        format!(
            r#"{{"ts":"2024-05-01T12:00:00.123Z","lvl":"info","msg":"order {number} shown","user":"ada","ms":{number}}}"#
        )
    });
    for (name, format, text) in [
        (
            "plain",
            Format::plain(),
            lines(|number| format!("2024-05-01 12:00:00,123 [INFO] order {number} shown to ada")),
        ),
        (
            "logfmt",
            Format::logfmt(),
            lines(|number| {
                format!("ts=2024-05-01T12:00:00Z level=info msg=\"order {number} shown\" user=ada ms={number}")
            }),
        ),
        (
            "access",
            Format::access(),
            lines(|number| {
                format!(
                    "10.0.0.1 - ada [10/Oct/2000:13:55:36 -0700] \"GET /orders/{number} HTTP/1.1\" 200 2326 \"-\" \"Mozilla/5.0\""
                )
            }),
        ),
        (
            "syslog",
            Format::syslog(),
            lines(|number| {
                format!("<165>1 2003-10-11T22:14:15.003Z host app 17 ID47 [x@1 user=\"ada\"] order {number} shown")
            }),
        ),
        ("json", Format::json(), json.clone()),
    ] {
        let mut translator = Translator::new(format);
        let mut bytes = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                translator.feed(black_box(text.as_bytes()), SystemTime::UNIX_EPOCH, |line| bytes += line.len())
            });
        });
        assert_eq!(translator.counts().not_understood, 0);
    }
    group.bench_function("json, bare parse and print", |bencher| {
        bencher.iter(|| {
            let read =
                |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("it is good").to_string().len();
            black_box(&json).lines().map(read).sum::<usize>()
        });
    });
    group.finish();
}

criterion_group!(benches, metrics, logs);
criterion_main!(benches);
