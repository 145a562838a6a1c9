//! Publish and subscribe: many publishers, many subscriptions, and one broker that joins them.
//!
//! Two sensors publish readings to one topic. Each subscription sees every reading; inside one, the workers share them.
//! The archive is away for a while, and misses nothing: its subscription keeps what it has not seen.
//!
//! ```text
//! cargo run --example pub_sub
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error,
    base::{sync::Lock, time},
    queue::{Job, Memory, Queue, Task},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tower::service_fn;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    second: u64,
    celsius: i32,
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
    let say = {
        let said = said.clone();
        move |line: String| said.lock().push(line)
    };
    let readings: Queue<Reading> = Queue::builder(Arc::new(Memory::new()), "readings")
        .subscription("alarm")
        .subscription("display")
        .subscription("archive")
        .open()
        .await?;

    // a publisher knows the topic, and nobody who reads it
    let sensor = |name: &'static str, base: i32, every: u64| {
        let readings = readings.clone();
        async move {
            for second in (0..30).step_by(every as usize) {
                let celsius = base + if (12..18).contains(&second) { 40 } else { 0 };
                let reading = Reading { sensor: name.into(), second, celsius };
                readings.submit(Job::new(reading).id(format!("{name} {second}"))).await?;
                time::sleep(every as u32 * SECOND).await;
            }
            Ok::<_, Error>(())
        }
    };

    let alarm = service_fn({
        let say = say.clone();
        move |task: Task<Reading>| {
            let Reading { sensor, second, celsius } = &task.value;
            if *celsius > 60 {
                say(format!("alarm:    {sensor} has {celsius} °C after {second} s"));
            }
            async { Ok::<_, Error>(()) }
        }
    });
    let shown = Arc::new(Lock::new(BTreeMap::<&str, u32>::new()));
    let display = |screen: &'static str| {
        let shown = shown.clone();
        service_fn(move |_: Task<Reading>| {
            *shown.lock().entry(screen).or_default() += 1;
            async {
                time::sleep(SECOND).await; // it draws
                Ok::<_, Error>(())
            }
        })
    };
    let archived = Arc::new(Lock::new(Vec::new()));
    let archive = service_fn({
        let archived = archived.clone();
        move |task: Task<Reading>| {
            archived.lock().push((task.value.second, task.value.sensor));
            async { Ok::<_, Error>(()) }
        }
    });
    let late_archive = async {
        time::sleep(20 * SECOND).await;
        say(format!("archive:  comes after 20 s, and {} readings wait for it", readings.inspect().await?.ready));
        readings.tasks_of("archive", archive).run_until(time::sleep(20 * SECOND)).await
    };

    let a_while = || time::sleep(40 * SECOND);
    tokio::try_join!(
        sensor("boiler", 55, 3),
        sensor("cellar", 12, 5),
        readings.tasks_of("alarm", alarm).run_until(a_while()),
        readings.tasks_of("display", display("left")).run_until(a_while()),
        readings.tasks_of("display", display("right")).run_until(a_while()),
        late_archive,
    )?;

    for (screen, count) in &*shown.lock() {
        say(format!("display:  the {screen} screen showed {count} readings"));
    }
    let archived = std::mem::take(&mut *archived.lock());
    let in_order = archived.windows(2).all(|pair| matches!(pair, [one, next] if one.0 <= next.0));
    say(format!("archive:  {} readings, in order: {in_order}", archived.len()));
    let left = readings.inspect().await?.stored;
    say(format!("summary published=16 archived={} left={left}", archived.len()));
    let story = said.lock().join("\n");
    Ok(story)
}
