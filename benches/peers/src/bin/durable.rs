//! The broker on disk: submit, start, settle, each on the disk when it is answered. By hand there is redb, with a record
//! per item or per batch, and a thread that syncs a raw file for all who ask; the peers are fjall and SQLite, with the same
//! records and every commit synced, and apalis on SQLite.
//!
//! All is written below the folder that `PEERS_FOLDER` names, else the one for temporary files.

#[path = "durable/apalis.rs"]
mod apalis;
#[path = "durable/engines.rs"]
mod engines;

use seedpod::{
    Result,
    base::Few,
    disk::Storage,
    queue::{Broker, Durable, Id, Payload, Publish, Step, Subscription, Topic, TopicOptions, Want},
};
use seedpod_peers::{
    Figure, Group, Target, apart,
    bare::disk::{self, VALUE},
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::runtime::Runtime;

const BATCH: u64 = 100;

/// A new, empty folder.
pub(crate) fn folder(name: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let root = std::env::var_os("PEERS_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let number = NEXT.fetch_add(1, Relaxed);
    let path = root.join(format!("seedpod-peers-{}/{name}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

type Queue = (Arc<Durable>, Topic, Subscription);

async fn declare(broker: Durable) -> Result<Queue> {
    let jobs = Topic::new("jobs");
    broker.declare(&jobs, TopicOptions::new().subscription("workers").capacity(1 << 40)).await?;
    Ok((Arc::new(broker), jobs.clone(), jobs.subscription("workers")))
}

fn batch(jobs: &Topic, number: u64, items: u64) -> Few<Publish> {
    let items = (0..items).map(|_| bytes::Bytes::from_static(&VALUE));
    [Publish::new(jobs, Id::from_u128(number.into()), Payload::many(items))].into()
}

/// Leases so many and acknowledges them in one step.
async fn work(broker: &Durable, workers: &Subscription, mut left: u64) -> Result {
    let mut step = Step::new();
    while left > 0 {
        for delivery in broker.lease(workers, Want::items(left as u32)).await? {
            left -= u64::from(delivery.len());
            step.acks.push(delivery.lease);
        }
    }
    broker.settle(step).await
}

async fn cycles(queue: &Queue, items: u64, size: u64) -> Result {
    let (broker, jobs, workers) = queue;
    for number in 0..items.div_ceil(size) {
        broker.publish(batch(jobs, number, size)).await?;
        work(broker, workers, size).await?;
    }
    Ok(())
}

async fn fill(queue: &Queue, items: u64) -> Result {
    for number in 0..items / BATCH {
        queue.0.publish(batch(&queue.1, number, BATCH)).await?;
    }
    Ok(())
}

/// A file that counts its syncs.
#[derive(Debug)]
struct Counting(File, Arc<AtomicU64>);

impl Storage for Counting {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, at)
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.fetch_add(1, Relaxed);
        self.0.sync_data()
    }
}

/// So many producers, each of which submits an item, leases one and settles it, so many times: syncs per item.
fn syncs(runtime: &Runtime, producers: u64, each: u64) -> Result<f64> {
    runtime.block_on(async {
        let path = folder("syncs").join("a.db");
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
        let count = Arc::new(AtomicU64::new(0));
        let queue = declare(Durable::on(Arc::new(Counting(file, count.clone())))).await?;
        let before = count.load(Relaxed);
        let tasks: Vec<_> = (0..producers)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { cycles(&queue, each, 1).await })
            })
            .collect();
        for task in tasks {
            task.await.map_err(|error| seedpod::Error::adopt(error, seedpod::Kind::Panicked))??;
        }
        Ok((count.load(Relaxed) - before) as f64 / (producers * each) as f64)
    })
}

/// 32 producers, each of which submits an item, leases one and settles it.
async fn producers(queue: &Queue, items: u64) -> Result {
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { cycles(&queue, items.div_ceil(32), 1).await })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|error| seedpod::Error::adopt(error, seedpod::Kind::Panicked))??;
    }
    Ok(())
}

fn cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0) * 4096.0 / 1e6
}

/// CPU time per item of cycles of 100 with so many items in the file, in microseconds: the median of five.
fn at_backlog(runtime: &Runtime, items: u64) -> Result<f64> {
    runtime.block_on(async {
        let queue = declare(Durable::at(folder("flat").join("a.db"))).await?;
        fill(&queue, items).await?;
        let mut measured = Vec::new();
        for _ in 0..5 {
            let before = cpu();
            cycles(&queue, 10_000, BATCH).await?;
            measured.push((cpu() - before) * 1e6 / 1e4);
        }
        measured.sort_by(f64::total_cmp);
        println!("   {items:>9} items in the file: {:.2} µs CPU per item", measured[2]);
        Ok(measured[2])
    })
}

/// Reopens a file with a million messages, closed in order or copied while it was open.
fn reopening(runtime: &Runtime) -> Result {
    runtime.block_on(async {
        let path = folder("reopen").join("a.db");
        let crashed = path.with_extension("crashed.db");
        let queue = declare(Durable::at(&path)).await?;
        let before = resident();
        fill(&queue, 1_000_000).await?;
        println!("   resident while 1,000,000 messages of 128 bytes went in: {:+.0} MB", resident() - before);
        fs::copy(&path, &crashed)?; // nothing is being written
        drop(queue);
        for (how, path) in [("closed in order", &path), ("not closed", &crashed)] {
            let (start, before, resident_before) = (Instant::now(), cpu(), resident());
            let broker = Durable::open(path).await?;
            let (opened, spent) = (start.elapsed(), cpu() - before);
            let jobs = Topic::new("jobs");
            let leased = broker.lease(&jobs.subscription("workers"), Want::items(100)).await?;
            let items: u32 = leased.iter().map(|delivery| delivery.len()).sum();
            println!(
                "   {how}: opened in {:.0} ms ({:.0} ms CPU), {} MB on disk, first {items} leased after {:.0} ms, {:+.0} MB resident",
                opened.as_secs_f64() * 1e3,
                spent * 1e3,
                fs::metadata(path)?.len() / 1_000_000,
                start.elapsed().as_secs_f64() * 1e3,
                resident() - resident_before,
            );
        }
        Ok(())
    })
}

fn wanted(case: &str) -> bool {
    std::env::args().nth(1).is_none_or(|word| !word.starts_with("--") && case.contains(word.as_str()))
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let runtime = &tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let queue = || apart(|| runtime.block_on(declare(Durable::at(folder("ours").join("a.db")))));
    let database = || apart(|| redb::Database::create(folder("redb").join("a.db")));

    let (ours, bare) = (queue()?, database()?);
    let (keyspace, sqlite) = (engines::Fjall::open()?, engines::Sqlite::open()?);
    Group::new("durable/batch/per_record", Target::of_bare(1.0))
        .counted(0)
        .bare("redb, 3 records per item, 3 commits", |count| {
            disk::redb_per_item(&bare, count.next_multiple_of(BATCH), BATCH).unwrap_or_else(|error| panic!("{error}"))
        })
        .ours("submit, lease, acknowledge 100", |count| {
            runtime.block_on(cycles(&ours, count, BATCH)).unwrap_or_else(|error| panic!("{error}"))
        })
        .peer("fjall, the same records, synced", |count| {
            keyspace.cycles(count, BATCH).unwrap_or_else(|e| panic!("{e}"))
        })
        .peer("SQLite, the same records, synced", |count| sqlite.cycles(count, BATCH).unwrap_or_else(|e| panic!("{e}")))
        .run();
    Group::new("durable/batch/per_batch", Target::of_bare(1.7))
        .counted(0)
        .bare("redb, one record per batch, 2 commits", |count| {
            disk::redb_per_batch(&bare, count, BATCH).unwrap_or_else(|error| panic!("{error}"))
        })
        .ours("submit, lease, acknowledge 100", |count| {
            runtime.block_on(cycles(&ours, count, BATCH)).unwrap_or_else(|error| panic!("{error}"))
        })
        .run();
    for (count, each) in [(1, 200), (8, 200), (32, 100), (64, 100)] {
        let median = |measured: &dyn Fn() -> f64| {
            let mut all = [measured(), measured(), measured()];
            all.sort_by(f64::total_cmp);
            all[1]
        };
        Figure::new(format!("durable/syncs/{count}"), "syncs per item", Target::of_bare(1.0))
            .bare("a commit thread over a raw file", || {
                median(&|| disk::raw_file(&folder("raw"), count, each).unwrap_or_else(|error| panic!("{error}")))
            })
            .ours("submit, lease, acknowledge", || {
                median(&|| syncs(runtime, count, each).unwrap_or_else(|error| panic!("{error}")))
            })
            .run();
    }
    if wanted("durable/producers") {
        let opened = runtime.block_on(apalis::Store::open(&folder("apalis").join("a.db")));
        let mut store = opened.map_err(|error| error.to_string())?;
        Group::new("durable/producers", Target::of_bare(f64::MAX).ahead(40.0))
            .counted(0)
            .ours("32 producers, each submits and settles", |count| {
                runtime.block_on(producers(&ours, count)).unwrap_or_else(|error| panic!("{error}"))
            })
            .peer("apalis-sqlite, submit and work off", |count| {
                runtime.block_on(store.cycles(count)).unwrap_or_else(|error| panic!("{error}"))
            })
            .run();
    }
    if wanted("durable/flat") {
        let small = at_backlog(runtime, 1_000)?;
        let middle = at_backlog(runtime, 100_000)?;
        let large = at_backlog(runtime, 1_000_000)?;
        Figure::new("durable/flat", "times the time at 1,000", Target::nanos(1.2))
            .ours("at 100,000 or 1,000,000 in the file", || middle.max(large) / small)
            .run();
    }
    if wanted("durable/reopen") {
        println!("durable/reopen, a report:");
        reopening(runtime)?;
    }
    Ok(fs::remove_dir_all(folder("end").parent().map_or_else(PathBuf::new, PathBuf::from))?)
}
