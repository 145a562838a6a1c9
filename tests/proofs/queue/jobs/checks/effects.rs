//! No effect twice: under one idempotency key, what a handler made is committed at most once, whole, with the
//! acknowledgement, and what was committed is there.

use crate::queue::{model::Model, record::Record};
use seedpod::{
    base::sync::Lock,
    queue::{Message, Step},
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(in super::super) struct Effects {
    /// Whose each key is.
    keys: Lock<BTreeMap<String, String>>,
    /// What was committed, and how often it has come out.
    committed: Lock<BTreeMap<String, u32>>,
    /// What has come out, or comes out again: that it was taken away was not answered, or not yet.
    perhaps: Lock<BTreeSet<String>>,
    /// The films that were cut.
    cut: Lock<BTreeSet<String>>,
}

impl Effects {
    pub(super) fn begins(&self, record: &Record, message: &Message, name: &str) {
        let key = message.idempotency_key();
        record.hold(!self.committed.lock().contains_key(&key), || format!("{name} begins anew after its end"));
        let whose = self.keys.lock().entry(key).or_insert_with(|| name.to_string()).clone();
        record.hold(whose == name, || format!("{name} has the idempotency key of {whose}"));
    }

    pub(super) fn committed(&self, record: &Record, model: &Model, step: &Step) {
        for publish in step.publishes.iter().filter(|publish| publish.topic.as_str() == "effects") {
            let text = publish.payload.bytes(0).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let (key, result) = text.split_once(' ').unwrap_or((&text, ""));
            let first = self.committed.lock().insert(key.to_string(), 0).is_none();
            record.hold(first, || format!("the effect of {key} is committed twice"));
            let alone = step.acks.len() == 1 && step.acks.iter().all(|lease| model.is_valid(lease));
            record.hold(alone, || format!("the effect of {key} is committed without its message: {step:?}"));
            let resulted = step.state.iter().any(|write| write.key.as_str().starts_with("result/"));
            record.hold(resulted == (result == "1"), || format!("the effect of {key}, result {result}: {step:?}"));
        }
        for write in step.state.iter().filter(|write| write.key.as_str().starts_with("result/")) {
            let with = write.value.is_none() || !step.acks.is_empty();
            record.hold(with, || format!("{} is there before its job is done", write.key));
        }
    }

    /// An effect has come out; `known` says that its commit was seen before.
    pub(in super::super) fn seen(&self, record: &Record, text: &str, known: bool) {
        let key = text.split_once(' ').map_or(text, |(key, _)| key);
        let mut committed = self.committed.lock();
        if !known {
            committed.entry(key.to_string()).or_default();
        }
        let times = committed.get_mut(key).map(|times| {
            *times += 1;
            *times
        });
        record.hold(times == Some(1), || format!("the effect of {key} has come out {times:?} times"));
    }

    pub(in super::super) fn perhaps(&self, text: &str) {
        let key = text.split_once(' ').map_or(text, |(key, _)| key);
        self.perhaps.lock().insert(key.to_string());
    }

    /// Whether it has come out, as far as is known.
    pub(super) fn has(&self, key: &str) -> bool {
        self.committed.lock().contains_key(key) || self.perhaps.lock().contains(key)
    }

    /// What a film's container left has come out.
    pub(in super::super) fn cut(&self, record: &Record, film: &str) {
        record.hold(self.cut.lock().insert(film.to_string()), || format!("{film} is cut twice"));
    }

    pub(super) fn judge(&self, record: &Record) {
        for (key, times) in self.committed.lock().iter() {
            record.hold(*times == 1, || format!("the effect of {key} has come out {times} times in the end"));
        }
    }
}
