//! A pod's start to running, and its kill, on one thread.
//!
//! Each pod has two containers that both listen, log a line and say that they are ready, a volume that both mount, and a
//! readiness probe; it counts as running when its status says that it is ready. `bare` is what an expert writes without
//! pods: two spawned tasks that wait for a shared stop signal, aborted at the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark may fail loudly"
)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it measures the machine, not a simulation")]

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use seedpod::{
    Result,
    base::time::now,
    net::Net,
    pod::{ContainerSpec, Context, Pod, PodSpec, Probe, Volume},
};
use std::{hint::black_box, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// Pods at a time: few enough that a round is over before the system gives the core to another process.
const PODS: u64 = 100;

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

async fn start(net: &Net, specs: Vec<PodSpec>) -> Vec<Pod> {
    let mut pods = Vec::with_capacity(specs.len());
    for spec in specs {
        pods.extend(Pod::start(spec, net));
    }
    for pod in &pods {
        pod.until(|status| status.ready.holds).await;
    }
    pods
}

async fn kill(pods: &[Pod]) {
    pods.iter().for_each(Pod::kill);
    for pod in pods {
        pod.gone().await;
    }
}

/// Times one of the two halves of each round.
fn rounds(runtime: &Runtime, count: u64, of_start: bool) -> Duration {
    runtime.block_on(async {
        let mut spent = Duration::ZERO;
        for _ in 0..count.div_ceil(PODS) {
            let net = Net::memory().build();
            let specs = (0..PODS).map(|_| spec()).collect();
            let begin = now();
            let pods = start(&net, specs).await;
            let running = now();
            kill(&pods).await;
            spent += if of_start { running - begin } else { now() - running };
            assert_eq!(pods.len() as u64, PODS);
        }
        spent * count as u32 / (count.div_ceil(PODS) * PODS) as u32
    })
}

/// The same number of tasks, with nothing around them.
fn bare(runtime: &Runtime, count: u64, of_start: bool) -> Duration {
    runtime.block_on(async {
        let mut spent = Duration::ZERO;
        for _ in 0..count.div_ceil(PODS) {
            let begin = now();
            let (stop, stopped) = tokio::sync::watch::channel(false);
            let tasks: Vec<_> = (0..PODS * 2)
                .map(|_| {
                    let mut stopped = stopped.clone();
                    tokio::spawn(async move { stopped.changed().await.is_ok() })
                })
                .collect();
            tokio::task::yield_now().await;
            let running = now();
            tasks.iter().for_each(|task| task.abort());
            for task in tasks {
                let _ = black_box(task.await);
            }
            spent += if of_start { running - begin } else { now() - running };
            drop(stop);
        }
        spent * count as u32 / (count.div_ceil(PODS) * PODS) as u32
    })
}

fn pods(criterion: &mut Criterion) {
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
    let mut group: BenchmarkGroup<'_, WallTime> = criterion.benchmark_group("pod");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    group.bench_function("start", |bencher| bencher.iter_custom(|count| rounds(&runtime, count, true)));
    group.bench_function("kill", |bencher| bencher.iter_custom(|count| rounds(&runtime, count, false)));
    group.bench_function("bare start", |bencher| bencher.iter_custom(|count| bare(&runtime, count, true)));
    group.bench_function("bare abort", |bencher| bencher.iter_custom(|count| bare(&runtime, count, false)));
    group.finish();
}

/// What a running pod holds, where the system tells: resident memory before and after many.
#[expect(clippy::disallowed_macros, reason = "a benchmark reports")]
fn memory(_: &mut Criterion) {
    const MANY: usize = 20_000;
    let resident = || -> Option<usize> {
        let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
        Some(pages.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
    };
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return };
    let net = Net::memory().build();
    let before = resident();
    let pods = runtime.block_on(start(&net, (0..MANY).map(|_| spec()).collect()));
    if let (Some(before), Some(after)) = (before, resident()) {
        println!(
            "pod/memory              {} bytes each, of {} that run",
            after.saturating_sub(before) / MANY,
            pods.len()
        );
    }
}

criterion_group!(benches, memory, pods);
criterion_main!(benches);
