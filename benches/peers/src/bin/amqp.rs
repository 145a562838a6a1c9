//! The broker on RabbitMQ beside the client that it is made of, with the same calls: a publish that is confirmed, a
//! message delivered, an acknowledgement that the server has read. It begins a node of its own, and reports: the server
//! does most of the work, so there is no target. Wall time and this process's CPU time per message, medians of rounds
//! that go over all cases in turn.
#![allow(clippy::disallowed_macros, reason = "a program that prints a table")]

use futures::{StreamExt, future};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
        ChannelFlowOptions, ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use seedpod::queue::{Amqp, Broker, BrokerExt, Id, Publish, Step, Subscription, Topic, TopicOptions, Want};
use seedpod_server_tests::rabbit::Rabbit;
use std::{
    future::Future,
    time::{Duration, Instant},
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Messages of a round.
const ROUND: u64 = 512;
const BATCH: u32 = 64;
const BODY: [u8; 64] = [7; 64];

fn main() -> Outcome {
    let rounds = std::env::var("PEERS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(11_usize);
    report(rounds)
}

/// Begins a node, measures so many rounds and prints the table.
pub(crate) fn report(rounds: usize) -> Outcome {
    let rabbit = Rabbit::start("");
    tokio::runtime::Runtime::new()?.block_on(measure(&rabbit.url(), rounds))
}

async fn measure(url: &str, rounds: usize) -> Outcome {
    let broker = Amqp::connect(url).await?;
    let topic = Topic::new("ours");
    broker.declare(&topic, TopicOptions::new().subscription("one")).await?;
    let ours = Ours { workers: topic.subscription("one"), broker, topic };
    let raw = Raw::connect(url).await?;
    let cases = [
        "publish, one at a time: seedpod",
        "publish, one at a time: lapin",
        "publish, 64 at a time: seedpod",
        "publish, 64 at a time: lapin",
        "lease and settle, one at a time: seedpod",
        "deliver and acknowledge, one at a time, prefetch 1: lapin",
        "get and acknowledge, one at a time: lapin",
        "lease and settle, 64 at a time: seedpod",
        "deliver and acknowledge, 64 at a time, prefetch 64: lapin",
    ];
    let mut measured = vec![Vec::new(); cases.len()];
    for round in 0..=rounds {
        let mut at = measured.iter_mut();
        let mut note = |taken: (Duration, Duration)| {
            let row = at.next();
            if round > 0 {
                // the first warms up
                row.into_iter().for_each(|row| row.push(taken));
            }
        };
        note(timed(ours.publish(1)).await?);
        note(timed(raw.publish(1)).await?);
        note(timed(ours.publish(BATCH)).await?);
        note(timed(raw.publish(BATCH)).await?);
        note(timed(ours.work(1)).await?);
        note(timed(raw.consume(1)).await?);
        raw.publish(BATCH).await?;
        note(timed(raw.get()).await?);
        note(timed(ours.work(BATCH)).await?);
        note(timed(raw.consume(BATCH as u16)).await?);
    }
    println!("{ROUND} messages of {} bytes a round, {rounds} rounds, µs per message", BODY.len());
    println!("{:<58} {:>8} {:>8}", "", "wall", "cpu");
    for (name, mut rows) in cases.iter().zip(measured) {
        let mut median = |of: fn(&(Duration, Duration)) -> Duration| {
            rows.sort_by_key(of);
            rows.get(rows.len() / 2).map_or(0.0, |row| of(row).as_secs_f64() * 1e6 / ROUND as f64)
        };
        println!("{name:<58} {:>8.1} {:>8.1}", median(|row| row.0), median(|row| row.1));
    }
    Ok(())
}

async fn timed(work: impl Future<Output = Outcome>) -> Outcome<(Duration, Duration)> {
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let (began, spent) = (Instant::now(), cpu());
    work.await?;
    Ok((began.elapsed(), cpu() - spent))
}

struct Ours {
    broker: Amqp,
    topic: Topic,
    workers: Subscription,
}

impl Ours {
    async fn publish(&self, at_once: u32) -> Outcome {
        for first in (0..ROUND).step_by(at_once as usize) {
            let one = |number: u64| Publish::new(&self.topic, Id::from_u128(number.into()), BODY.to_vec());
            self.broker.publish((first..first + u64::from(at_once)).map(one).collect()).await?;
        }
        Ok(())
    }

    async fn work(&self, at_once: u32) -> Outcome {
        let mut left = ROUND as usize;
        while left > 0 {
            let leased = self.broker.lease(&self.workers, Want::items(at_once)).await?;
            left -= leased.len();
            self.broker.settle(leased.iter().fold(Step::new(), |step, delivery| step.ack(delivery.lease))).await?;
        }
        Ok(())
    }
}

struct Raw {
    _connection: Connection,
    publisher: Channel,
    worker: Channel,
}

impl Raw {
    async fn connect(url: &str) -> Outcome<Raw> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let (publisher, worker) = (connection.create_channel().await?, connection.create_channel().await?);
        publisher.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        worker.queue_declare("raw".into(), options, arguments).await?;
        Ok(Raw { _connection: connection, publisher, worker })
    }

    async fn publish(&self, at_once: u32) -> Outcome {
        for _ in (0..ROUND).step_by(at_once as usize) {
            let one = async || {
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let properties = BasicProperties::default().with_delivery_mode(2);
                self.publisher.basic_publish("".into(), "raw".into(), options, &BODY, properties).await?.await
            };
            let confirmed = future::try_join_all((0..at_once).map(|_| one())).await?;
            assert!(confirmed.iter().all(|one| one.is_ack()));
        }
        Ok(())
    }

    async fn consume(&self, prefetch: u16) -> Outcome {
        self.worker.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut consumer: Consumer =
            self.worker.basic_consume("raw".into(), "raw".into(), options, FieldTable::default()).await?;
        for _ in (0..ROUND).step_by(prefetch.into()) {
            for at in 1..=prefetch {
                let message = consumer.next().await.ok_or("the consumer ended")??;
                if at == prefetch {
                    message.ack(BasicAckOptions { multiple: true }).await?;
                }
            }
            self.worker.channel_flow(ChannelFlowOptions { active: true }).await?;
        }
        self.worker.basic_cancel("raw".into(), Default::default()).await?;
        Ok(())
    }

    async fn get(&self) -> Outcome {
        for _ in 0..ROUND {
            let message = self.worker.basic_get("raw".into(), BasicGetOptions::default()).await?;
            message.ok_or("nothing is there")?.delivery.ack(BasicAckOptions::default()).await?;
            self.worker.channel_flow(ChannelFlowOptions { active: true }).await?;
        }
        Ok(())
    }
}
