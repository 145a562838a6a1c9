//! One request to many leaves: ours, and futures under one by `join_all`, `FuturesUnordered` and futures-buffered.
//!
//! Time per leaf. Leaves are services that are always ready. Either all are pending once, or answers come one at a time, as
//! those of remote leaves do. Up to 30 leaves `join_all` is the bare thing; above that it is `FuturesUnordered`, since
//! `join_all` then is that with an order.

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use seedpod::{
    layer::Request,
    serving::{Endpoints, Scatter},
};
use seedpod_peers::{Group, Target};
use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    hint::black_box,
    ops::ControlFlow::Continue,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use tokio::runtime::Runtime;
use tower::{Service, service_fn};

/// Which leaves may answer, and who waits for it.
type Gates = Vec<(bool, Option<Waker>)>;

thread_local! {
    static GATES: RefCell<Gates> = const { RefCell::new(Vec::new()) };
}

/// Ready when its gate is open.
struct Gate(usize);

impl Future for Gate {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        GATES.with_borrow_mut(|gates| match gates.get_mut(self.0) {
            Some((false, waker)) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Opens one gate after the other and polls when woken: the bare poll, without a scheduler's turn for each answer.
fn one_at_a_time<F: Future>(leaves: usize, future: F, flag: &Arc<Flag>, waker: &Waker) -> F::Output {
    GATES.with_borrow_mut(|gates| {
        gates.clear();
        gates.resize(leaves, (false, None));
    });
    let (mut cx, mut future) = (Context::from_waker(waker), pin!(future));
    if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
        return output;
    }
    for turn in 0..leaves {
        let leaf = (turn * 7 + 3) % leaves;
        let woken = GATES.with_borrow_mut(|gates| {
            let gate = gates.get_mut(leaf)?;
            gate.0 = true;
            gate.1.take()
        });
        if let Some(woken) = woken {
            woken.wake();
        }
        if flag.0.swap(false, SeqCst)
            && let Poll::Ready(output) = future.as_mut().poll(&mut cx)
        {
            return output;
        }
    }
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

/// A leaf that is pending once.
fn yielding(
    leaf: usize,
) -> impl Service<Request<u64>, Response = u64, Error = Infallible, Future: Send> + Clone + Send + Sync {
    service_fn(move |request: Request<u64>| async move {
        tokio::task::yield_now().await;
        Ok(request.message() ^ leaf as u64)
    })
}

/// A leaf that answers when its gate is opened. Seven has no part in the number of leaves, so that all are.
fn gated(
    leaf: usize,
) -> impl Service<Request<u64>, Response = u64, Error = Infallible, Future: Send> + Clone + Send + Sync {
    service_fn(move |request: Request<u64>| async move {
        Gate(leaf).await;
        Ok(request.message() ^ leaf as u64)
    })
}

fn set<S: Clone>(leaves: usize, leaf: impl Fn(usize) -> S) -> Endpoints<S> {
    let endpoints = Endpoints::named("leaves");
    endpoints.update(|changes| {
        for number in 0..leaves {
            changes.insert(number.to_string(), leaf(number));
        }
    });
    endpoints
}

fn xor(sum: u64, answer: Result<u64, Infallible>) -> u64 {
    match answer {
        Ok(answer) => sum ^ answer,
        Err(never) => match never {},
    }
}

/// How a future is driven.
trait Drive: Copy {
    fn drive<F: Future>(self, leaves: usize, future: F) -> F::Output;
}

/// By a runtime of one thread.
#[derive(Clone, Copy)]
struct OnRuntime<'a>(&'a Runtime);

impl Drive for OnRuntime<'_> {
    fn drive<F: Future>(self, _: usize, future: F) -> F::Output {
        self.0.block_on(future)
    }
}

/// One answer at a time.
#[derive(Clone, Copy)]
struct Stepped<'a>(&'a Arc<Flag>, &'a Waker);

impl Drive for Stepped<'_> {
    fn drive<F: Future>(self, leaves: usize, future: F) -> F::Output {
        one_at_a_time(leaves, future, self.0, self.1)
    }
}

/// One case: an operation is a leaf.
fn case<'a, S>(
    name: &str,
    leaves: usize,
    target: Target,
    by: impl Drive + 'a,
    leaf: impl Fn(usize) -> S + Copy,
) -> Group<'a>
where
    S: Service<Request<u64>, Response = u64, Error = Infallible> + Clone + 'a,
{
    let rounds = move |count: u64| 0..count.div_ceil(leaves as u64);
    let services = || (0..leaves).map(leaf).collect::<Vec<_>>();
    let calls = |services: &mut Vec<S>, number: u64| {
        services.iter_mut().map(|service| service.call(Request::new(number))).collect::<Vec<_>>()
    };
    let group = Group::new(format!("scatter/{name}/{leaves}"), target);
    let mut scatter = Scatter::new(set(leaves, leaf)).fold(
        || 0,
        |sum, _, answer| {
            *sum ^= answer;
            Continue(())
        },
    );
    let mut collect = Scatter::new(set(leaves, leaf));
    let (mut a, mut b, mut c, mut d) = (services(), services(), services(), services());
    let ours = move |count| {
        for number in rounds(count) {
            black_box(by.drive(leaves, scatter.call(Request::new(black_box(number)))).map_or(0, |sum| sum.value));
        }
    };
    let collected = move |count| {
        for number in rounds(count) {
            let answers = by.drive(leaves, collect.call(Request::new(black_box(number))));
            black_box(answers.map_or(0, |answers| answers.into_values().fold(0, |sum, answer| sum ^ answer)));
        }
    };
    let joined = move |count| {
        for number in rounds(count) {
            let all = join_all(a.iter_mut().map(|service| service.call(Request::new(black_box(number)))));
            black_box(by.drive(leaves, all).into_iter().fold(0, xor));
        }
    };
    let unordered = move |count| {
        for number in rounds(count) {
            let mut all: FuturesUnordered<_> =
                b.iter_mut().map(|service| service.call(Request::new(black_box(number)))).collect();
            black_box(by.drive(leaves, async {
                let mut sum = 0;
                while let Some(answer) = all.next().await {
                    sum = xor(sum, answer);
                }
                sum
            }));
        }
    };
    let buffered_join = move |count| {
        for number in rounds(count) {
            let all =
                futures_buffered::join_all(c.iter_mut().map(|service| service.call(Request::new(black_box(number)))));
            black_box(by.drive(leaves, all).into_iter().fold(0, xor));
        }
    };
    let buffered = move |count| {
        for number in rounds(count) {
            let mut all: futures_buffered::FuturesUnorderedBounded<_> =
                calls(&mut d, black_box(number)).into_iter().collect();
            black_box(by.drive(leaves, async {
                let mut sum = 0;
                while let Some(answer) = all.next().await {
                    sum = xor(sum, answer);
                }
                sum
            }));
        }
    };
    let group = group.ours("Scatter", ours).beside("Scatter, answers by name", collected);
    let group = match leaves {
        ..=30 => group.bare("join_all", joined).peer("FuturesUnordered", unordered),
        _ => group.bare("FuturesUnordered", unordered).peer("join_all", joined),
    };
    group.peer("futures-buffered join_all", buffered_join).peer("futures-buffered unordered", buffered)
}

fn main() -> std::io::Result<()> {
    let runtime = &tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let flag = Arc::new(Flag::default());
    let waker = &Waker::from(flag.clone());
    for leaves in [4, 16, 30, 64, 256] {
        let (once, single) = if leaves <= 30 { (1.5, 1.0) } else { (0.5, 0.7) };
        let mut within = Scatter::new(set(leaves, yielding)).within(Duration::from_secs(1)).fold(
            || 0,
            |sum, _, answer| {
                *sum ^= answer;
                Continue(())
            },
        );
        let mut services: Vec<_> = (0..leaves).map(yielding).collect();
        case("once", leaves, Target::of_bare(once), OnRuntime(runtime), yielding)
            .beside("Scatter within a second", move |count| {
                for number in 0..count.div_ceil(leaves as u64) {
                    let sum = runtime.block_on(within.call(Request::new(black_box(number))));
                    black_box(sum.map_or(0, |sum| sum.value));
                }
            })
            .beside("join_all in a timeout", move |count| {
                for number in 0..count.div_ceil(leaves as u64) {
                    let sum = runtime.block_on(async {
                        let all = services.iter_mut().map(|service| service.call(Request::new(black_box(number))));
                        tokio::time::timeout(Duration::from_secs(1), join_all(all)).await
                    });
                    black_box(sum.map_or(0, |all| all.into_iter().fold(0, xor)));
                }
            })
            .run();
        case("single", leaves, Target::of_bare(single), Stepped(&flag, waker), gated).run();
    }
    Ok(())
}
