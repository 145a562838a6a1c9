//! What probing a set promises.

use super::*;
use crate::{
    base::{
        Outcome,
        time::{Instant, sleep},
    },
    net::{HostOptions, Net},
    serving::{Ejection, Random, Replicas},
};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn said(endpoints: &Endpoints<u32>) -> Vec<String> {
    endpoints.describe().iter().map(|it| format!("{} {}", it.key, it.status)).collect()
}

/// What each endpoint answers, and when it was asked.
#[derive(Clone, Default)]
struct Sick(Arc<Lock<(Vec<&'static str>, Vec<(Instant, Arc<str>)>)>>);

impl Sick {
    fn now(&self, keys: &[&'static str]) {
        self.0.lock().0 = keys.to_vec();
    }

    fn probes(&self) -> Probes {
        let sick = self.clone();
        Probes::function(move |key| {
            let mut known = sick.0.lock();
            known.1.push((now(), key.clone()));
            let good = !known.0.contains(&&*key);
            async move { if good { Ok(()) } else { Err(Error::new(Kind::Failed, "sick")) } }
        })
    }

    fn asked(&self, key: &str) -> usize {
        self.0.lock().1.iter().filter(|(_, asked)| **asked == *key).count()
    }
}

#[tokio::test(start_paused = true)]
async fn who_fails_three_times_is_out_and_one_success_brings_it_back() {
    let (endpoints, sick) = (Endpoints::named("probed"), Sick::default());
    let probes = sick.probes();
    let report = probes.report();
    tokio::spawn(endpoints.probe(probes).into_future());
    sleep(seconds(1)).await;
    endpoints.update(|changes| {
        changes.insert("a", 1);
        changes.insert("b", 2);
    });
    sleep(Duration::from_millis(1)).await;
    assert_eq!(said(&endpoints), ["a ready", "b ready"]);
    sick.now(&["b"]);
    sleep(seconds(29)).await;
    assert_eq!((said(&endpoints), sick.asked("b")), (vec!["a ready".into(), "b ready".into()], 3), "two failures");
    sleep(seconds(2)).await;
    assert_eq!(said(&endpoints), ["a ready", "b not ready"]);
    let list: Vec<_> = report.list().iter().map(ToString::to_string).collect();
    assert_eq!(list, ["a: ready", "b: not ready, last: failed: sick"]);
    sick.now(&[]);
    sleep(seconds(10)).await;
    assert_eq!(said(&endpoints), ["a ready", "b ready"]);
    assert_eq!(endpoints.version(), 1, "readiness makes no new version");
}

#[tokio::test(start_paused = true)]
async fn who_is_ejected_comes_back_by_a_check_that_succeeds_and_by_none_that_fails() {
    let rules = Ejection::none().failures(5).wait(seconds(600)).jitter(0.0).cap(100).panic(0);
    let (endpoints, sick) = (Endpoints::named("probed").eject(rules).unwrap(), Sick::default());
    tokio::spawn(endpoints.probe(sick.probes()).into_future());
    sleep(seconds(1)).await;
    endpoints.update(|changes| {
        changes.insert("a", 1);
        changes.insert("b", 2);
    });
    sleep(seconds(1)).await;
    sick.now(&["b"]);
    let replicas = Replicas::new(endpoints.clone()).pick_by(Random); // by pending, who fails is second choice
    while endpoints.explain().out.is_empty() {
        let picked = replicas.pick().unwrap();
        let outcome = if picked.key() == "b" { Outcome::Failure } else { Outcome::Success };
        picked.lease.complete(outcome);
    }
    sleep(seconds(20)).await;
    assert_eq!((said(&endpoints), sick.asked("b")), (vec!["a ready".into(), "b ejected".into()], 3), "two failed");
    sick.now(&[]);
    sleep(seconds(10)).await;
    assert_eq!(said(&endpoints), ["a ready", "b ready"]);
}

#[tokio::test(start_paused = true)]
async fn a_period_without_end_is_none_and_no_panic() {
    let (endpoints, sick) = (Endpoints::named("probed"), Sick::default());
    endpoints.insert("there", 1);
    let task = tokio::spawn(endpoints.probe(sick.probes().period(Duration::MAX)).into_future());
    sleep(seconds(1)).await;
    endpoints.insert("new", 2);
    sleep(seconds(1)).await;
    assert_eq!((task.is_finished(), sick.asked("there"), sick.asked("new")), (false, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_comes_is_asked_at_once_and_not_ready_before_and_who_goes_is_asked_no_more() {
    let (endpoints, sick) = (Endpoints::named("probed"), Sick::default());
    sick.now(&["slow to start"]);
    let task = tokio::spawn(endpoints.probe(sick.probes()).into_future());
    sleep(seconds(1)).await;
    for key in ["a", "slow to start"] {
        endpoints.insert(key, 1);
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(said(&endpoints), ["a ready", "slow to start not ready"]);
    endpoints.remove("a");
    sleep(seconds(60)).await;
    assert_eq!((sick.asked("a"), sick.asked("slow to start")), (1, 7));
    sick.now(&["a"]);
    endpoints.insert("a", 1);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(said(&endpoints), ["slow to start not ready", "a not ready"], "its good days are forgotten");
    task.abort();
    let asked = sick.0.lock().1.len();
    sick.now(&[]);
    sleep(seconds(60)).await;
    assert_eq!((sick.0.lock().1.len(), said(&endpoints)[0].as_str()), (asked, "slow to start not ready"));
}

#[tokio::test(start_paused = true)]
async fn who_is_there_already_stays_as_it_is_and_is_asked_within_a_period() {
    let (endpoints, sick) = (Endpoints::named("probed"), Sick::default());
    (0..200).for_each(|number| endpoints.insert(number.to_string(), number));
    sick.now(&["7"]);
    let start = now();
    let stop = sleep(seconds(50));
    let probing = tokio::spawn(endpoints.probe(sick.probes().seed(Seed::new(3))).until(stop).into_future());
    sleep(Duration::from_millis(1)).await;
    assert!(endpoints.describe().iter().all(|it| it.status == super::super::Status::Ready));
    probing.await.unwrap().unwrap();
    assert_eq!(endpoints.describe().iter().filter(|it| it.status != super::super::Status::Ready).count(), 1);
    let asked = sick.0.lock().1.clone();
    let mut in_seconds = [0; 10];
    for (when, _) in asked.iter().take(200) {
        in_seconds[(*when - start).as_secs() as usize] += 1;
    }
    assert!(in_seconds.iter().all(|count| (8..=35).contains(count)), "spread over the period: {in_seconds:?}");
    assert_eq!(asked.len(), 1000, "each once a period");
}

#[tokio::test(start_paused = true)]
async fn checks_are_bounded_in_number_and_time_and_a_panic_is_a_failure() {
    let endpoints = Endpoints::named("probed");
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (running.clone(), most.clone());
    let probes = Probes::function(move |key: Arc<str>| {
        let (running, most) = counted.clone();
        async move {
            struct End(Arc<AtomicUsize>);
            impl Drop for End {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Relaxed);
                }
            }
            most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
            let _end = End(running);
            match &*key {
                "hangs" => std::future::pending().await,
                "panics" => panic!("as it wants"),
                _ => sleep(Duration::from_millis(100)).await,
            }
            Ok::<_, Error>(())
        }
    });
    let probes = probes.at_once(5).failures(1).new_are_ready(true);
    let report = probes.report();
    let task = tokio::spawn(endpoints.probe(probes).into_future());
    sleep(Duration::from_millis(1)).await;
    endpoints.update(|changes| {
        for key in ["hangs", "panics"].map(String::from).into_iter().chain((0..50).map(|it| it.to_string())) {
            changes.insert(key, 1);
        }
    });
    sleep(seconds(3)).await;
    assert_eq!((most.load(Relaxed), running.load(Relaxed)), (5, 0));
    assert_eq!(said(&endpoints)[..3], ["hangs not ready", "panics not ready", "0 ready"]);
    let list: Vec<_> = report.list().iter().skip(50).map(ToString::to_string).collect();
    let expected = [
        "hangs: not ready, last: timed out: no answer within 1s",
        "panics: not ready, last: panicked: the check panicked",
    ];
    assert_eq!(list, expected);
    sleep(Duration::from_millis(7_100)).await;
    assert!(running.load(Relaxed) > 0);
    task.abort();
    let _ = task.await;
    assert_eq!(running.load(Relaxed), 0, "what was under way is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_answers_for_the_application_beside_it() {
    let net = Net::memory().build();
    let host = |name: &str| net.host(HostOptions { name: name.into(), ..HostOptions::default() }).unwrap();
    let (one, two, client) = (host("one"), host("two"), host("client"));
    let listeners = (one.listen(15021).await.unwrap(), two.listen(9999).await.unwrap());
    let endpoints = Endpoints::named("probed");
    endpoints.insert(format!("{}:7070", one.ip()), 1);
    endpoints.insert("two", 2);
    endpoints.insert("elsewhere", 3);
    let probes = Probes::new(&client, Probe::tcp(15021).failures(1).period(seconds(1))).at(|key| match key {
        "two" => "two:9999".into(),
        "elsewhere" => "nowhere".into(),
        key => host_of(key),
    });
    let report = probes.report();
    tokio::spawn(endpoints.probe(probes).into_future());
    sleep(seconds(3)).await;
    assert_eq!(
        said(&endpoints),
        [format!("{}:7070 ready", one.ip()), "two ready".into(), "elsewhere not ready".into()]
    );
    let error = report.list().into_iter().find(|it| &*it.key == "elsewhere").unwrap().error.unwrap();
    assert_eq!(error.kind(), Kind::NotFound);
    drop(listeners);
    sleep(seconds(3)).await;
    assert!(said(&endpoints).iter().all(|it| it.ends_with("not ready")));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_made_ends_it_with_its_name() {
    let net = Net::memory().build();
    let client = net.host(HostOptions::default()).unwrap();
    let endpoints = Endpoints::named("probed");
    endpoints.insert("a", 1);
    let error = endpoints.probe(Probes::new(&client, Probe::exec(["true"]))).await.unwrap_err();
    assert_eq!(error.to_string(), "a: unsupported: Exec([\"true\"]) is made inside of a container");
}

#[test]
fn the_host_of_a_key() {
    let keys = ["10.0.0.1:80", "[::1]:80", "cart", "cart:http", "::1", "a:b:80", "", ":80"];
    assert_eq!(keys.map(host_of), ["10.0.0.1", "[::1]", "cart", "cart:http", "::1", "a:b:80", "", ""]);
}
