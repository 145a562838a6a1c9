//! Window: items put together by count or by time.

use crate::base::{Result, Rng};
use crate::flow::{
    Chain, Edge, Item, Stream,
    draft::{Job, Stage},
    fault::Fault,
    fused::read,
    keeper::{From, Keeper, Rows},
    live::{Live, LiveInput},
    part::Part,
    stream::type_of,
};
use crate::queue::{Delivery, Id, Json, Need, Payload, Publish, Step};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::{marker::PhantomData, panic::Location, sync::Arc, time::Duration};

/// When a [`window`](Stream::window) closes: at this many items, or after this long, whichever is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    items: usize,
    age: Duration,
}

impl Window {
    /// At this many items, and not before `age` has passed since the first of them; 0 counts as 1.
    pub const fn new(items: usize, age: Duration) -> Window {
        Window { items: if items == 0 { 1 } else { items }, age }
    }
}

impl<In: Item, C: Chain<In, Out: Item>> Stream<In, C> {
    /// Puts items together, in lists: one closes when it is full, or when its first item is `age` old. What is open is
    /// kept in the broker's state, and closed by a delayed message: both outlive this process where the broker does.
    ///
    /// # Guarantees
    /// Each item is in one list. A list is never empty.
    ///
    /// # Errors
    /// [`Graph::check`](crate::flow::Graph::check) refuses a broker without atomic steps, state or delays.
    ///
    /// ```
    /// use seedpod::{flow::{Flow, Window}, queue::{Id, Memory}};
    /// use std::{sync::Arc, time::Duration};
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
    /// let mut flow = Flow::new("mails");
    /// flow.source::<u32>("mails").window(Window::new(2, Duration::from_secs(10))).sink("lists");
    /// let run = flow.build()?.on(Arc::new(Memory::new()));
    /// run.input::<u32>("mails").await?.batch(Id::of("monday"), vec![1, 2, 3]).await?;
    /// run.until_drained().await?;
    /// assert_eq!(run.output::<Vec<u32>>("lists")?.ready().await?, [vec![1, 2], vec![3]]);
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn window(self, window: Window) -> Edge<Vec<C::Out>> {
        let at = Location::caller();
        let begun = self.after_edge(at);
        let keeper = Windows::<C::Out> { window, marker: PhantomData };
        let (draft, stage) = begun.stage("window", at, Job::Keeps(Arc::new(keeper)));
        let timers = draft.lock().topic(&format!("{}.timers", stage.name));
        let needs = vec![Need::AtomicStep, Need::State, Need::Delays];
        let stage = Stage { timers: Some(timers), needs, mixes: true, ..stage };
        let edges = draft.lock().stage(stage, &[("out", 0)], type_of::<Vec<C::Out>>());
        Edge::at_edges(draft, edges.into_iter().map(|edge| (edge, 1)).collect())
    }
}

struct Windows<T> {
    window: Window,
    marker: PhantomData<fn(&T)>,
}

/// The window that is open.
#[derive(Serialize, Deserialize)]
struct Open<T> {
    /// How many were closed before it.
    number: u64,
    items: Vec<T>,
}

impl<T: Item> Windows<T> {
    fn close(live: &Live, open: &mut Open<T>, step: &mut Step) {
        let id = Id::derive(live.name(), Id::of(open.number.to_le_bytes()), 0, 0);
        let items = std::mem::take(&mut open.items);
        open.number += 1;
        step.publishes.extend(live.ports.first().map(|topic| Publish::new(topic, id, Payload::value(items, Json))));
    }
}

impl<T: Item> Keeper for Windows<T> {
    fn keep<'a>(
        &'a self,
        live: &'a Live,
        input: &'a LiveInput,
        deliveries: &'a [Delivery],
        rng: &'a mut Rng,
    ) -> BoxFuture<'a, Result<(Vec<Part>, Step)>> {
        Box::pin(async move {
            let (mut step, mut parts, mut rows) = (Step::new(), Vec::new(), Rows::<Open<T>>::new(live));
            let open = rows.get(Id::of("open")).await?.get_or_insert_with(|| Open { number: 0, items: Vec::new() });
            let (before, was_empty) = (open.number, open.items.is_empty());
            for delivery in deliveries {
                let mut part = Part::new(delivery);
                for at in 0..delivery.len() {
                    if input.from == From::Timers {
                        if delivery.json::<u64>(at)? == open.number && !open.items.is_empty() {
                            Self::close(live, open, &mut step);
                        }
                        continue;
                    }
                    match delivery.get::<T>(at).cloned().map_or_else(|| read(delivery, at), Ok) {
                        Ok(item) => open.items.push(item),
                        Err(words) => {
                            part.add(at, Fault::Hopeless(words).fate(&live.stage.tuning, delivery.attempts, rng));
                        }
                    }
                    if open.items.len() >= self.window.items {
                        Self::close(live, open, &mut step);
                    }
                }
                step = part.settle(step);
                parts.push(part);
            }
            if let Some(part) = parts.first_mut() {
                part.made = open.number - before;
            }
            let begins = !open.items.is_empty() && (was_empty || open.number != before);
            if let Some(timers) = live.stage.timers.as_ref().filter(|_| begins) {
                let id = Id::derive(live.name(), Id::of(open.number.to_le_bytes()), 1, 0);
                let due = Publish::new(timers, id, Payload::value(open.number, Json)).delay(self.window.age);
                step.publishes.push(due);
            }
            Ok((parts, rows.onto(step)?))
        })
    }
}
