//! The course of a schedule: what there is to be done, faults, healing, and the end.

use super::{
    checks::Checks,
    clients,
    ground::{Estate, Ground},
    workers,
    world::{Agenda, HOLD, Node, Plan, Role, World, milliseconds},
};
use crate::{
    queue::{features::Features, record::Record, wire::KILLED},
    schedule::{Hits, alive},
};
use seedpod::{
    base::{Rng, Seed, time},
    net::Scope,
    queue::{Broker, BrokerExt, Id, Publish, Topic, TopicOptions, Want},
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

pub(super) const STOPPED: &str = "stopped";
pub(super) const PAUSED: &str = "paused beyond the lease";
/// No pause is longer.
pub(super) const PAUSE_MAX: Duration = milliseconds(500);

const CLIENTS: usize = 2;

pub(super) async fn schedule(
    seed: Seed,
    hits: &mut Hits,
    mut ground: Ground,
    in_words: bool,
) -> ((u64, usize), String) {
    let mut rng = seed.fork("jobs").rng();
    let before = alive();
    let record = Arc::new(Record::new(in_words || std::env::var("SEEDPOD_SEED").is_ok()));
    let estate = Estate {
        checks: Arc::new(Checks::new(record.clone(), ground.is_disk())),
        net: workers::net(seed),
        agenda: plan(&mut rng),
        record: record.clone(),
    };
    let mut world = ground.world(&estate, rng.fork()).await;
    declare(&world).await;
    films(&world, &mut rng).await;
    let mut collector = collecting(&world);
    let mut nodes: Vec<_> = roles().map(|role| world.start(role)).collect();
    let mut gone = Vec::new();
    for _ in 0..8 + rng.below(6) {
        time::sleep(milliseconds(rng.below(70))).await;
        world.weather.trouble(*rng.choose(&[10, 20, 40, 60]).unwrap());
        if ground.has_failed(&world).await {
            nodes.append(&mut gone); // none of them outlives its broker
            (world, nodes, collector) = again(&mut ground, &estate, world, nodes, &collector, &mut rng).await;
        }
        for node in &mut nodes {
            let over = node.process.is_over() && !matches!(node.role, Role::Client(_));
            if node.process.is_dead() || over {
                let fresh = world.start(node.role);
                gone.push(std::mem::replace(node, fresh));
            }
        }
        strike(&world, &nodes, &mut rng);
        if rng.chance(0.3) {
            ground.strike(&world, &mut rng).await;
        }
    }
    if ground.is_disk() {
        nodes.append(&mut gone);
        (world, nodes, collector) = again(&mut ground, &estate, world, nodes, &collector, &mut rng).await;
    }
    world.weather.trouble(0);
    world.healing.store(true, Relaxed);
    *world.healed.lock() = Some(time::now());
    for node in &mut nodes {
        node.wire.cut(time::now());
        if node.process.is_dead() {
            let fresh = world.start(node.role);
            gone.push(std::mem::replace(node, fresh));
        }
    }
    if tokio::time::timeout(Duration::from_secs(300), drained(&world, &mut nodes)).await.is_err() {
        record.hold(false, || "it is not drained after five minutes".into());
    }
    // what looks again and again is stopped; the workers forget what is a day old
    let (working, others): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.role == Role::Worker);
    close(others, &record).await;
    collector.kill();
    time::sleep(Duration::from_secs(86_400 + 3600)).await;
    close(working, &record).await;
    close(gone, &record).await;
    for scope in [&collector, &world.weather.calls] {
        scope.kill();
        scope.gone().await;
        record.hold(scope.panics() == 0, || "a task has panicked".into());
    }
    let ends = world.checks.judge(&world).await;
    drop(world);
    time::sleep(milliseconds(1)).await;
    record.hold(alive() == before, || format!("{} tasks are left", alive() - before));
    ((record.close(hits), ends), record.words())
}

fn roles() -> impl Iterator<Item = Role> {
    let some = [Role::Worker, Role::Worker, Role::Hand, Role::Redriver, Role::Caller, Role::Responder, Role::Cutter];
    some.into_iter().chain((0..CLIENTS).map(Role::Client))
}

/// What there is to be done.
fn plan(rng: &mut Rng) -> Arc<Agenda> {
    let agenda = Agenda::default();
    for client in 0..CLIENTS {
        let jobs = 4 + rng.below(4);
        let plans = (0..jobs).map(|number| Plan::draw(client, number, rng)).collect();
        agenda.plans.lock().push(plans);
    }
    agenda.questions.lock().extend(0..3 + rng.below(3) as u32);
    Arc::new(agenda)
}

async fn declare(world: &World) {
    let (broker, places) = (&world.broker, &world.checks.places);
    for (place, dead) in [(&places.questions, None), (&places.films, Some("films.dead"))] {
        let options = TopicOptions::new().subscription(&place.name).dedup(Duration::from_secs(3600));
        let options = dead.into_iter().fold(options, |options, dead| options.dead_letters(dead));
        broker.declare(&place.topic, options).await.unwrap();
    }
    for place in [&places.effects, &places.cut] {
        broker.declare(&place.topic, TopicOptions::new().subscription(&place.name)).await.unwrap();
    }
    broker.declare(&Topic::new("ballast"), TopicOptions::new().subscription("nobody")).await.unwrap();
}

async fn films(world: &World, rng: &mut Rng) {
    for number in 0..3 + rng.below(2) {
        let name = format!("film {number}");
        let films = &world.checks.places.films.topic;
        world.broker.send(Publish::new(films, Id::of(&name), name)).await.unwrap();
    }
}

/// The broker is opened again, and all processes are started anew: they were one with it.
async fn again(
    ground: &mut Ground,
    estate: &Estate,
    world: Arc<World>,
    nodes: Vec<Node>,
    collector: &Scope,
    rng: &mut Rng,
) -> (Arc<World>, Vec<Node>, Scope) {
    let holds: Features = nodes.iter().map(|node| node.process.holds()).collect();
    ground.now_or_never(&world).await;
    for scope in [collector, &world.weather.calls] {
        scope.kill();
        scope.gone().await;
    }
    for node in &nodes {
        node.process.kill();
        node.process.gone().await;
        estate.record.hold(node.process.panics() == 0, || format!("{:?} has panicked", node.role));
    }
    drop((world, nodes));
    time::sleep(milliseconds(1)).await;
    estate.checks.charges.broker_fails();
    ground.recover(&estate.record, holds, rng);
    let world = ground.world(estate, rng.fork()).await;
    declare(&world).await;
    let (nodes, collector) = (roles().map(|role| world.start(role)).collect(), collecting(&world));
    (world, nodes, collector)
}

/// One fault.
fn strike(world: &World, nodes: &[Node], rng: &mut Rng) {
    let record = &world.broker.record;
    let mut two = || &nodes[rng.below(nodes.len() as u64) as usize];
    let (one, other) = (two(), two());
    let node = if one.process.holds().is_none() { other } else { one };
    let holds = node.process.holds();
    let meet = |fault| {
        if !holds.is_none() {
            record.met(fault, holds);
        }
    };
    record.note(|| format!("strike {:?} {holds:?}", node.role));
    match rng.below(5) {
        0 | 1 => {
            meet(KILLED);
            node.process.kill();
        }
        2 => {
            meet(STOPPED);
            node.process.stop();
        }
        3 => {
            meet(PAUSED);
            node.process.freeze(time::now() + HOLD + milliseconds(1 + rng.below(299)));
        }
        _ => node.wire.cut(time::now() + milliseconds(50 + rng.below(300))),
    }
}

/// Waits until all that is to be done is done, and dead letters went back.
async fn drained(world: &Arc<World>, nodes: &mut [Node]) {
    let (broker, places) = (&world.broker, &world.checks.places);
    let mut wait = 2 * HOLD + PAUSE_MAX;
    loop {
        time::sleep(wait).await;
        if wait > HOLD {
            world.checks.doom(world);
            wait = HOLD;
        }
        for node in nodes.iter_mut() {
            if node.process.is_over() && !matches!(node.role, Role::Client(_)) {
                let fresh = world.start(node.role);
                let over = std::mem::replace(node, fresh);
                close(vec![over], &broker.record).await;
            }
        }
        let asking = nodes.iter().any(|node| node.role == Role::Caller && !node.process.holds().is_none());
        let planned = world.agenda.plans.lock().iter().any(|plans| !plans.is_empty());
        if asking || planned || !world.agenda.questions.lock().is_empty() {
            continue;
        }
        // in the order in which things move, so that nothing slips past who looks: letters, jobs, what they made
        let matched = clients::redrive(broker.clone()).dry_run().run().await.unwrap().matched;
        let letters = broker.inspect(&places.dead.topic).await.unwrap().leased;
        let mut stored = 0;
        for place in [&places.jobs, &places.quarantine, &places.questions, &places.films, &places.effects, &places.cut]
        {
            stored += broker.inspect(&place.topic).await.unwrap().stored;
        }
        if matched == 0 && letters == 0 && stored == 0 {
            return;
        }
    }
}

/// Stops them, and sees them end.
async fn close(nodes: Vec<Node>, record: &Record) {
    for node in nodes {
        node.process.stop();
        if tokio::time::timeout(Duration::from_secs(5), node.process.gone()).await.is_err() {
            record.hold(false, || format!("{:?} does not stop", node.role));
            node.process.kill();
            node.process.gone().await;
        }
        record.hold(node.process.panics() == 0, || format!("{:?} has panicked", node.role));
    }
}

fn collecting(world: &Arc<World>) -> Scope {
    let scope = world.net.scope();
    scope.spawn(collect(world.clone()));
    scope
}

/// Takes away what was made: it counts once taking it away has answered.
async fn collect(world: Arc<World>) {
    let (broker, places) = (&world.broker, &world.checks.places);
    loop {
        for place in [&places.effects, &places.cut] {
            let want = Want::items(8).chunk(1).wait(Duration::ZERO);
            for delivery in broker.lease(place, want).await.unwrap_or_default() {
                let text = delivery.bytes(0).unwrap();
                let text = String::from_utf8_lossy(&text).into_owned();
                // it may be taken away, and whoever asked be gone before it is answered
                world.checks.effects.perhaps(&text);
                if broker.ack(delivery.lease).await.is_err() {
                    continue;
                }
                match place == &places.effects {
                    true => world.checks.effects.seen(&broker.record, &text, broker.is_exact()),
                    false => world.checks.effects.cut(&broker.record, &text),
                }
            }
        }
        time::sleep(milliseconds(40)).await;
    }
}
