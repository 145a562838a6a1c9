//! Experiments with fleets in virtual time. Their transcripts are part of the docs of `testing::fleet`;
//! `SEEDPOD_RECORD=1` writes them anew.

use seedpod::{
    base::Seed,
    layer::{Budget, ConcurrencyLimitLayer, DeadlineLayer, Request, RetryLayer, TimeoutLayer},
    serving::{Ejection, LeastPending, PeakEwma, Picker, Replicas, RoundRobin},
    testing::fleet::{Behaviour, Fleet, Latency, Report, Server},
};
use std::{convert::identity, fs, path::PathBuf, time::Duration};
use tower::{Layer, ServiceBuilder};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn told(name: &str, story: &[String]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/testing/fleet").join(name).with_extension("txt");
    let story = story.join("\n") + "\n";
    if std::env::var_os("SEEDPOD_RECORD").is_some() {
        fs::write(&path, &story).unwrap();
    }
    assert_eq!(story, fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}

/// The experiment that Buoyant published in 2016: eleven servers that take 167 ms, a client with 1,000 requests a second
/// for a minute, and from the 15th second on one server takes 2 s, for half a minute.
async fn eleven(picker: impl Picker<Request<u64>> + Clone) -> Report {
    let usual = Server::new(Latency::normal(167 * MILLI, 5 * MILLI));
    let sick = usual.clone().during(15 * SECOND..45 * SECOND, |server| server.latency(Latency::fixed(2 * SECOND)));
    let fleet = Fleet::new(Seed::new(11)).servers(10, usual).server(sick).rate(1_000.0).lasting(60 * SECOND);
    fleet.run(identity, |_, endpoints| Replicas::new(endpoints).pick_by(picker.clone())).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_looks_at_load_hardly_notices_a_slow_server_and_who_looks_at_latency_not_at_all() {
    let runs = [
        ("round robin  ", 0.95, eleven(RoundRobin::seed(Seed::new(3))).await),
        ("least pending", 0.99, eleven(LeastPending).await),
        ("peak EWMA    ", 0.999, eleven(PeakEwma::new()).await),
    ];
    let mut story = vec!["within 1 s        p99   p99.9   sent to the slow one".to_string()];
    for (name, published, report) in runs {
        let within = report.success_within(SECOND);
        let millis = |share| report.percentile(share).as_millis();
        let slow = report.servers().last().map_or(0, |(_, sent)| sent);
        story.push(format!("{name} {:>5.2} %  {:>5}   {:>5}   {slow:>6}", 100.0 * within, millis(0.99), millis(0.999)));
        println!("{}", story.last().unwrap());
        assert!(within >= published, "{name}: {within}, published {published}");
    }
    told("eleven", &story);
}

/// Ten servers, six tenths busy, fail for half a minute. Callers try up to three times, a second long.
async fn outage(budget: Budget) -> Report {
    let fails = |span| Server::new(Latency::fixed(50 * MILLI)).workers(2).during(span, |server| server.failing(1.0));
    let fleet = Fleet::new(Seed::new(5))
        .servers(10, fails(10 * SECOND..40 * SECOND))
        .clients(10)
        .rate(240.0)
        .lasting(70 * SECOND);
    let client = |number, endpoints| {
        let retry = RetryLayer::new().attempt_timeout(300 * MILLI).budget(budget.clone());
        ServiceBuilder::new()
            .layer(DeadlineLayer::new(SECOND))
            .layer(retry.seed(Seed::new(6).fork_index(number as u64)))
            .service(Replicas::new(endpoints))
    };
    fleet.run(identity, client).await.unwrap()
}

/// The success of each ten seconds, in per cent.
fn by_tens(report: &Report) -> String {
    let tens = report.seconds().chunks(10).map(|chunk| {
        let (good, all) = chunk.iter().fold((0, 0), |sum, second| (sum.0 + second.succeeded, sum.1 + second.offered));
        format!("{:>5.1}", 100.0 * good as f64 / all as f64)
    });
    tens.collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_a_budget_lets_the_fleet_recover_within_one_window_and_without_one_it_stays_down() {
    let (with, without) = (outage(Budget::default()).await, outage(Budget::new(u32::MAX, 0)).await);
    let within_a_window = with.seconds()[50..].iter().all(|second| second.success() >= 0.99);
    assert!(within_a_window, "{}", by_tens(&with));
    assert!(without.seconds()[50..].iter().all(|second| second.success() < 0.5), "{}", by_tens(&without));
    let line = |what: &str, report: &Report| {
        format!("{what}: {} % well, {:.2} attempts each", by_tens(report), report.amplification())
    };
    told("outage", &[line("budget of 20 %", &with), line("no budget     ", &without)]);
}

/// Ten servers, one of which is sick for half of a minute: what share of that half minute's requests succeeded, and how
/// many the sick one got in the whole run.
async fn sick(
    sick: fn(Behaviour) -> Behaviour,
    picker: impl Picker<Request<u64>> + Clone,
    ejection: Option<Ejection>,
) -> (f64, u64) {
    let usual = Server::new(Latency::normal(20 * MILLI, 2 * MILLI));
    let ill = usual.clone().during(15 * SECOND..45 * SECOND, sick);
    let fleet = Fleet::new(Seed::new(12)).servers(9, usual).server(ill).rate(300.0).lasting(60 * SECOND);
    let fleet = ejection.into_iter().fold(fleet, Fleet::eject);
    let timeout = TimeoutLayer::new(500 * MILLI);
    let client = |_, endpoints| timeout.layer(Replicas::new(endpoints).pick_by(picker.clone()));
    let report = fleet.run(identity, client).await.unwrap();
    let half = report.seconds()[15..45].iter();
    let (good, all) = half.fold((0, 0), |sum, second| (sum.0 + second.succeeded, sum.1 + second.offered));
    assert!(report.seconds()[48..].iter().all(|second| second.success() == 1.0), "well again: {report}");
    (good as f64 / all as f64, report.servers().last().map_or(0, |(_, sent)| sent))
}

#[tokio::test(start_paused = true)]
async fn ejection_leaves_a_sick_server_to_its_probes_whether_it_fails_at_once_or_hangs() {
    let mut story = vec!["                           as it is          with ejection".to_string()];
    let fails: fn(Behaviour) -> Behaviour = |server| server.latency(Latency::fixed(MILLI)).failing(1.0);
    let hangs: fn(Behaviour) -> Behaviour = |server| server.latency(Latency::fixed(3_600 * SECOND));
    for (what, how) in [("fails at once", fails), ("hangs", hangs)] {
        for picker in ["round robin", "least pending"] {
            let run = async |ejection| match picker {
                "round robin" => sick(how, RoundRobin::seed(Seed::new(3)), ejection).await,
                _ => sick(how, LeastPending, ejection).await,
            };
            let ((bare, to_bare), (with, to_with)) = (run(None).await, run(Some(Ejection::new())).await);
            story.push(format!(
                "{what:<13} {picker:<13} {:>6.2} %  {to_bare:>5}   {:>6.2} %  {to_with:>5}",
                100.0 * bare,
                100.0 * with
            ));
            println!("{}", story.last().unwrap());
            assert!(with >= 0.995 && with > bare, "{what}, {picker}: {bare} as it is, {with} with ejection");
        }
    }
    told("ejection", &story);
}

/// Four servers of five workers each: a thousand requests a second is what they can do.
async fn overload(times: f64, guarded: bool) -> Report {
    let server = Server::new(Latency::fixed(20 * MILLI)).workers(5);
    let fleet = Fleet::new(Seed::new(8)).servers(4, server).clients(5).rate(1_000.0 * times).lasting(5 * SECOND);
    let budget = Budget::default();
    let line = if guarded { 5 } else { u32::MAX };
    let client = |number, endpoints| {
        let retry = RetryLayer::new().budget(budget.clone()).seed(Seed::new(6).fork_index(number as u64));
        ServiceBuilder::new().layer(DeadlineLayer::new(SECOND)).layer(retry).service(Replicas::new(endpoints))
    };
    fleet.run(|backend| ConcurrencyLimitLayer::wait(5, line).layer(backend), client).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn under_ten_times_the_load_the_goodput_is_the_capacity_and_who_is_admitted_is_served_as_fast() {
    let mut story = vec!["offered   goodput   p99 of the answered   attempts each".to_string()];
    let mut base = Duration::ZERO;
    for times in [1.0, 2.0, 5.0, 10.0] {
        let report = overload(times, true).await;
        let (goodput, p99) = (report.success() * report.requests() as f64 / 5_000.0, report.percentile(0.99));
        if times == 1.0 {
            base = p99;
        }
        story.push(format!(
            "{times:>5} x   {goodput:>6.2} x   {:>15.0} ms   {:>13.2}",
            p99.as_secs_f64() * 1e3,
            report.amplification()
        ));
        println!("{}", story.last().unwrap());
        assert!(goodput >= 0.95, "{report}");
        assert!(p99 <= 2 * base, "{report}");
        let floor = 10.0 * 10.0 / report.requests() as f64;
        assert!(report.amplification() <= 1.2 + floor, "{report}");
    }
    let report = overload(2.0, false).await;
    story.push(format!("and with lines that have no end, at 2 x: {:.0} % well", 100.0 * report.success()));
    assert!(report.success() < 0.3, "{report}");
    told("overload", &story);
}
