//! Those who work: what a handler does with a job, a question, a film, and the pumps around them.

use super::{
    checks::Moving,
    world::{HOLD, Piece, SILENCE, World, a_while, jobs, milliseconds},
};
use crate::queue::{features::Features, process::Process, wire::Wire};
use seedpod::{
    Error, Kind, Result,
    base::{Backoff, time},
    net::Net,
    pod::{ContainerSpec, Context, Exit, PodSpec},
    queue::{
        self, Broker, Consume, Done, Message, PerItem, PodLauncher, Publish, Quarantine, Results, Task, Want, Work,
    },
};
use std::{panic::resume_unwind, sync::Arc, time::Duration};
use tower::{Service, ServiceExt};

pub(super) const FAILED: &str = "handler failed";
pub(super) const PANICKED: &str = "handler panicked";
pub(super) const HUNG: &str = "handler hung";

/// The settings that all pumps of a schedule have.
fn tuned<S>(pump: Consume<S>) -> Consume<S> {
    pump.hold(HOLD)
        .attempts(4)
        .lapses(6)
        .silence(SILENCE)
        .drain(HOLD / 4)
        .backoff(Backoff::new(milliseconds(20), milliseconds(200)))
}

/// How a handler misbehaves, if it does: in seven of sixteen tries, and never while all heals.
async fn misbehave(world: &World, id: &str, tries: u32, features: Features) -> Result {
    let mut dice = world.dice(id, tries);
    a_while(&mut dice, 40).await;
    if world.is_healing() {
        return Ok(());
    }
    let record = &world.broker.record;
    // what was given up or set aside before is worse than others
    let sides = if features.has(Features::QUARANTINE | Features::REDRIVE) { 9 } else { 16 };
    match dice.below(sides) {
        0 | 1 => {
            record.met(FAILED, features);
            Err(Error::new(Kind::Unavailable, "no mail server"))
        }
        2 | 3 => {
            record.met(PANICKED, features);
            world.checks.charges.panics(id);
            resume_unwind(Box::new("on purpose")) // without a word on the terminal
        }
        4 => Err(Error::new(Kind::Overloaded, "").after(milliseconds(1 + dice.below(100)))),
        5 | 9 => Err(Error::new(Kind::Invalid, "unreadable")),
        6 => {
            record.met(HUNG, features);
            let _hung = world.checks.hang.begins();
            std::future::pending().await
        }
        7 | 8 => {
            // longer than a lease, and with signs of life: it is extended meanwhile
            for _ in 0..6 {
                time::sleep(HOLD / 3).await;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What is made of a job, committed with its acknowledgement.
async fn made(world: &World, message: &Message, piece: &Piece, with_result: bool) -> Result<Done> {
    let mut done = Done::new();
    if piece.has(Features::DONE | Features::RESULT) {
        let key = message.idempotency_key();
        let effect = Publish::new("effects", message.derive(0, 0), format!("{key} {}", u8::from(with_result)));
        done = done.publish(effect);
    }
    if let Some((key, number)) = &piece.key
        && world.checks.order.counts(message)
    {
        let row = seedpod::base::Name::from(format!("last/{key}"));
        let (version, _) = world.broker.load(&row).await?;
        done = done.write(row, version, number.to_string());
    }
    if with_result { done.result(&piece.name) } else { Ok(done) }
}

async fn handle(world: Arc<World>, process: Process, task: Task<Piece>) -> Result<Done> {
    let (message, piece) = (task.message(), &task.value);
    world.checks.begins(&world, message, piece);
    let features = piece.features() | Features::of(message.topic(), message.headers());
    let _hand = process.hand(features);
    if piece.has(Features::PROGRESS) {
        match task.progress(0.5, "half").await {
            Err(error) if error.kind() == Kind::LeaseLost => return Err(error),
            _ => {} // it is not known further on
        }
    }
    let failed = misbehave(&world, &task.id().to_string(), task.attempts().total(), features).await;
    if let Err(error) = failed {
        world.checks.charges.fails(&task.id().to_string());
        return Err(error);
    }
    let made = made(&world, message, piece, piece.has(Features::RESULT)).await;
    world.checks.charges.fails(&task.id().to_string()); // where what it made is refused
    made
}

pub(super) async fn worker(world: Arc<World>, process: Process, wire: Arc<Wire>) {
    let (own, part) = (world.clone(), process.clone());
    let service = tower::service_fn(move |task: Task<Piece>| {
        let alone = own.checks.moving.begins(task.message());
        Moving::new(handle(own.clone(), part.clone(), task), alone)
    });
    let mut pump = tuned(jobs(wire).await.tasks(service)).concurrency(2);
    if world.is_wary {
        pump = pump.quarantine(Quarantine::new("jobs.quarantine").dead_letters("jobs.dead").after(1));
    }
    let ended = pump.run_until(process.stopped()).await;
    world.checks.ends(ended);
}

/// Takes jobs by hand, and settles them in every way there is.
pub(super) async fn hand(world: Arc<World>, process: Process, wire: Arc<Wire>) {
    let (queue, mut rng) = (jobs(wire).await, world.fork());
    let work = async {
        loop {
            let tasks = match queue
                .assign(Want::items(2).hold(HOLD).wait(milliseconds(if world.is_healing() { 5000 } else { 100 })))
                .await
            {
                Ok(tasks) => tasks,
                Err(_) => {
                    time::sleep(milliseconds(10)).await;
                    continue;
                }
            };
            for task in tasks {
                let features = task.value.features() | Features::of(task.message().topic(), task.headers());
                let _hand = process.hand(features);
                a_while(&mut rng, 80).await;
                let wait = milliseconds(rng.below(100));
                let id = task.id().to_string();
                let settled = match if world.is_healing() { 9 } else { rng.below(10) } {
                    0 => {
                        world.checks.charges.fails(&id);
                        task.retry(wait).await
                    }
                    1 => task.postpone(wait).await,
                    2 => task.reject("by hand").await,
                    3 => task.extend(HOLD).await, // and forgets it
                    _ => match made(&world, task.message(), &task.value, false).await {
                        Ok(done) => task.complete(done).await,
                        refused => refused.map(drop),
                    },
                };
                if let Err(error) = settled {
                    let known =
                        matches!(error.kind(), Kind::LeaseLost | Kind::Unavailable | Kind::Conflict | Kind::Closed);
                    world.broker.record.hold(known, || format!("by hand: {error}"));
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = process.stopped() => {}
        () = work => {}
    }
}

/// What the oracle says of this number.
pub(super) fn answer(number: u32) -> String {
    format!("answer {number}")
}

pub(super) async fn responder(world: Arc<World>, process: Process, wire: Arc<Wire>) {
    let (own, part) = (world.clone(), process.clone());
    let tries = Arc::new(seedpod::base::sync::atomic::AtomicU64::new(0));
    let oracle = tower::service_fn(move |number: u32| {
        let (world, process) = (own.clone(), part.clone());
        let tries = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as u32;
        async move {
            let _hand = process.hand(Features::REPLY);
            misbehave(&world, &format!("question {number}"), tries, Features::REPLY).await?;
            Ok::<_, Error>(answer(number))
        }
    });
    let pump = tuned(queue::respond::<u32, String, _>(wire, world.checks.places.questions.clone(), oracle));
    let ended = pump.concurrency(2).run_until(process.stopped()).await;
    world.checks.ends(ended);
}

/// The container of one film.
async fn film(world: Arc<World>, process: Process, context: Context) -> Result<(), Exit> {
    let item = context.volume("item").map_err(|_| Exit::new(3, "no volume"))?;
    let film = item.read("input").map_err(|_| Exit::new(3, "no input"))?;
    let tries = context.env("SEEDPOD_MESSAGE_ATTEMPT").and_then(|tries| tries.parse().ok()).unwrap_or(0);
    let name = String::from_utf8_lossy(&film).into_owned();
    match misbehave(&world, &name, tries, Features::PER_ITEM).await {
        Err(error) if error.kind() == Kind::Invalid => return Err(Exit::new(65, "unreadable")),
        Err(_) => return Err(Exit::new(1, "no mail server")),
        Ok(()) => {}
    }
    drop(process);
    item.write("output", name).map_err(|_| Exit::new(3, "no output"))
}

pub(super) async fn cutter(world: Arc<World>, process: Process, wire: Arc<Wire>) {
    let (own, part) = (world.clone(), process.clone());
    let image = move |context: Context| part.freezing(film(own.clone(), part.clone(), context));
    let pods = PodLauncher::new(template(image), &world.net).within(Duration::from_secs(2));
    let (part, inner) = (process.clone(), PerItem::new(pods));
    let holding = tower::service_fn(move |item: Message| {
        let hand = part.hand(Features::PER_ITEM);
        let launched = inner.clone().oneshot(item);
        async move {
            let _hand = hand;
            launched.await
        }
    });
    let service = Results::published(holding, "films.cut");
    let ended = pumping(queue::consume(wire, world.checks.places.films.clone(), service), &process).await;
    world.checks.ends(ended);
}

async fn pumping<S>(pump: Consume<S>, process: &Process) -> Result
where
    S: Service<Message, Response = Done, Error = Error, Future: Send> + Clone + Send + Sync + 'static,
{
    tuned(pump).concurrency(2).run_until(process.stopped()).await
}

fn template(image: impl Into<seedpod::pod::Image>) -> PodSpec {
    PodSpec::new("cut").container(ContainerSpec::new("app", image))
}

/// The network that pods of a schedule are on.
pub(super) fn net(seed: seedpod::base::Seed) -> Net {
    Net::memory().seed(seed).perturb().build()
}
