//! Second attempts: to another replica, under the budgets, and one of the two is always dropped.

use super::*;
use crate::layer::{Budget, HedgeLayer};

/// Leaves of two replicas each: the first one picked does `first`, the other `second`.
fn pairs(scripts: &[(Does, Does)], log: &Log) -> Endpoints<Replicas<Boxed>> {
    let leaves = Endpoints::named("pairs");
    for (number, (first, second)) in scripts.iter().enumerate() {
        let picked = Arc::new(Lock::new(0));
        let replicas = Replicas::new(Endpoints::named(format!("leaf-{number}")).seed(Seed::new(number as u64)));
        for replica in ["a", "b"] {
            let (log, picked) = (log.clone(), picked.clone());
            let (first, second) = (leaf(number, *first, &log), leaf(number, *second, &log));
            replicas.endpoints().insert(
                format!("{number}{replica}"),
                BoxCloneSyncService::new(service_fn(move |request: Request<u32>| {
                    log.say(format!("at {number}{replica}"));
                    let turn = std::mem::replace(&mut *picked.lock(), 1);
                    if turn == 0 { first.clone().call(request) } else { second.clone().call(request) }
                })),
            );
        }
        leaves.insert(format!("leaf-{number}"), replicas);
    }
    leaves
}

/// A layer that has learnt that calls take 10 ms.
async fn learnt(extra: f64) -> HedgeLayer {
    let layer = HedgeLayer::new(extra).unwrap();
    let quick = Scatter::new(set(&[answers(10); 20], &Log::default())).hedge(layer.clone());
    for _ in 0..20 {
        quick.clone().oneshot(request()).await.unwrap();
    }
    assert_eq!(layer.handle().hedged(), 0);
    let delay = layer.handle().delay().unwrap();
    assert!(delay >= 10 * MILLI && delay <= 12 * MILLI, "{delay:?}");
    layer
}

#[tokio::test(start_paused = true)]
async fn a_slow_leaf_is_asked_again_at_another_replica_and_the_loser_is_dropped_with_the_answer() {
    let (layer, log) = (learnt(0.1).await, Log::default());
    let scripts = [(answers(5), SILENT), (SILENT, answers(3)), (answers(14), answers(10)), (answers(9), SILENT)];
    let mut scatter = Scatter::new(pairs(&scripts, &log)).hedge(layer.clone());
    let start = time::now();
    let answers = scatter.call(request()).await.unwrap();
    assert_eq!(answers.into_values().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(start.elapsed() <= 16 * MILLI, "{:?}", start.elapsed());
    assert_eq!((layer.handle().hedged(), layer.handle().won()), (2, 1));
    let at = |leaf: usize| (log.count(&format!("at {leaf}a")), log.count(&format!("at {leaf}b")));
    assert_eq!((at(1), at(2)), ((1, 1), (1, 1)), "one at each replica");
    assert_eq!((at(0).0 + at(0).1, at(3).0 + at(3).1), (1, 1), "those that were fast, once");
    assert_eq!((log.count("dropped Superseded"), log.count("dropped")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_that_fails_never_fails_a_leaf_that_is_well_and_the_first_failure_stands() {
    let (layer, log) = (learnt(0.2).await, Log::default());
    let scripts = [(answers(30), fails(1)), (fails(15), answers(9)), (fails(13), fails(9)), (fails(14), fails(1))];
    let mut scatter = Scatter::new(pairs(&scripts, &log)).require(Coverage::count(0)).hedge(layer.clone());
    let answers = scatter.call(request()).await.unwrap();
    assert_eq!(answers.tally().to_string(), "2 of 4 answered, 2 failed");
    assert_eq!(answers.answered().map(|(_, number)| *number).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((layer.handle().hedged(), layer.handle().won(), log.count("dropped")), (4, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn tied_attempts_go_to_two_replicas_and_one_is_dropped_in_the_poll_that_has_the_answer() {
    let log = Log::default();
    let scripts: Vec<(Does, Does)> = (0..30).map(|leaf| (answers(1 + leaf % 7), answers(1 + leaf % 5))).collect();
    let endpoints = pairs(&scripts, &log);
    let mut scatter = Scatter::new(endpoints.clone()).hedge(Tied::new());
    let start = time::now();
    let mut call = Box::pin(scatter.call(request()));
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!((log.count("at"), log.count("asked")), (60, 60));
    let answers = call.await.unwrap();
    assert_eq!(answers.tally().answered, 30);
    assert!(start.elapsed() <= 6 * MILLI, "the faster of two: {:?}", start.elapsed());
    for leaf in 0..30 {
        let at = |replica| log.0.lock().iter().filter(|line| **line == format!("at {leaf}{replica}")).count();
        assert_eq!((at("a"), at("b")), (1, 1), "{leaf}");
    }
    // of those that take equally long, both end at once
    assert_eq!(log.count("dropped Superseded"), log.count("dropped"));
    assert!(log.count("dropped") >= 20, "{}", log.count("dropped"));
    assert!(endpoints.keys().iter().all(|key| endpoints.pending(key) == Some(0)));

    // a moment later, for those that have not answered by then
    let log = Log::default();
    let mut scatter = Scatter::new(pairs(&scripts, &log)).hedge(Tied::new().after(3 * MILLI));
    scatter.call(request()).await.unwrap();
    let slow = scripts.iter().filter(|(first, _)| first.after > Some(3)).count();
    assert_eq!(log.count("at"), 30 + slow);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_and_what_must_not_be_sent_twice_leave_it_at_one_attempt() {
    let (log, budget) = (Log::default(), Budget::new(1, 0));
    let scripts = [(answers(40), answers(1)); 15];
    let tied = Tied::new().after(5 * MILLI).budget(budget.clone());
    let mut scatter = Scatter::new(pairs(&scripts, &log)).hedge(tied);
    scatter.call(Request::new(1)).await.unwrap();
    assert_eq!((log.count("at"), budget.left(time::now())), (15, 10), "not idempotent");
    let log = Log::default();
    let scatter = Scatter::new(pairs(&scripts, &log)).hedge(Tied::new().after(5 * MILLI).budget(budget.clone()));
    scatter.clone().oneshot(request()).await.unwrap();
    assert_eq!((log.count("at"), budget.left(time::now())), (25, 0), "ten of fifteen");
    let layer = learnt(0.1).await.budget(budget);
    let (log, start) = (Log::default(), time::now());
    Scatter::new(pairs(&scripts, &log)).hedge(layer.clone()).oneshot(request()).await.unwrap();
    assert_eq!((log.count("at"), layer.handle().over_budget()), (15, 15));
    assert!(start.elapsed() >= 40 * MILLI, "the first attempts go on");
}

/// Everything becomes ten times as slow: no more than their part is asked again, over all leaves of all requests.
#[tokio::test(start_paused = true)]
async fn second_attempts_never_exceed_their_part_of_the_leaves() {
    let layer = learnt(0.05).await;
    let asked = Log::default();
    let slow = Scatter::new(pairs(&[(answers(100), answers(100)); 50], &asked)).hedge(layer.clone());
    let mut calls = futures::stream::FuturesUnordered::new();
    let start: Instant = time::now();
    for _ in 0..40 {
        calls.push(tokio::spawn(slow.clone().oneshot(request())));
        time::sleep(20 * MILLI).await;
    }
    while let Some(result) = calls.next().await {
        result.unwrap().unwrap();
    }
    let (leaves, seconds) = (40.0 * 50.0 + 400.0, start.elapsed().as_secs_f64());
    let hedged = layer.handle().hedged() as f64;
    assert!(seconds < 5.0 && hedged > 50.0 && hedged <= leaves * 0.05 + 1.0, "{hedged} of {leaves}");
}

#[tokio::test(start_paused = true)]
async fn a_late_first_attempt_and_those_given_up_are_recorded_so_that_the_delay_does_not_creep_down() {
    let layer = learnt(0.1).await;
    let log = Log::default();
    // one in four is slow, and given up at the third answer
    let scripts = [(answers(10), SILENT), (answers(10), SILENT), (answers(10), SILENT), (SILENT, SILENT)];
    for _ in 0..200 {
        let scatter = Scatter::new(pairs(&scripts, &log)).hedge(layer.clone());
        scatter.require(Coverage::count(3)).within(60 * MILLI).oneshot(request()).await.unwrap();
    }
    time::sleep(4_000 * MILLI).await;
    let delay = layer.handle().delay().unwrap();
    assert!(delay >= 45 * MILLI, "{delay:?}");
    assert_eq!(log.count("dropped Failure"), log.count("dropped"), "whoever is silent at the deadline has failed");
}

#[tokio::test(start_paused = true)]
async fn outcomes_of_both_attempts_reach_the_endpoints() {
    let endpoints = Endpoints::named("plain").seed(Seed::new(3));
    let service = service_fn(|_: Request<u32>| async { std::future::pending::<Result<()>>().await });
    endpoints.insert("a", service);
    let mut scatter = Scatter::new(endpoints.clone()).hedge(Tied::new()).within(5 * MILLI);
    let mut call = Box::pin(scatter.call(request()));
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!(endpoints.pending("a"), Some(2));
    assert!(call.await.is_err());
    assert_eq!(endpoints.pending("a"), Some(0));
    assert_eq!(Outcome::of(&Kind::Timeout.into()), Outcome::Failure);
}

/// Its line is in its readiness, as tower's limit has it: of the leaf's instances the first one never gets through.
struct Line {
    instance: usize,
    made: Arc<Lock<usize>>,
    left: Log,
}

impl Clone for Line {
    fn clone(&self) -> Self {
        let mut made = self.made.lock();
        *made += 1;
        Line { instance: *made, made: self.made.clone(), left: self.left.clone() }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.left.say(format!("left {}", self.instance));
    }
}

impl Service<Request<u32>> for Line {
    type Response = usize;
    type Error = Error;
    type Future = std::future::Ready<Result<usize>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result> {
        if self.instance == 1 { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, _: Request<u32>) -> Self::Future {
        std::future::ready(Ok(self.instance))
    }
}

#[tokio::test(start_paused = true)]
async fn a_loser_that_is_still_in_line_leaves_the_line_with_the_answer_though_other_leaves_go_on() {
    let log = Log::default();
    let (line, slow) = (Line { instance: 0, made: Arc::default(), left: log.clone() }, leaf(9, answers(50), &log));
    let mut scatter = Scatter::new(move |of: Request<u32>| {
        let line = BoxCloneSyncService::new(line.clone());
        Ok(vec![Leaf::new("line", line, of.clone()), Leaf::new("slow", slow.clone(), of)])
    });
    scatter = scatter.hedge(Tied::new().after(5 * MILLI));
    let mut call = Box::pin(scatter.call(request()));
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!(log.count("left"), 0);
    time::sleep(6 * MILLI).await;
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!((log.count("left 1"), log.count("left 2")), (1, 1), "the loser, and the one that has answered");
    assert_eq!(call.await.unwrap().into_values().collect::<Vec<_>>(), [2, 9]);
}
