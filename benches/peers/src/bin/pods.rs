//! Pods: start to running, kill, what an idle one holds. By hand there are two tasks; the peer is ractor, an actor for
//! each of the two containers.
//!
//! Each of our pods has two containers that both listen, log a line and say that they are ready, a volume that both
//! mount, and readiness probes; it counts as running when its status says that it is ready. One thread.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use seedpod::{
    Result,
    net::Net,
    pod::{ContainerSpec, Context, Pod, PodSpec, Probe, Volume},
};
use seedpod_peers::{Footprint, Group, Target, apart, bare::tasks::Tasks};
use tokio::{
    runtime::Runtime,
    task::{JoinHandle, yield_now},
};

/// Pods at a time where time is measured.
const PODS: u64 = 1000;

async fn listen(context: Context, port: u16) -> Result {
    let _listener = context.listen(port).await?;
    context.log("listening");
    context.ready();
    context.stopped().await;
    Ok(())
}

async fn app(context: Context) -> Result {
    listen(context, 80).await
}

async fn sidecar(context: Context) -> Result {
    listen(context, 15_006).await
}

fn spec() -> PodSpec {
    let container = |container: ContainerSpec| container.mount("shared", "/shared").readiness(Probe::reported());
    PodSpec::new("pod")
        .volume("shared", Volume::memory())
        .container(container(ContainerSpec::new("app", app)))
        .container(container(ContainerSpec::new("sidecar", sidecar)))
}

async fn start(net: &Net, count: u64) -> Vec<Pod> {
    let pods: Vec<_> = (0..count).filter_map(|_| Pod::start(spec(), net).ok()).collect();
    for pod in &pods {
        pod.until(|status| status.ready.holds).await;
    }
    assert_eq!(pods.len() as u64, count);
    pods
}

async fn kill(pods: Vec<Pod>) -> Vec<Pod> {
    pods.iter().for_each(Pod::kill);
    for pod in &pods {
        pod.gone().await;
    }
    pods
}

async fn start_tasks(count: u64) -> Vec<Tasks> {
    let tasks = (0..count).map(|_| Tasks::start()).collect();
    yield_now().await; // both run now
    tasks
}

async fn kill_tasks(mut pods: Vec<Tasks>) -> Vec<Tasks> {
    pods.iter().for_each(Tasks::kill);
    for pod in &mut pods {
        pod.gone().await;
    }
    pods
}

/// Does nothing until it is stopped.
struct Idle;

impl Actor for Idle {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

type Actors = Vec<(ActorRef<()>, JoinHandle<()>)>;

async fn start_actors(count: u64) -> Actors {
    let mut actors = Vec::new();
    for _ in 0..count * 2 {
        actors.extend(Actor::spawn(None, Idle, ()).await.ok());
    }
    actors
}

async fn kill_actors(mut actors: Actors) -> Actors {
    actors.iter().for_each(|(actor, _)| actor.kill());
    for (_, task) in &mut actors {
        let _ = task.await;
    }
    actors
}

/// So many of them, in rounds: started and killed, of which one is measured; what is left of them goes apart.
fn rounds<'a, T, S: Future<Output = T>, K: Future<Output = T>>(
    runtime: &'a Runtime,
    of_start: bool,
    start: impl Fn(u64) -> S + 'a,
    kill: impl Fn(T) -> K + 'a,
) -> impl FnMut(u64) + 'a {
    move |mut left| {
        while left > 0 {
            let some = left.min(PODS);
            let (begin, end) = (|| runtime.block_on(start(some)), |running| runtime.block_on(kill(running)));
            if of_start {
                let running = begin();
                apart(|| drop(end(running)));
            } else {
                let left = end(apart(begin));
                apart(|| drop(left));
            }
            left -= some;
        }
    }
}

fn main() -> std::io::Result<()> {
    let runtime = &tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let net = &Net::memory().build();
    for (name, of_start, target) in [("pods/start", true, 8_000.0), ("pods/kill", false, 4_000.0)] {
        Group::new(name, Target::nanos(target))
            .counted(2 * PODS)
            .bare("two tasks", rounds(runtime, of_start, start_tasks, kill_tasks))
            .ours("pod of two containers", rounds(runtime, of_start, |count| start(net, count), kill))
            .peer("two ractor actors", rounds(runtime, of_start, start_actors, kill_actors))
            .run();
    }
    Footprint::new("pods/memory", 20_000, Target::bytes(5_000.0))
        .bare("two tasks", |count| runtime.block_on(start_tasks(count)))
        .ours("pod of two containers", |count| runtime.block_on(start(net, count)))
        .peer("two ractor actors", |count| runtime.block_on(start_actors(count)))
        .run();
    Ok(())
}
