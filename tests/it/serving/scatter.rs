//! Scatter: what a dropped request leaves behind, and stragglers. The table is part of the docs of `serving::Scatter`;
//! `SEEDPOD_RECORD=1` writes it anew.

use super::*;
use seedpod::{
    layer::HedgeLayer,
    serving::{Answers, Coverage, Scatter, Tied},
    testing::drops,
};
use std::{fs, path::Path};
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;

type Leaf = BoxCloneSyncService<Request<u32>, (), Error>;

/// Counts the calls under way.
struct UnderWay(Arc<AtomicU32>);

impl UnderWay {
    fn begin(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, SeqCst);
        UnderWay(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_dropped_after_any_number_of_polls_leaves_no_call_no_load_and_no_budget_behind() {
    let under_way = Arc::new(AtomicU32::new(0));
    let leaf = |took: u32| {
        let count = under_way.clone();
        BoxCloneSyncService::new(service_fn(move |_: Request<u32>| {
            let guard = UnderWay::begin(&count);
            async move {
                time::sleep(MILLI * took).await;
                drop(guard);
                Ok(())
            }
        }))
    };
    let leaves: Endpoints<Replicas<Leaf>> = seeded("leaves");
    for number in 0..9 {
        let replicas = Replicas::new(seeded("replicas"));
        replicas.endpoints().insert("slow", leaf(15 + number));
        replicas.endpoints().insert("slower", leaf(20));
        leaves.insert(number.to_string(), replicas);
    }
    let budget = Budget::new(1_000, 0);
    let scatter = || Scatter::new(leaves.clone()).within(150 * MILLI);
    let tied = Tied::new().after(5 * MILLI).budget(budget.clone());
    let configured = [
        ("at once", scatter()),
        ("three at a time", scatter().at_once(3)),
        ("with a canary", scatter().canary(50 * MILLI)),
        ("tied", scatter().hedge(tied.clone())),
        ("everything", scatter().at_once(4).canary(50 * MILLI).hedge(tied).require(Coverage::count(5))),
    ];
    for (name, scatter) in configured {
        let pending = || leaves.keys().iter().filter_map(|key| leaves.pending(key)).sum::<u32>();
        let call = || scatter.clone().oneshot(Request::new(1).idempotent());
        let report = drops::check(call, || (under_way.load(SeqCst), pending())).await.unwrap();
        assert!(report.dropped > 20 && report.ended > 20, "{name}: {report:?}");
    }
    // what was taken has left, and all of it ends with the window
    time::sleep(20 * SECOND).await;
    assert_eq!(budget.left(time::now()), 10_000);
}

/// A hundred leaves of three replicas. A replica is one worker with a line; what is given up leaves the line.
struct Fleet {
    leaves: Endpoints<Replicas<Leaf>>,
    asked: Arc<AtomicU32>,
}

const LEAVES: u32 = 100;
const REPLICAS: u32 = 3;
const REQUESTS: u32 = 600;

/// Five milliseconds, one in two hundred a second.
fn takes(rng: &mut seedpod::base::Rng) -> Duration {
    if rng.chance(0.005) { SECOND } else { MILLI.mul_f64(4.0 + 2.0 * rng.unit()) }
}

impl Fleet {
    fn new() -> Self {
        let (leaves, asked) = (seeded("stragglers"), Arc::new(AtomicU32::new(0)));
        leaves.update(|changes| {
            for leaf in 0..LEAVES {
                let seed = Seed::new(2013).fork_index(leaf.into());
                let replicas = Replicas::new(Endpoints::named(format!("leaf-{leaf}")).seed(seed));
                for replica in 0..REPLICAS {
                    let server = Fleet::server(seed.fork_index(replica.into()), &asked);
                    replicas.endpoints().insert(format!("leaf-{leaf}/{replica}"), server);
                }
                changes.insert(format!("leaf-{leaf}"), replicas);
            }
        });
        Fleet { leaves, asked }
    }

    fn server(seed: Seed, asked: &Arc<AtomicU32>) -> Leaf {
        let (worker, rng, asked) = (Arc::new(Semaphore::new(1)), Arc::new(Lock::new(seed.rng())), asked.clone());
        BoxCloneSyncService::new(service_fn(move |_: Request<u32>| {
            let (worker, rng) = (worker.clone(), rng.clone());
            asked.fetch_add(1, SeqCst);
            async move {
                let _working = worker.acquire().await;
                let took = takes(&mut rng.lock());
                time::sleep(took).await;
                Ok(())
            }
        }))
    }

    /// Thirty requests a second; what they take, what they cover, and what is asked for it.
    async fn run(
        self,
        name: &str,
        scatter: impl Fn(Scatter<Endpoints<Replicas<Leaf>>>) -> Scatter<Endpoints<Replicas<Leaf>>>,
    ) -> (String, [f64; 4]) {
        let scatter = scatter(Scatter::new(self.leaves));
        let mut calls = Vec::new();
        for number in 0..REQUESTS {
            let call = scatter.clone().oneshot(Request::new(number).idempotent());
            calls.push(tokio::spawn(async move {
                let start = time::now();
                let answers: Answers<()> = call.await?;
                Ok::<_, Error>((start.elapsed(), answers.tally().fraction()))
            }));
            time::sleep(SECOND / 30).await;
        }
        let (mut took, mut covered) = (Vec::new(), 0.0);
        for call in calls {
            let (time, part) = call.await.unwrap().unwrap();
            took.push(time);
            covered += part;
        }
        took.sort();
        let millis = |part: f64| took[((f64::from(REQUESTS) * part) as usize).min(took.len() - 1)].as_millis();
        let (half, most, all) = (millis(0.5), millis(0.99), millis(1.0));
        let slow = 100.0 * took.iter().filter(|took| **took >= SECOND).count() as f64 / f64::from(REQUESTS);
        let covered = 100.0 * covered / f64::from(REQUESTS);
        let more = 100.0 * f64::from(self.asked.load(SeqCst)) / f64::from(REQUESTS * LEAVES) - 100.0;
        let line =
            format!("{name:<27} {half:>5}   {most:>5}   {all:>5}   {slow:>6.2} %   {covered:>6.2} %   {more:>6.1} %");
        (line, [half as f64, most as f64, covered, more])
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_leaves_have_the_tail_of_one_with_second_attempts_or_with_all_but_a_few_answers() {
    let part = Coverage::fraction(0.95).unwrap();
    let hedge = |extra| HedgeLayer::new(extra).unwrap();
    let runs = [
        Fleet::new().run("all", |scatter| scatter).await,
        Fleet::new().run("all, hedged, 2 % more", |scatter| scatter.hedge(hedge(0.02))).await,
        Fleet::new().run("all, tied after 1 ms", |scatter| scatter.hedge(Tied::new().after(MILLI))).await,
        Fleet::new().run("95 % or more, within 20 ms", |scatter| scatter.require(part).within(20 * MILLI)).await,
        Fleet::new()
            .run("the same, hedged, 2 % more", |scatter| scatter.require(part).within(20 * MILLI).hedge(hedge(0.02)))
            .await,
    ];
    let mut story =
        vec!["needs, in ms                 p50     p99     max   over a second   covers   asked more".to_string()];
    story.extend(runs.iter().map(|(line, _)| line.clone()));
    story.iter().for_each(|line| println!("{line}"));
    let [all, hedged, tied, partial, both] = runs.map(|(_, figures)| figures);
    assert!(all[1] >= 1_000.0, "{all:?}");
    assert!(hedged[1] * 10.0 < all[1] && hedged[3] < 2.1, "{hedged:?}");
    assert!(tied[1] * 10.0 < all[1], "{tied:?}");
    assert!(partial[1] <= 21.0 && partial[2] > 98.0 && both[2] > partial[2] && both[3] < 2.1, "{partial:?} {both:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serving/scatter/stragglers.txt");
    let story = story.join("\n") + "\n";
    if std::env::var_os("SEEDPOD_RECORD").is_some() {
        fs::write(&path, &story).unwrap();
    }
    assert_eq!(story, fs::read_to_string(&path).unwrap_or_default(), "{}", path.display());
}
