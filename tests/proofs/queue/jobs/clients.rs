//! Those who ask: clients that submit, cancel and wait for results, callers, and who sends dead letters back.

use super::{
    workers::answer,
    world::{Piece, World, a_while, jobs, milliseconds, opened},
};
use crate::queue::{features::Features, process::Process, wire::Wire};
use seedpod::{
    Kind,
    base::{Rng, sync::Lock, time},
    queue::{Caller, Id, Queue, Redrive},
};
use std::{sync::Arc, time::Duration};
use tower::ServiceExt;

/// How long callers wait for a reply.
const WITHIN: Duration = milliseconds(500);

/// Submits what is planned, each again and again until it knows what became of it.
pub(super) async fn client(world: Arc<World>, process: Process, wire: Arc<Wire>, number: usize) {
    let (queue, mut rng) = (jobs(wire).await, world.fork());
    loop {
        let Some(plan) = world.agenda.plans.lock()[number].front().cloned() else { return };
        let _hand = process.hand(plan.piece.features());
        match queue.submit(plan.job()).await {
            Ok(submitted) => {
                world.checks.accepted(&world, submitted, &plan);
                if submitted.is_new && plan.piece.has(Features::RESULT) {
                    process.spawn(result(world.clone(), queue.clone(), submitted.id, plan.piece.clone()));
                }
                if submitted.is_new && plan.piece.has(Features::CANCEL) {
                    cancel(&world, &queue, submitted.id, &mut rng).await;
                }
            }
            Err(error) if error.kind() == Kind::Conflict => {} // the key is taken, and it knows it
            Err(error) => {
                let known = matches!(error.kind(), Kind::Unavailable | Kind::Overloaded | Kind::Closed);
                world.broker.record.hold(known, || format!("{} is refused: {error}", plan.piece.name));
                a_while(&mut rng, 20).await;
                continue;
            }
        }
        world.agenda.plans.lock()[number].pop_front();
        a_while(&mut rng, 30).await;
    }
}

async fn cancel(world: &World, queue: &Queue<Piece>, id: Id, rng: &mut Rng) {
    a_while(rng, 60).await;
    while queue.cancel(id).await.is_err() {
        a_while(rng, 20).await;
    }
    world.checks.cancels.lock().insert(id);
}

/// Waits a while for the result: where it comes, it is the job's own.
async fn result(world: Arc<World>, queue: Queue<Piece>, id: Id, piece: Piece) {
    if let Ok(Ok(result)) = tokio::time::timeout(milliseconds(800), queue.result::<String>(id)).await {
        world.broker.record.hold(result == piece.name, || format!("{result} for {}", piece.name));
    }
}

/// Sends dead letters back to where they came from, except what is called off.
pub(super) fn redrive(broker: Arc<dyn seedpod::queue::Broker>) -> Redrive {
    Redrive::new(broker, "jobs.dead").filter(|letter, _| letter.reason != "cancelled").rate(40)
}

pub(super) async fn redriver(world: Arc<World>, process: Process, wire: Arc<Wire>) {
    let mut rng = world.fork();
    let work = async {
        loop {
            a_while(&mut rng, if world.is_healing() { 2000 } else { 60 }).await;
            let _hand = process.hand(Features::REDRIVE);
            if let Err(error) = redrive(wire.clone()).run().await {
                let known = matches!(error.kind(), Kind::LeaseLost | Kind::Unavailable | Kind::Closed);
                world.broker.record.hold(known, || format!("redriving: {error}"));
            }
        }
    };
    tokio::select! {
        biased;
        () = process.stopped() => {}
        () = work => {}
    }
}

pub(super) async fn caller(world: Arc<World>, process: Process, wire: Arc<Wire>) {
    let caller: Caller<u32, String> = opened(Caller::open(wire, "questions", "replies.desk")).await;
    let caller = caller.within(WITHIN);
    let dice = Lock::new(world.fork());
    let ask = || async {
        loop {
            let next = world.agenda.questions.lock().pop_front();
            let Some(number) = next else { return std::future::pending().await };
            let _hand = process.hand(Features::REPLY);
            let asked = time::now();
            let answered = caller.clone().oneshot(number).await;
            let (took, patience) = (asked.elapsed(), WITHIN + milliseconds(1));
            world.broker.record.hold(took <= patience || process.was_frozen(asked), || {
                format!("question {number} was answered after {took:?}")
            });
            match answered {
                Ok(reply) => {
                    world.broker.record.hold(reply == answer(number), || format!("{reply} for question {number}"));
                }
                Err(error) => {
                    let known =
                        matches!(error.kind(), Kind::Timeout | Kind::Unavailable | Kind::Invalid | Kind::Closed);
                    world.broker.record.hold(known && !world.is_settled(), || format!("question {number}: {error}"));
                    world.agenda.questions.lock().push_back(number);
                    let mut own = dice.lock().fork();
                    a_while(&mut own, 20).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = process.stopped() => {}
        _ = futures::future::join(ask(), ask()) => {}
        ended = caller.run_until(std::future::pending()) => world.checks.ends(ended),
    }
}
