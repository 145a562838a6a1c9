//! Jobs at the ticks of a clock, fairness between tenants, priorities that age, and a limit on each mail host.
//!
//! Two processes run the same code. Each tick of the schedule is submitted once all the same; a tenant with a hundred jobs
//! holds up another by its turn only; nobody is sent more mail than its host takes; and whoever pauses the queue pauses it
//! for both.
//!
//! ```text
//! cargo run --example scheduled_jobs
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    base::{Seed, sync::Lock, time},
    queue::{Broker, Consume, Job, Limit, Memory, Message, Queue, Rate, Schedule},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mail {
    to: String,
    text: String,
}

const SECOND: Duration = Duration::from_secs(1);

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and one seed, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let _simulation = Seed::new(1).simulate();
    runtime.block_on(tell())
}

#[derive(Clone)]
struct Tale {
    start: time::Instant,
    said: Arc<Lock<Vec<String>>>,
    sent: Arc<Lock<BTreeMap<String, u32>>>,
}

impl Tale {
    fn say(&self, what: impl std::fmt::Display) {
        let seconds = (time::now() - self.start).as_secs();
        self.said.lock().push(format!("{:>2}:{:02}  {what}", seconds / 60, seconds % 60));
    }

    async fn send(self, mail: Mail) -> seedpod::Result {
        let host = mail.to.split_once('@').map_or("nowhere", |(_, host)| host);
        *self.sent.lock().entry(host.to_string()).or_default() += 1;
        if mail.text != "newsletter" {
            self.say(format!("{:?} goes to {}", mail.text, mail.to));
        }
        time::sleep(SECOND).await;
        Ok(())
    }
}

/// Whom a mail goes to.
fn host(message: &Message) -> Option<String> {
    let mail: Mail = message.json().ok()?;
    mail.to.split_once('@').map(|(_, host)| host.to_string())
}

/// The queue, as each process opens it: two levels of priority, thirty seconds of waiting worth one; lines for tenants.
async fn open(broker: &Arc<dyn Broker>) -> seedpod::Result<Queue<Mail>> {
    Queue::builder(broker.clone(), "mail").levels(2, 30 * SECOND).tenants(8).await
}

async fn tell() -> seedpod::Result<String> {
    let tale = Tale { start: time::now(), said: Arc::default(), sent: Arc::default() };
    let broker: Arc<dyn Broker> = Arc::new(Memory::new());
    let (one, other) = (open(&broker).await?, open(&broker).await?);

    // a digest every five minutes, from whichever process is first
    let digests: Schedule = "*/5 * * * *".parse()?;
    let digest = |tick: SystemTime| {
        let minutes = tick.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / 60 % 60;
        Job::new(Mail { to: "ops@home.example".into(), text: format!("digest of minute {minutes}") }).priority(1)
    };
    let crons = [&one, &other].map(|queue| queue.cron("digest", digests.clone(), digest));

    // a newsletter of a hundred mails, and a password that somebody else waits for
    let newsletter = (1..=100).map(|number| {
        let to = format!("reader{number}@{}.example", if number % 2 == 0 { "big" } else { "small" });
        Job::new(Mail { to, text: "newsletter".into() }).tenant("publisher")
    });
    let stored = one.submit_many(newsletter).await?;
    tale.say(format!("publisher submits {} mails", stored.stored));
    one.submit(Job::new(Mail { to: "ann@home.example".into(), text: "your password".into() }).tenant("bakery")).await?;
    tale.say("bakery submits one, behind them");

    let stop = || time::sleep(610 * SECOND);
    // to each host no more than twenty a minute, five of them at once, from both processes together
    let to_each_host = Rate::new(20, 60 * SECOND)?.burst(5);
    let workers = [&one, &other].map(|queue| {
        let tale = tale.clone();
        let worker = queue.worker(move |mail: Mail| tale.clone().send(mail)).seed(Seed::new(2));
        worker.limit(Limit::rate(to_each_host).per(host).shared("mail hosts"))
    });
    let controls = workers.each_ref().map(Consume::control);
    let pauses = async {
        time::sleep(60 * SECOND).await;
        other.pause().await?;
        tale.say("paused, for both processes");
        time::sleep(60 * SECOND).await;
        tale.say(format!("a minute later {} mails wait", one.inspect().await?.ready));
        one.resume().await?;
        tale.say("resumed");
        Ok(())
    };
    let [first, second] = crons;
    let [here, there] = workers;
    let crons = futures::future::try_join(first.run_until(stop()), second.run_until(stop()));
    let workers = futures::future::try_join(here.run_until(stop()), there.run_until(stop()));
    futures::future::try_join3(crons, workers, pauses).await?;

    for (host, mails) in &*tale.sent.lock() {
        tale.say(format!("{mails} mails to {host}"));
    }
    let done: u64 = controls.iter().map(|control| control.tally().done).sum();
    tale.say(format!("{done} done in all, left in the queue: {}", one.inspect().await?.stored));
    let story = tale.said.lock().join("\n");
    Ok(story)
}
