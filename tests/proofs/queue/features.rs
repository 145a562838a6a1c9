//! What may be in flight when a fault strikes, told from the outside: by topic, headers and keys of the broker's state.

use seedpod::queue::{Headers, Topic};
use std::ops::BitOr;

/// Some of the features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features(u16);

pub(super) const FEATURES: &[&str] = &[
    "order",
    "priority",
    "delay",
    "unique",
    "cancel",
    "result",
    "done",
    "progress",
    "quarantine",
    "redrive",
    "reply",
    "per item",
];

/// In which header a job says what it has.
pub(super) const HEADER: &str = "features";

impl Features {
    pub(super) const NONE: Features = Features(0);
    pub(super) const ORDER: Features = Features(1);
    pub(super) const PRIORITY: Features = Features(1 << 1);
    pub(super) const DELAY: Features = Features(1 << 2);
    pub(super) const UNIQUE: Features = Features(1 << 3);
    pub(super) const CANCEL: Features = Features(1 << 4);
    pub(super) const RESULT: Features = Features(1 << 5);
    pub(super) const DONE: Features = Features(1 << 6);
    pub(super) const PROGRESS: Features = Features(1 << 7);
    pub(super) const QUARANTINE: Features = Features(1 << 8);
    pub(super) const REDRIVE: Features = Features(1 << 9);
    pub(super) const REPLY: Features = Features(1 << 10);
    pub(super) const PER_ITEM: Features = Features(1 << 11);

    pub(super) fn has(self, other: Features) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        FEATURES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name)
    }

    pub(super) const fn bits(self) -> u16 {
        self.0
    }

    pub(super) const fn read(bits: u16) -> Features {
        Features(bits)
    }

    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// As it stands in the header.
    pub(super) fn write(self) -> String {
        self.0.to_string()
    }

    /// What a message of this topic has, with these headers.
    pub(super) fn of(topic: &Topic, headers: &Headers) -> Features {
        let said = headers.get(HEADER).and_then(|bits| bits.parse().ok()).map_or(Features::NONE, Features);
        let redriven = if headers.get("redriven-id").is_some() { Features::REDRIVE } else { Features::NONE };
        said | redriven | Features::of_topic(topic)
    }

    /// What all of this topic have.
    pub(super) fn of_topic(topic: &Topic) -> Features {
        match topic.as_str() {
            "jobs.quarantine" => Features::QUARANTINE,
            "jobs.dead" => Features::REDRIVE,
            "films" | "films.cut" => Features::PER_ITEM,
            "questions" => Features::REPLY,
            name if name.starts_with("replies.") => Features::REPLY,
            _ => Features::NONE,
        }
    }

    /// What a row of the broker's state is kept for.
    pub(super) fn of_row(key: &str) -> Features {
        match key.split('/').next() {
            Some("unique") => Features::UNIQUE,
            Some("cancel") => Features::CANCEL,
            Some("result") => Features::RESULT,
            Some("progress") => Features::PROGRESS,
            Some("last") => Features::DONE,
            _ => Features::NONE,
        }
    }
}

impl BitOr for Features {
    type Output = Features;

    fn bitor(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }
}

impl FromIterator<Features> for Features {
    fn from_iter<I: IntoIterator<Item = Features>>(all: I) -> Features {
        all.into_iter().fold(Features::NONE, BitOr::bitor)
    }
}
