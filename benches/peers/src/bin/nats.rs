//! The broker on NATS JetStream, beside async-nats by hand with the same calls: an id per publish, a confirmation of each
//! publish and of each acknowledgement, 256 of them under way.
//!
//! CPU time of this process alone. The server is `nats-server -js` in a temporary folder, begun here; or the one that
//! `SEEDPOD_NATS` names.

use bytes::Bytes;
use seedpod::{
    Result,
    base::Few,
    queue::{Broker, Id, Nats, Publish, Step, Subscription, Topic, TopicOptions, Want},
};
use seedpod_peers::{
    Group, Target, apart,
    bare::jetstream::{ByHand, WINDOW},
};
use std::{
    cell::Cell,
    hint::black_box,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

struct Server(Child, std::path::PathBuf);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = std::fs::remove_dir_all(&self.1);
    }
}

fn serve() -> std::io::Result<(Option<Server>, String)> {
    if let Ok(url) = std::env::var("SEEDPOD_NATS") {
        return Ok((None, url));
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let folder = std::env::temp_dir().join(format!("seedpod-peers-nats-{}", std::process::id()));
    let mut command = Command::new("nats-server");
    command.args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"]).arg(&folder);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    Ok((Some(Server(child, folder)), format!("nats://127.0.0.1:{port}")))
}

/// What a user holds.
struct Ours {
    broker: Nats,
    jobs: Topic,
    workers: Subscription,
    body: Bytes,
}

impl Ours {
    async fn new(url: &str, body: Bytes) -> Result<Ours> {
        let (broker, jobs) = (Nats::connect(url).await?, Topic::new("jobs"));
        let options = TopicOptions::new().subscription("workers").capacity(1 << 30).dedup(Duration::from_secs(120));
        broker.declare(&jobs, options).await?;
        Ok(Ours { broker, workers: jobs.subscription("workers"), jobs, body })
    }

    async fn publish(&self, first: u64, count: u64) -> Result {
        let mut at = first;
        while at < first + count {
            let until = (at + WINDOW).min(first + count);
            let id = |number: u64| Id::from_u128(number.into());
            let batches: Few<_> = (at..until).map(|n| Publish::new(&self.jobs, id(n), self.body.clone())).collect();
            black_box(self.broker.publish(batches).await?);
            at = until;
        }
        Ok(())
    }

    async fn settle(&self, count: u64) -> Result {
        let mut left = count;
        while left > 0 {
            let want = Want::items(left.min(WINDOW) as u32);
            let mut step = Step::new();
            for delivery in self.broker.lease(&self.workers, want).await? {
                left -= u64::from(delivery.len());
                step = step.ack(delivery.lease);
            }
            self.broker.settle(step).await?;
        }
        Ok(())
    }
}

fn main() -> std::io::Result<()> {
    let (_server, url) = serve()?;
    let runtime = &tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = Bytes::from(vec![7; 256]);
    let ours = &runtime.block_on(Ours::new(&url, body.clone())).map_err(std::io::Error::other)?;
    let hand = &runtime.block_on(ByHand::new(&url, body)).map_err(std::io::Error::other)?;
    let next = &Cell::new(0);
    let numbers = |count: u64| {
        let first = next.get();
        next.set(first + count);
        first
    };
    let done = |result: std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>| {
        if let Err(error) = result {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    let target = Target::of_bare(1.15);
    Group::new("nats/publish", target)
        .bare("async-nats, id and confirmation", |count| {
            done(runtime.block_on(hand.publish(numbers(count), count)));
            apart(|| done(runtime.block_on(hand.settle(count))));
        })
        .ours("publish", |count| {
            done(runtime.block_on(ours.publish(numbers(count), count)).map_err(Into::into));
            apart(|| done(runtime.block_on(ours.settle(count)).map_err(Into::into)));
        })
        .run();
    Group::new("nats/lease_and_settle", target)
        .bare("async-nats, fetch and confirmed ack", |count| {
            apart(|| done(runtime.block_on(hand.publish(numbers(count), count))));
            done(runtime.block_on(hand.settle(count)));
        })
        .ours("lease, settle", |count| {
            apart(|| done(runtime.block_on(ours.publish(numbers(count), count)).map_err(Into::into)));
            done(runtime.block_on(ours.settle(count)).map_err(Into::into));
        })
        .run();
    Ok(())
}
