//! Of one job, and of all that is in quarantine, one handler moves at a time: one that was frozen while another got its
//! message goes no further.

use crate::queue::record::Record;
use seedpod::{base::sync::Lock, queue::Message};
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// The newest handler of each job, and of the quarantine.
pub(in super::super) struct Holders {
    record: Arc<Record>,
    newest: Arc<Lock<(u64, BTreeMap<String, u64>)>>,
}

/// One handler among them.
pub(in super::super) struct Holder {
    record: Arc<Record>,
    newest: Arc<Lock<(u64, BTreeMap<String, u64>)>>,
    of: Vec<String>,
    number: u64,
}

impl Holders {
    pub(super) fn new(record: Arc<Record>) -> Holders {
        Holders { record, newest: Arc::default() }
    }

    pub(in super::super) fn begins(&self, message: &Message) -> Holder {
        let mut of = vec![message.id().to_string()];
        if message.topic().as_str() == "jobs.quarantine" {
            of.push("quarantine".into());
        }
        let mut newest = self.newest.lock();
        newest.0 += 1;
        let number = newest.0;
        for name in &of {
            newest.1.insert(name.clone(), number);
        }
        Holder { record: self.record.clone(), newest: self.newest.clone(), of, number }
    }
}

/// A handler that says each time when it moves.
pub(in super::super) struct Moving<F> {
    inner: Pin<Box<F>>,
    holder: Holder,
}

impl<F: Future> Moving<F> {
    pub(in super::super) fn new(inner: F, holder: Holder) -> Moving<F> {
        Moving { inner: Box::pin(inner), holder }
    }
}

impl<F: Future> Future for Moving<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Holder { record, newest, of, number } = &self.holder;
        for name in of {
            let latest = newest.lock().1.get(name).copied();
            record.hold(latest == Some(*number), || format!("a handler of {name} goes on beside a newer one"));
        }
        self.inner.as_mut().poll(cx)
    }
}
