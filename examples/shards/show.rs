//! What happens: the store opens with three shards, grows to five, goes back to three, and is compared with the books.

use super::{
    ambassador::ambassador,
    application::{Books, KEYS, application},
    maps,
    mover::{HEAD, OverHttp},
    shard::{BY_KEY, Figures, shard, url},
};
use futures::future::try_join_all;
use http::Request;
use seedpod::{
    Error, Result,
    base::{
        Deadline, Kind, Seed,
        time::{self, Instant},
    },
    cluster::Cluster,
    http::{Body, Client, successful},
    net::Net,
    serving::{Rebalance, Route, Shard, ShardMap, ShardMaps},
};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

const STORE: &str = include_str!("store.yaml");
const APPLICATION: &str = include_str!("application.yaml");

/// From one pod to another.
const AWAY: Duration = Duration::from_millis(1);

/// What came of it, printed as the last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// Reads that did not see what had been acknowledged.
    pub(crate) stale: u64,
    pub(crate) keys: usize,
    /// Keys that an owner does not have, or not as acknowledged last.
    pub(crate) lost: usize,
    /// Copies that lie where they do not belong.
    pub(crate) astray: usize,
}

impl Summary {
    pub(crate) fn is_clean(&self) -> bool {
        (self.failed, self.stale, self.keys, self.lost, self.astray) == (0, 0, KEYS, 0, 0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { requests, failed, stale, keys, lost, astray } = self;
        write!(f, "summary requests={requests} failed={failed} stale={stale} keys={keys} lost={lost} astray={astray}")
    }
}

/// Plays it, and tells by this function what happens.
///
/// # Errors
/// Where a request failed, or a key was lost; the summary has been told.
pub(crate) async fn play(tell: impl Fn(String) + Send + Sync + 'static) -> Result {
    let books = Arc::new(Books::default());
    let cluster = Cluster::builder()
        .nodes(3)
        .seed(Seed::new(5))
        .network(Net::memory().latency(|from, to, _| if from == to { Duration::ZERO } else { AWAY }))
        .image("kv/shard", shard)
        .image("kv/maps", maps::maps)
        .image("kv/ambassador", ambassador)
        .image("kv/application", application);
    let cluster = cluster.start().await?;
    cluster.resource(Books::RESOURCE, books.clone());
    let show = Show { cluster, books, tell: Arc::new(tell), begun: time::now() };
    let summary = show.play().await;
    show.cluster.shutdown().await;
    let summary = summary?;
    show.say(&summary.to_string());
    let first = show.books.first.lock().take();
    match summary.is_clean() {
        true => Ok(()),
        false => Err(Error::new(Kind::Failed, first.unwrap_or_else(|| "what is there is not what was written".into()))),
    }
}

struct Show<F> {
    cluster: Cluster,
    books: Arc<Books>,
    tell: Arc<F>,
    begun: Instant,
}

impl<F: Fn(String) + Send + Sync + 'static> Show<F> {
    async fn play(&self) -> Result<Summary> {
        self.cluster.apply(STORE).await?;
        for workload in ["deployment/maps", "statefulset/db"] {
            self.cluster.available(workload).await?;
        }
        let client = self.cluster.http();
        let maps = ShardMaps::new(maps::read(&client, None).await?);
        self.tell(format!("{}: db-0, db-1 and db-2 are ready", maps.current()));
        self.cluster.apply(APPLICATION).await?;
        self.cluster.available("deployment/application").await?;
        self.all_written().await?;
        self.tell(format!("the application has written {KEYS} keys at localhost, and goes on writing and reading"));

        self.say("\nGrow: first the pods, then the map, step by step.");
        self.cluster.scale("statefulset/db", 5).await?;
        self.cluster.available("statefulset/db").await?;
        self.tell("db-3 and db-4 are ready, and own nothing".into());
        let five = maps.current().next(|shards| {
            shards.add("db-3").add("db-4");
        })?;
        self.rebalance(&maps, &five, &client).await?;
        self.say("(again: written while they were copied; pause: as long nobody served them, and who asked waited)");
        time::sleep(Duration::from_secs(1)).await;

        self.say("\nShrink: first the map, then the pods.");
        let three = maps.current().next(|shards| {
            shards.remove("db-3").remove("db-4");
        })?;
        self.rebalance(&maps, &three, &client).await?;
        let refused = figures(&client, five.shards()).await?.iter().map(|it| it.refused).sum::<u64>();
        self.cluster.scale("statefulset/db", 3).await?;
        self.cluster.available("statefulset/db").await?;
        self.tell("db-4 and db-3 are gone".into());

        self.tell(format!(
            "fences refused {refused} times: who asked waited for the map that he was told of, and went on"
        ));
        self.books.close().await;
        self.compare(&client, &maps.current()).await
    }

    async fn all_written(&self) -> Result {
        let written = async {
            while self.books.written.lock().len() < KEYS {
                time::sleep(Duration::from_millis(50)).await;
            }
        };
        let late = Deadline::within(Duration::from_secs(60)).bound(written).await;
        late.map_err(|late| late.at(self.books.first.lock().clone().unwrap_or_else(|| "the first writes".into())))
    }

    async fn rebalance(&self, maps: &ShardMaps, wanted: &ShardMap, client: &Client) -> Result {
        let plan = maps.plan(wanted)?;
        self.say(&format!("The plan: {}", plan.to_string().trim_end()));
        self.say(HEAD);
        let (tell, begun) = (self.tell.clone(), self.begun);
        let mover = OverHttp::new(client.clone(), move |line| tell(format!("{}  {line}", since(begun))));
        let settings = Rebalance::new().step(16_384).seed(Seed::new(6));
        let done = maps.rebalance(&settings, &plan, &mover).await?;
        self.tell(format!("{done}"));
        Ok(())
    }

    /// Asks every owner of every key.
    async fn compare(&self, client: &Client, map: &ShardMap) -> Result<Summary> {
        let written = self.books.written.lock().clone();
        let mut lost = 0;
        for (key, value) in &written {
            for owner in map.owners(key) {
                let mut request = Request::get(url(map.name(*owner), &format!("/keys/{key}"))).body(Body::empty())?;
                BY_KEY.stamp(&mut request, map.version());
                let answer = client.request(request).await?;
                lost +=
                    usize::from(!answer.status().is_success() || answer.into_body().text().await? != value.to_string());
            }
        }
        let there: usize = figures(client, map.shards()).await?.iter().map(|it| it.keys).sum();
        Ok(Summary {
            requests: self.books.requests.load(Relaxed),
            failed: self.books.failed.load(Relaxed),
            stale: self.books.stale.load(Relaxed),
            keys: written.len(),
            lost,
            astray: there.saturating_sub(written.len() * map.copies()),
        })
    }

    fn tell(&self, what: String) {
        self.say(&format!("{} {what}", since(self.begun)));
    }

    fn say(&self, what: &str) {
        (self.tell)(what.into());
    }
}

async fn figures(client: &Client, shards: &[Shard]) -> Result<Vec<Figures>> {
    let figures = shards.iter().map(async |shard| {
        successful(client.get(&url(&shard.name, "/figures")).await?)?.into_body().json::<Figures>().await
    });
    try_join_all(figures).await
}

/// How long ago, in seconds.
fn since(begun: Instant) -> String {
    format!("{:6.2} s", begun.elapsed().as_secs_f64())
}
