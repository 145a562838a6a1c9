//! The engine: any order, any number, wakes from other threads, polls of those that were woken.

use super::*;
use futures::channel::oneshot;
use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    task::{Wake, Waker},
};

/// A leaf that answers when its channel does; it counts its polls.
fn told<const BYTES: usize>(
    channels: Vec<oneshot::Receiver<u32>>,
    polls: Arc<AtomicU32>,
) -> Scatter<
    impl Leaves<
        Request<u32>,
        Service = impl Service<Request<u32>, Response = u32, Error = Error, Future: Send + 'static> + Clone + Send + 'static,
        Request = Request<u32>,
    > + Clone,
> {
    let channels = Arc::new(Lock::new(channels.into_iter().map(Some).collect::<Vec<_>>()));
    let leaf = service_fn(move |place: Request<u32>| {
        let mut channel = channels.lock()[*place.message() as usize].take().unwrap();
        let polls = polls.clone();
        let ballast = [1_u8; BYTES];
        async move {
            let answer = std::future::poll_fn(|cx| {
                polls.fetch_add(1, SeqCst);
                channel.poll_unpin(cx)
            });
            let answer = answer.await.map_err(|_| Error::from(Kind::Closed));
            Ok::<_, Error>(answer? + ballast.iter().map(|byte| u32::from(*byte)).sum::<u32>())
        }
    });
    Scatter::new(move |count: Request<u32>| {
        let leaf = |place: u32| Leaf::new(place.to_string(), leaf.clone(), Request::new(place));
        Ok((0..count.into_message()).map(leaf).collect())
    })
}

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Answers in a random order, some at once: it ends with the very answer that it needs, after as few polls as there can be.
fn any_order<const BYTES: usize>(rounds: u32, sizes: &[u32]) {
    let mut rng = Seed::new(BYTES as u64).rng();
    for round in 0..rounds {
        let count = sizes[(round as usize) % sizes.len()];
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
        let mut senders: Vec<_> = senders.into_iter().enumerate().collect();
        let polls = Arc::new(AtomicU32::new(0));
        let needed = rng.range(1..u64::from(count) + 1) as usize;
        let mut scatter = told::<BYTES>(receivers, polls.clone()).require(Require::Quorum(needed));
        let woken = Arc::new(Count::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let mut call = Box::pin(scatter.call(Request::new(count)));
        let early = rng.below(u64::from(count) + 1) as usize;
        let mut sent = BTreeSet::new();
        let mut send = |rng: &mut crate::base::Rng, sent: &mut BTreeSet<usize>| {
            let (place, sender) = senders.swap_remove(rng.below(senders.len() as u64) as usize);
            sender.send(place as u32).unwrap();
            sent.insert(place);
        };
        (0..early.min(needed - 1)).for_each(|_| send(&mut rng, &mut sent));
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert_eq!(polls.load(SeqCst), count);
        while sent.len() < needed {
            let (before, visited) = (woken.0.load(SeqCst), polls.load(SeqCst));
            // several between two polls, sometimes
            let more = rng.range(1..4).min((needed - sent.len()) as u64);
            (0..more).for_each(|_| send(&mut rng, &mut sent));
            assert!(woken.0.load(SeqCst) > before, "round {round}: somebody must poll");
            let polled = call.as_mut().poll(&mut cx);
            let over = sent.len() == needed;
            assert_eq!(polled.is_ready(), over, "round {round}: {} of {needed} of {count}", sent.len());
            if count > 4 {
                assert_eq!(u64::from(polls.load(SeqCst) - visited), more, "round {round}: only those that were woken");
            }
            if let Poll::Ready(answers) = polled {
                let answers = answers.unwrap();
                let want: Vec<u32> = sent.iter().map(|place| *place as u32 + BYTES as u32).collect();
                assert_eq!(answers.into_values().collect::<Vec<_>>(), want, "round {round}");
            }
        }
        assert!(senders.iter().all(|(_, sender)| sender.is_canceled()), "round {round}: the others are dropped");
    }
}

#[test]
fn answers_in_any_order_cost_a_poll_each_and_the_last_one_needed_ends_it() {
    let sizes: Vec<u32> = (1..=70).chain([128, 129, 200, 300]).collect();
    any_order::<0>(1_500, &sizes);
    any_order::<900>(150, &sizes); // blocks of 16
    any_order::<4_000>(150, &sizes); // boxes
}

#[test]
fn no_wake_is_lost_across_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        for round in 0..2_000_u32 {
            let count = 1 + round % 130;
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
            let sends = tokio::spawn(async move {
                for (place, sender) in senders.into_iter().enumerate() {
                    let _ = sender.send(place as u32); // gone, where it ended early
                    if place % 7 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            });
            let needed = if round % 5 == 0 { count.div_ceil(2) } else { count };
            let mut scatter = told::<0>(receivers, Arc::default()).require(Require::Quorum(needed as usize));
            let call = tokio::spawn(scatter.call(Request::new(count)));
            let answers = Deadline::within(Duration::from_secs(60)).bound(call).await.expect("a wake was lost");
            let answers = answers.unwrap().unwrap();
            assert_eq!(answers.tally().leaves(), count as usize);
            assert!(answers.tally().answered >= needed as usize);
            for (name, answer) in answers.answered() {
                assert_eq!(*name, *answer.to_string());
            }
            sends.await.unwrap();
        }
    });
}

#[test]
fn a_waker_of_an_earlier_request_costs_at_most_a_poll() {
    let mut stale = Vec::new();
    for count in [60, 7, 30, 64, 5, 100, 33] {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| oneshot::channel()).unzip();
        let polls = Arc::new(AtomicU32::new(0));
        let mut scatter = told::<0>(receivers, polls.clone());
        let wakers = Arc::new(Lock::new(Vec::new()));
        let noop = Context::from_waker(Waker::noop());
        let mut call = Box::pin(scatter.call(Request::new(count)));
        assert!(call.as_mut().poll(&mut { noop }).is_pending());
        let keeping = wakers.clone();
        let mut keeper = Scatter::new(move |_: Request<u32>| {
            let keeping = keeping.clone();
            let keep = service_fn(move |_: Request<u32>| {
                let keeping = keeping.clone();
                std::future::poll_fn(move |cx| {
                    keeping.lock().push(cx.waker().clone());
                    Poll::<Result<()>>::Pending
                })
            });
            Ok((0..count).map(|place| Leaf::new(place.to_string(), keep.clone(), Request::new(place))).collect())
        });
        assert!(keeper.call(Request::new(0)).now_or_never().is_none());
        stale.append(&mut wakers.lock());
        stale.iter().for_each(Waker::wake_by_ref);
        let before = polls.load(SeqCst);
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(polls.load(SeqCst) - before <= count);
        senders.into_iter().enumerate().for_each(|(place, sender)| sender.send(place as u32).unwrap());
        let answers = call.now_or_never().unwrap().unwrap();
        assert_eq!(answers.into_values().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
    }
}

/// tokio makes channels and timers pending once a task has used up its turn: with 130 leaves and more that happens.
#[tokio::test]
async fn more_leaves_than_tokio_polls_in_one_turn_all_answer() {
    for count in [128, 129, 130, 1_000] {
        let endpoints = Endpoints::named("many");
        let gate = Arc::new(tokio::sync::Semaphore::new(usize::MAX >> 4));
        for number in 0..count {
            let gate = gate.clone();
            let service = service_fn(move |_: Request<u32>| {
                let gate = gate.clone();
                async move {
                    gate.acquire().await.map(|_| number).map_err(|error| Error::new(Kind::Closed, "").because(error))
                }
            });
            endpoints.insert(number.to_string(), service);
        }
        let answers = Scatter::new(endpoints).call(request()).await.unwrap();
        assert_eq!(answers.into_values().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
    }
}
