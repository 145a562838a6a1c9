//! Request and reply over a queue: a call that looks like any other service, and survives the ones who answer it.
//!
//! A shop asks for prices over one topic and is answered over another. One calculator is killed with a request in hand:
//! its lease runs out, another answers, and the caller sees only that it took longer.
//!
//! ```text
//! cargo run --example request_reply
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error, Kind,
    base::{sync::Lock, time},
    queue::{self, Broker, Caller, Memory, Topic, TopicOptions},
};
use std::{sync::Arc, time::Duration};
use tower::{ServiceExt, service_fn};

#[derive(Clone, Copy, Default)]
struct Calls {
    answered: u32,
    refused: u32,
    timed_out: u32,
}

const SECOND: Duration = Duration::from_secs(1);

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(tell())
}

async fn tell() -> seedpod::Result<String> {
    let said = Arc::new(Lock::new(Vec::new()));
    let start = time::now();
    let say = {
        let said = said.clone();
        move |line: String| said.lock().push(format!("{:>4.1} s  {line}", (time::now() - start).as_secs_f64()))
    };
    let (broker, prices): (Arc<dyn Broker>, _) = (Arc::new(Memory::new()), Topic::new("prices"));
    broker.declare(&prices, TopicOptions::new().subscription("calculators")).await?;

    // what a calculator does is a service of requests and replies: it knows no queue
    let calculator = |name: &'static str, takes: Duration| {
        let say = say.clone();
        let service = service_fn(move |item: String| {
            say(format!("{name}: asked for {item}"));
            async move {
                time::sleep(takes).await;
                match item.as_str() {
                    "moon" => Err(Error::new(Kind::NotFound, "nobody sells it")),
                    item => Ok(item.len() as u32 * 100),
                }
            }
        });
        queue::respond::<String, u32, _>(broker.clone(), prices.subscription("calculators"), service).hold(5 * SECOND)
    };

    let caller: Caller<String, u32> = Caller::open(broker.clone(), &prices, "replies.shop").await?;
    let calls = Lock::new(Calls::default());
    let asked = async |caller: Caller<String, u32>, item: &str| {
        let answer = caller.oneshot(item.to_string()).await;
        let mut calls = calls.lock();
        match &answer {
            Ok(_) => calls.answered += 1,
            Err(error) if error.kind() == Kind::Timeout => calls.timed_out += 1,
            Err(_) => calls.refused += 1,
        }
        answer
    };
    let ask = |item| asked(caller.clone(), item);
    let shop = async {
        say(format!("shop: a book costs {}", ask("book").await?));
        if let Err(error) = ask("moon").await {
            say(format!("shop: {error}"));
        }
        let slow = ask("encyclopedia").await?; // while this one waits, its calculator is killed
        say(format!("shop: an encyclopedia costs {slow}"));
        let nobody = caller.clone().within(2 * SECOND);
        time::sleep(30 * SECOND).await; // by now nobody answers any more
        if let Err(error) = asked(nobody, "pen").await {
            say(format!("shop: {}", error.kind()));
        }
        Ok::<_, Error>(())
    };
    let calculators = async {
        // dropped in the middle of its work: as a killed process, it says nothing
        let first = calculator("first", 2 * SECOND).run_until(std::future::pending());
        let _ = tokio::time::timeout(5 * SECOND, first).await;
        say("first: killed".into());
        calculator("second", SECOND).run_until(time::sleep(20 * SECOND)).await
    };
    let replies = caller.run_until(time::sleep(60 * SECOND));
    tokio::try_join!(shop, calculators, replies)?;
    let Calls { answered, refused, timed_out } = *calls.lock();
    say(format!("summary answered={answered} refused={refused} timed_out={timed_out}"));
    let story = said.lock().join("\n");
    Ok(story)
}
