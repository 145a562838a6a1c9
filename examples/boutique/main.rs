//! An online shop on a three-node cluster, all in this process, which stays open whatever happens to it.
//!
//! ```text
//! cargo run --example boutique                          # the show: about 15 seconds
//! cargo run --example boutique -- --seed 7              # the same shoppers, victims and order of events again
//! cargo run --example boutique -- --serve               # open on http://127.0.0.1:8080/ until Ctrl-C
//! cargo run --example boutique -- --manifest FILE       # runs a Kubernetes manifest instead
//! ```
//!
//! **The shop** is [`shop.yaml`](shop): eleven Deployments and Services as Kubernetes knows them, whose images are the
//! async functions in [`services`]. They speak HTTP/JSON with each other by their names in the cluster, each call within
//! its request's deadline and made again where that may help ([`call`]). The checkout hands paid orders to a queue, from
//! which e-mail and shipping take them. State is kept by one service, a key-value store in the memory of its only pod,
//! which is pinned to a node that is never drained; everything else may die at any moment.
//!
//! **The show** ([`show`]): seeded shoppers ([`traffic`]) browse, fill carts, change currencies and buy. Meanwhile
//! ([`disruption`]) a checkout pod is killed without grace while it works on an order, a node is drained, and the
//! recommendations are rolled to their next version. A table ([`table`]) shows how the services are. In the end the
//! books are compared ([`summary`]): every order that a shopper saw confirmed must have been paid, mailed and shipped,
//! each exactly once. What was done is written down beside the claim that it is done, in one commit
//! ([`services::Ledger`]), so that a try cut off at any point can be made again.
//!
//! ```text
//! >> killed checkout-5c9d7b-x2k4q on node-2, in flight: 2 × POST /orders
//! >> drained node-3: 8 pods went elsewhere in 1.3 s
//! >> rolled recommendation to v2 in 2.2 s: "Goes well with your choice"
//! …
//! summary requests=2519 failed=0 orders=371 orders_lost=0 orders_doubled=0 restarts=0
//! ```
//!
//! The last line is that summary; the exit code is 0 only where nothing failed, got lost or was done twice. The clock is
//! the real one: a seed repeats what is chosen, not how long it takes. Ctrl-C ends the show early ([`ending`]): the
//! shoppers finish what they do, and the books are compared all the same.
//!
//! **Another manifest** ([`manifest`]): Google's Online Boutique runs as it is released, with stand-ins for its images
//! ([`standins`]). It ends when every workload is available (`summary workloads=12 available=12`), or says which is not
//! and why, with exit code 1.
#![allow(clippy::disallowed_macros, reason = "an example prints")]

pub(crate) mod arguments;
pub(crate) mod call;
pub(crate) mod disruption;
pub(crate) mod ending;
pub(crate) mod form;
pub(crate) mod inspect;
pub(crate) mod manifest;
pub(crate) mod model;
pub(crate) mod page;
pub(crate) mod refusal;
pub(crate) mod services;
pub(crate) mod shop;
pub(crate) mod show;
pub(crate) mod standins;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod telemetry;
pub(crate) mod traffic;

use arguments::Arguments;
use ending::Ending;
use seedpod::{Error, Kind, Result, base::time};
use shop::Shop;
use std::{path::Path, process::ExitCode, time::Duration};
use summary::Summary;
use table::Table;

const HELP: &str = "\
An online shop on a three-node cluster in one process, which stays open while a pod is killed, a node is drained and a
service is rolled to its next version.

usage: cargo run --example boutique -- [OPTIONS]

  --seed N           choose shoppers, victims and the order of events by this number
  --seconds N        how long people shop (13), or how long to wait for a manifest's workloads (180)
  --serve [ADDRESS]  put the shop on this address (127.0.0.1:8080), and keep it open until Ctrl-C
  --manifest FILE    run this Kubernetes manifest instead, until all of its workloads are available
  --help             this text

Ctrl-C (or SIGTERM) ends it early and in order. The last line is a summary; the exit code is 0 if nothing failed, got lost or was done twice.";

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args().skip(1)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line asks for; whether all went well.
pub(crate) async fn run(arguments: impl IntoIterator<Item = String>) -> Result<bool> {
    let arguments = Arguments::parse(arguments)?;
    if arguments.help {
        println!("{HELP}");
        return Ok(true);
    }
    match &arguments.manifest {
        Some(path) => run_manifest(path, &arguments).await,
        None => run_shop(&arguments).await,
    }
}

async fn run_shop(arguments: &Arguments) -> Result<bool> {
    let (mut table, ending) = (Table::on_standard_output(), Ending::listen()?);
    let begun = time::now();
    let shop = tokio::select! {
        biased;
        () = ending.clone().asked() => {
            println!("{}", Summary::default()); // nobody has been in it
            return Ok(true);
        }
        shop = Shop::open(arguments.seed, services::images()) => shop?,
    };
    let (pods, seed) = (shop.size()?, arguments.seed.get());
    println!("open with {pods} pods after {:.1} s, seed {seed}", begun.elapsed().as_secs_f64());
    let door = match arguments.serve {
        Some(address) => Some(shop.expose(address).await?),
        None => None,
    };
    if let Some(door) = &door {
        println!("the shop is open on http://{}/", door);
    }
    let length = arguments.seconds.unwrap_or(Duration::from_secs(13)); // with opening and closing about 15 s
    let summary = show::play(&shop, arguments.seed, length, ending.clone().asked(), &mut table).await?;
    if let Some(door) = &door {
        if !ending.is_asked() {
            println!("the shoppers are gone, the shop stays open on http://{}/ until Ctrl-C", door);
        }
        ending.asked().await;
    }
    shop.close().await;
    println!("{summary}");
    Ok(summary.is_clean())
}

async fn run_manifest(path: &Path, arguments: &Arguments) -> Result<bool> {
    let unreadable = |error| Error::new(Kind::NotFound, "cannot be read").at(path.display().to_string()).because(error);
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let within = arguments.seconds.unwrap_or(Duration::from_secs(180));
    let summary = manifest::run(&text, arguments.seed, within, |line| println!("{line}")).await?;
    println!("{summary}");
    Ok(summary.is_complete())
}
