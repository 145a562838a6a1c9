//! A set of endpoints that follows a stream of changes.

use super::{
    super::{Attributes, Changes, Endpoints},
    Member,
};
use crate::{
    base::{
        Error, Kind, Result,
        time::{self, Instant, after, sleep_until},
    },
    store::{Change, Entry},
};
use futures::{Stream, StreamExt, future::BoxFuture};
use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, IntoFuture, Pending, pending},
    pin::pin,
    sync::Arc,
    time::Duration,
};

/// How long an endpoint that its source has taken out may take over what it has in flight, seen as draining.
const LINGER: Duration = Duration::from_secs(30);
/// How often it is looked whether that has ended.
const LOOK: Duration = Duration::from_millis(50);

/// What a batch of changes asks for, in order.
enum Step<A> {
    Connect(Arc<str>, A, Attributes),
    Know(Arc<str>, Attributes),
    Drain(Arc<str>),
    Leave(Arc<str>),
}

/// What the source has told so far.
struct View<A> {
    members: BTreeMap<Arc<str>, Member<A>>,
}

impl<A: Clone + PartialEq> View<A> {
    fn take<V>(&mut self, change: Change<V>, read: &mut impl FnMut(&Entry<V>) -> Option<Member<A>>) -> Vec<Step<A>> {
        let mut steps = Vec::new();
        match change {
            Change::Reset { entries, .. } => {
                let mut told: BTreeMap<&str, &Entry<V>> = BTreeMap::new();
                told.extend(entries.iter().map(|entry| (entry.key.as_str(), entry)));
                let gone: Vec<_> = self.members.keys().filter(|key| !told.contains_key(&***key)).cloned().collect();
                gone.into_iter().for_each(|key| self.put(&key, None, &mut steps));
                told.into_iter().for_each(|(key, entry)| self.put(key, read(entry), &mut steps));
            }
            Change::Put { entry, .. } => self.put(entry.key.as_str(), read(&entry), &mut steps),
            Change::Remove(entry) => self.put(entry.key.as_str(), None, &mut steps),
        }
        steps
    }

    fn put(&mut self, key: &str, member: Option<Member<A>>, steps: &mut Vec<Step<A>>) {
        let known = self.members.get_key_value(key);
        let key: Arc<str> = known.map_or_else(|| key.into(), |(key, _)| key.clone());
        let Some(member) = member else {
            if self.members.remove(&key).is_some() {
                steps.push(Step::Leave(key));
            }
            return;
        };
        match known {
            Some((_, old)) if *old == member => return,
            // only a service that is put in anew ends a draining
            Some((_, old)) if old.address == member.address && (member.draining || !old.draining) => {
                if old.attributes != member.attributes {
                    steps.push(Step::Know(key.clone(), member.attributes.clone()));
                }
                if member.draining && !old.draining {
                    steps.push(Step::Drain(key.clone()));
                }
            }
            _ => {
                steps.push(Step::Connect(key.clone(), member.address.clone(), member.attributes.clone()));
                if member.draining {
                    steps.push(Step::Drain(key.clone()));
                }
            }
        }
        self.members.insert(key, member);
    }
}

/// What has been taken out and still has calls in flight. Its end takes all of them out.
struct Leaving<S: Clone> {
    endpoints: Endpoints<S>,
    /// By key, until when.
    list: BTreeMap<Arc<str>, Instant>,
}

impl<S: Clone> Leaving<S> {
    fn obey<A>(&mut self, steps: Vec<Step<A>>, connect: &mut impl FnMut(&A) -> S, linger: Duration) {
        if steps.is_empty() {
            return;
        }
        let (endpoints, list, until) = (&self.endpoints, &mut self.list, after(time::now(), linger));
        endpoints.update(|changes| {
            for step in steps {
                match step {
                    Step::Connect(key, address, attributes) => {
                        list.remove(&key);
                        *changes.insert(key, connect(&address)) = attributes;
                    }
                    Step::Know(key, attributes) => changes.alter(key, move |known| *known = attributes.clone()),
                    Step::Drain(key) => changes.drain(key),
                    Step::Leave(key) if endpoints.pending(&key).unwrap_or(0) == 0 => changes.remove(key),
                    Step::Leave(key) => {
                        changes.drain(key.clone());
                        list.insert(key, until);
                    }
                }
            }
        });
    }

    /// Takes those out that have nothing in flight any more, or have had their time.
    fn sweep(&mut self, now: Instant) {
        let endpoints = &self.endpoints;
        let mut over = Vec::new();
        self.list.retain(|key, until| {
            let stays = now < *until && endpoints.pending(key).unwrap_or(0) > 0;
            if !stays {
                over.push(key.clone());
            }
            stays
        });
        self.remove(over.into_iter());
    }

    fn remove(&self, keys: impl Iterator<Item = Arc<str>>) {
        let current = self.endpoints.current_shared();
        // who was put in anew by another hand is not ours any more
        let drained = keys.filter(|key| current.about(key).is_some_and(|about| about.draining));
        self.endpoints.update(|changes: &mut Changes<S>| drained.for_each(|key| changes.remove(key)));
    }
}

impl<S: Clone> Drop for Leaving<S> {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.list);
        self.remove(left.into_keys());
    }
}

impl<S: Clone> Endpoints<S> {
    /// Follows a stream of batches of changes, such as a [watched](crate::store::Store::watch) prefix: `read` says what an
    /// entry is as an endpoint (none, and it is left out), `connect` makes the service for an address. See [`Follow`].
    ///
    /// ```
    /// use seedpod::{serving::{Endpoints, Member}, store::{Since, Store, Write}};
    /// use std::time::Duration;
    ///
    /// #[derive(Clone)]
    /// struct Backend { address: String, weight: u32 }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let store = Store::<Backend>::new();
    /// let endpoints = Endpoints::named("cart");
    /// let following = endpoints.follow(
    ///     store.watch("cart/", Since::Start),
    ///     |entry| Some(Member::new(entry.value.address.clone()).about(|it| { it.weight(entry.value.weight); })),
    ///     |address| format!("a client of {address}"),
    /// );
    /// tokio::spawn(following.into_future());
    ///
    /// store.commit(vec![Write::put("cart/a", Backend { address: "10.0.0.1:80".into(), weight: 3 })]).await?;
    /// tokio::time::sleep(Duration::from_millis(1)).await;
    /// assert_eq!(endpoints.describe()[0].to_string(), "cart/a: ready, weight 3");
    /// # use std::future::IntoFuture;
    /// # seedpod::Result::<()>::Ok(()) }).unwrap();
    /// ```
    pub fn follow<C, B, V, A, R, F>(&self, changes: C, read: R, connect: F) -> Follow<S, C, R, F>
    where
        C: Stream<Item = B>,
        B: IntoIterator<Item = Change<V>>,
        R: FnMut(&Entry<V>) -> Option<Member<A>>,
        F: FnMut(&A) -> S,
    {
        Follow { endpoints: self.clone(), changes, read, connect, linger: LINGER, until: pending() }
    }
}

/// A set of endpoints about to follow its source; it begins when awaited. Made by
/// [`Endpoints::follow`](super::super::Endpoints::follow).
///
/// 1. Each batch is applied in one step. A reset replaces what this source has told, and nothing else: several sources
///    can fill one set, under keys of their own.
/// 2. An endpoint that stays at its address keeps its service, and with it its connections, whatever else becomes known
///    of it. Only a new address asks for a new service.
/// 3. An endpoint that is taken out gets no new picks. What it has in flight ends; until then, for at most
///    [`linger`](Follow::linger), it is in the set as draining, so that it keeps its place in the books if it comes back.
///
/// **Guarantees**: whatever the stream skips (a slow watcher is given each changed key once, or a reset), the set is what
/// the source has told last. An endpoint that is told again as it is changes nothing.
///
/// # Errors
/// [`Kind::Closed`], naming the set, when the stream ends: what is in the set stays, as the last that was known. With
/// [`until`](Follow::until) it ends well, and leaves the set in the same way.
///
/// **Cancel-safety**: dropping it ends the following; what is in the set stays, and those that were leaving are out.
#[must_use = "nothing is followed until it is awaited"]
pub struct Follow<S, C, R, F, U = Pending<()>> {
    endpoints: Endpoints<S>,
    changes: C,
    read: R,
    connect: F,
    linger: Duration,
    until: U,
}

impl<S, C, R, F, U> Follow<S, C, R, F, U> {
    /// How long an endpoint that was taken out is kept as draining while calls are under way in it: 30 s, as long as
    /// Kubernetes gives a pod to end. After it such calls still go on, unseen.
    pub fn linger(self, linger: Duration) -> Self {
        Follow { linger, ..self }
    }

    /// Ends when this future does, such as [`Context::stopped`](crate::pod::Context::stopped).
    pub fn until<W: Future>(self, until: W) -> Follow<S, C, R, F, W> {
        let Follow { endpoints, changes, read, connect, linger, .. } = self;
        Follow { endpoints, changes, read, connect, linger, until }
    }

    async fn run<B, V, A>(self) -> Result
    where
        S: Clone,
        C: Stream<Item = B>,
        B: IntoIterator<Item = Change<V>>,
        R: FnMut(&Entry<V>) -> Option<Member<A>>,
        F: FnMut(&A) -> S,
        A: Clone + PartialEq,
        U: Future,
    {
        let Follow { endpoints, changes, mut read, mut connect, linger, until } = self;
        let (mut changes, mut until) = (pin!(changes), pin!(until));
        let mut view = View { members: BTreeMap::new() };
        let mut leaving = Leaving { endpoints, list: BTreeMap::new() };
        let mut look = time::now();
        loop {
            tokio::select! {
                biased;
                _ = &mut until => return Ok(()),
                () = sleep_until(look), if !leaving.list.is_empty() => {
                    leaving.sweep(time::now());
                    look = time::now() + LOOK;
                }
                batch = changes.next() => {
                    let Some(batch) = batch else {
                        let error = Error::new(Kind::Closed, "the stream of its changes has ended");
                        return Err(error.at(leaving.endpoints.name_shared()));
                    };
                    let steps = batch.into_iter().flat_map(|change| view.take(change, &mut read)).collect();
                    leaving.obey(steps, &mut connect, linger);
                }
            }
        }
    }
}

impl<S, C, R, F, U, B, V, A> IntoFuture for Follow<S, C, R, F, U>
where
    S: Clone + Send + Sync + 'static,
    C: Stream<Item = B> + Send + 'static,
    B: IntoIterator<Item = Change<V>> + 'static,
    R: FnMut(&Entry<V>) -> Option<Member<A>> + Send + 'static,
    F: FnMut(&A) -> S + Send + 'static,
    V: 'static,
    A: Clone + PartialEq + Send + Sync + 'static,
    U: Future + Send + 'static,
{
    type Output = Result;
    type IntoFuture = BoxFuture<'static, Result>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<S, C, R, F, U> fmt::Debug for Follow<S, C, R, F, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("endpoints", &self.endpoints)
            .field("linger", &self.linger)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
