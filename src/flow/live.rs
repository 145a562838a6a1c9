//! A stage that runs: leases, works, settles.

use super::{
    account::Track,
    draft::{Job, Outs, Stage},
    fault::{self, Fate, Fault},
    fused::{Made, Mode},
    graph::Plan,
    keeper::From,
    lineage,
    part::Part,
    turns::Turns,
};
use crate::base::{
    Answer, Backoff, Few, Kind, Name, Result, Rng,
    sync::atomic::{AtomicU64, Ordering},
    time,
};
use crate::pod::Context;
use crate::queue::{Broker, Charge, Delivery, Headers, Id, Publish, Retry, Subscription, Topic, Want};
use futures::{StreamExt, future::poll_fn, stream::FuturesUnordered};
use std::{fmt, pin::Pin, sync::Arc, task::Poll, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

/// Where a stage takes from.
pub(super) struct LiveInput {
    pub(super) subscription: Subscription,
    pub(super) from: From,
    /// Which of the stage's inputs it is.
    pub(super) number: usize,
    pub(super) tracks: Vec<Track>,
    weight: u32,
}

/// What it did since it began.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) taken: AtomicU64,
    pub(super) made: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) busy_nanos: AtomicU64,
}

/// One stage on a broker.
pub(super) struct Live {
    pub(super) plan: Arc<Plan>,
    pub(super) number: usize,
    pub(super) stage: Stage,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) inputs: Vec<LiveInput>,
    pub(super) ports: Vec<Topic>,
    lists: Vec<usize>,
    pub(super) atomic: bool,
    pub(super) stopping: CancellationToken,
    pub(super) counts: Counts,
    pub(super) context: Option<Context>,
    /// Who has it tries what may kill the process: one in the whole run.
    aside: Arc<Mutex<()>>,
}

/// Between tries to reach a broker.
pub(super) const RECONNECT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// How long what may kill the process is put off while another such is tried.
const ASIDE: Duration = Duration::from_millis(100);
/// After so many turns it lets others run.
const TURNS: u32 = 32;
/// How often a step is made anew when another has written the same state.
const CONFLICTS: u32 = 16;

impl Live {
    pub(super) fn new(
        plan: &Arc<Plan>,
        number: usize,
        broker: &Arc<dyn Broker>,
        context: Option<Context>,
        stopping: &CancellationToken,
        aside: &Arc<Mutex<()>>,
    ) -> Option<Live> {
        let stage = plan.stages.get(number)?.clone();
        let mut inputs = Vec::new();
        for (edge, weight) in &stage.inputs {
            let subscription = plan.edges.get(*edge)?.topic.subscription(&stage.name);
            let tracks = Track::all(plan, *edge);
            let number = inputs.len();
            inputs.push(LiveInput { subscription, from: From::Edge, number, tracks, weight: *weight });
        }
        let barrier = stage.barrier.iter().map(|barrier| (&barrier.account, From::Account));
        for (topic, from) in barrier.chain(stage.timers.iter().map(|topic| (topic, From::Timers))) {
            let subscription = topic.subscription(&stage.name);
            let number = inputs.len();
            inputs.push(LiveInput { subscription, from, number, tracks: Vec::new(), weight: 1 });
        }
        let topic = |edge: usize| plan.edges.get(edge).map(|edge| edge.topic.clone());
        let ports: Option<Vec<_>> = stage.ports.iter().map(|port| topic(port.edge)).collect();
        Some(Live {
            lists: stage.ports.iter().map(|port| port.list).collect(),
            ports: ports?,
            atomic: broker.guarantees().atomic_step,
            stopping: stopping.clone(),
            aside: aside.clone(),
            plan: plan.clone(),
            broker: broker.clone(),
            counts: Counts::default(),
            number,
            stage,
            inputs,
            context,
        })
    }

    pub(super) fn name(&self) -> &Name {
        &self.stage.name
    }

    pub(super) fn turns(&self) -> Turns {
        Turns::new(self.inputs.iter().map(|input| input.weight))
    }

    /// A worker, until told to stop.
    pub(super) async fn work(self: Arc<Self>, mut rng: Rng) -> Result {
        let stopping = &self.stopping;
        let mut turns = self.turns();
        let (mut refused, mut taken, mut next_at) = (0, 0, time::now());
        while !stopping.is_cancelled() {
            if self.stage.tuning.per_second.is_some() {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return Ok(()),
                    () = time::sleep_until(next_at) => {}
                }
            }
            let next = tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(()),
                next = self.take(&mut turns) => next,
            };
            match next {
                Ok((input, deliveries)) => {
                    refused = 0;
                    next_at = self.next_turn(next_at, &deliveries);
                    self.handle(input, deliveries, &mut rng).await?;
                }
                Err(error) if error.is_retryable() => {
                    self.note(format_args!("no lease for now: {}", error.chain()));
                    let wait = error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, &mut rng));
                    refused += 1;
                    tokio::select! {
                        biased;
                        () = stopping.cancelled() => return Ok(()),
                        () = time::sleep(wait) => {}
                    }
                }
                Err(error) => return Err(error.at(format!("stage {}", self.name()))),
            }
            taken += 1;
            if taken % TURNS == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// When it may take the next ones, at its worker's part of the rate.
    fn next_turn(&self, due: time::Instant, deliveries: &[Delivery]) -> time::Instant {
        let Some(rate) = self.stage.tuning.per_second else { return due };
        let items: u32 = deliveries.iter().map(Delivery::len).sum();
        let wait = Duration::from_secs(self.stage.tuning.workers as u64) * items / rate;
        time::after(due.max(time::now()), wait)
    }

    /// The next deliveries, from the input whose turn it is. It holds none while it waits.
    async fn take(&self, turns: &mut Turns) -> Result<(usize, Few<Delivery>)> {
        let Stage { tuning, .. } = &self.stage;
        // of a rate it takes a tenth of a second's at a time, so that what comes at once does not go at once
        let most = tuning.per_second.map_or(tuning.batch, |rate| tuning.batch.min(rate.div_ceil(10)));
        let mut want = Want::items(most).hold(tuning.hold).owner(self.stage.name.hash64());
        if matches!(self.stage.job, Job::Later(_)) {
            want = want.chunk(1); // one that takes long holds up no other
        }
        let lease = |at: usize, want: Want| {
            let input = self.inputs.get(at);
            input.map(|input| self.broker.lease(&input.subscription, want))
        };
        let served = |turns: &mut Turns, at: usize, got: Few<Delivery>| {
            turns.served(at, got.iter().map(Delivery::len).sum());
            Ok((at, got))
        };
        if turns.len() > 1 {
            for at in turns.order() {
                let Some(answer) = lease(at, want.wait(Duration::ZERO)) else { continue };
                let got = answer.await?;
                if !got.is_empty() {
                    return served(turns, at, got);
                }
            }
        }
        loop {
            let mut waiting = Vec::with_capacity(turns.len());
            for at in turns.order() {
                match lease(at, want) {
                    Some(Answer::Now(Some(got))) => {
                        let got = got?;
                        if !got.is_empty() {
                            return served(turns, at, got);
                        }
                    }
                    Some(answer) => waiting.push((at, answer)),
                    None => {}
                }
            }
            let (at, got) = first(waiting).await?;
            if !got.is_empty() {
                return served(turns, at, got);
            }
        }
    }

    /// Works on what was leased, and settles it.
    async fn handle(&self, input: usize, deliveries: Few<Delivery>, rng: &mut Rng) -> Result {
        let began = time::now();
        let Some(input) = self.inputs.get(input) else { return Ok(()) };
        let (deliveries, told) = self.told(input, deliveries);
        self.settle_all(input, told, rng).await?;
        let (deliveries, parts, _alone) = self.sorted_out(input, deliveries);
        self.settle_all(input, parts, rng).await?;
        let mut parts = Vec::new();
        match &self.stage.job {
            Job::Now(work) => {
                if let Some(outs) = &self.stage.outs {
                    self.look_out(outs).await;
                }
                for delivery in &deliveries {
                    let made = work.run(delivery, self.mode(input));
                    parts.push(self.part(input, delivery, made, rng));
                }
            }
            Job::Later(caller) => {
                // each is settled when it is done, and holds its lease until then, whatever becomes of the others
                let one = |delivery: &Delivery, mut rng: Rng| {
                    let (delivery, held) = (delivery.clone(), [delivery.lease]);
                    async move {
                        match self.holding(&held, caller.run(&delivery, self.mode(input))).await {
                            Some(made) => {
                                let part = self.part(input, &delivery, made, &mut rng);
                                self.settle_all(input, vec![part], &mut rng).await
                            }
                            None => {
                                self.lose(delivery.len());
                                Ok(())
                            }
                        }
                    }
                };
                let mut calls: FuturesUnordered<_> =
                    deliveries.iter().map(|delivery| one(delivery, rng.fork())).collect();
                while let Some(settled) = calls.next().await {
                    settled?;
                }
            }
            Job::Keeps(keeper) if !deliveries.is_empty() => {
                let held: Few<_> = deliveries.iter().map(|delivery| delivery.lease).collect();
                let (mut conflicts, mut refused) = (0, 0);
                loop {
                    let (kept, step) = match keeper.keep(self, input, &deliveries, rng).await {
                        Err(error) if error.is_retryable() => {
                            let wait = error.retry_after().unwrap_or_else(|| RECONNECT.wait(refused, rng));
                            refused += 1;
                            match self.holding(&held, time::sleep(wait)).await {
                                Some(()) => continue,
                                None => deliveries.iter().for_each(|delivery| self.lose(delivery.len())),
                            }
                            break;
                        }
                        kept => kept.map_err(|error| error.at(format!("stage {}", self.name())))?,
                    };
                    conflicts += 1;
                    match self.settle(step, &held, rng).await {
                        Ok(()) => kept.iter().for_each(|part| self.count(part)),
                        Err(error) if error.is_conflict() && conflicts < CONFLICTS => continue,
                        Err(error) if error.is_conflict() => self.hand_back(&deliveries, rng).await?,
                        Err(error) if error.kind() == Kind::LeaseLost => {
                            kept.iter().for_each(|part| self.lose(part.delivery.len()));
                        }
                        Err(error) => return Err(error.at(format!("stage {}", self.name()))),
                    }
                    break;
                }
            }
            Job::Keeps(_) => {}
        }
        self.settle_all(input, parts, rng).await?;
        let busy = time::now().saturating_duration_since(began).as_nanos() as u64;
        self.counts.busy_nanos.fetch_add(busy, Ordering::Relaxed);
        Ok(())
    }

    /// Passes on what is no item, but opens or closes a batch.
    fn told(&self, input: &LiveInput, deliveries: Few<Delivery>) -> (Few<Delivery>, Vec<Part>) {
        let tells = |delivery: &Delivery| input.tracks.iter().any(|track| track.told(delivery).is_some());
        if !deliveries.iter().any(tells) {
            return (deliveries, Vec::new());
        }
        let (mut items, mut parts) = (Few::new(), Vec::new());
        for delivery in deliveries {
            let mut part = Part::new(&delivery);
            for track in &input.tracks {
                let line = track.told(&delivery);
                part.step.publishes.extend(line.map(|line| track.publish(self.name(), &delivery, vec![line])));
            }
            match part.step.publishes.is_empty() {
                true => items.push(delivery),
                false => parts.push(part),
            }
        }
        (items, parts)
    }

    /// Looks which ports are out.
    async fn look_out(&self, outs: &Outs) {
        let closed = outs.closed.closed();
        let mut mask = 0_u64;
        for (at, (name, topic)) in outs.names.iter().zip(&self.ports).enumerate() {
            let full = outs.full_is_out && {
                let edge = self.stage.ports.get(at).and_then(|port| self.plan.edges.get(port.edge));
                let capacity = edge.map_or(usize::MAX, |edge| edge.capacity);
                let more = self.stage.tuning.batch as usize;
                let stats = self.broker.inspect(topic).await;
                stats.is_ok_and(|stats| stats.stored > 0 && stats.stored + more > capacity)
            };
            mask |= u64::from(full || closed.contains(name)) << (at % 64);
        }
        outs.mask.store(mask, Ordering::Relaxed);
    }

    fn mode(&self, input: &LiveInput) -> Mode {
        Mode { singly: !self.atomic, counted: !input.tracks.is_empty(), input: input.number }
    }

    /// Gives up what was tried too often; of what may have killed a worker, it keeps one item and gives back the rest. What
    /// may kill the process is kept with the right to be the only such one.
    fn sorted_out(
        &self,
        input: &LiveInput,
        deliveries: Few<Delivery>,
    ) -> (Few<Delivery>, Vec<Part>, Option<OwnedMutexGuard<()>>) {
        let tuning = &self.stage.tuning;
        let unsuspicious = |delivery: &Delivery| {
            !fault::is_suspect(tuning, delivery.attempts) && fault::spent(tuning, delivery.attempts).is_none()
        };
        // what it tells itself, and what others tell it, is never given up
        if input.from != From::Edge || deliveries.iter().all(unsuspicious) {
            return (deliveries, Vec::new(), None);
        }
        let (mut keep, mut parts, mut right) = (Few::new(), Vec::new(), None);
        let several = deliveries.len() > 1 || deliveries.iter().any(|delivery| delivery.len() > 1);
        let mut alone = false;
        for delivery in deliveries {
            if let Some(reason) = fault::spent(tuning, delivery.attempts) {
                let faults = (0..delivery.len()).map(|at| (at, Fault::Hopeless(reason.clone()))).collect();
                let made = Made { faults, ..Made::default() };
                parts.push(self.part(input, &delivery, made, &mut crate::base::Seed::new(0).rng()));
                continue;
            }
            let (suspect, kills) =
                (fault::is_suspect(tuning, delivery.attempts), fault::may_kill(tuning, delivery.attempts));
            let mut after = Duration::ZERO;
            if !several || (!alone && delivery.len() == 1 && suspect) {
                right = if kills { self.aside.clone().try_lock_owned().ok() } else { None };
                if right.is_some() || !kills {
                    alone = true;
                    keep.push(delivery);
                    continue;
                }
                after = ASIDE;
            }
            let mut part = Part::new(&delivery);
            let back = |items| Retry::new(delivery.lease).items(items).after(after).charge(Charge::Nothing);
            match suspect {
                true => part.step.retries.extend((0..delivery.len()).map(|at| back(at..at + 1))),
                false => part.step.retries.push(back(0..delivery.len())),
            }
            part.retried = delivery.len();
            parts.push(part);
        }
        (keep, parts, right)
    }

    /// What a delivery comes to: acknowledged with what it became, or in parts tried again and given up.
    pub(super) fn part(&self, input: &LiveInput, delivery: &Delivery, mut made: Made, rng: &mut Rng) -> Part {
        let mut part = Part::new(delivery);
        let faults = std::mem::take(&mut made.faults);
        let fates: Vec<_> = faults
            .into_iter()
            .map(|(at, fault)| (at, fault.fate(&self.stage.tuning, delivery.attempts, rng)))
            .collect();
        let mut headers = vec![Headers::default(); self.ports.len()];
        let mut shares = Vec::with_capacity(input.tracks.len());
        for track in &input.tracks {
            let (ports, lines) = track.pass(delivery, &made, &self.lists, &fates);
            if !lines.is_empty() {
                part.step.publishes.push(track.publish(self.name(), delivery, lines));
            }
            shares.push((track, ports, 0_usize));
        }
        for (port, (topic, list)) in self.ports.iter().zip(&self.lists).enumerate() {
            let Some(list) = made.lists.get(*list) else { continue };
            shares.iter_mut().for_each(|(.., next)| *next = 0);
            for (first, payload) in &list.batches {
                let id = match self.atomic {
                    true => Id::derive(self.name(), delivery.batch.id, port as u32, delivery.range.start + first),
                    false => Id::derive(self.name(), delivery.id(*first), port as u32, 0),
                };
                let mut publish = Publish::new(topic, id, payload.clone());
                if let Some(headers) = headers.get_mut(port).filter(|_| !shares.is_empty()) {
                    for (track, ports, next) in &mut shares {
                        let after = *next + payload.len() as usize;
                        if let Some(own) = ports.get(port).and_then(|own| own.get(*next..after)) {
                            headers.insert(&track.header, lineage::write(own));
                        }
                        *next = after;
                    }
                    publish.headers = headers.clone();
                }
                part.made += u64::from(payload.len());
                part.step.publishes.push(publish);
            }
        }
        for (at, fate) in fates {
            if let Fate::Reject(reason) = &fate {
                self.note(format_args!("message {} given up: {reason}", delivery.id(at)));
            }
            part.add(at, fate);
        }
        part
    }

    pub(super) fn count(&self, part: &Part) {
        let add = |count: &AtomicU64, by: u64| count.fetch_add(by, Ordering::Relaxed);
        add(&self.counts.taken, u64::from(part.delivery.len().saturating_sub(part.retried)));
        add(&self.counts.made, part.made);
        if part.retried + part.rejected > 0 {
            add(&self.counts.retried, part.retried.into());
            add(&self.counts.rejected, part.rejected.into());
        }
    }

    pub(super) fn lose(&self, items: u32) {
        self.note(format_args!("{items} items: the lease is lost"));
        self.counts.lost.fetch_add(items.into(), Ordering::Relaxed);
    }

    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        tracing::warn!(flow = %self.plan.name, stage = %self.name(), "{what}");
        if let Some(context) = &self.context {
            context.log(format!("{}.{}: {what}", self.plan.name, self.name()));
        }
    }
}

/// The first of them to answer; the others are dropped, and what they would have taken stays.
async fn first<T: Unpin>(mut waiting: Vec<(usize, Answer<'_, T>)>) -> Result<(usize, T)> {
    poll_fn(move |cx| {
        for (at, answer) in &mut waiting {
            if let Poll::Ready(got) = Pin::new(answer).poll(cx) {
                return Poll::Ready(got.map(|got| (*at, got)));
            }
        }
        Poll::Pending
    })
    .await
}
