//! Pair: two streams joined by key.

use crate::base::{Error, Kind, Result, Rng};
use crate::flow::{
    Chain, Edge, Item, Stream,
    draft::{Job, Stage},
    fault::Fault,
    fused::{read, words_of},
    keeper::{From, Keeper, Rows},
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

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Each item with one of the other stream that has the same key: first come, first paired.
    ///
    /// ```text
    /// a b c ──┐
    ///         ├─▶ (a, 1a) (c, 3c)      b waits
    /// 1a 3c ──┘
    /// ```
    ///
    /// An item whose partner does not come `within` this time goes to the dead letters. Who waits is kept in the broker's
    /// state, and the time-out is a delayed message: both outlive this process where the broker does. At most 2²⁰ items
    /// wait at once; beyond that the stage waits.
    ///
    /// # Guarantees
    /// Each item is in one pair, or is one dead letter.
    ///
    /// # Errors
    /// [`Graph::check`](crate::flow::Graph::check) refuses a broker without atomic steps, state or delays.
    ///
    /// ```
    /// use seedpod::{flow::Flow, queue::{Id, Memory}};
    /// use std::{sync::Arc, time::Duration};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
    /// let mut flow = Flow::new("shop");
    /// let (orders, payments) = (flow.source::<(u32, String)>("orders"), flow.source::<u32>("payments"));
    /// let number = |order: &(u32, String)| order.0.to_le_bytes();
    /// orders.pair(payments, number, |payment| payment.to_le_bytes(), Duration::from_secs(60)).sink("paid");
    /// let run = flow.build()?.on(Arc::new(Memory::new()));
    /// run.input("orders").await?.send(Id::of("order 7"), (7_u32, "a book".to_string())).await?;
    /// run.input("payments").await?.send(Id::of("payment of 7"), 7_u32).await?;
    /// run.until_drained().await?;
    /// let paid = run.output::<((u32, String), u32)>("paid")?.ready().await?;
    /// assert_eq!(paid, [((7, "a book".to_string()), 7)]);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn pair<In2, D, K, L>(
        self,
        other: Stream<In2, D>,
        key: impl Fn(&C::Out) -> K + Send + Sync + 'static,
        other_key: impl Fn(&D::Out) -> L + Send + Sync + 'static,
        within: Duration,
    ) -> Edge<(C::Out, D::Out)>
    where
        In2: Item,
        D: Chain<In2, Out: Item>,
        K: AsRef<[u8]> + 'static,
        L: AsRef<[u8]> + 'static,
    {
        let at = Location::caller();
        let same = Arc::ptr_eq(self.draft(), other.draft());
        let mut begun = self.after_edge(at);
        let left = begun.inputs.len();
        let (_, others) = other.into_edges(at);
        if same {
            begun.inputs.extend(others);
        } else {
            begun.draft.lock().mistake(at, "the two streams are of different flows");
        }
        let keys: (Key<C::Out>, Key<D::Out>) =
            (Box::new(move |one| Id::of(key(one))), Box::new(move |two| Id::of(other_key(two))));
        let keeper = Pairs { left, within, keys, marker: PhantomData };
        let (draft, stage) = begun.stage("pair", at, Job::Keeps(Arc::new(keeper)));
        let timers = draft.lock().topic(&format!("{}.timers", stage.name));
        let needs = vec![Need::AtomicStep, Need::State, Need::Delays];
        let stage = Stage { timers: Some(timers), needs, mixes: true, ..stage };
        let edges = draft.lock().stage(stage, &[("out", 0)], type_of::<(C::Out, D::Out)>());
        Edge::at_edges(draft, edges.into_iter().map(|edge| (edge, 1)).collect())
    }
}

type Key<T> = Box<dyn Fn(&T) -> Id + Send + Sync>;

struct Pairs<A, B> {
    /// How many of the inputs are the first stream's.
    left: usize,
    within: Duration,
    keys: (Key<A>, Key<B>),
    marker: PhantomData<fn(&A, &B)>,
}

/// Who waits under a key, with a number that tells one from another.
#[derive(Serialize, Deserialize)]
struct Waiting<A, B> {
    one: Vec<(u64, A)>,
    two: Vec<(u64, B)>,
}

/// Whose time is over: its key, its number.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Due {
    key: (u64, u64),
    number: u64,
}

fn halves(id: Id) -> (u64, u64) {
    ((id.as_u128() >> 64) as u64, id.as_u128() as u64)
}

/// The item, and its key; a panic of the key's function is the item's.
fn keyed<T: Item>(delivery: &Delivery, at: u32, key: &Key<T>) -> Result<(Id, T), Fault> {
    let item = delivery.get::<T>(at).cloned().map_or_else(|| read(delivery, at), Ok).map_err(Fault::Hopeless)?;
    match catch_unwind(AssertUnwindSafe(|| key(&item))) {
        Ok(key) => Ok((key, item)),
        Err(panic) => Err(Fault::Panicked(words_of(&*panic))),
    }
}

impl<A: Item, B: Item> Pairs<A, B> {
    /// Pairs an item, or has it wait.
    async fn take(
        &self,
        live: &Live,
        input: &LiveInput,
        (delivery, at): (&Delivery, u32),
        rows: &mut Rows<'_, Waiting<A, B>>,
        step: &mut Step,
    ) -> Result<Option<Fault>> {
        let none = || Waiting { one: Vec::new(), two: Vec::new() };
        let number = halves(delivery.id(at)).1;
        let (key, pair) = if input.number < self.left {
            match keyed(delivery, at, &self.keys.0) {
                Err(fault) => return Ok(Some(fault)),
                Ok((key, one)) => {
                    let row = rows.get(key).await?.get_or_insert_with(none);
                    if row.two.is_empty() {
                        row.one.push((number, one));
                        (key, None)
                    } else {
                        (key, Some((one, row.two.remove(0).1)))
                    }
                }
            }
        } else {
            match keyed(delivery, at, &self.keys.1) {
                Err(fault) => return Ok(Some(fault)),
                Ok((key, two)) => {
                    let row = rows.get(key).await?.get_or_insert_with(none);
                    if row.one.is_empty() {
                        row.two.push((number, two));
                        (key, None)
                    } else {
                        (key, Some((row.one.remove(0).1, two)))
                    }
                }
            }
        };
        let id = Id::derive(live.name(), delivery.id(at), u32::from(pair.is_none()), 0);
        let publish = match pair {
            Some(pair) => live.ports.first().map(|topic| Publish::new(topic, id, Payload::value(pair, Json))),
            None => live.stage.timers.as_ref().map(|timers| {
                let due = Due { key: halves(key), number };
                Publish::new(timers, id, Payload::value(due, Json)).delay(self.within)
            }),
        };
        step.publishes.extend(publish);
        Ok(None)
    }

    /// Gives up who still waits.
    fn give_up(live: &Live, due: Due, row: &mut Option<Waiting<A, B>>, step: &mut Step) -> Result {
        let Some(row) = row else { return Ok(()) };
        let one = row.one.iter().position(|(number, _)| *number == due.number).map(|at| row.one.remove(at).1);
        let two = row.two.iter().position(|(number, _)| *number == due.number).map(|at| row.two.remove(at).1);
        let payload = match (one, two) {
            (Some(one), _) => Payload::value(one, Json),
            (None, Some(two)) => Payload::value(two, Json),
            (None, None) => return Ok(()), // it was paired
        };
        let id = Id::derive(live.name(), Id::of(due.number.to_le_bytes()), DeadLetter::PORT, 0);
        let subscription = live.inputs.first().map(|input| input.subscription.clone());
        let subscription = subscription.ok_or_else(|| Error::from(Kind::NotFound))?;
        let mut publish = Publish::new(&live.plan.dead, id, payload);
        DeadLetter::new("its partner did not come in time", subscription, id, Default::default())
            .write(&mut publish.headers);
        step.publishes.push(publish);
        Ok(())
    }
}

impl<A: Item, B: Item> Keeper for Pairs<A, B> {
    fn keep<'a>(
        &'a self,
        live: &'a Live,
        input: &'a LiveInput,
        deliveries: &'a [Delivery],
        rng: &'a mut Rng,
    ) -> BoxFuture<'a, Result<(Vec<Part>, Step)>> {
        Box::pin(async move {
            let (mut step, mut parts, mut rows) = (Step::new(), Vec::new(), Rows::<Waiting<A, B>>::guarded(live));
            for delivery in deliveries {
                let mut part = Part::new(delivery);
                for at in 0..delivery.len() {
                    if input.from == From::Timers {
                        let due = delivery.get::<Due>(at).copied().map_or_else(|| delivery.json::<Due>(at), Ok)?;
                        let key = Id::from_u128(u128::from(due.key.0) << 64 | u128::from(due.key.1));
                        Self::give_up(live, due, rows.get(key).await?, &mut step)?;
                    } else if let Some(fault) = self.take(live, input, (delivery, at), &mut rows, &mut step).await? {
                        part.add(at, fault.fate(&live.stage.tuning, delivery.attempts, rng));
                    }
                }
                step = part.settle(step);
                parts.push(part);
            }
            let made = step.publishes.iter().filter(|publish| live.ports.first() == Some(&publish.topic)).count();
            if let Some(part) = parts.first_mut() {
                part.made = made as u64;
            }
            for (_, row) in rows.iter_mut() {
                if row.as_ref().is_some_and(|row| row.one.is_empty() && row.two.is_empty()) {
                    *row = None;
                }
            }
            Ok((parts, rows.onto(step)?))
        })
    }
}
