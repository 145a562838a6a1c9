//! The pattern, with time paused: when it is decided, and what is refused.

mod engine;
mod progress;
mod second;
mod whole;

use super::*;
use crate::{
    base::{Deadline, Error, Kind, Outcome, Result, Seed, sync::Lock, time, time::Instant},
    layer::{Request, attempt},
    serving::Replicas,
};
use futures::{FutureExt, StreamExt};
use std::{
    collections::BTreeSet,
    future::Future,
    task::{Context, Poll},
};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};

const MILLI: Duration = Duration::from_millis(1);

/// What a leaf does: answers or fails after so many milliseconds; none is never.
#[derive(Clone, Copy, Debug)]
struct Does {
    after: Option<u64>,
    well: bool,
}

const fn answers(after: u64) -> Does {
    Does { after: Some(after), well: true }
}

const fn fails(after: u64) -> Does {
    Does { after: Some(after), well: false }
}

const SILENT: Does = Does { after: None, well: true };

/// What was seen of the leaves: who was asked, and what became of those that did not end, in order.
#[derive(Clone, Default)]
struct Log(Arc<Lock<Vec<String>>>);

impl Log {
    fn say(&self, what: String) {
        self.0.lock().push(what);
    }

    fn asked(&self) -> usize {
        self.0.lock().iter().filter(|line| line.starts_with("asked")).count()
    }

    fn count(&self, what: &str) -> usize {
        self.0.lock().iter().filter(|line| line.starts_with(what)).count()
    }
}

/// Says what became of a call that is dropped before it has ended.
struct UnderWay(Option<Log>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(log) = &self.0 {
            log.say(format!("dropped {:?}", attempt::dropped()));
        }
    }
}

type Boxed = BoxCloneSyncService<Request<u32>, usize, Error>;

fn leaf(number: usize, does: Does, log: &Log) -> Boxed {
    let log = log.clone();
    BoxCloneSyncService::new(service_fn(move |_: Request<u32>| {
        log.say(format!("asked {number}"));
        let under_way = UnderWay(Some(log.clone()));
        async move {
            let mut under_way = under_way;
            match does.after {
                Some(after) => time::sleep(MILLI * after as u32).await,
                None => std::future::pending().await,
            }
            under_way.0 = None;
            if does.well { Ok(number) } else { Err(Error::new(Kind::Unavailable, "no disk")) }
        }
    }))
}

fn set(script: &[Does], log: &Log) -> Endpoints<Boxed> {
    let endpoints = Endpoints::named("leaves").seed(Seed::new(1));
    for (number, does) in script.iter().enumerate() {
        endpoints.insert(format!("leaf-{number}"), leaf(number, *does, log));
    }
    endpoints
}

fn request() -> Request<u32> {
    Request::new(7).idempotent()
}

fn shortfall(error: &Error) -> &Shortfall {
    error.downcast_ref().unwrap_or_else(|| panic!("{}", error.chain()))
}

/// When and how a request must end, by brute force over the moments at which leaves end.
fn expected(script: &[Does], require: Require, within: u64) -> (u64, bool, Tally) {
    let mut moments: BTreeSet<u64> = script.iter().filter_map(|does| does.after).filter(|at| *at <= within).collect();
    moments.insert(within);
    for at in moments {
        // of leaves that end at the same moment, any number may be enough: count them one by one in their order
        let before = |does: &&Does| does.after.is_some_and(|after| after < at);
        let mut answered = script.iter().filter(before).filter(|does| does.well).count();
        let mut failed = script.iter().filter(before).count() - answered;
        let verdict = |answered: usize, failed: usize, over: bool| {
            let (leaves, needs) = (script.len(), require.needs(script.len()));
            let over = over || answered + failed == leaves;
            let waits = matches!(require, Require::Coverage(_));
            if answered >= needs && (over || !waits) {
                Some(true)
            } else {
                (over || answered + (leaves - answered - failed) < needs).then_some(false)
            }
        };
        let tally = |answered: usize, failed: usize, late: bool| {
            let open = script.len() - answered - failed;
            let (late, dropped) = if late { (open, 0) } else { (0, open) };
            Tally { answered, failed, late, dropped, unsent: 0 }
        };
        for does in script.iter().filter(|does| does.after == Some(at)) {
            if does.well {
                answered += 1
            } else {
                failed += 1
            }
            if let Some(well) = verdict(answered, failed, false) {
                return (at, well, tally(answered, failed, false));
            }
        }
        if at == within {
            return (at, verdict(answered, failed, true) == Some(true), tally(answered, failed, true));
        }
    }
    unreachable!("the last moment is the deadline")
}

/// Every requirement over random leaves: it ends at the moment at which it must, to the tick, with exact coverage, and those
/// that are open are dropped when the poll that ends it returns.
#[tokio::test(start_paused = true)]
async fn k_of_n_returns_at_the_kth_success_cancels_the_rest_within_one_poll_and_counts_exactly() {
    let (mut rng, mut seen) = (Seed::new(12).rng(), [0; 4]);
    for round in 0..3_000 {
        let leaves = rng.range(1..20) as usize;
        // moments that differ, so that the order in which leaves end is that of the clock
        let mut moments: Vec<u64> = (1..=60).collect();
        let script: Vec<Does> = (0..leaves)
            .map(|_| {
                let after = moments.swap_remove(rng.below(moments.len() as u64) as usize);
                match rng.below(10) {
                    0 => SILENT,
                    1..4 => fails(after),
                    _ => answers(after),
                }
            })
            .collect();
        let k = rng.range(0..22) as usize;
        let require = match rng.below(5) {
            0 => Require::All,
            1 => Require::First,
            2 => Coverage::fraction(rng.unit()).unwrap().into(),
            3 => Coverage::count(k).into(),
            _ => Require::Quorum(k),
        };
        let within = rng.range(20..80);
        let log = Log::default();
        let mut scatter = Scatter::new(set(&script, &log)).require(require).within(MILLI * within as u32);
        let endpoints = scatter.endpoints().clone();
        let start = time::now();
        let mut call = Box::pin(scatter.call(request()));
        let mut open_after = 0;
        let result = std::future::poll_fn(|cx| {
            let polled = call.as_mut().poll(cx);
            if polled.is_ready() {
                open_after = endpoints.keys().iter().filter_map(|key| endpoints.pending(key)).sum();
            }
            polled
        })
        .await;
        assert_eq!(open_after, 0, "round {round}: nothing is under way when the poll has ended");
        if require.needs(leaves) > leaves {
            assert_eq!((result.unwrap_err().kind(), log.asked()), (Kind::Invalid, 0), "round {round}");
            seen[3] += 1;
            continue;
        }
        let (at, well, tally) = expected(&script, require, within);
        let got = match &result {
            Ok(answers) => (true, answers.tally()),
            Err(error) => (false, shortfall(error).tally),
        };
        assert_eq!(got, (well, tally), "round {round}: {require:?} within {within} of {script:?}");
        let took = start.elapsed();
        let due = MILLI * at as u32;
        assert!(took >= due && took <= due + MILLI, "round {round}: {took:?} instead of {due:?}");
        let ended_well = script.iter().filter(|does| does.after.is_some_and(|after| after <= at)).count();
        let dropped = log.count("dropped");
        assert!(dropped >= leaves - ended_well, "round {round}: {dropped} dropped");
        let timed_out = log.count("dropped Failure");
        assert_eq!(timed_out, tally.late, "round {round}: who is late has failed, who is not needed has not");
        if let Ok(answers) = &result {
            for (place, answer) in answers.iter().enumerate() {
                assert_eq!(*answer.name, *format!("leaf-{place}"));
                if let Reply::Answered(number) = answer.reply {
                    assert_eq!(number, place);
                }
            }
        }
        seen[if well {
            0
        } else if tally.late > 0 {
            1
        } else {
            2
        }] += 1;
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_reached_fails_at_once_and_says_what_is_missing() {
    let log = Log::default();
    let script = [answers(1), fails(2), fails(3), SILENT, SILENT];
    let mut scatter = Scatter::new(set(&script, &log)).require(Require::Quorum(4)).within(MILLI * 1_000);
    let start = time::now();
    let error = scatter.call(request()).await.unwrap_err();
    assert!(start.elapsed() <= 4 * MILLI);
    assert_eq!(error.to_string(), "unavailable: scatter: 4 leaves were needed: 1 of 5 answered, 2 failed, 2 dropped");
    let shortfall = shortfall(&error);
    let failed: Vec<String> = shortfall.failed.iter().map(|(name, error)| format!("{name} {error}")).collect();
    assert_eq!(failed, ["leaf-1 leaf-1: unavailable: no disk", "leaf-2 leaf-2: unavailable: no disk"],);
    assert!(error.is_retryable() && !error.is_unsent());
}

#[tokio::test(start_paused = true)]
async fn bad_input_is_refused_and_nothing_is_sent() {
    let log = Log::default();
    let none = Scatter::<Endpoints<Boxed>>::named("empty").call(request()).await.unwrap_err();
    assert_eq!(none.to_string(), "empty: unavailable: it has no endpoints");
    assert!(none.is_unsent());
    let mut nobody = Scatter::new(|_: Request<u32>| Ok(Vec::<Leaf<Boxed, Request<u32>>>::new()));
    assert_eq!(nobody.call(request()).await.unwrap_err().message(), "scatter: there are no leaves");
    for require in [Require::Quorum(3), Coverage::count(3).into()] {
        let mut scatter = Scatter::new(set(&[answers(1), SILENT], &log)).require(require);
        let error = scatter.call(request()).now_or_never().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "invalid: scatter: 3 leaves were needed, and there are 2", "{require:?}");
        assert!(error.is_unsent());
    }
    let mut scatter = Scatter::new(set(&[answers(1)], &log));
    let late = request().within(MILLI);
    time::sleep(2 * MILLI).await;
    let error = scatter.call(late).await.unwrap_err();
    assert!(error.is_timeout() && error.is_unsent());
    let cut = Parts::new(leaf(0, answers(1), &log), |_: Request<u32>| Vec::<Request<u32>>::new());
    assert_eq!(Scatter::new(cut).call(request()).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(log.asked(), 0);
    let mut content = Scatter::new(set(&[SILENT], &log)).require(Coverage::fraction(0.0).unwrap()).within(5 * MILLI);
    assert_eq!(content.call(request()).await.unwrap().tally().to_string(), "0 of 1 answered, 1 late");
}

#[tokio::test(start_paused = true)]
async fn every_leaf_is_given_the_deadline_the_sooner_of_both() {
    for (within, carried, left) in [(50, 80, 50), (80, 50, 50)] {
        let endpoints = Endpoints::named("deadlines");
        for name in ["a", "b"] {
            endpoints
                .insert(name, service_fn(|request: Request<u32>| async move { Ok::<_, Error>(request.deadline()) }));
        }
        let mut scatter = Scatter::new(endpoints).within(MILLI * within);
        let until = time::now() + MILLI * left;
        let answers = scatter.call(request().within(MILLI * carried)).await.unwrap();
        assert!(answers.into_values().all(|deadline| deadline == Some(Deadline::at(until))));
    }
}

#[tokio::test(start_paused = true)]
async fn who_drains_is_no_leaf_and_who_is_not_ready_has_failed() {
    let log = Log::default();
    let endpoints = set(&[answers(1), answers(1), answers(1), SILENT], &log);
    endpoints.drain("leaf-3");
    endpoints.set_ready("leaf-1", false);
    let half = Coverage::fraction(0.5).unwrap();
    let answers = Scatter::new(endpoints.clone()).require(half).call(request()).await.unwrap();
    assert_eq!((answers.tally().to_string().as_str(), log.asked()), ("2 of 3 answered, 1 failed", 2));
    let (name, error) = answers.failed().next().unwrap();
    assert_eq!((name, error.to_string().as_str()), ("leaf-1", "leaf-1: unavailable: it is not ready"));
    // draining waits for calls of a scatter, too
    let mut call = Box::pin(Scatter::new(endpoints.clone()).require(half).call(request()));
    assert!(futures::poll!(call.as_mut()).is_pending());
    endpoints.drain("leaf-0");
    assert!(endpoints.drained("leaf-0").now_or_never().is_none());
    call.await.unwrap();
    endpoints.drained("leaf-0").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn settings_change_while_requests_flow() {
    let log = Log::default();
    let mut scatter = Scatter::new(set(&[answers(1), SILENT], &log)).within(9 * MILLI);
    let handle = scatter.handle();
    assert!(scatter.call(request()).await.unwrap_err().is_timeout());
    handle.set_require(Require::First);
    handle.set_within(None);
    assert_eq!(scatter.clone().call(request()).await.unwrap().tally().answered, 1);
    handle.set_at_once(0);
    handle.set_canary(Some(MILLI * 3));
    handle.set_hedging(Some(Tied::new().into()));
    assert_eq!((handle.at_once(), handle.canary(), handle.within()), (1, Some(3 * MILLI), None));
    assert!(format!("{handle:?}").starts_with("Scatter(First, 1 at once, a canary of 3ms, Tied"), "{handle:?}");
}
