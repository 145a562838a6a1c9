//! Who is asked when, and answers that are taken as they come.

use super::*;
use crate::serving::{Ejection, Status};

#[tokio::test(start_paused = true)]
async fn no_more_are_asked_at_once_than_was_said_and_all_are_asked_in_the_end() {
    let (most, now) = (Arc::new(Lock::new((0_u32, 0_u32))), Duration::from_millis);
    let endpoints = Endpoints::named("limited");
    for number in 0..40_u64 {
        let seen = most.clone();
        endpoints.insert(
            number.to_string(),
            service_fn(move |_: Request<u32>| {
                let seen = seen.clone();
                async move {
                    {
                        let mut seen = seen.lock();
                        seen.0 += 1;
                        seen.1 = seen.1.max(seen.0);
                    }
                    if number % 3 > 0 {
                        time::sleep(now(number % 7)).await;
                    }
                    seen.lock().0 -= 1;
                    if number % 5 == 4 { Err(Error::from(Kind::Failed)) } else { Ok(()) }
                }
            }),
        );
    }
    for limit in [0, 1, 3, 7, 39, 100] {
        most.lock().1 = 0;
        let mut scatter = Scatter::new(endpoints.clone()).require(Coverage::count(0)).at_once(limit);
        let answers = scatter.call(request()).await.unwrap();
        assert_eq!((answers.tally().answered, answers.tally().failed), (32, 8));
        let seen = most.lock().1 as usize;
        assert!(seen <= limit.max(1) && (seen == limit.max(1) || limit > 27), "{seen} of {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_others_are_asked_when_the_canary_has_answered_and_never_when_it_fails() {
    let script = |first| [first, answers(2), answers(3), answers(4), answers(5), answers(6)];
    let run = async |first: Does, log: &Log| {
        let mut scatter = Scatter::new(set(&script(first), log)).require(Coverage::count(0)).canary(10 * MILLI);
        let start = time::now();
        let mut call = Box::pin(scatter.call(request()));
        assert!(futures::poll!(call.as_mut()).is_pending());
        assert_eq!(log.asked(), 1, "one at first");
        (call.await, start.elapsed(), log.asked())
    };
    let (result, took, asked) = run(answers(4), &Log::default()).await;
    assert_eq!((result.unwrap().tally().answered, asked), (6, 6));
    assert!(took >= 10 * MILLI && took <= 12 * MILLI, "{took:?}");

    let (result, _, asked) = run(fails(4), &Log::default()).await;
    let error = result.unwrap_err();
    assert_eq!((shortfall(&error).tally.to_string().as_str(), asked), ("0 of 6 answered, 1 failed, 5 not asked", 1));
    assert_eq!(error.kind(), Kind::Unavailable);

    let log = Log::default();
    let (result, took, asked) = run(SILENT, &log).await;
    let error = result.unwrap_err();
    assert_eq!((shortfall(&error).tally.to_string().as_str(), asked), ("0 of 6 answered, 1 late, 5 not asked", 1));
    assert!(error.is_timeout() && took >= 10 * MILLI && took <= 11 * MILLI, "{took:?}");
    assert_eq!(log.count("dropped Failure"), 1);

    // the first one cannot be asked: the second is the canary
    let (log, endpoints) = (Log::default(), set(&script(answers(1)), &Log::default()));
    endpoints.update(|changes| changes.clear());
    for (number, does) in script(answers(1)).into_iter().enumerate() {
        endpoints.insert(format!("leaf-{number}"), leaf(number, does, &log));
    }
    endpoints.set_ready("leaf-0", false);
    let mut scatter = Scatter::new(endpoints).require(Coverage::count(5)).canary(10 * MILLI);
    let mut call = Box::pin(scatter.call(request()));
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!(*log.0.lock(), ["asked 1"]);
    assert_eq!(call.await.unwrap().tally().to_string(), "5 of 6 answered, 1 failed");
}

#[tokio::test(start_paused = true)]
async fn a_fold_takes_answers_as_they_come_and_may_stop() {
    let log = Log::default();
    let script = [answers(30), answers(10), fails(5), answers(20), SILENT];
    let scatter = Scatter::new(set(&script, &log)).require(Coverage::count(1)).within(25 * MILLI);
    let all = scatter.clone().fold(Vec::new, |list, name, number: usize| {
        list.push((name.to_owned(), number));
        ControlFlow::Continue(())
    });
    let all = all.clone().call(request()).await.unwrap();
    assert_eq!(all.value, [("leaf-1".to_owned(), 1), ("leaf-3".to_owned(), 3)]);
    assert_eq!((all.tally.to_string().as_str(), all.failed.len()), ("2 of 5 answered, 1 failed, 2 late", 1));
    let start = time::now();
    let first = scatter.fold(
        || None,
        |found, _, number: usize| {
            *found = Some(number);
            ControlFlow::Break(())
        },
    );
    let first = first.clone().call(request()).await.unwrap();
    assert_eq!(first.tally.to_string(), "1 of 5 answered, 1 failed, 3 dropped");
    assert!(first.value == Some(1) && start.elapsed() <= 11 * MILLI);
}

#[tokio::test(start_paused = true)]
async fn a_stream_gives_each_leaf_once_and_says_how_it_ended() {
    let log = Log::default();
    let script = [answers(30), answers(10), fails(5), answers(20), SILENT];
    for (require, come, result) in [
        (Require::Quorum(2), "2! 1 3 0- 4-", Ok("2 of 5 answered, 1 failed, 2 dropped")),
        (Coverage::count(3).into(), "2! 1 3 0 4~", Ok("3 of 5 answered, 1 failed, 1 late")),
        (Require::All, "2! 0- 1- 3- 4-", Err(Kind::Unavailable)),
    ] {
        let mut scatter = Scatter::new(set(&script, &log)).require(require).within(50 * MILLI);
        let mut stream = scatter.stream(request());
        let mut seen = Vec::new();
        while let Some(answer) = stream.next().await {
            let mark = match answer.reply {
                Reply::Answered(number) => {
                    assert_eq!(*answer.name, *format!("leaf-{number}"));
                    ""
                }
                Reply::Failed(_) => "!",
                Reply::Late => "~",
                Reply::Dropped => "-",
                Reply::Unsent => "?",
            };
            seen.push(answer.name.replace("leaf-", "") + mark);
        }
        assert_eq!(seen.join(" "), come);
        let ended = stream.result().unwrap();
        match result {
            Ok(tally) => assert_eq!(ended.unwrap().to_string(), tally),
            Err(kind) => assert_eq!(ended.unwrap_err().kind(), kind),
        }
        assert!(stream.next().await.is_none());
    }
    let mut refused = Scatter::<Endpoints<Boxed>>::named("empty");
    let mut stream = refused.stream(request());
    assert!(stream.next().await.is_none() && stream.result().unwrap().is_err());
}

/// Whom the set holds something against.
fn blamed(endpoints: &Endpoints<impl Clone>) -> Vec<String> {
    let describe = endpoints.describe().into_iter().filter(|it| it.status != Status::Ready);
    describe.map(|it| it.key.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn who_was_never_asked_is_to_blame_for_nothing() {
    let set_of = |script: &[Does]| set(script, &Log::default()).eject(Ejection::none().failures(1).cap(100)).unwrap();
    for first in [fails(4), SILENT] {
        // the canary alone was asked
        let endpoints = set_of(&[first, answers(1), answers(1), answers(1), answers(1)]);
        let mut scatter = Scatter::new(endpoints.clone()).require(Coverage::count(0)).canary(10 * MILLI);
        scatter.call(request()).await.unwrap_err();
        assert_eq!(blamed(&endpoints), ["leaf-0"]);
    }
    // two are asked before time is up, and once before whoever waits gives up
    for outer in [false, true] {
        let endpoints = set_of(&[SILENT, SILENT, SILENT, SILENT, SILENT]);
        let scatter = Scatter::new(endpoints.clone()).require(Coverage::count(1)).at_once(2);
        match outer {
            true => {
                let layer = crate::layer::TimeoutLayer::new(10 * MILLI);
                tower::Layer::layer(&layer, scatter).call(request()).await.unwrap_err();
            }
            false => drop(scatter.within(10 * MILLI).call(request()).await.unwrap_err()),
        }
        assert_eq!(blamed(&endpoints), ["leaf-0", "leaf-1"], "{outer}");
        assert!(["leaf-0", "leaf-2"].iter().all(|key| endpoints.pending(key) == Some(0)));
    }
}
