//! The total queue: everything that was published comes out, and what it says of that which does not, or does twice.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

#[derive(Clone, Copy, Debug, Default)]
struct Story {
    /// The broker answered that it has it.
    confirmed: bool,
    /// It was sent to the broker, which may have it.
    sent: bool,
    delivered: u32,
    /// The broker answered that it is done.
    settled: u32,
    /// It was to be done, and whether it is, the broker did not say.
    unclear: bool,
}

impl Story {
    fn is_open(&self) -> bool {
        self.confirmed && self.settled == 0 && !self.unclear
    }
}

/// What happened to numbered messages, told by their publishers and workers.
#[derive(Debug, Default)]
pub struct Total(Mutex<BTreeMap<u64, Story>>);

impl Total {
    fn tell(&self, number: u64, happened: impl FnOnce(&mut Story)) {
        happened(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default());
    }

    /// It is sent now; say so before.
    pub fn sent(&self, number: u64) {
        self.tell(number, |story| story.sent = true);
    }

    /// The broker has it.
    pub fn confirmed(&self, number: u64) {
        self.tell(number, |story| story.confirmed = true);
    }

    /// A worker got it.
    pub fn delivered(&self, number: u64) {
        self.tell(number, |story| story.delivered += 1);
    }

    /// A worker settled it.
    pub fn settled(&self, number: u64) {
        self.tell(number, |story| story.settled += 1);
    }

    /// A worker settled it and was not told what came of it.
    pub fn unclear(&self, number: u64) {
        self.tell(number, |story| story.unclear = true);
    }

    /// Those that the broker answered for and nobody settled: which, and how often they were delivered.
    pub fn unsettled(&self) -> Vec<(u64, u32)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |(number, story): (&u64, &Story)| story.is_open().then_some((*number, story.delivered));
        all.iter().filter_map(open).collect()
    }

    /// All of it, summed up.
    pub fn verdict(&self) -> Verdict {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |is: fn(&Story) -> bool| all.values().filter(|story| is(story)).count();
        Verdict {
            sent: count(|story| story.sent),
            confirmed: count(|story| story.confirmed),
            lost: count(|story| story.confirmed && story.delivered == 0),
            unexpected: count(|story| !story.sent),
            doubled: count(|story| story.delivered > 1),
            settled_twice: count(|story| story.settled > 1),
            unsettled: count(Story::is_open),
            unclear: count(|story| story.settled == 0 && story.unclear),
            recovered: count(|story| story.sent && !story.confirmed && story.delivered > 0),
        }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Sent to the broker.
    pub sent: usize,
    /// Which it answered for.
    pub confirmed: usize,
    /// Answered for, and never delivered.
    pub lost: usize,
    /// Delivered, and never sent.
    pub unexpected: usize,
    /// Delivered more than once.
    pub doubled: usize,
    /// Settled more than once: the first settlement was lost.
    pub settled_twice: usize,
    /// Answered for, and never settled.
    pub unsettled: usize,
    /// Settled by a worker that was not told what came of it, and not delivered again.
    pub unclear: usize,
    /// Not answered for, and delivered all the same.
    pub recovered: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { sent, confirmed, lost, unexpected, doubled, settled_twice, unsettled, unclear, recovered } = self;
        write!(
            f,
            "{sent} sent, {confirmed} confirmed, {lost} lost, {unexpected} unexpected, {doubled} delivered twice, "
        )?;
        write!(f, "{settled_twice} settled twice, {unsettled} unsettled, {unclear} settled without an answer, ")?;
        write!(f, "{recovered} unconfirmed and delivered")
    }
}
