//! Workers that scale themselves: an hour of a queue with a quiet start, a rush, long jobs, and silence.
//!
//! Every 5 s the autoscaler decides how many workers there should be, from how often jobs arrive, how long they take and
//! how many wait. More come at once, fewer only when fewer have sufficed for five minutes, and none is stopped in the
//! middle of a job. Each line of the chart is a minute: how often jobs arrive, how many wait, the longest wait of those that
//! began, and the workers, `#` where busy and `-` where idle. Each turn says why.
//!
//! ```text
//! cargo run --example autoscale
//! ```
#![allow(clippy::disallowed_macros, reason = "an example prints")]

use seedpod::{
    Error,
    base::{Seed, sync::Lock, time},
    queue::{
        self, Broker, BrokerExt, Id, Memory, Message, Publish, Topic, TopicOptions,
        scale::{Autoscaler, Decision, Policy, Workers},
    },
};
use std::{sync::Arc, time::Duration};
use tower::service_fn;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What comes: until which minute, how many jobs a second, and how long each takes.
const DAY: [(&str, u32, f64, Duration); 5] = [
    ("quiet", 6, 0.5, SECOND),
    ("a rush", 16, 8.0, SECOND),
    ("quiet again", 34, 0.5, SECOND),
    ("long jobs", 46, 0.1, MINUTE),
    ("silence", 60, 0.0, SECOND),
];

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

/// What is remembered of the decisions for the chart.
#[derive(Default)]
struct Chart {
    lines: Vec<String>,
    last: Option<Decision>,
    turning: Option<bool>,
    changes: u32,
    most: u32,
    below_busy: u32,
    worker_seconds: u64,
}

impl Chart {
    /// Says why, where it begins to go up or down.
    fn decided(&mut self, at: u64, decision: &Decision) {
        if decision.change() != 0 {
            let up = decision.change() > 0;
            if self.turning != Some(up) {
                self.lines.push(format!("       {:02}:{:02} {decision}", at / 60, at % 60));
            }
            (self.turning, self.changes) = (Some(up), self.changes + 1);
        }
        self.most = self.most.max(decision.want);
        self.below_busy += u32::from(decision.want < decision.inputs.workers.busy);
        self.worker_seconds += 5 * u64::from(decision.want);
        self.last = Some(*decision);
    }

    fn minute(&mut self, minute: u32, longest: Duration) {
        let Some(Decision { want, inputs, .. }) = self.last else { return };
        let busy = inputs.workers.busy.min(want) as usize;
        let bar = format!("{}{}", "#".repeat(busy), "-".repeat(want as usize - busy));
        let (rate, waiting, longest) = (inputs.arrival_rate, inputs.backlog, longest.as_secs_f64());
        let line = format!("{minute:>4} {rate:>5.1}/s {waiting:>4} waiting {longest:>5.1} s  {bar}");
        self.lines.push(line.trim_end().to_string());
    }
}

async fn tell() -> seedpod::Result<String> {
    let (broker, jobs) = (Arc::new(Memory::new()), Topic::new("jobs"));
    broker.declare(&jobs, TopicOptions::new().subscription("workers")).await?;
    let (chart, longest, done) =
        (Arc::new(Lock::new(Chart::default())), Arc::new(Lock::new(Duration::ZERO)), Arc::new(Lock::new(0)));
    let start = time::now();

    let work = service_fn({
        let (longest, done) = (longest.clone(), done.clone());
        move |job: Message| {
            let (longest, done) = (longest.clone(), done.clone());
            async move {
                let (published, takes) = job.json::<(u64, u64)>()?;
                let waited = (time::now() - start).saturating_sub(Duration::from_millis(published));
                {
                    let mut longest = longest.lock();
                    *longest = waited.max(*longest);
                }
                time::sleep(Duration::from_millis(takes)).await;
                *done.lock() += 1;
                Ok::<_, Error>(())
            }
        }
    });
    let workers = Workers::new(queue::consume(broker.clone(), jobs.subscription("workers"), work));
    let scaler =
        Autoscaler::new(broker.clone(), jobs.subscription("workers"), workers.clone(), Policy::between(0..=40));
    let scaler = scaler.on_decision({
        let chart = chart.clone();
        move |decision| chart.lock().decided((time::now() - start).as_secs(), decision)
    });

    let day = async {
        let mut rng = Seed::ambient().fork("arrivals").rng();
        let (mut published, mut worst) = (0_u32, Duration::ZERO);
        let mut minute = 0;
        for (what, until, rate, takes) in DAY {
            chart.lock().lines.push(format!("{what}: {rate} jobs a second of {takes:?} each"));
            while minute < until {
                let end = start + MINUTE * (minute + 1);
                loop {
                    // at random: the time to the next one does not depend on the last one
                    let gap = if rate > 0.0 { -(1.0 - rng.unit()).ln() / rate } else { f64::MAX };
                    let next = time::now() + Duration::try_from_secs_f64(gap).unwrap_or(MINUTE);
                    if next >= end {
                        break;
                    }
                    time::sleep_until(next).await;
                    let job = ((time::now() - start).as_millis() as u64, takes.as_millis() as u64);
                    broker.send(Publish::json(&jobs, Id::of(format!("job {published}")), job)).await?;
                    published += 1;
                }
                time::sleep_until(end).await;
                minute += 1;
                let longest = std::mem::take(&mut *longest.lock());
                worst = worst.max(longest);
                chart.lock().minute(minute, longest);
            }
        }
        Ok::<_, Error>((published, worst))
    };

    let pool = workers.run_until(std::future::pending());
    let scaling = scaler.run_until(std::future::pending());
    let (published, worst) = tokio::select! {
        biased;
        day = day => day?,
        pool = pool => return pool.map(|()| String::new()),
        scaled = scaling => return scaled.map(|()| String::new()),
    };
    let stats = broker.inspect(&jobs).await?;
    let mut chart = chart.lock();
    let hours = |seconds: u64| seconds as f64 / 3600.0;
    let minutes = u64::from(DAY.map(|(_, until, ..)| until).into_iter().max().unwrap_or_default());
    let (used, fixed) = (hours(chart.worker_seconds), hours(u64::from(chart.most) * 60 * minutes));
    let summary = format!(
        "summary published={published} done={} left={} longest_wait={:.1}s most_workers={} changes={} below_busy={} \
         worker_hours={used:.1} (always the most: {fixed:.1})",
        done.lock(),
        stats.stored,
        worst.as_secs_f64(),
        chart.most,
        chart.changes,
        chart.below_busy,
    );
    chart.lines.push(summary);
    Ok(chart.lines.join("\n"))
}
