//! Calls that wait for each other: they join a group until it is full or its time is over, then all of them drive the one
//! call that is made for them.

use super::{BatchBy, Ends, Weighed};
use crate::base::{
    BoxError, Error, Kind, Result,
    sync::Lock,
    time::{self, Instant},
};
use crate::queue::Done;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};
use tokio::sync::Notify;
use tower::{Service, ServiceExt};

/// The ends of a group's messages, by the place that each has in it; what was taken is gone.
type Taken = Arc<Lock<Result<BTreeMap<usize, Result<Done>>>>>;
type Call = Shared<BoxFuture<'static, Taken>>;

pub(super) struct Groups<S, M> {
    by: BatchBy,
    service: S,
    /// The group that takes more in.
    open: Lock<Option<Arc<Group<M>>>>,
}

struct Group<M> {
    /// When it is closed at the latest.
    until: Instant,
    state: Lock<State<M>>,
    closed: Notify,
}

enum State<M> {
    Open { members: BTreeMap<usize, M>, next: usize, bytes: usize },
    Closed(Call),
}

impl<S, M> Groups<S, M> {
    pub(super) fn by(&self) -> BatchBy {
        self.by
    }
}

impl<S, M> Groups<S, M>
where
    M: Send + 'static,
    S: Service<Vec<M>, Response = Ends> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    pub(super) fn new(by: BatchBy, service: S) -> Self {
        Groups { by, service, open: Lock::new(None) }
    }

    /// The group that a message becomes a member of, and its place there.
    fn join(&self, message: M, bytes: usize) -> (Arc<Group<M>>, usize) {
        let until = time::after(time::now(), self.by.within);
        let (group, place, full) = {
            let mut open = self.open.lock();
            let group = open.get_or_insert_with(|| Arc::new(Group::new(until))).clone();
            let (place, full) = group.enter(message, bytes, self.by);
            if full {
                *open = None;
            }
            (group, place, full)
        };
        if full {
            group.close(self.service.clone());
        }
        (group, place)
    }

    /// The group takes in no more.
    fn close(&self, group: &Arc<Group<M>>) {
        {
            let mut open = self.open.lock();
            if open.as_ref().is_some_and(|open| Arc::ptr_eq(open, group)) {
                *open = None;
            }
        }
        group.close(self.service.clone());
    }
}

impl<M: Send + 'static> Group<M> {
    fn new(until: Instant) -> Self {
        let state = State::Open { members: BTreeMap::new(), next: 0, bytes: 0 };
        Group { until, state: Lock::new(state), closed: Notify::new() }
    }

    /// Its place, and whether the group is full with it.
    fn enter(&self, message: M, size: usize, by: BatchBy) -> (usize, bool) {
        match &mut *self.state.lock() {
            State::Open { members, next, bytes } => {
                let place = *next;
                *next += 1;
                *bytes = bytes.saturating_add(size);
                members.insert(place, message);
                (place, members.len() >= by.size || *bytes >= by.bytes)
            }
            State::Closed(_) => (usize::MAX, false), // none is entered once it is closed: it is no longer the open one
        }
    }

    fn leave(&self, place: usize) {
        let left = match &mut *self.state.lock() {
            State::Open { members, .. } => members.remove(&place),
            State::Closed(_) => None,
        };
        drop(left); // outside of the lock
    }

    fn close<S>(&self, service: S)
    where
        S: Service<Vec<M>, Response = Ends> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError> + 'static,
        S::Future: Send,
    {
        let mut state = self.state.lock();
        if let State::Open { members, .. } = &mut *state {
            let members = std::mem::take(members);
            *state = State::Closed(call(service, members).boxed().shared());
        }
        drop(state);
        self.closed.notify_waiters();
    }

    fn call(&self) -> Option<Call> {
        match &*self.state.lock() {
            State::Open { .. } => None,
            State::Closed(call) => Some(call.clone()),
        }
    }
}

/// The one call for all of them. A panic in it is told to each of them.
async fn call<S, M>(service: S, members: BTreeMap<usize, M>) -> Taken
where
    S: Service<Vec<M>, Response = Ends> + Send,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
    M: Send,
{
    let (places, messages): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    let called = AssertUnwindSafe(service.oneshot(messages)).catch_unwind().await;
    let ends = match called {
        Ok(Ok(ends)) => Ok(places.into_iter().zip(ends).collect()),
        Ok(Err(error)) => Err(Error::adopt(error, Kind::Failed)),
        Err(_) => Err(Error::new(Kind::Panicked, "the handler of its batch panicked")),
    };
    Arc::new(Lock::new(ends))
}

/// One message in a group; dropped before the group is closed, it leaves it.
pub(super) struct Joined<S, M: Send + 'static> {
    groups: Arc<Groups<S, M>>,
    message: Option<M>,
    member: Option<Member<M>>,
}

struct Member<M: Send + 'static> {
    group: Arc<Group<M>>,
    place: usize,
}

impl<M: Send + 'static> Drop for Member<M> {
    fn drop(&mut self) {
        self.group.leave(self.place);
    }
}

impl<S, M> Joined<S, M>
where
    M: Weighed + Send + 'static,
    S: Service<Vec<M>, Response = Ends> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send,
{
    pub(super) fn new(groups: Arc<Groups<S, M>>, message: M) -> Self {
        Joined { groups, message: Some(message), member: None }
    }

    /// How the message ended.
    pub(super) async fn end(mut self) -> Result<Done> {
        let lost = || Error::new(Kind::Failed, "its batch said nothing of it");
        let message = self.message.take().ok_or_else(lost)?;
        let bytes = message.weight();
        let (group, place) = self.groups.join(message, bytes);
        self.member = Some(Member { group: group.clone(), place });
        let call = loop {
            let closed = group.closed.notified();
            if let Some(call) = group.call() {
                break call;
            }
            tokio::select! {
                biased;
                () = closed => {}
                () = time::sleep_until(group.until) => self.groups.close(&group),
            }
        };
        let taken = call.await;
        match &mut *taken.lock() {
            Ok(ends) => ends.remove(&place).unwrap_or_else(|| Err(lost())),
            Err(error) => Err(error.clone()),
        }
    }
}
