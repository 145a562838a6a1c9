//! A container per item: each picture is resized in a fresh pod of its own, whatever becomes of the others; and the same
//! work by a worker that knows no queue, behind an ambassador in its pod.
//!
//! Of five pictures two are well, one fails at first, one makes its container panic, one is no picture at all. Exit code 75
//! asks for time and costs no attempt, 65 says that trying again cannot help.
//!
//! ```text
//! cargo run --example container_per_item
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]
#![allow(clippy::panic, reason = "one of its containers panics")]

use seedpod::{
    Error, Kind,
    base::{Backoff, Seed, sync::Lock, time},
    net::Net,
    pod::{ContainerSpec, Context, Exit, Pod, PodSpec, Volume},
    queue::{
        self, Broker, BrokerExt, ByFile, DEAD_LETTERS, DeadLetter, Id, Memory, PerItem, PodLauncher, Publish, Results,
        Topic, TopicOptions, Want,
    },
};
use std::{sync::Arc, time::Duration};

fn main() -> seedpod::Result {
    println!("{}", story()?);
    Ok(())
}

/// Runs on paused time and one seed, so that it always tells the same.
pub(crate) fn story() -> seedpod::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let _simulation = Seed::new(7).simulate();
    runtime.block_on(tell())
}

#[derive(Clone, Default)]
struct Scene {
    said: Arc<Lock<Vec<String>>>,
    store_is_back: Arc<Lock<bool>>,
}

impl Scene {
    fn say(&self, line: String) {
        self.said.lock().push(line);
    }

    /// What runs in each pod: it reads one picture, writes a small one, and knows no queue.
    async fn resize(self, context: Context) -> seedpod::Result {
        let item = context.volume("item")?;
        let picture = String::from_utf8_lossy(&item.read("input")?).into_owned();
        let tried = context.env("SEEDPOD_MESSAGE_ATTEMPT").unwrap_or_default();
        self.say(format!("  pod {}: {picture}, charged {tried} times before", context.pod()));
        time::sleep(Duration::from_secs(2)).await;
        let exit = |code, why: &'static str| Err(Error::adopt(Exit::new(code, why), Kind::Failed));
        match (picture.as_str(), tried) {
            ("cat", "0") => exit(1, "out of memory"),
            ("cow", _) if !std::mem::replace(&mut *self.store_is_back.lock(), true) => exit(75, "the store is away"),
            ("owl", _) => panic!("the codec has a bug"),
            ("???", _) => exit(65, "no picture"),
            _ => item.write("output", format!("a small {picture}")),
        }
    }
}

/// A worker that reads and writes files, whoever puts them there.
async fn shout(context: Context) -> seedpod::Result {
    let desk = context.volume("desk")?;
    let mut changes = desk.watch();
    loop {
        for path in desk.list("in/")? {
            let text = String::from_utf8_lossy(&desk.read(&path)?).to_uppercase();
            desk.remove(&path)?;
            desk.write(&path.replacen("in/", "done/", 1), text)?;
        }
        changes.changed().await;
    }
}

async fn tell() -> seedpod::Result<String> {
    let (broker, net, scene): (Arc<dyn Broker>, _, _) =
        (Arc::new(Memory::new()), Net::memory().build(), Scene::default());
    let (pictures, small, loud) = (Topic::new("pictures"), Topic::new("small"), Topic::new("loud"));
    let options = TopicOptions::new().subscription("resize").dead_letters("pictures.dead");
    broker.declare(&pictures, options).await?;
    for topic in [&small, &loud] {
        let options = TopicOptions::new().subscription("ambassador").subscription("all");
        broker.declare(topic, options.dedup(Duration::from_secs(3600))).await?;
    }
    for picture in ["cat", "dog", "cow", "owl", "???"] {
        broker.send(Publish::new(&pictures, Id::of(picture), picture)).await?;
    }

    // each message in a pod of its own, two at a time
    let container = {
        let scene = scene.clone();
        move |context: Context| scene.clone().resize(context)
    };
    let pods = PodLauncher::new(PodSpec::new("resize").container(ContainerSpec::new("app", container)), &net);
    let service = Results::published(PerItem::new(pods), &small);
    let pump = queue::consume(broker.clone(), pictures.subscription("resize"), service)
        .concurrency(2)
        .attempts(3)
        .backoff(Backoff::new(Duration::from_secs(5), Duration::from_secs(60)).exact());
    scene.say("a pod per picture:".into());
    pump.run_until(time::sleep(Duration::from_secs(60))).await?;

    let all = Want::items(10).wait(Duration::ZERO);
    let dead = broker.lease(&Topic::new("pictures.dead").subscription(DEAD_LETTERS), all).await?;
    scene.say("given up:".into());
    for letter in &dead {
        let reason = DeadLetter::read(&letter.batch.headers).map(|letter| letter.reason).unwrap_or_default();
        scene.say(format!("  {}: {reason}", String::from_utf8_lossy(&letter.bytes(0)?)));
    }

    // one worker for all of them, which only sees files: the ambassador beside it leases and settles
    let ambassador =
        queue::ambassador(broker.clone(), small.subscription("ambassador"), ByFile::volume("desk")).results(&loud);
    let spec = PodSpec::new("shout")
        .volume("desk", Volume::memory())
        .container(ContainerSpec::new("worker", shout).mount("desk", "/desk"))
        .container(ContainerSpec::new("ambassador", ambassador).mount("desk", "/desk"));
    let pod = Pod::start(spec, &net)?;
    time::sleep(Duration::from_secs(1)).await;
    scene.say("through a worker that knows no queue:".into());
    let answers = broker.lease(&loud.subscription("all"), all).await?;
    for answer in &answers {
        scene.say(format!("  {}", String::from_utf8_lossy(&answer.bytes(0)?)));
    }
    pod.stop(pod.grace()).await;

    let started = scene.said.lock().iter().filter(|line| line.starts_with("  pod ")).count();
    let left = broker.inspect(&pictures).await?.stored;
    scene.say(format!("summary pictures=5 pods={started} done={} given_up={} left={left}", answers.len(), dead.len()));
    let story = scene.said.lock().join("\n");
    Ok(story)
}
