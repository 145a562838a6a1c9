//! Scatter and gather: a search over text that is cut into four shards, each with two replicas.
//!
//! Every shard has part of the answer, so every request goes to all of them; what they find becomes one list of the best
//! three. Then things go wrong, one after the other, and the answer says what it covers.
//!
//! ```text
//!                 ┌─► text-0 ─► a or b ─┐
//! search ─────────┼─► text-1 ─► a or b ─┼─► the three best, of 4 of 4 shards
//! within 100 ms   ├─► text-2 ─► a or b ─┤
//!                 └─► text-3 ─► a or b ─┘
//! ```
//!
//! ```text
//! cargo run --example scatter_gather
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use futures::StreamExt;
use seedpod::{
    Error, Result,
    base::{Kind, Seed, time},
    layer::Request,
    serving::{Answers, Coverage, Endpoints, Replicas, Reply, Require, Scatter, Shortfall, Tied},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

const MILLI: Duration = Duration::from_millis(1);

/// What is searched: every fourth sentence belongs to the same shard.
const TEXT: &str = "\
The gardener keeps the seed of the tallest pea. A seed in a dry jar waits for years. The jar stands on the north wall. \
Rain fell all night on the seed beds. Nobody counts the leaves of a hedge. Each pod holds a seed for every day of the week. \
A late frost took the early beans. The best seed is sown twice. The wall keeps the frost from the pears. \
Leaves that fall late feed the beds. A pod that is picked too soon has no seed worth a name. The hedge keeps the rain off the wall. \
Sow the seed of the seed, not of the shop. Beans climb what the hedge cannot. The jar is empty when the beds are full. \
Every seed asks the same question of the rain.";

fn main() -> Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and fixed seeds, so that it always tells the same.
pub(crate) fn story() -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let chapters = [
            all_is_well().await?,
            a_replica_is_slow().await?,
            a_shard_is_lost().await?,
            as_they_come().await?,
            a_quorum().await?,
        ];
        Ok(chapters.join("\n\n"))
    })
}

/// A sentence, and how often the word is in it.
type Hit = (usize, &'static str);

type Search = BoxCloneSyncService<Request<&'static str>, Vec<Hit>, Error>;

/// How a replica is: it takes so many milliseconds, or it fails.
type Takes = Option<u64>;

fn sentences(shard: usize) -> Vec<&'static str> {
    TEXT.split_inclusive(". ").map(str::trim).skip(shard).step_by(4).collect()
}

/// One replica of a shard; it counts what it is asked.
fn replica(shard: usize, takes: Takes, asked: &Arc<AtomicU64>) -> Search {
    let (text, asked) = (Arc::new(sentences(shard)), asked.clone());
    BoxCloneSyncService::new(service_fn(move |word: Request<&'static str>| {
        let text = text.clone();
        asked.fetch_add(1, SeqCst);
        async move {
            let Some(takes) = takes else { return Err(Error::new(Kind::Unavailable, "the disk is gone")) };
            time::sleep(MILLI * takes as u32).await;
            let count = |sentence: &&'static str| {
                sentence.split_whitespace().filter(|of| of.trim_matches(['.', ',']) == *word.message()).count()
            };
            Ok(text.iter().map(|sentence| (count(sentence), *sentence)).filter(|(count, _)| *count > 0).collect())
        }
    }))
}

/// Four shards of two replicas; those of `text-2` are as told.
fn shards(of_two: [Takes; 2], asked: &Arc<AtomicU64>) -> Endpoints<Replicas<Search>> {
    let shards = Endpoints::named("text").seed(Seed::new(4));
    for shard in 0..4 {
        let takes = if shard == 2 { of_two } else { [Some(10 + 3 * shard as u64), Some(12)] };
        let replicas = Replicas::new(Endpoints::named(format!("text-{shard}")).seed(Seed::new(shard as u64)));
        for (name, takes) in ["a", "b"].into_iter().zip(takes) {
            replicas.endpoints().insert(format!("text-{shard}{name}"), replica(shard, takes, asked));
        }
        shards.insert(format!("text-{shard}"), replicas);
    }
    shards
}

/// The best of all that was found; of equals, the shorter one.
fn best(answers: Answers<Vec<Hit>>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = answers.into_values().flatten().collect();
    hits.sort_by_key(|(count, sentence)| (usize::MAX - count, sentence.len()));
    hits.truncate(3);
    hits
}

fn word() -> Request<&'static str> {
    Request::new("seed").idempotent()
}

async fn all_is_well() -> Result<String> {
    let (asked, start) = (Arc::default(), time::now());
    let mut search = Scatter::new(shards([Some(14), Some(14)], &asked)).within(100 * MILLI).gather(best);
    let found = search.call(word()).await?;
    let lines: Vec<String> = found.value.iter().map(|(count, sentence)| format!("  {count} x  {sentence}")).collect();
    Ok(format!(
        "All is well: the three best for `seed`, after {} ms, {}.\n{}",
        start.elapsed().as_millis(),
        found.tally,
        lines.join("\n")
    ))
}

/// Twenty requests, some of which meet the slow replica: what they took, what they covered, how much was asked for it.
async fn twenty<S, T>(search: S, asked: &Arc<AtomicU64>, covered: impl Fn(T) -> f64) -> Result<String>
where
    S: Service<Request<&'static str>, Response = T, Error = Error> + Clone,
{
    let (mut took, mut coverage) = (Vec::new(), 0.0);
    asked.store(0, SeqCst);
    for _ in 0..20 {
        let start = time::now();
        coverage += covered(search.clone().oneshot(word()).await?);
        took.push(start.elapsed().as_millis());
    }
    took.sort();
    let at = |place: usize| took.get(place).copied().unwrap_or_default();
    Ok(format!(
        "median {:>3} ms, slowest {:>3} ms, covers {:>5.1} %, {:>3} asked",
        at(10),
        at(19),
        coverage * 5.0,
        asked.load(SeqCst)
    ))
}

async fn a_replica_is_slow() -> Result<String> {
    let asked = Arc::default();
    let slow = [Some(400), Some(14)];
    let search = || Scatter::new(shards(slow, &asked)).within(1_000 * MILLI);
    let tally = |found: Answers<Vec<Hit>>| found.tally().fraction();
    let most = Coverage::fraction(0.75)?;
    Ok(format!(
        "One replica of text-2 takes 400 ms: what 20 requests get that need\n  \
         all                          {}\n  \
         three quarters within 20 ms  {}\n  \
         all, again after 15 ms       {}",
        twenty(search(), &asked, tally).await?,
        twenty(search().require(most).within(20 * MILLI), &asked, tally).await?,
        twenty(search().hedge(Tied::new().after(15 * MILLI)), &asked, tally).await?,
    ))
}

async fn a_shard_is_lost() -> Result<String> {
    let asked = Arc::default();
    let lost = shards([None, None], &asked);
    let mut all = Scatter::new(lost.clone()).within(100 * MILLI).gather(best);
    let error = all.call(word()).await.err().unwrap_or_else(|| Kind::Failed.into());
    let missing = error.downcast_ref::<Shortfall>().map_or("nothing".into(), ToString::to_string);
    let mut most = Scatter::new(lost).require(Coverage::fraction(0.75)?).within(100 * MILLI).gather(best);
    let found = most.call(word()).await?;
    let names: Vec<_> = found.failed.iter().map(|(name, _)| &**name).collect();
    let best = found.value.first().map_or("nothing", |(_, sentence)| sentence);
    Ok(format!(
        "Both replicas of text-2 are lost.\n  \
         who needs all gets           {error}\n  \
         and reads in its source      {missing}\n  \
         who needs three quarters     {}; without {}, the best is: {}",
        found.tally,
        names.join(", "),
        best
    ))
}

async fn as_they_come() -> Result<String> {
    let (asked, start) = (Arc::default(), time::now());
    let mut search = Scatter::new(shards([Some(60), Some(60)], &asked)).require(Coverage::count(2)).within(40 * MILLI);
    let (mut answers, mut lines) = (search.stream(word()), Vec::new());
    while let Some(answer) = answers.next().await {
        let what = match &answer.reply {
            Reply::Answered(hits) => format!("{} hits", hits.len()),
            Reply::Late => "late".into(),
            other => format!("{other:?}"),
        };
        lines.push(format!("  after {:>2} ms  {}: {what}", start.elapsed().as_millis(), answer.name));
    }
    Ok(format!("Answers as they come, until 40 ms are over.\n{}", lines.join("\n")))
}

/// Five copies of a counter, written at three of five: reading three meets at least one that knows the last write.
async fn a_quorum() -> Result<String> {
    let (copies, written) = (Endpoints::named("copies"), [(9, 30), (7, 5), (9, 12), (7, 8), (9, 50)]);
    for (copy, (version, takes)) in written.into_iter().enumerate() {
        let read = service_fn(move |_: Request<()>| async move {
            time::sleep(MILLI * takes).await;
            Ok::<u64, Error>(version)
        });
        copies.insert(format!("copy-{copy}"), read);
    }
    let newest = |versions: Answers<u64>| versions.into_values().max();
    let mut lines = Vec::new();
    for require in [Require::First, Require::Quorum(3), Require::All] {
        let start = time::now();
        let read = Scatter::new(copies.clone()).require(require).gather(newest).call(Request::new(())).await?;
        let version = read.value.unwrap_or_default();
        lines.push(format!(
            "  {require:?} reads version {version} after {} ms: {}",
            start.elapsed().as_millis(),
            read.tally
        ));
    }
    Ok(format!("Five copies, three of which have the last write: version 9.\n{}", lines.join("\n")))
}
