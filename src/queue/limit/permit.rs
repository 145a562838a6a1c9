//! Entering: what a message takes of every limit before it is begun, and gives back when it is over.

use super::{
    Limit,
    places::{What, whole},
    shared::{Shared, refuse},
};
use crate::{
    base::{
        Name, Result, Rng,
        sync::Lock,
        time::{self, Instant, WallClock},
    },
    queue::{Broker, Id, Message},
};
use std::time::Duration;

/// All limits of a pump.
#[derive(Clone)]
pub(in crate::queue) struct Limits {
    all: Vec<Limit>,
    wall: WallClock,
}

/// What the limits say of a message.
pub(in crate::queue) enum Admission {
    Go(Permits),
    /// It is to come back after this.
    Later(Duration),
}

impl Limits {
    pub(in crate::queue) fn none() -> Limits {
        Limits { all: Vec::new(), wall: WallClock::ambient() }
    }

    pub(in crate::queue) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(in crate::queue) fn add(&mut self, limit: Limit) {
        self.all.push(limit);
    }

    /// # Errors
    /// Where the broker cannot keep one of them.
    pub(in crate::queue) fn check(&self, broker: &dyn Broker) -> Result {
        self.all.iter().filter_map(|limit| limit.shared.as_ref()).try_for_each(|name| refuse(broker, name))
    }

    /// Holds what is kept for the message, for as long as this runs; never ends.
    pub(in crate::queue) async fn keep(
        &self,
        kept: &Lock<Vec<Kept>>,
        message: &Message,
        hold: Duration,
        rng: Option<Rng>,
    ) {
        let shared = self.all.iter().any(|limit| limit.shared.is_some());
        let Some(mut rng) = rng.filter(|_| shared) else { return std::future::pending().await };
        loop {
            time::sleep(hold / 3).await;
            let kept = kept.lock().clone();
            for Kept { what, name, key } in &kept {
                let shared = Shared { broker: message.broker(), name, key, now: self.wall.unix_millis() };
                // a broker out of reach is the renewal's concern
                let _ = shared.enter(*what, message.id(), hold, &mut rng).await;
            }
        }
    }

    /// Enters the message everywhere, or nowhere. At a limit without keys it waits for up to `patience`.
    pub(in crate::queue) async fn admit(
        &self,
        message: &Message,
        hold: Duration,
        patience: Duration,
        rng: &mut Rng,
    ) -> Result<Admission> {
        let since = time::now();
        loop {
            let mut permits = Permits { held: Vec::new(), wall: self.wall };
            let Some((wait, may_wait)) = self.enter_all(message, hold, &mut permits, rng).await? else {
                return Ok(Admission::Go(permits));
            };
            permits.release(message, rng).await;
            let waited = time::now().saturating_duration_since(since);
            if !may_wait || waited.saturating_add(wait) > patience {
                return Ok(Admission::Later(wait));
            }
            time::sleep(wait).await;
        }
    }

    /// None where it entered all; else how long to wait, and whether that may be in the worker's hand.
    async fn enter_all(
        &self,
        message: &Message,
        hold: Duration,
        permits: &mut Permits,
        rng: &mut Rng,
    ) -> Result<Option<(Duration, bool)>> {
        for limit in &self.all {
            let key = match &limit.key {
                None => Name::from(""),
                Some(key) => match key(message) {
                    Some(key) => key,
                    None => continue,
                },
            };
            if let Err(wait) = permits.enter(limit, key, message, hold, rng).await? {
                return Ok(Some((wait, limit.key.is_none())));
            }
        }
        Ok(None)
    }
}

/// A place that is taken in all processes until a time, which must be moved on.
#[derive(Clone)]
pub(in crate::queue) struct Kept {
    what: What,
    name: Name,
    key: Name,
}

/// What a message took of the limits. What is local is given back when it is dropped, what is shared when it is
/// [released](Permits::release), or when its time is over.
pub(in crate::queue) struct Permits {
    held: Vec<Held>,
    wall: WallClock,
}

struct Held {
    limit: Limit,
    key: Name,
    since: Instant,
    begun: bool,
}

impl Permits {
    async fn enter(
        &mut self,
        limit: &Limit,
        key: Name,
        message: &Message,
        hold: Duration,
        rng: &mut Rng,
    ) -> Result<Result<(), Duration>> {
        let since = time::now();
        let now = whole(since.saturating_duration_since(limit.start));
        match &limit.shared {
            None => {
                if let Err(wait) = limit.places.lock().enter(limit.what, &key, now) {
                    return Ok(Err(wait));
                }
            }
            Some(name) => {
                let shared = Shared { broker: message.broker(), name, key: &key, now: self.wall.unix_millis() };
                if let Err(wait) = shared.enter(limit.what, message.id(), hold, rng).await? {
                    let mut places = limit.places.lock();
                    let apart = places.apart(limit.what);
                    return Ok(Err(places.of(&key, now).promise(wait.unwrap_or(apart), apart, now)));
                }
            }
        }
        self.held.push(Held { limit: limit.clone(), key, since, begun: false });
        Ok(Ok(()))
    }

    /// The message is begun: what it took of a rate is used.
    pub(in crate::queue) fn begin(&mut self) {
        self.held.iter_mut().for_each(|held| held.begun = true);
    }

    /// What other processes must know to be held for as long as the message is worked on.
    pub(in crate::queue) fn kept(&self) -> Vec<Kept> {
        self.at_once()
            .map(|(held, name)| Kept { what: held.limit.what, name: name.clone(), key: held.key.clone() })
            .collect()
    }

    fn at_once(&self) -> impl Iterator<Item = (&Held, &Name)> {
        let shared = |held: &'_ &Held| matches!(held.limit.what, What::AtOnce(_));
        self.held.iter().filter(shared).filter_map(|held| Some((held, held.limit.shared.as_ref()?)))
    }

    /// Gives everything back.
    pub(in crate::queue) async fn release(self, message: &Message, rng: &mut Rng) {
        let id: Id = message.id();
        for (held, name) in self.at_once() {
            if held.begun {
                held.limit.places.lock().learn(time::now().saturating_duration_since(held.since));
            }
            let shared = Shared { broker: message.broker(), name, key: &held.key, now: self.wall.unix_millis() };
            // where that fails its time will be over
            let _ = shared.leave(id, rng).await;
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        let now = time::now();
        for held in &self.held {
            if held.limit.shared.is_none() {
                let took = held.begun.then(|| now.saturating_duration_since(held.since));
                held.limit.places.lock().leave(held.limit.what, &held.key, held.begun, took);
            }
        }
    }
}
