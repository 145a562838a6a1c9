//! Join: a barrier, which opens for a batch once all that came of it is accounted for.

use crate::base::{Error, Kind, Result, Rng};
use crate::flow::{
    Chain, Edge, Item, Reduce, Stream,
    account::{Line, Track, What},
    draft::{Job, Stage},
    fault::{Fate, Fault},
    fused::{read, words_of},
    join::{Barrier, Row},
    keeper::{From, Keeper, Rows},
    lineage::{self, Share},
    live::{Live, LiveInput},
    part::Part,
    stream::type_of,
};
use crate::queue::{DeadLetter, Delivery, Id, Json, Need, Payload, Publish, Step};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::{
    marker::PhantomData,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// What a [`join`](Stream::join) waits for, and what it makes of it.
///
/// A batch is what was sent to a source under one id, [at once](crate::flow::Input::batch) or [bit by
/// bit](crate::flow::Input::open), and all that came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<R> {
    reduce: R,
}

impl Batch<()> {
    /// All that came of what was sent together; of its items nothing is kept but their number.
    pub fn sent() -> Batch<()> {
        Batch { reduce: () }
    }

    /// The same, and what this makes of those that arrived: [`Collect`](crate::flow::Collect) keeps them all.
    pub fn of<R>(reduce: R) -> Batch<R> {
        Batch { reduce }
    }
}

/// What a [`join`](Stream::join) does with a batch of which items went to the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailed {
    /// It goes on with the others, and says how many failed and why.
    Report,
    /// It does not go on: the batch becomes a dead letter itself, with what is known of it.
    Withhold,
}

/// A batch that is complete, or whose time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Joined<T> {
    /// The id under which it was sent, in hexadecimal digits.
    pub batch: String,
    /// What was made of the items that arrived.
    pub value: T,
    /// How many arrived.
    pub arrived: u64,
    /// How many ended elsewhere, in order: dropped by a filter, exploded into nothing, gone another way.
    pub ended: u64,
    /// How many went to the dead letters.
    pub failed: u64,
    /// Why, the first few reasons.
    pub reasons: Vec<String>,
    /// Its time was over before it was complete.
    pub timed_out: bool,
}

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Waits until every item of a batch is accounted for, then goes on with one item for the batch.
    ///
    /// ```text
    /// a1 b1 a2 ──▶ join ──▶ a (2 items)      once a is complete; b still waits
    /// ```
    ///
    /// An item is accounted for when it arrives here, when it ended elsewhere (a filter dropped it, a splitter sent it
    /// where this join cannot be reached, an explosion made nothing of it), or when it went to the dead letters.
    /// Whatever stands between source and join may divide items as it likes: filters, splitters, copiers, explosions,
    /// calls, mergers and other joins, and paths that part and meet again.
    ///
    /// `within` is counted from when the first stage takes the batch's first item up, or learns that it was opened. A batch that is late fires
    /// without what is missing, and says so; what arrives after that goes to the dead letters. The time-out is a
    /// delayed message: it outlives this process where the broker does.
    ///
    /// # Guarantees
    /// It fires once for a batch, and not before the batch is complete or late. The state of a batch is one sum and a
    /// few counts, beside what [`Batch::of`] keeps; it is forgotten when the last item is accounted for. At most 2²⁰
    /// batches wait at once; beyond that the join waits.
    ///
    /// # Errors
    /// [`Flow::build`](crate::flow::Flow::build) refuses a join behind what mixes batches;
    /// [`Graph::check`](crate::flow::Graph::check) a broker without atomic steps, state or delays.
    ///
    /// ```
    /// use seedpod::{flow::{Batch, Collect, Flow, Joined, OnFailed}, queue::{Id, Memory}};
    /// use std::{sync::Arc, time::Duration};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
    /// let mut flow = Flow::new("album");
    /// let [small, large] = flow.source::<String>("photos").filter(|photo| photo != "blurred").copy();
    /// let small = small.map(|photo| format!("{photo} small"));
    /// small.merge(large).join(Batch::of(Collect), Duration::from_secs(60), OnFailed::Report).sink("albums");
    ///
    /// let run = flow.build()?.on(Arc::new(Memory::new()));
    /// let photos = vec!["sea".to_string(), "blurred".to_string()];
    /// run.input("photos").await?.batch(Id::of("monday"), photos).await?;
    /// run.until_drained().await?;
    /// let albums = run.output::<Joined<Vec<String>>>("albums")?.ready().await?;
    /// assert_eq!((albums.len(), albums[0].arrived, albums[0].ended), (1, 2, 1));
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn join<R: Reduce<C::Out>>(
        self,
        batch: Batch<R>,
        within: Duration,
        on_failed: OnFailed,
    ) -> Edge<Joined<R::Out>> {
        let at = Location::caller();
        let begun = self.after_edge(at);
        let keeper = Joins::<C::Out, R> { reduce: batch.reduce, within, on_failed, marker: PhantomData };
        let (draft, stage) = begun.stage("join", at, Job::Keeps(Arc::new(keeper)));
        let mut draft_now = draft.lock();
        let topic = |aside: &str| draft_now.topic(&format!("{}.{aside}", stage.name));
        let (account, timers) = (topic("account"), topic("timers"));
        let needs = vec![Need::AtomicStep, Need::State, Need::Delays];
        let stage = Stage { barrier: Some(Barrier { account }), timers: Some(timers), needs, ..stage };
        let edges = draft_now.stage(stage, &[("out", 0)], type_of::<Joined<R::Out>>());
        drop(draft_now);
        Edge::at_edges(draft, edges.into_iter().map(|edge| (edge, 1)).collect())
    }
}

struct Joins<T, R> {
    reduce: R,
    within: Duration,
    on_failed: OnFailed,
    marker: PhantomData<fn(&T)>,
}

/// How many reasons are kept.
const REASONS: usize = 8;

impl<T: Item, R: Reduce<T>> Joins<T, R> {
    /// Takes a line of the account in; whether it begins the batch's time.
    fn note(&self, row: &mut Option<Row<R::Partial>>, line: &Line, live: &Live) -> bool {
        if line.what == What::Due {
            if let Some(row) = row {
                row.due = true;
            }
            return false;
        }
        let row = row.get_or_insert_default();
        row.sum = row.sum.wrapping_add(line.weight);
        match &line.what {
            // what it makes of the batch weighs something further down, also where nothing arrives
            What::Opened => {
                for track in beyond(live) {
                    row.carry(track.header.as_str(), lineage::passing(line.batch(), live.number));
                }
            }
            What::Due => {}
            What::Ended(items) => row.ended += items,
            What::Failed(items, reason) => {
                row.failed += items;
                if row.reasons.len() < REASONS && !row.reasons.contains(reason) {
                    row.reasons.push(reason.clone());
                }
            }
        }
        line.what == What::Opened
    }

    /// Takes the delivered items in; those that are refused, with why.
    async fn members(
        &self,
        own: &Track,
        outer: &[&Track],
        delivery: &Delivery,
        rows: &mut Rows<'_, Row<R::Partial>>,
    ) -> Result<Vec<(u32, Fault)>> {
        let (shares, _) = own.shares(delivery);
        let carried: Vec<_> = outer.iter().map(|track| (&track.header, track.shares(delivery).0)).collect();
        let mut faults = Vec::new();
        for (at, share) in (0_u32..).zip(&shares) {
            let row = rows.get(share.batch).await?;
            if share.weight == 0 || row.as_ref().is_some_and(|row| row.fired) {
                faults.push((at, Fault::Hopeless("it is late: its batch is over".into())));
                continue;
            }
            let one = || match delivery.get::<T>(at) {
                Some(item) => Ok(self.reduce.one(item)),
                None => read::<T>(delivery, at).map(|item| self.reduce.one(&item)),
            };
            match catch_unwind(AssertUnwindSafe(one)) {
                Ok(Ok(one)) => {
                    let row = row.get_or_insert_default();
                    row.sum = row.sum.wrapping_add(share.weight);
                    row.arrived += 1;
                    match &mut row.partial {
                        Some(partial) => self.reduce.merge(partial, one),
                        none => *none = Some(one),
                    }
                    for (header, shares) in &carried {
                        let weight = shares.get(at as usize).map_or(0, |share| share.weight);
                        row.carry(header.as_str(), weight);
                    }
                }
                Ok(Err(words)) => faults.push((at, Fault::Hopeless(words))),
                Err(panic) => faults.push((at, Fault::Panicked(words_of(&*panic)))),
            }
        }
        Ok(faults)
    }

    /// Accounts for an item that goes to the dead letters: here, and further down.
    fn give_up(
        &self,
        live: &Live,
        tracks: &[Track],
        (delivery, at): (&Delivery, u32),
        reason: &str,
        row: &mut Option<Row<R::Partial>>,
    ) -> Vec<Publish> {
        let mut publishes = Vec::new();
        for track in tracks {
            let share = track.shares(delivery).0.get(at as usize).copied();
            let Some(share) = share.filter(|share| share.weight != 0) else { continue };
            let line = Line::new(share, What::Failed(1, reason.to_string()));
            match &mut *row {
                _ if track.join != live.number => {
                    let port = u32::MAX - 1 - track.join as u32;
                    let id = Id::derive(live.name(), delivery.id(at), port, 0);
                    publishes.push(Publish::new(&track.account, id, Payload::value(line, Json)));
                }
                Some(row) if row.fired => row.sum = row.sum.wrapping_add(share.weight),
                row => drop(self.note(row, &line, live)),
            }
        }
        publishes
    }

    /// Starts the batch's time.
    fn begin(&self, live: &Live, batch: Id, opens: bool, step: &mut Step) {
        if let Some(timers) = live.stage.timers.as_ref().filter(|_| opens) {
            let line = Line::new(Share::none(batch), What::Due);
            let id = Id::derive(live.name(), batch, TIMER, 0);
            step.publishes.push(Publish::new(timers, id, Payload::value(line, Json)).delay(self.within));
        }
    }

    /// Fires what is complete or late, and forgets what is complete.
    fn fire(&self, live: &Live, rows: &mut Rows<'_, Row<R::Partial>>, step: &mut Step) -> Result<u64> {
        let mut fired = 0;
        for (batch, slot) in rows.iter_mut() {
            let Some(row) = slot else { continue };
            let complete = row.sum == lineage::whole(batch);
            if (complete || row.due) && !row.fired {
                let publish = self.outcome(live, batch, row, !complete)?;
                step.publishes.extend(publish);
                (row.fired, row.partial) = (true, None);
                fired += 1;
            }
            if complete {
                *slot = None;
            }
        }
        Ok(fired)
    }

    /// The item for the batch; or its dead letter.
    fn outcome(&self, live: &Live, batch: Id, row: &Row<R::Partial>, timed_out: bool) -> Result<Vec<Publish>> {
        let joined = Joined {
            batch: batch.to_string(),
            value: self.reduce.finish(row.partial.as_ref()),
            arrived: row.arrived,
            ended: row.ended,
            failed: row.failed,
            reasons: row.reasons.clone(),
            timed_out,
        };
        let id = Id::derive(live.name(), batch, 0, 0);
        let payload = Payload::value(joined, Json);
        let share = |weight| Share { batch, weight };
        let outer = beyond(live);
        if row.failed > 0 && self.on_failed == OnFailed::Withhold {
            let reason = format!("{} of its items failed: {}", row.failed, row.reasons.join("; "));
            let mut publish = Publish::new(&live.plan.dead, id, payload);
            let subscription = live.inputs.first().map(|input| input.subscription.clone());
            let subscription = subscription.ok_or_else(|| Error::from(Kind::NotFound))?;
            DeadLetter::new(reason.clone(), subscription, batch, Default::default()).write(&mut publish.headers);
            let mut publishes = vec![publish];
            for track in &outer {
                let line = Line::new(share(row.carried(&track.header)), What::Failed(row.arrived, reason.clone()));
                let id = Id::derive(live.name(), batch, u32::MAX - 1 - track.join as u32, 0);
                publishes.push(Publish::new(&track.account, id, Payload::value(line, Json)));
            }
            return Ok(publishes);
        }
        let topic = live.ports.first().ok_or_else(|| Error::from(Kind::NotFound))?;
        let mut publish = Publish::new(topic, id, payload);
        for track in &outer {
            let weight = row.carried(&track.header);
            publish.headers.insert(&track.header, lineage::write(&[share(weight)]));
        }
        Ok(vec![publish])
    }
}

/// The joins that wait for what this one makes.
fn beyond(live: &Live) -> Vec<Track> {
    live.stage.ports.first().map(|port| Track::all(&live.plan, port.edge)).unwrap_or_default()
}

/// The port that ids of timers are derived with.
const TIMER: u32 = 1 << 16;

impl<T: Item, R: Reduce<T>> Keeper for Joins<T, R> {
    fn keep<'a>(
        &'a self,
        live: &'a Live,
        input: &'a LiveInput,
        deliveries: &'a [Delivery],
        rng: &'a mut Rng,
    ) -> BoxFuture<'a, Result<(Vec<Part>, Step)>> {
        Box::pin(async move {
            let (mut rows, mut step, mut parts) = (Rows::new(live), Step::new(), Vec::new());
            let own = input.tracks.iter().find(|track| track.join == live.number);
            let outer: Vec<_> = input.tracks.iter().filter(|track| track.join != live.number).collect();
            for delivery in deliveries {
                let mut part = Part::new(delivery);
                match (input.from, own) {
                    (From::Edge, Some(own)) => {
                        let faults = self.members(own, &outer, delivery, &mut rows).await?;
                        let mut again = false;
                        for (at, fault) in faults {
                            let fate = fault.fate(&live.stage.tuning, delivery.attempts, rng);
                            if let Fate::Reject(reason) = &fate {
                                let batch = own.shares(delivery).0.get(at as usize).map(|share| share.batch);
                                let row = rows.get(batch.unwrap_or(delivery.batch.id)).await?;
                                let more = self.give_up(live, &input.tracks, (delivery, at), reason, row);
                                step.publishes.extend(more);
                            }
                            again |= at == 0 && matches!(fate, Fate::Retry { .. });
                            part.add(at, fate);
                        }
                        if let (_, Some(line)) = own.shares(delivery)
                            && !again
                        {
                            let opens = self.note(rows.get(line.batch()).await?, &line, live);
                            self.begin(live, line.batch(), opens, &mut step);
                        }
                        for track in outer.iter().filter(|_| !again) {
                            let opened = track.shares(delivery).1;
                            let opened = opened.map(|line| track.publish(live.name(), delivery, vec![line]));
                            step.publishes.extend(opened);
                        }
                    }
                    _ => {
                        for at in 0..delivery.len() {
                            let line = match delivery.get::<Line>(at) {
                                Some(line) => line.clone(),
                                None => delivery.json::<Line>(at)?,
                            };
                            let opens = self.note(rows.get(line.batch()).await?, &line, live);
                            self.begin(live, line.batch(), opens, &mut step);
                        }
                    }
                }
                step = part.settle(step);
                parts.push(part);
            }
            let fired = self.fire(live, &mut rows, &mut step)?;
            if let Some(part) = parts.first_mut() {
                part.made += fired;
            }
            Ok((parts, rows.onto(step)?))
        })
    }
}
