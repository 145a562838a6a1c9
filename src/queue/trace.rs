//! The trace that a message is part of, as W3C's Trace Context has it.

use super::{Headers, Id, Message};
use crate::base::{Error, Kind, Result};
use std::{fmt, future::Future, str::FromStr, sync::Arc};

/// A place in a trace, as the header `traceparent` (and `tracestate`) of [W3C Trace Context] says it.
///
/// What is submitted with one carries it in its headers; its handler finds it as [`Message::trace`]. While the handler
/// runs, [`current`](Trace::current) is its own part of the trace, and whatever it submits to a queue or makes by
/// [`Done::publish`](crate::queue::Done::publish) carries that along. A handler of batches has one trace per message:
/// [`links`](Trace::links).
///
/// Ids are derived, not drawn: those of a handler's part come from the message's id and the number of the try.
///
/// ```
/// use seedpod::queue::{Job, Memory, Queue, Trace};
/// use std::{sync::Arc, time::Duration};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> seedpod::Result {
/// let broker = Arc::new(Memory::new());
/// let orders: Queue<u32> = Queue::open(broker.clone(), "orders").await?;
/// let mails: Queue<u32> = Queue::open(broker, "mails").await?;
/// let request: Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse()?;
/// orders.submit(Job::new(17).trace(request.clone())).await?;
///
/// let outbox = mails.clone();
/// let orders = orders.worker(move |order: u32| {
///     let outbox = outbox.clone();
///     async move { outbox.submit(order).await.map(drop) } // of the same trace
/// });
/// let check = mails.tasks(tower::service_fn(move |mail: seedpod::queue::Task<u32>| {
///     let (trace, request) = (mail.message().trace(), request.clone());
///     async move {
///         let trace = trace.ok_or(seedpod::Kind::Failed)?;
///         assert_eq!(trace.trace_id(), request.trace_id());
///         assert_ne!(trace.span_id(), request.span_id());
///         Ok::<_, seedpod::Error>(())
///     }
/// }));
/// let control = check.control();
/// let a_while = || tokio::time::sleep(Duration::from_secs(1));
/// tokio::try_join!(orders.run_until(a_while()), check.run_until(a_while()))?;
/// assert_eq!(control.tally().done, 1);
/// # Ok(()) }
/// ```
///
/// [W3C Trace Context]: https://www.w3.org/TR/trace-context/
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// The least that everybody must carry along; more is dropped, as the standard allows.
const STATE_MAX: usize = 512;

tokio::task_local! {
    static CURRENT: Trace;
}

impl Trace {
    /// This place of this trace, sampled.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where one of them is 0, which the standard forbids.
    pub fn new(trace_id: u128, span_id: u64) -> Result<Trace> {
        if trace_id == 0 || span_id == 0 {
            return Err(Error::new(Kind::Invalid, "the ids of a trace and of its parts are not 0"));
        }
        Ok(Trace { trace_id, span_id, flags: 1, state: None })
    }

    /// What a handler that runs in this task is part of; none outside of a handler, and where its message had none. It
    /// does not follow into tasks that the handler spawns.
    pub fn current() -> Option<Trace> {
        CURRENT.try_with(Trace::clone).ok()
    }

    /// The traces of these messages, to be linked to what is done for all of them together.
    pub fn links<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<Trace> {
        messages.into_iter().filter_map(Message::trace).collect()
    }

    /// The id of the whole trace.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The id of this place in it.
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether whoever began it records it.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// A part of the same trace, under the id made of this one.
    #[must_use]
    pub fn child(&self, id: Id) -> Trace {
        let bits = id.as_u128();
        Trace { span_id: ((bits >> 64) as u64 ^ bits as u64).max(1), ..self.clone() }
    }

    /// What these headers say; none where they say nothing, or nothing that can be read.
    pub fn read(headers: &Headers) -> Option<Trace> {
        let mut trace: Trace = headers.get(PARENT)?.parse().ok()?;
        trace.state = headers.get(STATE).filter(|state| state.len() <= STATE_MAX).map(Arc::from);
        Some(trace)
    }

    /// Says so in the headers.
    pub fn write(&self, headers: &mut Headers) {
        headers.insert(PARENT, self.to_string());
        if let Some(state) = &self.state {
            headers.insert(STATE, &**state);
        }
    }

    /// Says so in the headers of what says nothing yet.
    pub(super) fn begin(&self, headers: &mut Headers) {
        if headers.get(PARENT).is_none() {
            self.write(headers);
        }
    }
}

/// Runs this as a part of the trace.
pub(super) async fn within<F: Future>(trace: Option<Trace>, work: F) -> F::Output {
    match trace {
        Some(trace) => CURRENT.scope(trace, work).await,
        None => work.await,
    }
}

/// The value of the header `traceparent`.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({self})")
    }
}

impl FromStr for Trace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Trace> {
        let refuse = || Error::new(Kind::Invalid, format!("{text:?} is no traceparent"));
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            let lower = |letter: u8| matches!(letter, b'0'..=b'9' | b'a'..=b'f');
            part.bytes().all(lower).then(|| u128::from_str_radix(part, 16).ok())?
        };
        let (Some(version), Some(trace_id), Some(span_id), Some(flags)) = (part(2), part(32), part(16), part(2)) else {
            return Err(refuse());
        };
        // a later version may say more behind these four; this one says nothing else
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(refuse());
        }
        let trace = Trace::new(trace_id, span_id as u64).map_err(|_| refuse())?;
        Ok(Trace { flags: flags as u8 & 1, ..trace }) // the only flag of this version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn written_and_read() {
        let trace: Trace = TEXT.parse().unwrap();
        assert_eq!((trace.to_string().as_str(), trace.is_sampled()), (TEXT, true));
        let mut headers = Headers::default();
        headers.insert(STATE, "rojo=1");
        assert_eq!(Trace::read(&headers), None);
        trace.write(&mut headers);
        let read = Trace::read(&headers).unwrap();
        assert_eq!((read.trace_id(), read.span_id()), (trace.trace_id(), trace.span_id()));
        let (mut next, child) = (Headers::default(), read.child(Id::of("x")));
        child.begin(&mut next);
        child.child(Id::of("y")).begin(&mut next);
        assert_eq!(Trace::read(&next), Some(child.clone()), "what is said stays, and tracestate goes along");
        assert_eq!((child.trace_id(), child.span_id() == trace.span_id()), (trace.trace_id(), false));
    }

    #[test]
    fn what_is_no_traceparent_is_no_trace() {
        let later = TEXT.replace("00-", "01-") + "-more";
        assert_eq!(later.parse::<Trace>().unwrap().to_string(), TEXT, "a later version says at least this");
        for bad in [
            "",
            "00",
            &TEXT.replace("00-", "ff-"),
            &(TEXT.to_string() + "-more"),
            &TEXT.to_uppercase(),
            &TEXT[..54],
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-001",
            "é0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(bad.parse::<Trace>().unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }
}
