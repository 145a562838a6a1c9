//! What resolving again and again promises, by a script of answers.

use super::{
    super::{Records, System},
    *,
};
use crate::{
    base::{Answer, time::now},
    net::{HostOptions, Net},
    serving::Endpoints,
};
use std::future::IntoFuture;

type Hosts = BTreeMap<&'static str, Result<Records<IpAddr>>>;

/// Answers as it is told to. A name that it has no answer for is never answered.
#[derive(Clone, Default)]
struct Script(Arc<Lock<Told>>);

#[derive(Default)]
struct Told {
    hosts: Hosts,
    services: Option<Result<Records<Srv>>>,
    asked: Vec<(Instant, String)>,
}

impl Script {
    fn host(&self, name: &'static str, answer: Result<&[u8]>) {
        let records = answer.map(|last| last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect::<Vec<_>>());
        self.0.lock().hosts.insert(name, records.map(Records::new));
    }

    fn services(&self, records: &[(u16, u16, u16, &str)]) {
        let srv = |it: &(u16, u16, u16, &str)| Srv { priority: it.0, weight: it.1, port: it.2, target: it.3.into() };
        self.0.lock().services = Some(Ok(Records::new(records.iter().map(srv).collect::<Vec<_>>())));
    }

    fn asked(&self) -> usize {
        self.0.lock().asked.len()
    }
}

fn give<'a, T: Send + 'a>(answer: Option<Result<T>>) -> Answer<'a, T> {
    answer.map_or_else(|| Answer::later(std::future::pending()), Answer::now)
}

impl Resolver for Script {
    fn addresses<'a>(&'a self, name: &'a str) -> Answer<'a, Records<IpAddr>> {
        let mut told = self.0.lock();
        told.asked.push((now(), name.to_string()));
        give(told.hosts.get(name).cloned())
    }

    fn services<'a>(&'a self, name: &'a str) -> Answer<'a, Records<Srv>> {
        let mut told = self.0.lock();
        told.asked.push((now(), name.to_string()));
        give(told.services.clone())
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn follow<R: Resolver>(dns: Dns<R>) -> (Endpoints<SocketAddr>, Resolution, tokio::task::JoinHandle<Result>) {
    let (endpoints, resolution) = (Endpoints::named("resolved"), dns.resolution());
    let task = tokio::spawn(endpoints.follow(dns.changes(), Member::of, |address| *address).into_future());
    (endpoints, resolution, task)
}

fn keys(endpoints: &Endpoints<SocketAddr>) -> Vec<String> {
    endpoints.keys().iter().map(ToString::to_string).collect()
}

fn told(endpoints: &Endpoints<SocketAddr>) -> Vec<String> {
    endpoints.describe().iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn what_the_name_stands_for_is_followed_at_its_pace() {
    let script = Script::default();
    script.host("cart.shop", Ok(&[1, 2]));
    let (endpoints, resolution, task) = follow(Dns::new(script.clone(), "cart.shop:80").unwrap().jitter(0.0));
    sleep(seconds(1)).await;
    assert_eq!(keys(&endpoints), ["10.0.0.1:80", "10.0.0.2:80"]);
    script.host("cart.shop", Ok(&[2, 3]));
    sleep(seconds(3)).await;
    assert_eq!((keys(&endpoints).len(), resolution.age()), (2, Some(seconds(4))));
    sleep(seconds(2)).await;
    assert_eq!(keys(&endpoints), ["10.0.0.2:80", "10.0.0.3:80"]);
    assert_eq!((endpoints.version(), script.asked()), (2, 2));
    sleep(seconds(60)).await;
    assert_eq!((endpoints.version(), script.asked()), (2, 14), "the same answer changes nothing");
    task.abort();
    sleep(seconds(60)).await;
    assert_eq!(script.asked(), 14, "nobody asks for who has stopped listening");
}

#[tokio::test(start_paused = true)]
async fn an_interval_or_a_ceiling_without_end_is_a_long_one() {
    for ttl in [None, Some(Duration::MAX)] {
        let script = Script::default();
        let records = Records { list: vec![[10, 0, 0, 1].into()], ttl };
        script.0.lock().hosts.insert("cart", Ok(records));
        let dns = Dns::new(script.clone(), "cart:80").unwrap().jitter(1.0);
        let (endpoints, _, task) = follow(dns.interval(Duration::MAX).ttl(Duration::MAX, Duration::MAX));
        sleep(seconds(1_000_000)).await;
        assert_eq!((keys(&endpoints).len(), script.asked(), task.is_finished()), (1, 1, false));
    }
}

#[tokio::test(start_paused = true)]
async fn of_more_addresses_than_may_be_the_same_stay_in_whatever_order_they_come() {
    let script = Script::default();
    let mut rng = Seed::new(5).rng();
    let mut answer = |count: u32| {
        let mut list: Vec<IpAddr> = (1..=count).map(|number| (0x0A00_0000 + number).to_be_bytes().into()).collect();
        rng.shuffle(&mut list);
        script.0.lock().hosts.insert("cart", Ok(Records::new(list)));
    };
    answer(5_000);
    let (endpoints, resolution, _task) = follow(Dns::new(script.clone(), "cart:80").unwrap());
    sleep(seconds(1)).await;
    assert_eq!((endpoints.len(), endpoints.version()), (MEMBERS_MAX, 1));
    let error = "overloaded: it has more than 4096 endpoints; what is beyond is left out";
    assert_eq!(resolution.error().unwrap().to_string(), error);
    answer(5_000);
    sleep(seconds(6)).await;
    assert_eq!((endpoints.len(), endpoints.version()), (MEMBERS_MAX, 1), "another order is no change");
    answer(4_096);
    sleep(seconds(6)).await;
    assert_eq!((endpoints.len(), endpoints.version()), (MEMBERS_MAX, 1));
    assert!(resolution.error().is_none(), "none is left out: {resolution:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_or_silence_keeps_the_last_good_answer_and_is_told() {
    let script = Script::default();
    script.host("cart", Ok(&[1]));
    let (endpoints, resolution, _task) = follow(Dns::new(script.clone(), "cart:80").unwrap());
    sleep(seconds(1)).await;
    assert!(resolution.error().is_none());
    script.host("cart", Err(Error::new(Kind::Failed, "SERVFAIL")));
    sleep(seconds(100)).await;
    assert_eq!(keys(&endpoints), ["10.0.0.1:80"]);
    assert_eq!(resolution.error().unwrap().to_string(), "cart: failed: SERVFAIL");
    assert!(resolution.failures() >= 5 && resolution.age().unwrap() >= seconds(95));
    script.0.lock().hosts.clear();
    sleep(seconds(100)).await;
    assert!(resolution.error().unwrap().is_timeout(), "{resolution:?}");
    assert_eq!(keys(&endpoints), ["10.0.0.1:80"]);
    script.host("cart", Ok(&[2]));
    sleep(seconds(40)).await;
    assert_eq!((keys(&endpoints), resolution.failures()), (vec!["10.0.0.2:80".into()], 0));
    assert!(resolution.error().is_none() && resolution.age().unwrap() <= seconds(6));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_gone_empties_the_set_when_it_was_said_three_times() {
    let script = Script::default();
    script.host("cart", Ok(&[1]));
    let (endpoints, resolution, _task) = follow(Dns::new(script.clone(), "cart:80").unwrap().jitter(0.0));
    sleep(seconds(1)).await;
    script.host("cart", Err(Error::new(Kind::NotFound, "NXDOMAIN")));
    sleep(seconds(10)).await;
    assert_eq!((keys(&endpoints).len(), resolution.failures()), (1, 2));
    sleep(seconds(5)).await;
    assert_eq!((keys(&endpoints).len(), resolution.error().unwrap().kind()), (0, Kind::NotFound));
    script.host("cart", Ok(&[]));
    sleep(seconds(10)).await;
    assert_eq!(resolution.error().unwrap().to_string(), "not found: the name has no address");
    script.host("cart", Ok(&[4]));
    sleep(seconds(5)).await;
    assert_eq!(keys(&endpoints), ["10.0.0.4:80"]);
}

#[tokio::test(start_paused = true)]
async fn srv_records_give_ports_weights_and_the_priority_that_is_there() {
    let script = Script::default();
    script.services(&[(10, 3, 8080, "a"), (10, 1, 9090, "B."), (20, 1, 80, "spare")]);
    for (name, last) in [("a", 1), ("b", 2), ("spare", 9)] {
        script.host(name, Ok(&[last]));
    }
    let (endpoints, resolution, _task) = follow(Dns::srv(script.clone(), "_http._tcp.cart").unwrap().jitter(0.0));
    sleep(seconds(1)).await;
    let expected = ["10.0.0.1:8080: ready, weight 3, host=a,priority=10", "10.0.0.2:9090: ready, host=b,priority=10"];
    assert_eq!(told(&endpoints), expected);
    script.host("a", Err(Kind::Failed.into()));
    script.host("b", Err(Kind::NotFound.into()));
    sleep(seconds(5)).await;
    assert_eq!(told(&endpoints), [expected[0]], "who could not be asked keeps its addresses, who is gone does not");
    assert_eq!(resolution.error().unwrap().to_string(), "a: failed");
    script.services(&[(20, 1, 80, "spare")]);
    sleep(seconds(5)).await;
    assert_eq!(told(&endpoints), ["10.0.0.9:80: ready, host=spare,priority=20"]);
    script.host("spare", Err(Kind::Timeout.into()));
    script.services(&[(0, 1, 80, "other")]);
    script.host("other", Err(Kind::Timeout.into()));
    sleep(seconds(60)).await;
    assert_eq!(told(&endpoints), ["10.0.0.9:80: ready, host=spare,priority=20"], "nothing was found out");
    assert!(resolution.error().unwrap().is_timeout());
    script.services(&[(0, 0, 0, ".")]);
    sleep(seconds(60)).await;
    assert!(endpoints.is_empty(), "decidedly not there");
}

#[tokio::test(start_paused = true)]
async fn hostile_records_are_left_out_bounded_and_told() {
    let script = Script::default();
    let many: Vec<String> = (0..3000).map(|number| format!("t{number}")).collect();
    let mut records: Vec<_> = many.iter().map(|name| (0, 0, 80, name.as_str())).collect();
    records.extend([(0, 1, 80, "a b\n"), (0, 1, 80, ""), (0, 1, 80, "x..y")]);
    script.services(&records);
    script.host("t0", Ok(&[1]));
    let (endpoints, resolution, _task) = follow(Dns::srv(script.clone(), "cart").unwrap().timeout(seconds(2)));
    sleep(seconds(120)).await;
    assert_eq!(keys(&endpoints), ["10.0.0.1:80"]);
    assert!(resolution.error().unwrap().to_string().contains("3002 targets are more than 256"), "{resolution:?}");
    let asked: BTreeSet<_> = script.0.lock().asked.iter().map(|(_, name)| name.clone()).collect();
    assert!(asked.len() <= TARGETS_MAX + 1 && !asked.contains("a b\n") && !asked.contains("x..y"), "{}", asked.len());
}

#[test]
fn a_name_that_is_none_is_refused_at_once() {
    for bad in ["", "cart", "cart:", "cart:0", "cart:70000", ":80", "a b:80", "cart:80:80", "a..b:80"] {
        let error = Dns::new(System, bad).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{bad}");
    }
    assert!(Dns::new(System, "[::1]:80").is_ok() && Dns::new(System, "10.0.0.1:80").is_ok());
    assert_eq!(Dns::srv(System, "a/b").unwrap_err().to_string(), "a/b: invalid: not a host name");
}

#[tokio::test(start_paused = true)]
async fn the_pods_network_is_a_resolver() {
    let net = Net::memory().build();
    let host = |name: &str| net.host(HostOptions { name: name.into(), ..HostOptions::default() }).unwrap();
    let (one, client) = (host("cart"), host("client"));
    let (endpoints, _, _task) = follow(Dns::new(client.clone(), "cart:80").unwrap().interval(seconds(1)));
    sleep(seconds(1)).await;
    assert_eq!(keys(&endpoints), [format!("{}:80", one.ip())]);
    let two = host("cart");
    sleep(seconds(3)).await;
    assert_eq!(keys(&endpoints), [format!("{}:80", one.ip()), format!("{}:80", two.ip())]);
    drop((one, two));
    sleep(seconds(10)).await;
    assert!(endpoints.is_empty());
    let (_, resolution, _task) = follow(Dns::srv(client, "cart").unwrap());
    sleep(seconds(1)).await;
    assert_eq!(resolution.error().unwrap().kind(), Kind::Unsupported);
}

#[tokio::test]
async fn the_systems_resolver_knows_this_machine() {
    let mut changes = Box::pin(Dns::new(System, "localhost:80").unwrap().changes());
    let batch = changes.next().await.unwrap();
    assert!(batch[0].entries().iter().all(|entry| entry.value.address.ip().is_loopback()), "{batch:?}");
    assert!(!batch[0].entries().is_empty());
    let error = System.addresses("no-such-host.invalid").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}
