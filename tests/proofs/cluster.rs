//! A small cluster under kills, crashes, drains, rollouts, scaling, refused manifests and refused connects, while
//! clients call: no request is lost while a replica is ready, and in the end everything is as it was asked for.

use crate::{
    schedule::{Hits, Subject, alive, simulate},
    shop::{pods, ready, shop},
};
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::BodyExt;
use seedpod::{
    Error, Kind,
    base::{Faults, Rng, Seed, Verdict, hash, sync::Lock, time},
    cluster::{
        Cluster,
        object::{DeploymentSpec, EndpointSlice, Object, PodStatus},
    },
    http::{self, Body, Client},
    layer::{HttpStatus, RetryLayer},
    net::{Connect, Event, Net, Scope},
    pod::Context,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tower::{Service, ServiceBuilder, ServiceExt};

const SUBJECT: Subject = Subject {
    test: "cluster::schedules_cluster",
    faults: &[
        "connect refused",
        "container crashed",
        "manifest refused",
        "node drained",
        "pod deleted",
        "pod killed",
        "rolled out",
        "rolled out by a manifest",
        "scaled down",
        "scaled up",
    ],
    one_in: 20,
    usual: 200,
};

#[test]
fn schedules_cluster() {
    SUBJECT.run(|seed, hits| simulate(seed, schedule(seed, hits)));
}

const APPS: [&str; 2] = ["web", "cart"];

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What all parts of a schedule share.
#[derive(Default)]
struct World {
    /// Requests in the hands of each pod.
    in_flight: Lock<BTreeMap<String, u64>>,
    /// Pods whose container is to crash.
    crashing: Lock<BTreeSet<String>>,
    /// When an app had no ready pod last, and whether it has none now.
    dark: Lock<BTreeMap<&'static str, (time::Instant, bool)>>,
    hits: Lock<Vec<&'static str>>,
    violations: Lock<Vec<String>>,
    sent: AtomicU64,
    over: AtomicBool,
}

impl World {
    fn hit_if(&self, met: bool, fault: &'static str) {
        if met {
            self.hits.lock().push(fault);
        }
    }

    fn hold(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.lock().push(what());
        }
    }

    fn busy(&self, pod: &str) -> bool {
        self.in_flight.lock().get(pod).is_some_and(|requests| *requests > 0)
    }
}

/// A request in the hands of a pod.
struct InFlight(Arc<World>, String);

impl Drop for InFlight {
    fn drop(&mut self) {
        *self.0.in_flight.lock().entry(self.1.clone()).or_default() -= 1;
    }
}

/// Answers after a moment; crashes when it is told to.
async fn serve(world: Arc<World>, context: Context) -> Result<(), Error> {
    let listener = context.listen(8080).await?;
    let name = context.pod().to_owned();
    let answer = {
        let (world, name) = (world.clone(), name.clone());
        move |request: ::http::Request<Body>| {
            let (world, name) = (world.clone(), name.clone());
            async move {
                *world.in_flight.lock().entry(name.clone()).or_default() += 1;
                let own = InFlight(world, name);
                let probe = request.uri().path() == "/";
                time::sleep(milliseconds(if probe { 1 } else { 30 })).await;
                Ok::<_, Infallible>(http::text(200, own.1.clone()))
            }
        }
    };
    let crash = async {
        loop {
            time::sleep(milliseconds(20)).await;
            if world.crashing.lock().remove(&name) {
                return Err(Error::new(Kind::Failed, "on purpose"));
            }
        }
    };
    tokio::select! {
        biased;
        crashed = crash => crashed,
        served = http::serve(listener, tower::service_fn(answer)).until(context.stopped()) => served,
    }
}

/// Calls until all is over; a request may fail only where its service had no ready pod.
async fn client(world: Arc<World>, cluster: Cluster, app: &'static str, mut rng: Rng) {
    let http = Client::new(cluster.host());
    let send = tower::service_fn(move |request: ::http::Request<Bytes>| {
        let http = http.clone();
        async move { http.request(request.map(Body::from)).await }
    });
    let retry = RetryLayer::new().attempts(6).classify(HttpStatus).seed(Seed::new(rng.next_u64()));
    let mut service = ServiceBuilder::new().layer(retry).service(send);
    while !world.over.load(Relaxed) {
        let begun = time::now();
        let request = ::http::Request::get(format!("http://{app}/page")).body(Bytes::new()).unwrap();
        let answer = service.ready().await.unwrap().call(request).await;
        world.sent.fetch_add(1, Relaxed);
        let failed = match answer {
            Ok(response) if response.status().is_success() => {
                response.into_body().collect().await.err().map(|error| format!("body: {}", error.chain()))
            }
            Ok(response) => Some(format!("status {}", response.status())),
            Err(error) => Some(error.chain()),
        };
        if let Some(failed) = failed {
            let dark = world.dark.lock().get(app).is_some_and(|(last, now)| *now || *last >= begun);
            let took = begun.elapsed();
            world.hit_if(dark, "no replica for a request");
            world.hold(dark, || format!("{:?}: a request to {app} failed after {took:?}: {failed}", time::now()));
        }
        time::sleep(milliseconds(rng.range(40..240))).await;
    }
}

fn ready_pods(cluster: &Cluster, app: &str) -> Vec<Object> {
    pods(cluster, app).into_iter().filter(ready).collect()
}

/// Notes whenever an app has no ready pod.
async fn watch(world: Arc<World>, cluster: Cluster) {
    let mut watch = cluster.watch("pods").unwrap();
    while watch.next().await.is_some() {
        for app in APPS {
            let none = ready_pods(&cluster, app).is_empty();
            let mut dark = world.dark.lock();
            match dark.get_mut(app) {
                Some(there) => *there = if none || there.1 { (time::now(), none) } else { *there },
                None if none => drop(dark.insert(app, (time::now(), true))),
                None => {}
            }
        }
    }
}

/// One fault; drains go on beside the next ones.
async fn fault(
    world: &Arc<World>,
    cluster: &Cluster,
    faults: &Faults<Connect>,
    drains: &Scope,
    drained: &mut Option<String>,
    kind: u64,
    rng: &mut Rng,
) {
    let app = *rng.choose(&APPS).unwrap();
    let there = ready_pods(cluster, app);
    let victim = rng.choose(&there).map(|pod| pod.name().to_owned());
    match (kind, victim) {
        (0..3, Some(victim)) if there.len() > 1 => {
            wait_for_traffic(world, &victim).await;
            world.hit_if(world.busy(&victim), "pod killed");
            let _ = cluster.kill_pod(&victim).await;
        }
        (3, Some(victim)) if there.len() > 1 => {
            wait_for_traffic(world, &victim).await;
            world.hit_if(world.busy(&victim), "pod deleted");
            let _ = cluster.delete(&format!("pod/{victim}")).await;
        }
        (4, Some(victim)) if there.len() > 1 => {
            world.hit_if(true, "container crashed");
            world.crashing.lock().insert(victim);
        }
        (5, _) => {
            let node = format!("node-{}", rng.below(3));
            let busy = APPS.iter().flat_map(|app| ready_pods(cluster, app));
            world.hit_if({ busy }.any(|pod| pod.node() == Some(&node)), "node drained");
            let (own, name, world) = (cluster.clone(), node.clone(), world.clone());
            drains.spawn(async move {
                let drained = own.drain(&name).await;
                world.hold(drained.is_ok(), || format!("{name} is not drained: {drained:?}"));
            });
            *drained = Some(node);
        }
        (6, _) => {
            world.hit_if(!there.is_empty(), "rolled out");
            cluster.restart(app).await.unwrap();
        }
        (7 | 8, _) => {
            let before = wanted(cluster, app);
            let after = if before > 3 || (before > 2 && rng.chance(0.7)) { 2 } else { 4 + rng.below(2) as u32 };
            world.hit_if(after > before, "scaled up");
            world.hit_if(after < before && !there.is_empty(), "scaled down");
            cluster.scale(app, after).await.unwrap();
        }
        (9 | 10, _) => {
            let count = wanted(cluster, app);
            let more = format!("env: [{{name: TURN, value: '{}'}}]\n        image: web", rng.below(1000));
            let good = shop(app, count).replace("image: web", &more);
            let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: none}]}\n";
            if kind == 9 {
                world.hit_if(!there.is_empty(), "rolled out by a manifest");
                cluster.apply(&good).await.unwrap();
            } else {
                refuse(world, cluster, &format!("{good}---\n{bad}"));
            }
        }
        _ => {
            // so few that no request meets them at each of its attempts
            let (left, own) = (AtomicU64::new(2), world.clone());
            faults
                .rule(move |connect: &Connect| {
                    let refuse = &*connect.from.name == "client"
                        && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
                    own.hit_if(refuse, "connect refused");
                    if refuse { Verdict::Fail(Error::new(Kind::Unavailable, "cut off")) } else { Verdict::Pass }
                })
                .forever();
            let bad = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: many}\n";
            refuse(world, cluster, bad);
        }
    }
}

/// Waits a little for a request to be in this pod's hands.
async fn wait_for_traffic(world: &World, pod: &str) {
    for _ in 0..200 {
        if world.busy(pod) {
            return;
        }
        time::sleep(milliseconds(1)).await;
    }
}

/// A manifest that is refused, all of it, in the middle of everything.
fn refuse(world: &World, cluster: &Cluster, manifest: &str) {
    let before = cluster.store().revision();
    let refused = cluster.apply(manifest).now_or_never().expect("nobody else writes meanwhile");
    world.hold(refused.as_ref().is_err_and(|error| error.kind() == Kind::Invalid), || format!("{refused:?}"));
    world.hold(cluster.store().revision() == before, || "a refused manifest was applied in part".into());
    world.hit_if(true, "manifest refused");
}

fn wanted(cluster: &Cluster, app: &str) -> u32 {
    let deployment = cluster.get(&format!("deployment/{app}")).unwrap();
    deployment.view::<DeploymentSpec>().unwrap().replicas.unwrap() as u32
}

/// Everything is as it was asked for: pods of the newest set and no others, each where its service leads.
async fn healed(world: &World, cluster: &Cluster) {
    for app in APPS {
        let available = cluster.available(&format!("deployment/{app}")).within(Duration::from_secs(600)).await;
        world.hold(available.is_ok(), || format!("{app}: {available:?}"));
    }
    time::sleep(Duration::from_secs(20)).await; // those about to go have gone
    let sets: BTreeMap<_, _> =
        cluster.list("replicasets").unwrap().into_iter().map(|set| (set.uid().to_owned(), set)).collect();
    let nodes: BTreeSet<_> = cluster.list("nodes").unwrap().iter().map(|node| node.name().to_owned()).collect();
    for pod in cluster.list("pods").unwrap() {
        let owner = pod.metadata().controller().is_some_and(|owner| sets.contains_key(&owner.uid));
        world.hold(owner, || format!("{} is an orphan", pod.name()));
        world.hold(!pod.metadata().is_deleting() && ready(&pod), || format!("{} is not ready: {pod:?}", pod.name()));
        world.hold(pod.node().is_some_and(|node| nodes.contains(node)), || format!("{} is nowhere", pod.name()));
    }
    for app in APPS {
        let (there, wanted) = (pods(cluster, app), wanted(cluster, app));
        world.hold(there.len() == wanted as usize, || format!("{} pods of {app}, not {wanted}", there.len()));
        let ips: BTreeSet<_> = there.iter().map(|pod| pod.view::<PodStatus>().unwrap().pod_ip.clone()).collect();
        let slices = cluster.list("endpointslices").unwrap();
        let own = slices.iter().filter(|slice| slice.labels().get("kubernetes.io/service-name") == Some(app));
        let endpoints: BTreeSet<_> = own
            .flat_map(|slice| slice.view::<EndpointSlice>().unwrap().endpoints.clone())
            .filter(|endpoint| endpoint.conditions.ready != Some(false))
            .flat_map(|endpoint| endpoint.addresses)
            .collect();
        world.hold(endpoints == ips, || format!("{app} leads to {endpoints:?}, its pods are {ips:?}"));
    }
}

async fn schedule(seed: Seed, hits: &mut Hits) -> (u64, u64) {
    let mut rng = seed.fork("schedule").rng();
    let before = alive();
    let (world, course, faults) = (Arc::<World>::default(), Arc::<AtomicU64>::default(), Faults::default());
    let on_net = course.clone();
    let observer = move |event: &Event<'_>| {
        let so_far = on_net.load(Relaxed);
        on_net.store(hash::of(format!("{so_far} {event}").as_bytes()), Relaxed);
    };
    let network = Net::memory().latency(|_, _, rng| milliseconds(rng.below(3))).observe(observer);
    let network = network.faults(faults.clone());
    let own = world.clone();
    let image = move |context: Context| serve(own.clone(), context);
    let cluster = Cluster::builder().nodes(3).seed(seed).network(network).image("web", image).start().await.unwrap();
    cluster.apply(&APPS.map(|app| shop(app, 2 + rng.below(3) as u32)).join("---")).await.unwrap();
    for app in APPS {
        cluster.available(&format!("deployment/{app}")).await.unwrap();
    }
    let (calls, drains) = (Scope::default(), Scope::default());
    let watching = tokio::spawn(watch(world.clone(), cluster.clone()));
    for app in APPS {
        for _ in 0..2 {
            calls.spawn(client(world.clone(), cluster.clone(), app, rng.fork()));
        }
    }
    time::sleep(milliseconds(500)).await;
    let mut drained: Option<String> = None;
    // no kind twice before all have had their turn
    let mut kinds: Vec<_> = (0..12).collect();
    rng.shuffle(&mut kinds);
    for kind in kinds.into_iter().take(5 + rng.below(6) as usize) {
        if drains.tasks() == 0
            && rng.chance(0.5)
            && let Some(node) = drained.take()
        {
            cluster.uncordon(&node).await.unwrap();
        }
        fault(&world, &cluster, &faults, &drains, &mut drained, kind, &mut rng).await;
        let pause = *rng.choose(&[300, 1500, 4000]).unwrap();
        time::sleep(milliseconds(rng.below(pause))).await;
    }
    world.hold(tokio::time::timeout(Duration::from_secs(600), drains.gone()).await.is_ok(), || "a drain hangs".into());
    if let Some(node) = drained {
        cluster.uncordon(&node).await.unwrap();
    }
    time::sleep(Duration::from_secs(5)).await;
    world.over.store(true, Relaxed);
    world.hold(tokio::time::timeout(Duration::from_secs(60), calls.gone()).await.is_ok(), || "a request hangs".into());
    healed(&world, &cluster).await;
    let panics = calls.panics() + drains.panics();
    world.hold(panics == 0, || "a task has panicked".into());
    cluster.shutdown().await;
    watching.abort();
    let _ = watching.await;
    world.hold(cluster.host().scope().sockets() == 0, || "the clients hold a socket".into());
    drop(cluster);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    world.hold(alive() == before, || format!("{} tasks are left", alive() - before));
    let in_flight: u64 = world.in_flight.lock().values().sum();
    world.hold(in_flight == 0, || format!("{in_flight} requests are left"));
    let violations = std::mem::take(&mut *world.violations.lock());
    assert!(violations.is_empty(), "{violations:#?}");
    for fault in world.hits.lock().drain(..) {
        hits.hit(fault);
    }
    (course.load(Relaxed), world.sent.load(Relaxed))
}
