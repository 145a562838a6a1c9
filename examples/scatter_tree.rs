//! A tree of scatters: three regions with a coordinator each, which asks the stores of its region.
//!
//! The root knows the regions and not the stores. A region answers with its sum and with what it covers, and the root adds
//! up both: the answer says of how many stores it is, whatever was late or failed anywhere in the tree.
//!
//! ```text
//!          ┌─► north ─┬─► 5 stores
//! root ────┼─► south ─┼─► 4 stores       a region is a Scatter, and a leaf of the root
//!          └─► east  ─┴─► 3 stores
//! ```
//!
//! ```text
//! cargo run --example scatter_tree
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Result,
    base::{Kind, time},
    layer::Request,
    serving::{Coverage, Endpoints, Gathered, Scatter, Shortfall},
};
use std::{
    ops::ControlFlow::{self, Continue},
    time::Duration,
};
use tower::{Service, service_fn, util::BoxCloneSyncService};

const MILLI: Duration = Duration::from_millis(1);

type Store = BoxCloneSyncService<Request<&'static str>, u64, Error>;
type Region = BoxCloneSyncService<Request<&'static str>, Gathered<u64>, Error>;

fn main() -> Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time, so that it always tells the same.
pub(crate) fn story() -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let chapters = [
            chapter("All stores answer.", |_, _| Some(10)).await?,
            chapter("Two stores of the north are slow.", |region, store| {
                Some(if region == "north" && store < 2 { 300 } else { 10 })
            })
            .await?,
            chapter(
                "One store of the south is closed, two of the east are slow: too few for its coordinator.",
                |region, store| match (region, store) {
                    ("south", 3) => None,
                    ("east", 0 | 1) => Some(300),
                    _ => Some(10),
                },
            )
            .await?,
            chapter("Half of all stores are slow.", |_, store| Some(if store % 2 == 0 { 300 } else { 10 })).await?,
        ];
        Ok(chapters.join("\n\n"))
    })
}

fn add(sum: &mut u64, count: u64) -> ControlFlow<()> {
    *sum += count;
    Continue(())
}

/// A store counts what it has: it takes so many milliseconds, or is closed.
fn store(number: u64, takes: Option<u64>) -> Store {
    BoxCloneSyncService::new(service_fn(move |_: Request<&'static str>| async move {
        let Some(takes) = takes else { return Err(Error::new(Kind::Unavailable, "closed")) };
        time::sleep(MILLI * takes as u32).await;
        Ok(100 + number)
    }))
}

/// A coordinator answers if half of its stores do in time.
fn region(name: &'static str, stores: u64, takes: impl Fn(&str, u64) -> Option<u64>) -> Result<Region> {
    let leaves = Endpoints::named(name);
    for number in 0..stores {
        leaves.insert(format!("{name}-{number}"), store(number, takes(name, number)));
    }
    let scatter = Scatter::new(leaves).require(Coverage::fraction(0.5)?).fold(|| 0, |sum, _, count| add(sum, count));
    Ok(BoxCloneSyncService::new(scatter))
}

async fn chapter(title: &str, takes: impl Fn(&str, u64) -> Option<u64>) -> Result<String> {
    let regions = Endpoints::named("regions");
    for (name, stores) in [("north", 5), ("south", 4), ("east", 3)] {
        regions.insert(name, region(name, stores, &takes)?);
    }
    // six tenths of the stores, wherever they are
    let mut root = Scatter::new(regions)
        .require(Coverage::fraction(0.6)?)
        .within(50 * MILLI)
        .fold(
            || (0, Vec::new()),
            |(sum, lines), name, region: Gathered<u64>| {
                lines.push(format!("  {name}: {} apples, {}", region.value, region.tally));
                add(sum, region.value)
            },
        )
        .tree();
    let start = time::now();
    let result = root.call(Request::new("apples")).await;
    let took = start.elapsed().as_millis();
    Ok(match result {
        Ok(Gathered { value: (sum, lines), tally, failed }) => {
            let lost = failed.iter().map(|(name, error)| match error.downcast_ref::<Shortfall>() {
                Some(shortfall) => format!("  {name}: lost, {}", shortfall.tally),
                None => format!("  {name}: {error}"),
            });
            let lines: Vec<String> = lines.into_iter().chain(lost).collect();
            format!("{title}\n{}\n  root, after {took} ms: {sum} apples, {tally}", lines.join("\n"))
        }
        Err(error) => format!("{title}\n  root, after {took} ms: {error}"),
    })
}
