//! The broker on disk in a process that is killed under load, again and again: what it answered for is there.
//!
//! The process is this test's own program. `SEEDPOD_KILLS` says how often it is killed (3).

use crate::durable::Folder;
use seedpod::{
    Kind,
    base::{Deadline, Seed, time},
    queue::{Broker, BrokerExt, Durable, Id, Publish, Retry, Step, Subscription, Topic, TopicOptions, Want},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

#[allow(dead_code, reason = "a test calls its story, not its main")]
#[path = "../../examples/durable_queue.rs"]
mod example;

/// Where [`under_load`] finds the file; what follows are the first number to publish, and a seed.
const FILE: &str = "SEEDPOD_KILLED_FILE";
/// Where [`durable_queue`] finds its command line.
const ARGUMENTS: &str = "SEEDPOD_KILLED_ARGUMENTS";

const PUBLISHERS: u64 = 8;

fn topics() -> (Topic, Topic, TopicOptions) {
    let options = TopicOptions::new().capacity(1 << 30).dedup(Duration::from_secs(3600));
    (Topic::new("jobs"), Topic::new("done"), options)
}

/// One line that is written whole or not at all.
fn say(line: String) {
    let _ = std::io::stdout().lock().write_all((line + "\n").as_bytes());
}

#[test]
#[ignore = "a process of its own, started and killed by another test"]
fn under_load() {
    let Ok(given) = env::var(FILE) else { return };
    let mut given = given.split('|');
    let path = PathBuf::from(given.next().unwrap());
    let numbers: Vec<u64> = given.map(|number| number.parse().unwrap()).collect();
    let [first, seed] = numbers[..] else { panic!("{numbers:?}") };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let broker = Arc::new(Durable::open(path).await.unwrap());
        let (jobs, done, options) = topics();
        broker.declare(&jobs, options.clone().subscription("workers")).await.unwrap();
        broker.declare(&done, options.subscription("out")).await.unwrap();
        say("open".into());
        let mut tasks = Vec::new();
        for publisher in 0..PUBLISHERS {
            let (broker, jobs) = (broker.clone(), jobs.clone());
            tasks.push(tokio::spawn(async move {
                for number in (first + publisher..).step_by(PUBLISHERS as usize) {
                    let mut publish = Publish::json(&jobs, Id::of(number.to_string()), number);
                    if number % 5 == 0 {
                        publish = publish.key(format!("key {}", number % 3));
                    }
                    broker.send(publish).await.unwrap();
                    say(format!("published {number}"));
                }
            }));
        }
        for worker in 0..4 {
            let (broker, workers, done) = (broker.clone(), jobs.subscription("workers"), done.clone());
            let mut rng = Seed::new(seed).fork_index(worker).rng();
            tasks.push(tokio::spawn(async move {
                loop {
                    for delivery in broker.lease(&workers, Want::items(4).chunk(1)).await.unwrap() {
                        let number: u64 = delivery.json(0).unwrap();
                        if rng.chance(0.1) {
                            broker.settle(Step::new().retry(Retry::new(delivery.lease))).await.unwrap();
                            continue;
                        }
                        let out = Publish::json(&done, Id::of(format!("done {number}")), number);
                        broker.settle(Step::new().ack(delivery.lease).publish(out)).await.unwrap();
                        say(format!("done {number}"));
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
#[ignore = "the example in a process of its own, started by another test"]
fn durable_queue() {
    let Ok(arguments) = env::var(ARGUMENTS) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(example::run(arguments.split('|').map(str::to_owned))).unwrap();
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(test: &str, variable: &str, value: String) -> Process {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]).env(variable, value);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Process { child, lines }
    }

    async fn line(&mut self) -> Option<String> {
        let line = Deadline::within(Duration::from_secs(60)).bound(self.lines.next_line());
        line.await.expect("it says nothing for a minute").unwrap()
    }

    /// Kills it at once, and reads what it had said.
    async fn kill(mut self) -> Vec<String> {
        self.child.start_kill().unwrap();
        let mut rest = Vec::new();
        while let Some(line) = self.line().await {
            rest.push(line);
        }
        assert_eq!(self.child.wait().await.unwrap().signal(), Some(9));
        rest
    }
}

#[derive(Default)]
struct Said {
    published: BTreeSet<u64>,
    done: BTreeSet<u64>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let Some((what, number)) = line.split_once(' ') else { return };
        match (what, number.parse()) {
            ("published", Ok(number)) => drop(self.published.insert(number)),
            ("done", Ok(number)) => drop(self.done.insert(number)),
            _ => {}
        }
    }
}

/// All that a subscription has: how often each number is there, and how many crashes are charged.
async fn all(broker: &Durable, subscription: &Subscription) -> (BTreeMap<u64, u32>, u64) {
    let (mut all, mut crashes) = (BTreeMap::new(), 0);
    loop {
        let leased = broker.lease(subscription, Want::items(5000).wait(Duration::ZERO)).await.unwrap();
        if leased.is_empty() {
            return (all, crashes);
        }
        let mut step = Step::new();
        for delivery in leased {
            crashes += u64::from(delivery.attempts.crashes);
            for item in 0..delivery.len() {
                *all.entry(delivery.json::<u64>(item).unwrap()).or_default() += 1;
            }
            step = step.ack(delivery.lease);
        }
        broker.settle(step).await.unwrap();
    }
}

async fn killed(path: &Path, kills: u64) {
    let mut rng = Seed::ambient().rng();
    let mut said = Said::default();
    for life in 0..kills {
        let value = format!("{}|{}|{}", path.display(), life << 32, rng.next_u64());
        let mut process = Process::start("killed::under_load", FILE, value);
        while process.line().await.expect("it has ended by itself") != "open" {}
        if life == 0 {
            let error = Durable::open(path).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict, "two processes on one file: {}", error.chain());
        }
        let until = time::now() + Duration::from_millis(20 + rng.below(400));
        while time::now() < until {
            let line = process.line().await.expect("it has ended by itself");
            said.hear(&line);
        }
        for line in process.kill().await {
            said.hear(&line);
        }
    }
    let broker = Durable::open(path).await.unwrap();
    let (jobs, done, _) = topics();
    let stored = broker.inspect(&jobs).await.unwrap().stored + broker.inspect(&done).await.unwrap().stored;
    let (left, crashes) = all(&broker, &jobs.subscription("workers")).await;
    let (done, _) = all(&broker, &done.subscription("out")).await;
    println!(
        "summary killed {kills} times under load: {} published and {} done were answered for; {} done and {} left were there, \
         {crashes} crashes charged to what is left",
        said.published.len(),
        said.done.len(),
        done.len(),
        left.len(),
    );
    assert_eq!(stored, left.len() + done.len(), "what is counted and what is there");
    assert!(left.values().chain(done.values()).all(|count| *count == 1), "something is there twice");
    assert!(left.keys().all(|number| !done.contains_key(number)), "done, and there again");
    assert!(said.published.iter().all(|number| left.contains_key(number) || done.contains_key(number)), "lost");
    assert!(said.done.iter().all(|number| done.contains_key(number)), "an output is lost");
    assert!(said.published.len() as u64 > 20 * kills, "hardly any load");
}

#[tokio::test]
async fn processes_on_a_file_are_killed_under_load_and_nothing_is_lost() {
    let folder = Folder::new("killed");
    let kills = env::var("SEEDPOD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    killed(&folder.file("jobs.db"), kills).await;
}

/// The example's transcript: killed with an order in the press, and started again.
#[tokio::test]
async fn durable_queue_goes_on_after_it_was_killed() {
    let folder = Folder::new("durable-queue");
    let start = || {
        let arguments = format!("--file|{}|--pace|5|--jam|4", folder.file("press.db").display());
        Process::start("killed::durable_queue", ARGUMENTS, arguments)
    };
    let mut story = Vec::new();
    let mut own = |line: String| story.extend((line.contains("order") || line.contains("printed")).then_some(line));
    let mut process = start();
    loop {
        let line = process.line().await.expect("it has ended by itself");
        let jammed = line == "order 4: in the press";
        own(line);
        if jammed {
            break;
        }
    }
    time::sleep(Duration::from_millis(500)).await; // ten times what it takes to note that it was handed out
    process.kill().await.into_iter().for_each(&mut own);
    own("(killed with an order in the press, and started again)".into());
    let mut process = start();
    while let Some(line) = process.line().await {
        own(line);
    }
    assert!(process.child.wait().await.unwrap().success());
    crate::examples::told("durable_queue", Ok(story.join("\n")));
}
