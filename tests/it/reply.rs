//! Request and reply over two topics: each call gets its own reply, its responder's error, or a clear time-out.

use seedpod::{
    Error, Kind,
    base::{Backoff, sync::Lock, time},
    queue::{self, Broker, BrokerExt, Caller, Control, Id, Memory, Publish, Topic, TopicOptions, Want},
};
use std::{future::Future, sync::Arc, time::Duration};
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);

struct Desk {
    broker: Arc<dyn Broker>,
    topic: Topic,
    caller: Caller<u32, String>,
    seen: Arc<Lock<Vec<u32>>>,
}

impl Desk {
    async fn new() -> Desk {
        let (broker, topic): (Arc<dyn Broker>, _) = (Arc::new(Memory::new()), Topic::new("questions"));
        broker
            .declare(&topic, TopicOptions::new().subscription("oracle").dead_letters("questions.dead"))
            .await
            .unwrap();
        let caller = Caller::open(broker.clone(), &topic, "replies.desk").await.unwrap();
        Desk { broker, topic, caller, seen: Arc::default() }
    }

    /// Runs the calls beside an oracle and the intake of replies; how the oracle fared.
    async fn run(&self, calls: impl Future<Output = ()>) -> Control {
        let seen = self.seen.clone();
        let oracle = tower::service_fn(move |question: u32| {
            let seen = seen.clone();
            async move {
                let tries = {
                    let mut seen = seen.lock();
                    seen.push(question);
                    seen.iter().filter(|asked| **asked == question).count()
                };
                match question {
                    0 => Err(Error::new(Kind::NotFound, "no such thing")),
                    1 if tries == 1 => Err(Error::new(Kind::Unavailable, "asleep")),
                    2 => panic!("struck dumb"),
                    3 => {
                        time::sleep(20 * SECOND).await;
                        Ok("late".into())
                    }
                    number => {
                        time::sleep(Duration::from_millis(u64::from(1000 - number % 1000))).await;
                        Ok(format!("answer {number}"))
                    }
                }
            }
        });
        let pump = queue::respond::<u32, String, _>(self.broker.clone(), self.topic.subscription("oracle"), oracle);
        let pump = pump.concurrency(100).backoff(Backoff::new(SECOND, SECOND).exact()).crashes(2);
        let control = pump.control();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let calls = async {
            calls.await;
            drop(stop);
        };
        let until = async {
            let _ = stopped.await;
        };
        let intake = async {
            tokio::select! {
                biased;
                () = calls => {}
                ended = self.caller.run_until(std::future::pending()) => panic!("{ended:?}"),
            }
        };
        let (ended, ()) = tokio::join!(pump.drain(SECOND).run_until(until), intake);
        ended.unwrap();
        control
    }

    async fn ask(&self, number: u32) -> seedpod::Result<String> {
        self.caller.clone().oneshot(number).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_each_get_their_own_reply() {
    let desk = Desk::new().await;
    let control = desk
        .run(async {
            let calls = (10..1010).map(|number| desk.ask(number));
            for (number, answer) in (10..1010).zip(futures::future::join_all(calls).await) {
                assert_eq!(answer.unwrap(), format!("answer {number}"));
            }
        })
        .await;
    assert_eq!(control.tally().done, 1000);
    let replies = desk.broker.inspect(&Topic::new("replies.desk")).await.unwrap();
    assert_eq!(replies.stored, 0, "all are taken in");
}

#[tokio::test(start_paused = true)]
async fn errors_arrive_as_they_are_and_what_may_pass_is_tried_again() {
    let desk = Desk::new().await;
    desk.run(async {
        let error = desk.ask(0).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (Kind::NotFound, "responder: not found: no such thing"));
        assert_eq!(desk.ask(1).await.unwrap(), "answer 1", "it slept at first");
    })
    .await;
    assert_eq!(*desk.seen.lock(), [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn no_reply_in_time_is_a_time_out_that_names_topic_and_request() {
    let desk = Desk::new().await;
    let caller = desk.caller.clone().within(5 * SECOND);
    let before = time::now();
    let control = desk
        .run(async {
            let error = caller.clone().oneshot(3).await.unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("topic questions: timed out: no reply to request "), "{text}");
            assert_eq!((error.kind(), (time::now() - before).as_secs()), (Kind::Timeout, 5));
            let error = desk.ask(2).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Timeout, "who panics does not answer");
            time::sleep(30 * SECOND).await; // the late reply comes, and is dropped
        })
        .await;
    assert_eq!((control.tally().done, control.tally().rejected), (1, 1));
    assert_eq!(desk.broker.inspect(&Topic::new("replies.desk")).await.unwrap().stored, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_caller_has_given_up_is_not_begun() {
    let desk = Desk::new().await;
    let caller = desk.caller.clone().within(2 * SECOND);
    assert_eq!(caller.oneshot(77).await.unwrap_err().kind(), Kind::Timeout, "nobody is there");
    desk.run(time::sleep(SECOND)).await;
    assert!(desk.seen.lock().is_empty());
    assert_eq!(desk.broker.inspect(&desk.topic).await.unwrap().stored, 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_calls_are_forgotten_whenever_they_are_dropped() {
    let desk = Desk::new().await;
    desk.run(async {
        for number in 10..60 {
            let patience = Duration::from_millis(u64::from(number) * 21);
            let _ = tokio::time::timeout(patience, desk.ask(number)).await;
        }
        time::sleep(5 * SECOND).await;
        assert_eq!(desk.ask(99).await.unwrap(), "answer 99");
    })
    .await;
    assert_eq!(desk.broker.inspect(&Topic::new("replies.desk")).await.unwrap().stored, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_answered_and_what_has_no_address_is_worked_on() {
    let desk = Desk::new().await;
    let control = desk
        .run(async {
            desk.broker.send(Publish::json(&desk.topic, Id::of("no address"), 500_u32)).await.unwrap();
            let bad = Publish::new(&desk.topic, Id::of("bad"), "what?").header("reply-to", "elsewhere");
            desk.broker.declare(&Topic::new("elsewhere"), TopicOptions::new().subscription("all")).await.unwrap();
            desk.broker.send(bad.header("correlation-id", "17").header("reply-within", "soon")).await.unwrap();
            time::sleep(5 * SECOND).await;
        })
        .await;
    assert_eq!((control.tally().done, control.tally().rejected), (2, 0));
    let replies = desk.broker.lease(&Topic::new("elsewhere").subscription("all"), Want::one()).await.unwrap();
    let headers = &replies[0].batch.headers;
    assert_eq!((headers.get("error"), headers.get("correlation-id")), (Some("invalid"), Some("17")));
}
