//! Pods: their whole life, on a network in memory with time paused; the kill on several threads as well.

use futures::future::join_all;
use seedpod::{
    Error, Kind, Result,
    base::{Seed, sync::Lock, time},
    net::{Connection, HostOptions, Net},
    pod::{
        ContainerSpec, Context, Exit, Hook, Image, Images, Output, Phase, Pod, PodSpec, Probe, RestartPolicy, State,
        Status, Terminated, Volume, serve,
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What happened, in order, each with the second in which it did.
#[derive(Clone)]
struct Journal {
    start: time::Instant,
    lines: Arc<Lock<Vec<String>>>,
}

impl Journal {
    fn new() -> Self {
        Journal { start: time::now(), lines: Arc::default() }
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.lines.lock().push(format!("{} {what}", (time::now() - self.start).as_secs()));
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    /// A container that notes its start and its stop, which takes this long.
    fn container(&self, name: &'static str, stops_in: Duration) -> ContainerSpec {
        let journal = self.clone();
        ContainerSpec::new(name, move |context: Context| {
            let journal = journal.clone();
            async move {
                journal.note(format!("{name} starts"));
                context.stopped().await;
                time::sleep(stops_in).await;
                journal.note(format!("{name} stops"));
                Ok::<_, Error>(())
            }
        })
    }

    /// An init container that takes this long.
    fn init(&self, name: &'static str, takes: Duration) -> ContainerSpec {
        let journal = self.clone();
        ContainerSpec::new(name, move |_: Context| {
            let journal = journal.clone();
            async move {
                journal.note(format!("{name} starts"));
                time::sleep(takes).await;
                journal.note(format!("{name} is done"));
                Ok::<_, Error>(())
            }
        })
    }
}

async fn idle(context: Context) -> Result {
    context.stopped().await;
    Ok(())
}

async fn stubborn(_: Context) -> Result {
    std::future::pending().await
}

fn pod(spec: PodSpec) -> Pod {
    Pod::start(spec, &Net::memory().seed(Seed::new(1)).build()).unwrap()
}

fn one(container: ContainerSpec) -> PodSpec {
    PodSpec::new("pod").container(container)
}

fn ended(status: &Status, container: &str) -> Terminated {
    status.container(container).unwrap().state.terminated().unwrap().clone()
}

/// Notes when it is dropped, and whether what it stands in had gone on.
struct Guard {
    dropped: Arc<AtomicBool>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dropped.store(true, SeqCst);
    }
}

/// A pod whose handler reads a request and then waits for ever, and what tells of it.
struct Victim {
    pod: Pod,
    in_flight: Arc<AtomicU32>,
    resumed: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
    release: Arc<tokio::sync::Notify>,
}

impl Victim {
    fn start(net: &Net) -> Self {
        let (in_flight, resumed, dropped) =
            (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let release = Arc::new(tokio::sync::Notify::new());
        let service = {
            let (in_flight, resumed, dropped, release) =
                (in_flight.clone(), resumed.clone(), dropped.clone(), release.clone());
            tower::service_fn(move |mut connection: Connection| {
                let (in_flight, resumed, release) = (in_flight.clone(), resumed.clone(), release.clone());
                let guard = Guard { dropped: dropped.clone() };
                async move {
                    let mut request = [0; 4];
                    connection.read_exact(&mut request).await?;
                    in_flight.fetch_add(1, SeqCst);
                    release.notified().await;
                    resumed.store(true, SeqCst);
                    connection.write_all(b"done").await?;
                    drop(guard);
                    Ok::<_, Error>(())
                }
            })
        };
        let spec = PodSpec::new("victim").container(ContainerSpec::new("app", serve(80, service)));
        Victim { pod: Pod::start(spec, net).unwrap(), in_flight, resumed, dropped, release }
    }

    /// Kills it with a request in flight; what the peer then reads.
    async fn killed_under_way(&self, net: &Net) -> std::io::Error {
        self.pod.until(|status| status.ready.holds).await;
        let client = net.host(HostOptions::default()).unwrap();
        let mut connection = loop {
            match client.connect(&format!("{}:80", self.pod.ip())).await {
                Ok(connection) => break connection,
                Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "not listening yet: {error}"),
            }
            tokio::task::yield_now().await;
        };
        connection.write_all(b"work").await.unwrap();
        while self.in_flight.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        self.pod.kill();
        self.release.notify_waiters(); // the very thing it waits for happens, too late
        let error = connection.read_u8().await.unwrap_err();
        self.pod.gone().await;
        let refused = client.connect(&format!("{}:80", self.pod.ip())).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Unavailable);
        error
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_resets_what_is_in_flight_and_its_handler_never_resumes() {
    let net = Net::memory().seed(Seed::new(1)).build();
    let victim = Victim::start(&net);
    assert_eq!(victim.killed_under_way(&net).await.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(victim.dropped.load(SeqCst) && !victim.resumed.load(SeqCst));
    assert_eq!((victim.pod.tasks(), victim.pod.sockets()), (0, 0));
    let status = victim.pod.status();
    assert_eq!((status.phase, ended(&status, "app").exit_code), (Phase::Failed, Exit::KILLED));
    assert!(!status.containers[0].started && !status.containers[0].ready, "what does not run has not started");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_on_several_threads_leaves_nothing() {
    for _ in 0..50 {
        let net = Net::memory().build();
        let victim = Victim::start(&net);
        assert_eq!(victim.killed_under_way(&net).await.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(victim.dropped.load(SeqCst));
        assert_eq!((victim.pod.tasks(), victim.pod.sockets()), (0, 0));
    }
}

#[tokio::test]
async fn a_kill_over_tcp_resets_as_well() {
    let net = Net::tcp().build();
    let victim = Victim::start(&net);
    assert_eq!(victim.killed_under_way(&net).await.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(victim.dropped.load(SeqCst) && !victim.resumed.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn four_hundred_pods_killed_at_random_moments_leave_no_task_and_no_socket() {
    let net = Net::memory().seed(Seed::new(3)).build();
    let mut rng = Seed::new(3).fork("kills").rng();
    let echo = tower::service_fn(|mut connection: Connection| async move {
        time::sleep(Duration::from_millis(4)).await;
        let (mut read, mut write) = tokio::io::split(&mut connection);
        tokio::io::copy(&mut read, &mut write).await.map(drop)
    });
    let mut ends = Vec::new();
    let mut pods = Vec::new();
    for number in 0..400_u32 {
        // each talks to the one before, and to itself over localhost
        let peer = pods.last().map_or("localhost".to_owned(), |pod: &Arc<Pod>| pod.ip().to_string());
        let client = move |context: Context| {
            let peer = peer.clone();
            async move {
                loop {
                    for target in [peer.as_str(), "localhost"] {
                        if let Ok(mut connection) = context.connect(format!("{target}:80")).await {
                            let _ = connection.write_all(&[7; 1000]).await;
                            let _ = connection.read(&mut [0; 100]).await;
                        } else {
                            time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                    context.clone().spawn(async move { time::sleep(seconds(1)).await });
                    if context.is_stopped() {
                        return Ok::<_, Error>(());
                    }
                }
            }
        };
        let spec = PodSpec::new(format!("pod-{number}"))
            .container(ContainerSpec::new("server", serve(80, echo)))
            .container(ContainerSpec::new("client", client).liveness(Probe::tcp(80).period(Duration::from_millis(50))));
        let pod = Arc::new(Pod::start(spec, &net).unwrap());
        pods.push(pod.clone());
        let moment = Duration::from_micros(rng.below(200_000));
        ends.push(async move {
            time::sleep(moment).await;
            let busy = pod.tasks() > 2 && pod.sockets() > 1;
            pod.kill();
            pod.gone().await;
            busy
        });
    }
    let busy = join_all(ends).await.into_iter().filter(|busy| *busy).count();
    assert!(busy > 350, "only {busy} were killed under load");
    assert!(pods.iter().all(|pod| (pod.tasks(), pod.sockets()) == (0, 0)));
    let stranger = net.host(HostOptions::default()).unwrap();
    for pod in &pods {
        assert_eq!(stranger.connect(&format!("{}:80", pod.ip())).await.unwrap_err().kind(), Kind::Unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_fails_is_restarted_by_the_back_off() {
    let journal = Journal::new();
    let failing = {
        let journal = journal.clone();
        move |context: Context| {
            let journal = journal.clone();
            async move {
                journal.note("runs");
                context.log(format!("try {}", journal.lines().len()));
                // the seventh runs long enough to be forgiven
                time::sleep(if journal.lines().len() == 7 { seconds(600) } else { Duration::ZERO }).await;
                Err::<(), _>(Exit::new(3, "no database"))
            }
        }
    };
    let pod = pod(one(ContainerSpec::new("app", failing)));
    let status = pod.until(|status| status.containers[0].state.reason() == Some("CrashLoopBackOff")).await;
    let app = &status.containers[0];
    let State::Waiting { reason, message } = &app.state else { panic!("{app:?}") };
    assert_eq!((*reason, &**message), ("CrashLoopBackOff", "back-off 10s restarting failed container=app"));
    assert_eq!((app.restarts, status.phase, status.ready.holds), (1, Phase::Running, false));
    let last = app.last.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason, &*last.message), (3, "Error", "failed: exit code 3: no database"));

    time::sleep(seconds(1500)).await;
    // at once, then after 10, 20, 40, 80, 160, (600 running, so) at once, 10, 20 …
    let seconds: Vec<_> = journal.lines().iter().map(|line| line.trim_end_matches(" runs").to_owned()).collect();
    assert_eq!(seconds, ["0", "0", "10", "30", "70", "150", "310", "910", "920", "940", "980", "1060", "1220"]);
    assert_eq!(&*pod.logs("app")[0].text, "try 13");
    assert_eq!(&*pod.previous_logs("app")[0].text, "try 12");
}

#[tokio::test(start_paused = true)]
async fn policies_decide_who_runs_again() {
    for (policy, fails, phase, runs) in [
        (RestartPolicy::Never, false, Phase::Succeeded, 1),
        (RestartPolicy::Never, true, Phase::Failed, 1),
        (RestartPolicy::OnFailure, false, Phase::Succeeded, 1),
    ] {
        let count = Arc::new(AtomicU32::new(0));
        let container = {
            let count = count.clone();
            move |_: Context| {
                count.fetch_add(1, SeqCst);
                async move { if fails { Err(Exit::new(1, "")) } else { Ok(()) } }
            }
        };
        let pod = pod(one(ContainerSpec::new("app", container)).restart(policy));
        assert_eq!(pod.finished().await, phase, "{policy} {fails}");
        assert_eq!(count.load(SeqCst), runs, "{policy} {fails}");
        assert_eq!(pod.status().unready().unwrap().0, if fails { "PodFailed" } else { "PodCompleted" });
    }
    // on failure: until it ends well
    let count = Arc::new(AtomicU32::new(0));
    let third_time = {
        let count = count.clone();
        move |_: Context| {
            let tries = count.fetch_add(1, SeqCst);
            async move { if tries < 2 { Err(Exit::new(1, "")) } else { Ok(()) } }
        }
    };
    let pod = pod(one(ContainerSpec::new("app", third_time)).restart(RestartPolicy::OnFailure));
    assert_eq!(pod.finished().await, Phase::Succeeded);
    assert_eq!(pod.status().restarts(), 2);
}

#[tokio::test(start_paused = true)]
async fn init_containers_run_in_order_and_sidecars_start_first_and_stop_last() {
    let journal = Journal::new();
    let spec = PodSpec::new("pod")
        .init(journal.init("one", seconds(1)))
        .sidecar(journal.container("mesh", seconds(1)).startup(Probe::function(|_| async {
            time::sleep(Duration::from_millis(500)).await;
            Ok::<_, Error>(())
        })))
        .sidecar(journal.container("logs", seconds(1)))
        .init(journal.init("two", seconds(2)))
        .container(journal.container("app", seconds(3)))
        .container(journal.container("cache", seconds(5)));
    let pod = pod(spec);
    assert_eq!(pod.status().unready().unwrap().1, "containers with incomplete status: [one mesh logs two]");
    let status = pod.until(|status| status.init[0].state.terminated().is_some()).await;
    assert_eq!(status.phase, Phase::Pending);
    assert_eq!(status.containers[0].state.reason(), Some("PodInitializing"));
    let status = pod.until(|status| status.ready.holds).await;
    assert!(status.initialized.holds && status.phase == Phase::Running);
    time::sleep(seconds(6)).await;
    assert_eq!(pod.stop(pod.grace()).await, Phase::Succeeded);
    assert_eq!(
        journal.lines(),
        [
            "0 one starts",
            "1 one is done",
            "1 mesh starts",
            "1 logs starts", // once mesh has started, half a second later
            "1 two starts",
            "3 two is done",
            "3 app starts",
            "3 cache starts",
            "12 app stops",
            "14 cache stops",
            "15 logs stops",
            "16 mesh stops",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_init_container_that_fails_holds_the_pod_or_fails_it() {
    async fn broken(_: Context) -> Result<(), Exit> {
        Err(Exit::new(2, "no route"))
    }
    let journal = Journal::new();
    let spec = || {
        PodSpec::new("pod")
            .sidecar(journal.container("mesh", Duration::ZERO))
            .init(ContainerSpec::new("setup", broken))
            .container(journal.container("app", Duration::ZERO))
    };
    let held = pod(spec());
    let status = held.until(|status| status.init[1].restarts == 3).await;
    assert_eq!((status.phase, status.initialized.holds), (Phase::Pending, false));
    let failed = pod(spec().restart(RestartPolicy::Never));
    assert_eq!(failed.finished().await, Phase::Failed);
    let status = failed.status();
    assert_eq!(ended(&status, "setup").exit_code, 2);
    assert_eq!(ended(&status, "mesh").exit_code, 0, "the sidecar is stopped in order");
    assert!(!journal.lines().iter().any(|line| line.contains("app")), "{:?}", journal.lines());
}

#[tokio::test(start_paused = true)]
async fn sidecars_do_not_hold_up_a_pod_whose_work_is_done() {
    let journal = Journal::new();
    let spec = PodSpec::new("job")
        .restart(RestartPolicy::Never)
        .sidecar(journal.container("proxy", seconds(1)))
        .container(journal.init("work", seconds(5)));
    assert_eq!(pod(spec).finished().await, Phase::Succeeded);
    assert_eq!(journal.lines(), ["0 proxy starts", "0 work starts", "5 work is done", "6 proxy stops"]);
}

#[tokio::test(start_paused = true)]
async fn readiness_decides_about_traffic_and_liveness_about_life() {
    let (ready, alive) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let flag = |flag: &Arc<AtomicBool>, what: &'static str| {
        let flag = flag.clone();
        Probe::function(move |_| {
            let good = flag.load(SeqCst);
            async move { if good { Ok(()) } else { Err(Error::new(Kind::Unavailable, what)) } }
        })
    };
    let journal = Journal::new();
    let container = journal
        .container("app", seconds(1))
        .readiness(flag(&ready, "warming up").period(seconds(2)).failures(2))
        .liveness(flag(&alive, "stuck").period(seconds(5)));
    let pod = pod(one(container));
    time::sleep(seconds(5)).await;
    let status = pod.status();
    assert!(status.containers[0].started && !status.ready.holds, "not ready before the first success");
    assert_eq!(status.containers[0].unhealthy.as_deref(), Some("readiness probe: unavailable: warming up"));
    assert_eq!(status.unready().unwrap().1, "containers with unready status: [app]");

    ready.store(true, SeqCst);
    let status = pod.until(|status| status.ready.holds).await;
    assert_eq!(status.containers[0].unhealthy, None);
    ready.store(false, SeqCst);
    let before = time::now();
    pod.until(|status| !status.ready.holds).await;
    assert_eq!((time::now() - before).as_secs(), 4, "two failures, two seconds apart");
    assert_eq!(pod.status().containers[0].restarts, 0, "readiness restarts nothing");

    ready.store(true, SeqCst);
    alive.store(false, SeqCst);
    let status = pod.until(|status| status.containers[0].restarts == 1).await;
    assert_eq!(status.containers[0].last.as_ref().unwrap().exit_code, 0, "it was asked to stop, and ended well");
    alive.store(true, SeqCst);
    pod.until(|status| status.ready.holds).await;
    // failed at 15, 20 and 25; asked to stop at 25
    assert_eq!(journal.lines(), ["0 app starts", "26 app stops", "26 app starts"]);
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_holds_back_the_others() {
    let journal = Journal::new();
    let note = |what: &'static str, good_from: u64| {
        let journal = journal.clone();
        Probe::function(move |_| {
            journal.note(what);
            let good = (time::now() - journal.start).as_secs() >= good_from;
            async move { if good { Ok(()) } else { Err(Error::new(Kind::Unavailable, "")) } }
        })
    };
    let container = ContainerSpec::new("app", idle)
        .startup(note("startup", 20))
        .liveness(note("liveness", 0).period(seconds(4)))
        .readiness(note("readiness", 0).initial_delay(seconds(5)).period(seconds(60)));
    let pod = pod(one(container));
    pod.until(|status| status.containers[0].started).await;
    assert_eq!((time::now() - journal.start).as_secs(), 20);
    time::sleep(seconds(5)).await;
    assert_eq!(
        journal.lines(),
        ["0 startup", "10 startup", "20 startup", "20 liveness", "20 readiness", "24 liveness"]
    );
    assert!(pod.status().ready.holds);

    // one that never starts is restarted
    let container = ContainerSpec::new("app", stubborn).startup(note("never", 1000).failures(2).period(seconds(1)));
    let spec = PodSpec { grace: seconds(3), ..one(container) };
    let pod = self::pod(spec);
    let status = pod.until(|status| status.containers[0].restarts == 1).await;
    assert_eq!(status.containers[0].last.as_ref().unwrap().exit_code, Exit::KILLED, "it did not react to the signal");
}

#[tokio::test(start_paused = true)]
async fn checks_of_every_kind() {
    async fn app(context: Context) -> Result {
        time::sleep(seconds(3)).await;
        let _listener = context.listen(7070).await?;
        context.ready();
        context.stopped().await;
        Ok(())
    }
    let image = || {
        Image::new(app).exec(|_: Context, command: Vec<String>| async move {
            match command.first().map(String::as_str) {
                Some("true") => Ok::<_, Error>(Output::ok("")),
                Some("false") => Ok(Output::failed(1, "no such luck\n")),
                Some("hang") => std::future::pending().await,
                Some("panic") => panic!("in the check"),
                _ => Ok(Output::not_found(&command)),
            }
        })
    };
    let probed = |probe: Probe| pod(one(ContainerSpec::new("app", image()).readiness(probe.period(seconds(1)))));
    for (probe, ready_after) in
        [(Probe::tcp(7070), 3), (Probe::reported(), 3), (Probe::exec(["true"]), 0), (Probe::tcp(7070).successes(4), 6)]
    {
        let start = time::now();
        let pod = probed(probe.clone());
        pod.until(|status| status.ready.holds).await;
        assert_eq!((time::now() - start).as_secs(), ready_after, "{probe:?}");
    }
    for (probe, complaint) in [
        (Probe::tcp(7071), "readiness probe: 10.0.0.1:7071: unavailable: connection refused"),
        (Probe::exec(["false"]), "readiness probe: false: failed: exit code 1: no such luck"),
        (Probe::exec(["ls", "/"]), "readiness probe: ls /: failed: exit code 127: ls: command not found"),
        (Probe::exec(["hang"]), "readiness probe: no answer within 1s"),
        (Probe::exec(["panic"]), "readiness probe: it panicked"),
    ] {
        let pod = probed(probe);
        time::sleep(seconds(5)).await;
        let status = pod.status();
        assert_eq!(status.containers[0].unhealthy.as_deref(), Some(complaint));
        assert!(!status.ready.holds && status.containers[0].restarts == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn http_and_grpc_checks() {
    use axum::{http::StatusCode, routing::get};
    async fn app(context: Context) -> Result {
        let started = time::now();
        let check = move |headers: axum::http::HeaderMap| async move {
            let warm = time::now() - started >= seconds(4) && headers.contains_key("x-probe");
            if warm { (StatusCode::FOUND, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "cold") }
        };
        let health = |status: &'static [u8]| {
            move |body: axum::body::Bytes| async move {
                let trailers =
                    http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())]);
                let known = &body[..] == b"\x00\x00\x00\x00\x06\x0a\x04cart";
                let answer = if known { status } else { b"\x00\x00\x00\x00\x02\x08\x03" };
                let frames = [
                    Ok::<_, Error>(http_body::Frame::data(bytes::Bytes::from_static(answer))),
                    Ok(http_body::Frame::trailers(trailers)),
                ];
                http::Response::new(axum::body::Body::new(http_body_util::StreamBody::new(futures::stream::iter(
                    frames,
                ))))
            }
        };
        let router = axum::Router::new()
            .route("/healthz", get(check))
            .route("/grpc.health.v1.Health/Check", axum::routing::post(health(b"\x00\x00\x00\x00\x02\x08\x01")));
        let listener = context.listen(8080).await?;
        seedpod::http::serve(listener, router).until(context.stopped()).await
    }
    let probed = |probe: Probe| pod(one(ContainerSpec::new("app", app).readiness(probe.period(seconds(1)))));
    let http = |path: &str, headers| Probe::new(seedpod::pod::Check::Http { port: 8080, path: path.into(), headers });
    let grpc = |service: &str| Probe::new(seedpod::pod::Check::Grpc { port: 8080, service: service.into() });
    let headers = vec![("x-probe".to_owned(), "1".to_owned())];

    let warm = probed(http("/healthz", headers.clone()));
    time::sleep(seconds(3)).await;
    let complaint = "readiness probe: port 8080, path /healthz: failed: status 503 Service Unavailable";
    assert_eq!(warm.status().containers[0].unhealthy.as_deref(), Some(complaint));
    warm.until(|status| status.ready.holds).await;

    probed(grpc("cart")).until(|status| status.ready.holds).await;
    for (probe, complaint) in [
        (http("nowhere", headers), "readiness probe: port 8080, path nowhere: failed: status 404 Not Found"),
        (grpc("other"), "readiness probe: port 8080, gRPC service \"other\": failed: it says SERVICE_UNKNOWN"),
    ] {
        let pod = probed(probe);
        time::sleep(seconds(3)).await;
        assert_eq!(pod.status().containers[0].unhealthy.as_deref(), Some(complaint));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_container_alone() {
    let spec = PodSpec::new("pod")
        .container(ContainerSpec::new("app", |context: Context| async move {
            context.spawn(async { panic!("in a task") }).await.unwrap_err();
            time::sleep(seconds(1)).await;
            let nothing: Option<u8> = None;
            assert!(nothing.is_some(), "in the function");
            Ok::<_, Error>(())
        }))
        .container(ContainerSpec::new("early", |_: Context| -> std::future::Ready<Result> {
            panic!("before its future")
        }))
        .container(ContainerSpec::new("steady", idle));
    let pod = pod(spec);
    let status = pod.until(|status| status.containers[0].last.is_some()).await;
    let last = |index: usize| status.containers[index].last.clone().unwrap();
    assert_eq!((last(0).exit_code, &*last(0).message), (Exit::PANICKED, "panicked: in the function"));
    assert_eq!((last(1).exit_code, &*last(1).message), (Exit::PANICKED, "panicked: before its future"));
    assert_eq!((status.containers[2].restarts, status.containers[2].ready), (0, true));
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_grace_and_then_kills() {
    let journal = Journal::new();
    let hook = |what: &'static str, takes| {
        let journal = journal.clone();
        Hook::function(move |_| {
            let journal = journal.clone();
            async move {
                time::sleep(takes).await;
                journal.note(what);
                Ok::<_, Error>(())
            }
        })
    };
    let spec = PodSpec::new("pod")
        .container(journal.container("polite", seconds(1)).pre_stop(hook("polite hook", seconds(4))))
        .container(journal.container("late", seconds(1)).pre_stop(hook("never", seconds(60))))
        .container(ContainerSpec::new("stubborn", stubborn));
    let pod = pod(spec);
    pod.until(|status| status.ready.holds).await;
    let stop = pod.stop(seconds(10));
    let watch = async {
        time::sleep(seconds(7)).await;
        let status = pod.status();
        assert!(status.stopping && !status.phase.is_over());
        assert_eq!(ended(&status, "polite").exit_code, 0);
    };
    let (phase, ()) = tokio::join!(stop, watch);
    assert_eq!(phase, Phase::Failed);
    // late's hook used up the grace: two more seconds to react to the signal
    assert_eq!(journal.lines()[2..], ["4 polite hook", "5 polite stops", "11 late stops"]);
    let status = pod.status();
    assert_eq!((ended(&status, "late").exit_code, ended(&status, "stubborn").exit_code), (0, Exit::KILLED));
    assert_eq!((time::now() - journal.start).as_secs(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_hurries_and_a_stop_without_grace_kills() {
    let pod = pod(one(ContainerSpec::new("app", stubborn)));
    pod.until(|status| status.ready.holds).await;
    let start = time::now();
    pod.begin_stop(seconds(100));
    time::sleep(seconds(1)).await;
    pod.begin_stop(seconds(1000));
    pod.stop(seconds(5)).await;
    assert_eq!((time::now() - start).as_secs(), 6);

    let pod = self::pod(one(ContainerSpec::new("app", stubborn)));
    pod.until(|status| status.ready.holds).await;
    let start = time::now();
    assert_eq!(pod.stop(Duration::ZERO).await, Phase::Failed);
    assert_eq!(time::now(), start);
}

#[tokio::test(start_paused = true)]
async fn a_post_start_hook_that_fails_restarts_its_container() {
    let tries = Arc::new(AtomicU32::new(0));
    let hook = {
        let tries = tries.clone();
        Hook::function(move |_| {
            let first = tries.fetch_add(1, SeqCst) == 0;
            async move {
                time::sleep(seconds(2)).await;
                if first { Err(Error::new(Kind::Failed, "not registered")) } else { Ok(()) }
            }
        })
    };
    let pod = pod(one(ContainerSpec::new("app", idle).post_start(hook)));
    let status = pod.until(|status| status.containers[0].unhealthy.is_some()).await;
    assert_eq!(status.containers[0].unhealthy.as_deref(), Some("post-start hook: failed: not registered"));
    let status = pod.until(|status| status.containers[0].ready).await;
    assert_eq!((status.containers[0].restarts, &status.containers[0].unhealthy), (1, &None));
}

#[tokio::test(start_paused = true)]
async fn containers_share_localhost_and_volumes() {
    async fn half_a_second(context: Context) -> Result {
        let volume = context.volume("/shared")?;
        let mut watch = volume.watch();
        if volume.read("port").is_err() {
            watch.changed().await;
        }
        let port = String::from_utf8_lossy(&volume.read("port")?).into_owned();
        let mut connection = context.connect(format!("localhost:{port}")).await?;
        connection.write_all(b"ping").await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        context.log(answer);
        assert_eq!(volume.write("port", "").unwrap_err().kind(), Kind::Rejected);
        context.stopped().await;
        Ok(())
    }
    async fn server(context: Context) -> Result {
        let mut listener = context.listen(0).await?;
        time::sleep(Duration::from_millis(500)).await;
        context.volume("shared")?.write("port", listener.local_addr().port().to_string())?;
        let mut connection = listener.accept().await?;
        assert_eq!(connection.peer_addr().ip(), context.ip());
        connection.read_exact(&mut [0; 4]).await?;
        connection.write_all(b"pong").await?;
        Ok(())
    }
    let mut client = ContainerSpec::new("client", half_a_second).mount("shared", "/shared/");
    client.mounts[0].read_only = true;
    let spec = PodSpec::new("pair")
        .volume("shared", Volume::memory())
        .container(client)
        .container(ContainerSpec::new("server", server).mount("shared", "/data"));
    let pod = pod(spec);
    while pod.logs("client").is_empty() {
        time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(&*pod.logs("client")[0].text, "pong");
}

#[tokio::test(start_paused = true)]
async fn a_port_is_one_containers_and_free_again_when_it_ends() {
    async fn taker(context: Context) -> Result {
        let _listener = context.listen(8080).await?;
        context.stopped().await;
        Ok(())
    }
    async fn holder(context: Context) -> Result {
        let _listener = context.listen(8080).await?;
        // a task holds the port as well, and is still there when the function ends
        let also = context.clone();
        context.spawn(async move {
            let _listener = also.listen(9090).await;
            std::future::pending::<()>().await
        });
        time::sleep(seconds(5)).await;
        Err(Error::new(Kind::Failed, "over"))
    }
    let spec = PodSpec::new("pod").container(ContainerSpec::new("a", holder)).container(ContainerSpec::new("b", taker));
    let pod = pod(spec);
    let status = pod.until(|status| status.containers[1].last.is_some()).await;
    let message = status.containers[1].last.clone().unwrap().message;
    assert_eq!(&*message, "10.0.0.1:8080: conflict: the port is in use");
    // b waits 10 s; a ends after 5, is back at once, and ends again
    let status = pod.until(|status| status.containers[0].restarts == 2).await;
    assert_eq!(&*status.containers[0].last.clone().unwrap().message, "10.0.0.1:8080: conflict: the port is in use");
    assert!(status.containers[1].state.is_running());
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_waited_for() {
    let images = Images::default();
    let container = ContainerSpec::new("app", images.image("gcr.io/shop/cart:v1"));
    let pod = pod(one(container));
    let reason = |status: &Status| status.containers[0].state.reason();
    let status = pod.until(|status| reason(status) == Some("ErrImagePull")).await;
    let State::Waiting { message, .. } = &status.containers[0].state else { panic!("{status:?}") };
    assert_eq!(&**message, "image gcr.io/shop/cart:v1: not found: no image is registered");
    let status = pod.until(|status| reason(status) == Some("ImagePullBackOff")).await;
    assert_eq!((status.phase, &*status.containers[0].image), (Phase::Pending, "gcr.io/shop/cart:v1"));
    images.register("cart", idle);
    let status = pod.until(|status| status.ready.holds).await;
    assert_eq!(status.containers[0].restarts, 0, "nothing has run before");
}

#[tokio::test(start_paused = true)]
async fn commands_run_beside_the_container() {
    async fn app(context: Context) -> Result {
        time::sleep(seconds(30)).await;
        drop(context);
        Ok(())
    }
    let image = Image::new(app).exec(|context: Context, command: Vec<String>| async move {
        match command.join(" ").as_str() {
            "whoami" => Ok(Output::ok(format!("{}/{}", context.pod(), context.name()))),
            "hang" => std::future::pending().await,
            "panic" => panic!("at the disco"),
            _ => Err(Error::new(Kind::Invalid, "what?")),
        }
    });
    let spec = one(ContainerSpec::new("app", image)).container(ContainerSpec::new("bare", idle));
    let pod = pod(spec);
    pod.until(|status| status.ready.holds).await;
    assert_eq!(pod.exec("app", ["whoami"]).await.unwrap().stdout, "pod/app");
    assert_eq!(pod.exec("bare", ["ls"]).await.unwrap(), Output::failed(127, "ls: command not found"));
    assert_eq!(
        pod.exec("app", ["panic"]).await.unwrap_err().to_string(),
        "pod default/pod, container app: panicked: at the disco"
    );
    assert_eq!(pod.exec("app", ["huh"]).await.unwrap_err().kind(), Kind::Invalid);
    assert!(pod.exec("none", ["ls"]).await.unwrap_err().is_not_found());
    let tasks = pod.tasks();
    let gave_up = tokio::time::timeout(seconds(1), pod.exec("app", ["hang"])).await;
    tokio::task::yield_now().await;
    assert!(gave_up.is_err() && pod.tasks() == tasks, "a command that nobody waits for is aborted");
    let hanging = pod.exec("app", ["hang"]);
    assert_eq!(hanging.await.unwrap_err().kind(), Kind::Unavailable, "it ends with the container");
}

#[tokio::test(start_paused = true)]
async fn what_a_container_sees() {
    let (seen, look) = tokio::sync::mpsc::unbounded_channel::<Vec<String>>();
    let container = move |context: Context| {
        let seen = seen.clone();
        async move {
            context.consume(Duration::from_millis(250), 4096);
            context.consume(Duration::from_millis(250), 1024);
            let mut facts = vec![context.pod().into(), context.name().into(), context.namespace().into()];
            facts.extend(context.envs().map(|(key, value)| format!("{key}={value}")));
            facts.extend(context.args().iter().cloned());
            facts.push(context.resource::<u32>("limit").unwrap().to_string());
            facts.push(context.volume("none").unwrap_err().to_string());
            facts.push(format!("{:?}", context.env("NONE")));
            facts.push((context.rng("a").next_u64() == context.rng("a").next_u64()).to_string());
            facts.push((context.rng("a").next_u64() == context.rng("b").next_u64()).to_string());
            let _ = seen.send(facts);
            idle(context).await
        }
    };
    let mut look = look;
    let spec = PodSpec::new("web-0")
        .env("ZONE", "eu")
        .env("MODE", "slow")
        .resource("limit", 7_u32)
        .container(ContainerSpec::new("app", container).env("MODE", "fast").arg("--verbose"));
    let pod = pod(spec);
    assert_eq!(
        look.recv().await.unwrap(),
        [
            "web-0",
            "app",
            "default",
            "MODE=fast",
            "ZONE=eu",
            "--verbose",
            "7",
            "volume none: not found: container app mounts no volume",
            "None",
            "true",
            "false"
        ]
    );
    assert_eq!(pod.usage("app"), (Duration::from_millis(500), 1024));
}

#[tokio::test(start_paused = true)]
async fn logs_are_bounded() {
    let pod = pod(one(ContainerSpec::new("chatty", |context: Context| async move {
        for line in 0..10_000 {
            context.log(format!("line {line}"));
        }
        context.ready();
        idle(context).await
    })
    .readiness(Probe::reported())));
    pod.until(|status| status.ready.holds).await;
    let logs = pod.logs("chatty");
    assert_eq!((logs.len(), pod.logs_dropped("chatty")), (seedpod::pod::LOG_LINES_MAX, 10_000 - 4096));
    assert_eq!(&*logs.last().unwrap().text, "line 9999");
    assert!(pod.logs("nobody").is_empty());
}

#[tokio::test(start_paused = true)]
async fn specs_that_cannot_be_started() {
    let net = Net::memory().build();
    for (spec, complaint) in [
        (PodSpec::new("a"), "pod default/a: invalid: it has no container"),
        (
            one(ContainerSpec::new("app", idle)).container(ContainerSpec::new("app", idle)),
            "pod default/pod, container app: invalid: two containers have this name",
        ),
        (
            one(ContainerSpec::new("app", idle).mount("data", "/data")),
            "pod default/pod, container app: invalid: it mounts the volume data, which the pod does not have",
        ),
    ] {
        assert_eq!(Pod::start(spec, &net).unwrap_err().to_string(), complaint);
    }
    let first = Pod::start(one(ContainerSpec::new("app", idle)), &net).unwrap();
    let second = || Pod::start(PodSpec { ip: Some(first.ip()), ..one(ContainerSpec::new("app", idle)) }, &net);
    assert_eq!(second().unwrap_err().kind(), Kind::Conflict);
    first.stop(seconds(1)).await;
    assert!(second().is_ok(), "a pod that is over has given up its address");
}

#[tokio::test(start_paused = true)]
async fn a_pump_drains_and_bounds() {
    let journal = Journal::new();
    let service = {
        let journal = journal.clone();
        tower::service_fn(move |mut connection: Connection| {
            let journal = journal.clone();
            async move {
                let name = connection.read_u8().await? as char;
                if name == 'x' {
                    return Err(Error::new(Kind::Rejected, "not x"));
                }
                time::sleep(seconds(5)).await;
                journal.note(format!("{name} served"));
                connection.write_all(b"!").await?;
                Ok(())
            }
        })
    };
    let net = Net::memory().build();
    let spec = one(ContainerSpec::new("app", serve(80, service).limit(2)).readiness(Probe::reported()));
    let pod = Pod::start(spec, &net).unwrap();
    pod.until(|status| status.ready.holds).await;
    let client = net.host(HostOptions::default()).unwrap();
    let target = format!("{}:80", pod.ip());
    let call = |name: u8| {
        let (client, target) = (client.clone(), target.clone());
        async move {
            let mut connection = client.connect(&target).await?;
            connection.write_u8(name).await?;
            connection.read_u8().await.map_err(Error::from)
        }
    };
    assert_eq!(call(b'x').await.unwrap_err().kind(), Kind::Closed);
    assert!(pod.logs("app")[0].text.ends_with("rejected: not x"), "{:?}", pod.logs("app"));
    let calls = [b'a', b'b', b'c'].map(|name| tokio::spawn(call(name)));
    time::sleep(seconds(6)).await; // a and b are served, c has begun
    let stopped = tokio::spawn({
        let observer = pod.observe();
        async move { { observer }.until(|_| false).await.phase }
    });
    pod.begin_stop(pod.grace());
    tokio::task::yield_now().await;
    time::sleep(Duration::from_millis(1)).await;
    assert_eq!(call(b'd').await.unwrap_err().kind(), Kind::Unavailable, "it accepts no more");
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), b'!');
    }
    assert_eq!(stopped.await.unwrap(), Phase::Succeeded);
    assert_eq!(journal.lines(), ["5 a served", "5 b served", "10 c served"]);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_pod_kills_it_and_observers_see_it() {
    let pod = pod(one(ContainerSpec::new("app", stubborn)));
    pod.until(|status| status.ready.holds).await;
    let mut observer = pod.observe();
    drop(pod);
    assert_eq!(observer.until(|_| false).await.phase, Phase::Failed);
}
