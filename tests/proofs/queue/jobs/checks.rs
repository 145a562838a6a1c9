//! What must hold of all that stands above the broker: one checker per promise.

mod charges;
mod effects;
mod hang;
mod moving;
mod order;
mod unique;

pub(super) use moving::Moving;

use super::world::{Piece, Places, Plan, World};
use crate::queue::{
    features::Features,
    model::{Model, Over},
    record::Record,
};
use seedpod::{
    Kind, Result,
    base::sync::Lock,
    queue::{Broker, BrokerExt, DeadLetter, Id, Message, Step, Submitted, Want},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// All of them.
pub(super) struct Checks {
    record: Arc<Record>,
    /// Its broker may close for a failure.
    on_disk: bool,
    pub(super) places: Places,
    pub(super) charges: charges::Charges,
    pub(super) effects: effects::Effects,
    pub(super) hang: hang::Hang,
    pub(super) moving: moving::Holders,
    pub(super) order: order::Order,
    unique: unique::Claims,
    /// The jobs that were promised.
    accepted: Lock<BTreeMap<Id, Piece>>,
    /// Those that were called off.
    pub(super) cancels: Lock<BTreeSet<Id>>,
    /// Those of them that were under way long after that.
    doomed: Lock<BTreeSet<Id>>,
}

impl Checks {
    pub(super) fn new(record: Arc<Record>, on_disk: bool) -> Checks {
        Checks {
            on_disk,
            places: Places::new(),
            charges: charges::Charges::default(),
            effects: effects::Effects::default(),
            hang: hang::Hang::new(record.clone()),
            moving: moving::Holders::new(record.clone()),
            order: order::Order::default(),
            unique: unique::Claims::default(),
            accepted: Lock::default(),
            cancels: Lock::default(),
            doomed: Lock::default(),
            record,
        }
    }

    /// A step takes effect.
    pub(super) fn watch(&self, model: &Model, step: &Step) {
        self.order.committed(&self.record, step);
        if self.on_disk {
            return; // it answers later than it decides, and not in that order
        }
        self.effects.committed(&self.record, model, step);
        self.unique.claimed(&self.record, &self.places, model, step);
    }

    /// A submission has answered: what it names is there, or was.
    pub(super) fn accepted(&self, world: &World, submitted: Submitted, plan: &Plan) {
        let (broker, jobs) = (&world.broker, &self.places.jobs);
        let there = broker.is_open(jobs, submitted.id) || broker.over(jobs, submitted.id).is_some();
        self.record
            .hold(there || !broker.is_exact(), || format!("{} was promised as {}", plan.piece.name, submitted.id));
        if submitted.is_new {
            self.accepted.lock().insert(submitted.id, plan.piece.clone());
        }
    }

    /// A handler begins with a job.
    pub(super) fn begins(&self, world: &World, message: &Message, piece: &Piece) {
        self.charges.begins(&self.record, message);
        self.effects.begins(&self.record, message, &piece.name);
        self.unique.begins(&self.record, message, piece.unique.as_deref());
        let home = message.topic() == &self.places.jobs.topic;
        let known = world.broker.is_open(if home { &self.places.jobs } else { &self.places.quarantine }, message.id());
        let known = known || !world.broker.is_exact();
        self.record.hold(known, || format!("{} is worked on, and it is over", message.id()));
    }

    /// All has healed for a while: whatever was called off and is still there must be given up.
    pub(super) fn doom(&self, world: &World) {
        let open =
            |id: &&Id| [&self.places.jobs, &self.places.quarantine].iter().any(|it| world.broker.is_open(it, **id));
        self.doomed.lock().extend(self.cancels.lock().iter().filter(open));
    }

    /// Pumps end when they are told to, and not for what may pass.
    pub(super) fn ends(&self, ended: Result) {
        if let Err(error) = ended {
            let failed = self.on_disk && error.kind() == Kind::Closed;
            self.record.hold(failed, || format!("a pump has ended: {}", error.chain()));
        }
    }

    /// All is over: every item came to one end, what was called off was given up, what was committed is there once, and
    /// of what is kept only while jobs are under way nothing is left.
    pub(super) async fn judge(&self, world: &World) -> usize {
        let (broker, places) = (&world.broker, &self.places);
        let ends = if broker.is_exact() { self.ends_of_all(world) } else { self.nothing_lost(world).await };
        self.effects.judge(&self.record);
        for row in self.record.rows() {
            let stays = Features::of_row(row.as_str()) == Features::DONE;
            let (version, _) = broker.load(&row).await.unwrap_or_default();
            self.record.hold(stays || version == 0, || format!("the row {row} is left"));
        }
        for place in [&places.jobs, &places.quarantine, &places.questions, &places.films] {
            let left = broker.inspect(&place.topic).await.map_or(0, |stats| stats.stored);
            self.record.hold(left == 0, || format!("{left} are left of {place}"));
        }
        ends
    }

    /// As the model has them.
    fn ends_of_all(&self, world: &World) -> usize {
        let (broker, places, mut ends) = (&world.broker, &self.places, 0);
        for place in [&places.jobs, &places.quarantine, &places.questions, &places.films] {
            for (id, over) in broker.overs(place) {
                ends += 1;
                self.record.hold(over.is_some(), || format!("{id} of {place} is lost"));
            }
        }
        for id in self.accepted.lock().keys() {
            self.record.hold(broker.over(&places.jobs, *id).is_some(), || format!("{id} was promised, and is lost"));
        }
        for id in self.doomed.lock().iter() {
            let ends = [broker.over(&places.jobs, *id), broker.over(&places.quarantine, *id)];
            let given_up = ends.contains(&Some(Over::Rejected));
            self.record.hold(given_up, || format!("{id} was called off, and was done all the same"));
        }
        ends
    }

    /// As it shows from outside: each job that was promised has had its effect, was called off, or was replaced.
    async fn nothing_lost(&self, world: &World) -> usize {
        let (broker, want) = (&world.broker, Want::items(100).chunk(1).wait(Duration::ZERO));
        let mut dead = BTreeSet::new();
        loop {
            // each is taken away: letters of one key come one after the other
            let letters = broker.lease(&self.places.dead, want).await.unwrap();
            if letters.is_empty() {
                break;
            }
            for letter in letters {
                let headers = &letter.batch.headers;
                let first = headers.get("redriven-id").and_then(|id| id.parse::<Id>().ok());
                dead.extend(first.or_else(|| DeadLetter::read(headers).map(|letter| letter.id)));
                broker.ack(letter.lease).await.unwrap();
            }
        }
        let accepted = self.accepted.lock();
        for (id, piece) in accepted.iter() {
            let replaceable = piece.unique.as_deref().is_some_and(|key| key.starts_with("replace"));
            let shows = piece.has(Features::DONE | Features::RESULT) && !replaceable;
            let there = self.effects.has(&id.to_string()) || dead.contains(id);
            self.record.hold(there || !shows, || format!("{} was promised as {id}, and is lost", piece.name));
        }
        accepted.len()
    }
}
