//! Pods whose containers fail, panic, hang past the grace and fail their probes, while pods are stopped, hurried, killed
//! and dropped: statuses agree with what runs, restarts wait as the policy says, nothing is left.

mod life;

use crate::schedule::{Hits, Subject, alive, simulate};
use futures::future::join_all;
use life::{End, Place, Role, World};
use seedpod::{
    Error, Kind,
    base::{Rng, Seed, hash, time},
    net::{Connection, Host, HostOptions, Net},
    pod::{ContainerSpec, Context, Exit, Hook, Image, Output, Phase, Pod, PodSpec, Probe, RestartPolicy, Status},
};
use std::{io::ErrorKind, panic::resume_unwind, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SUBJECT: Subject = Subject {
    test: "pod::schedules_pods",
    faults: &[
        "command cut off",
        "container failed",
        "container killed at the end of its grace",
        "container panicked",
        "liveness failed",
        "pod dropped",
        "pod killed",
        "pod killed while it stops",
        "post-start hook failed",
        "pre-stop hook outlasts the grace",
        "request reset",
        "startup failed",
        "stop hurried",
        "stopped",
        "stopped while it starts",
        "task panicked",
    ],
    one_in: 1,
    usual: 200,
};

#[test]
fn schedules_pods() {
    SUBJECT.run(|seed, hits| simulate(seed, schedule(seed, hits)));
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A moment of up to so many seconds, to the millisecond.
fn within(rng: &mut Rng, seconds: u64) -> Duration {
    Duration::from_millis(rng.below(seconds * 1000))
}

/// What one container is to be.
#[derive(Clone)]
struct Plan {
    world: Arc<World>,
    place: Place,
    role: Role,
    policy: RestartPolicy,
    port: u16,
}

impl Plan {
    /// An instance: serves, has tasks of its own, and ends in one way or another.
    async fn run(self, context: Context) -> Result<(), Error> {
        let Plan { world, place, role, policy, port } = self;
        let task = world.begin(&place, role, policy, &context);
        let mut rng = context.rng("behaviour");
        if role != Role::Init {
            let listener = context.listen(port).await;
            world.hold(listener.is_ok(), || format!("{place:?}: {:?}", listener.as_ref().err()));
            let (own, serving) = (context.clone(), world.task(&place, &context));
            context.spawn(async move {
                let Ok(mut listener) = listener else { return };
                while let Ok(connection) = listener.accept().await {
                    own.spawn(echo(connection));
                }
                drop(serving);
            });
        }
        for _ in 0..rng.below(3) {
            let (own, fails, wait) = (world.task(&place, &context), rng.chance(0.3), within(&mut rng, 20));
            let world = world.clone();
            context.spawn(async move {
                time::sleep(wait).await;
                if fails && !world.is_calm() {
                    world.hit_if(true, "task panicked");
                    resume_unwind(Box::new("on purpose")); // without a word on the terminal
                }
                drop(own);
            });
        }
        let (longest, kind) = match role {
            Role::Init => (4, rng.below(8)),
            _ => (*rng.choose(&[1, 30, 700]).unwrap(), rng.below(12)),
        };
        let (work, goodbye) = (within(&mut rng, longest), within(&mut rng, 4));
        let serves = role != Role::Init && (world.is_calm() || kind >= 4);
        let end = match kind {
            // deaf to the stop signal: it ends at the end of its grace
            4 if serves && !world.is_calm() => std::future::pending().await,
            _ if serves => {
                context.stopped().await;
                time::sleep(goodbye).await;
                Ok(())
            }
            _ => {
                time::sleep(work).await;
                match kind {
                    _ if world.is_calm() => Ok(()),
                    0 | 1 => Err(Error::adopt(Exit::new(3, "no database"), Kind::Failed)),
                    2 => {
                        world.hit_if(true, "container panicked");
                        world.end(&place, End::Badly);
                        resume_unwind(Box::new("on purpose"))
                    }
                    _ => Ok(()),
                }
            }
        };
        world.hit_if(end.is_err(), "container failed");
        world.end(&place, if end.is_ok() { End::Well } else { End::Badly });
        drop(task);
        end
    }

    fn spec(&self, rng: &mut Rng) -> ContainerSpec {
        let plan = self.clone();
        let image = Image::new(move |context: Context| plan.clone().run(context)).exec(
            |_: Context, _: Vec<String>| async move {
                time::sleep(seconds(5)).await;
                Ok::<_, Error>(Output::ok("done"))
            },
        );
        let mut spec = ContainerSpec::new(self.place.1.as_str(), image);
        if self.role == Role::Init {
            return spec;
        }
        if rng.chance(0.4) {
            let probe = if rng.chance(0.5) { Probe::tcp(self.port) } else { self.check("liveness failed", 0.4) };
            spec = spec.liveness(probe.period(seconds(2 + rng.below(8))).failures(2));
        }
        if rng.chance(0.4) {
            let probe = if rng.chance(0.5) { Probe::tcp(self.port) } else { self.check("", 0.5) };
            spec = spec.readiness(probe.period(seconds(2 + rng.below(8))));
        }
        if rng.chance(0.3) {
            spec = spec.startup(self.check("startup failed", 0.5).period(seconds(1)).failures(2));
        }
        if rng.chance(0.3) {
            let plan = self.clone();
            spec = spec.post_start(Hook::function(move |context: Context| {
                let (plan, mut rng) = (plan.clone(), context.rng("post-start"));
                async move {
                    time::sleep(within(&mut rng, 3)).await;
                    if rng.chance(0.4) && !plan.world.is_calm() {
                        plan.world.hit_if(true, "post-start hook failed");
                        return Err(Error::new(Kind::Failed, "not registered"));
                    }
                    Ok(())
                }
            }));
        }
        if spec.liveness.is_some() || spec.startup.is_some() || spec.post_start.is_some() {
            self.world.probed(&self.place);
        }
        if rng.chance(0.4) {
            let plan = self.clone();
            spec = spec.pre_stop(Hook::function(move |context: Context| {
                let (plan, mut rng) = (plan.clone(), context.rng("pre-stop"));
                async move {
                    let task = plan.world.task(&plan.place, &context);
                    time::sleep(within(&mut rng, 8)).await;
                    drop(task);
                    Ok::<_, Error>(())
                }
            }));
        }
        spec
    }

    /// A check that fails now and then, and for some instances always.
    fn check(&self, fault: &'static str, share: f64) -> Probe {
        let plan = self.clone();
        Probe::function(move |context: Context| {
            let plan = plan.clone();
            async move {
                let task = plan.world.task(&plan.place, &context);
                let sick = context.rng(fault).chance(share) && !plan.world.is_calm();
                time::sleep(Duration::from_millis(if sick { 1500 } else { 20 })).await;
                drop(task);
                Ok::<_, Error>(())
            }
        })
    }
}

async fn echo(mut connection: Connection) {
    let mut space = [0; 16];
    while let Ok(read @ 1..) = connection.read(&mut space).await {
        if connection.write_all(&space[..read]).await.is_err() {
            return;
        }
    }
}

/// One pod and how it was told to end.
struct Subjected {
    number: usize,
    pod: Option<Arc<Pod>>,
    policy: RestartPolicy,
    sidecars: u64,
    ended: bool,
}

fn start(world: &Arc<World>, net: &Net, number: usize, rng: &mut Rng) -> Subjected {
    let policy = *rng.choose(&[RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never]).unwrap();
    let (inits, sidecars, mains) = (rng.below(2), rng.below(3), 1 + rng.below(2));
    let mut spec = PodSpec::new(format!("pod-{number}")).restart(policy);
    spec.grace = Duration::from_millis(1000 + rng.below(5000));
    let mut port = 80;
    let mut plan = |name: String, role| {
        port += 1;
        Plan { world: world.clone(), place: (number, name), role, policy, port }
    };
    for index in 0..inits.max(sidecars) {
        if index < sidecars {
            spec = spec.sidecar(plan(format!("side-{index}"), Role::Sidecar).spec(rng));
        }
        if index < inits {
            spec = spec.init(plan(format!("init-{index}"), Role::Init).spec(rng));
        }
    }
    for index in 0..mains {
        spec = spec.container(plan(format!("main-{index}"), Role::Main).spec(rng));
    }
    let pod = Arc::new(Pod::start(spec, net).unwrap());
    let (mut observer, world) = (pod.observe(), world.clone());
    tokio::spawn(async move {
        let mut before = observer.changed().await;
        while !before.phase.is_over() {
            let status = observer.changed().await;
            world.hold(status.version > before.version, || "its version went back".into());
            world.note(format_args!("pod {number} {} ready {}", status.phase, status.ready.holds));
            life::check(&world, number, &before, &status);
            look(&world, &before, &status);
            before = status;
        }
    });
    Subjected { number, pod: Some(pod), policy, sidecars, ended: false }
}

/// Faults that only a status tells of.
fn look(world: &World, before: &Status, status: &Status) {
    let all = |status: &Status| status.containers.iter().chain(&status.init).cloned().collect::<Vec<_>>();
    for (old, new) in all(before).iter().zip(all(status)) {
        if old.unhealthy != new.unhealthy
            && let Some(said) = &new.unhealthy
        {
            world.hit_if(said.starts_with("liveness"), "liveness failed");
            world.hit_if(said.starts_with("startup"), "startup failed");
        }
        let killed = |end: &seedpod::pod::Terminated| end.exit_code == Exit::KILLED;
        let newly = |now: Option<&seedpod::pod::Terminated>, then: Option<&seedpod::pod::Terminated>| {
            now.is_some_and(killed) && now != then
        };
        let last = newly(new.last.as_ref(), old.last.as_ref());
        let over = newly(new.state.terminated(), old.state.terminated()) && old.state.is_running();
        world.hit_if((last || over) && !before.stopping, "container killed at the end of its grace");
    }
}

impl Subjected {
    fn pod(&self) -> &Arc<Pod> {
        self.pod.as_ref().unwrap()
    }

    fn live(&self, world: &World) -> bool {
        !self.ended && !self.pod().status().phase.is_over() && world.tasks(self.number) > 0
    }

    /// Kills it with a request in flight, where it serves any.
    async fn kill(&mut self, world: &World, stranger: &Host, rng: &mut Rng) {
        let (live, stopping) = (self.live(world), self.pod().status().stopping);
        let mut request = None;
        for port in 81..85 {
            if let Ok(mut connection) = stranger.connect(&format!("{}:{port}", self.pod().ip())).await
                && connection.write_all(b"ping").await.is_ok()
                && connection.read_exact(&mut [0; 4]).await.is_ok()
            {
                request = Some(connection);
                break;
            }
        }
        self.ended = true;
        world.told_to_end(self.number);
        let command = {
            let pod = self.pod().clone();
            let running = pod.status().containers.iter().any(|one| one.state.is_running());
            (running && rng.chance(0.5)).then(|| tokio::spawn(async move { pod.exec("main-0", ["x"]).await }))
        };
        tokio::task::yield_now().await;
        if rng.chance(0.3) && command.is_none() {
            world.hit_if(live, "pod dropped");
            let pod = Arc::try_unwrap(self.pod.take().unwrap()).unwrap();
            let mut observer = pod.observe();
            drop(pod);
            world.hold(observer.until(|_| false).await.phase.is_over(), || "dropped, it goes on".into());
        } else {
            world.hit_if(live, if stopping { "pod killed while it stops" } else { "pod killed" });
            let pod = self.pod();
            pod.kill();
            pod.gone().await;
            world.hold((pod.tasks(), pod.sockets()) == (0, 0), || format!("{} holds something", pod.name()));
            world.hold(pod.status().phase.is_over(), || format!("{} is not over", pod.name()));
        }
        if let Some(mut connection) = request {
            let end = connection.read_u8().await.map_err(|error| error.kind());
            world.hit_if(true, "request reset");
            world.hold(end == Err(ErrorKind::ConnectionReset), || format!("a kill looks like {end:?}"));
        }
        if let Some(command) = command {
            let end = command.await.unwrap().map_err(|error| error.kind());
            world.hit_if(end == Err(Kind::Unavailable), "command cut off");
            world.hold(end.is_err(), || format!("a command outlived its pod: {end:?}"));
        }
    }

    /// Stops it: in order, within its time.
    async fn stop(&mut self, world: &World, grace: Duration, hurry: bool) {
        let (live, status) = (self.live(world), self.pod().status());
        world.hit_if(live && !status.initialized.holds, "stopped while it starts");
        world.hit_if(live && status.initialized.holds, "stopped");
        self.ended = true;
        world.told_to_end(self.number);
        let (pod, begun) = (self.pod().clone(), time::now());
        let mut grace = grace;
        if hurry {
            pod.begin_stop(seconds(60));
            time::sleep(Duration::from_millis(300)).await;
            world.hit_if(live && !pod.status().phase.is_over(), "stop hurried");
        }
        if !grace.is_zero() {
            grace += begun.elapsed();
        }
        let phase = pod.stop(grace.saturating_sub(begun.elapsed())).await;
        // what its pre-stop hook has used up gets two more seconds, and each sidecar has two of its own
        let (took, most) = (begun.elapsed(), grace + seconds(2 + 4 * self.sidecars) + Duration::from_millis(20));
        world.hit_if(took > grace + Duration::from_millis(20), "pre-stop hook outlasts the grace");
        world.hold(took <= most, || format!("pod {} took {took:?} to stop, not {most:?}", self.number));
        pod.gone().await;
        world.hold((pod.tasks(), pod.sockets()) == (0, 0), || format!("{} holds something", pod.name()));
        let killed = pod
            .status()
            .containers
            .iter()
            .any(|one| one.state.terminated().is_some_and(|end| end.exit_code == Exit::KILLED));
        world.hit_if(live && killed, "container killed at the end of its grace");
        world.hold(!killed || phase == Phase::Failed, || "a killed container ended well".into());
    }
}

async fn schedule(seed: Seed, hits: &mut Hits) -> u64 {
    let mut rng = seed.fork("schedule").rng();
    let before = alive();
    let world = World::new();
    let net = Net::memory().seed(seed).perturb().build();
    let stranger = net.host(HostOptions::default()).unwrap();
    let mut pods: Vec<_> = (0..3).map(|number| start(&world, &net, number, &mut rng)).collect();
    let mut number = pods.len();
    for _ in 0..3 + rng.below(4) {
        let pause = *rng.choose(&[1, 1, 5, 5, 20, 60, 700]).unwrap();
        time::sleep(within(&mut rng, pause)).await;
        let victim = rng.below(pods.len() as u64) as usize;
        let pod = &mut pods[victim];
        if pod.ended {
            // another in its place
            let next = start(&world, &net, number, &mut rng);
            let last = std::mem::replace(pod, next);
            settled(&world, last).await;
            number += 1;
            time::sleep(within(&mut rng, 20)).await;
        }
        let pod = &mut pods[victim];
        match rng.below(5) {
            0 | 1 => pod.kill(&world, &stranger, &mut rng).await,
            2 => {
                pod.pod().begin_stop(seconds(20));
                world.told_to_end(pod.number);
                time::sleep(within(&mut rng, 2)).await;
                pod.kill(&world, &stranger, &mut rng).await;
            }
            3 => pod.stop(&world, seconds(1), true).await,
            _ => {
                let grace = pod.pod().grace();
                pod.stop(&world, grace, false).await;
            }
        }
    }
    world.calm.store(true, std::sync::atomic::Ordering::Relaxed);
    let healing = pods.iter().filter(|pod| !pod.ended && pod.policy == RestartPolicy::Always).map(|pod| {
        let (pod, world) = (pod.pod().clone(), world.clone());
        async move {
            let ready = tokio::time::timeout(seconds(1200), pod.until(|status| status.ready.holds)).await;
            world.hold(ready.is_ok(), || format!("{} is not ready after 20 minutes: {:#?}", pod.name(), pod.status()));
        }
    });
    join_all(healing).await;
    for mut pod in pods {
        if !pod.ended {
            let grace = pod.pod().grace();
            pod.stop(&world, grace, false).await;
        }
        settled(&world, pod).await;
    }
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    world.hold(alive() == before, || format!("{} tasks are left", alive() - before));
    world.hold(stranger.scope().sockets() == 0, || "a connection is left".into());
    world.judge();
    for fault in world.hits.lock().drain(..) {
        hits.hit(fault);
    }
    let course = world.course.lock().join("\n");
    hash::of(course.as_bytes())
}

/// A pod that has ended: none of its tasks is left, and its address is free.
async fn settled(world: &Arc<World>, subjected: Subjected) {
    tokio::task::yield_now().await;
    let left = world.tasks(subjected.number);
    world.hold(left == 0, || format!("{left} tasks of pod {} are left", subjected.number));
    let Some(pod) = subjected.pod else { return };
    let status = pod.status();
    let over = status.phase.is_over() && !status.containers.iter().any(|one| one.state.is_running());
    world.hold(over, || format!("pod {} is not over: {status:#?}", subjected.number));
    let again = pod.host().net().host(HostOptions { ip: Some(pod.ip()), ..Default::default() });
    world.hold(again.is_ok(), || format!("the address of pod {} is taken", subjected.number));
    if let Ok(host) = again {
        host.detach();
    }
}
