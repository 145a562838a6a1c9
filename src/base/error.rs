//! One error for the whole crate: a kind, a place, perhaps a time to come back, and what caused it.

use std::{any::Any, borrow::Cow, error::Error as StdError, fmt, io, sync::Arc, time::Duration};

/// Any error, boxed. What patterns over foreign services ask of theirs: `E: Into<BoxError> + 'static`.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A result with seedpod's [`Error`]; nothing by default, as containers return it.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What went wrong, seen by whoever must decide what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// It did not end within the time given.
    Timeout,
    /// Refused for now, to protect who serves; [`Error::retry_after`] may say for how long.
    Overloaded,
    /// Nobody is there to answer: connection refused or reset, no endpoint, no such host.
    Unavailable,
    /// Understood and turned down by whoever decides: admission, policy, permission.
    Rejected,
    /// The state it expected is not the state that is there.
    Conflict,
    /// The thing named does not exist.
    NotFound,
    /// The input is wrong; sending it again cannot help.
    Invalid,
    /// The lease it was done under had run out or was taken over; its effect was refused.
    LeaseLost,
    /// The other side has ended in order: a closed queue, a stopped container.
    Closed,
    /// Stored data does not read back as it was written.
    Corrupt,
    /// The one in use cannot do this: a broker without the capability, a feature that is off.
    Unsupported,
    /// A task ended by a panic.
    Panicked,
    /// A foreign failure that nothing above describes.
    Failed,
}

impl Kind {
    /// The kind in words, as it stands in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Timeout => "timed out",
            Kind::Overloaded => "overloaded",
            Kind::Unavailable => "unavailable",
            Kind::Rejected => "rejected",
            Kind::Conflict => "conflict",
            Kind::NotFound => "not found",
            Kind::Invalid => "invalid",
            Kind::LeaseLost => "lease lost",
            Kind::Closed => "closed",
            Kind::Corrupt => "corrupt",
            Kind::Unsupported => "unsupported",
            Kind::Panicked => "panicked",
            Kind::Failed => "failed",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong, where, and why.
///
/// One pointer wide and cheap to clone, so that `Result<Response, Error>` stays small on hot paths and one failure can
/// be told to many waiters. Never generic: patterns that nest do not nest errors, since [`adopt`](Error::adopt) lets
/// one of ours pass through untouched. The message names the kind and the place and never repeats the source: print
/// the chain with [`chain`](Error::chain).
///
/// ```
/// use seedpod::base::{Error, Kind};
/// use std::time::Duration;
///
/// let error = Error::new(Kind::Overloaded, "the queue is full").at("topic orders").after(Duration::from_secs(2));
/// assert_eq!(error.to_string(), "topic orders: overloaded: the queue is full");
/// assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
/// assert!(error.is_retryable());
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: Cow<'static, str>,
    place: Option<Arc<str>>,
    retry_after: Option<Duration>,
    unsent: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind; the message may be empty, where the kind says it all.
    #[cold]
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Error(Arc::new(Inner { kind, message, place: None, retry_after: None, unsent: false, source: None }))
    }

    /// Takes in a foreign error as this kind. One of ours, boxed or not, passes through untouched.
    #[cold]
    pub fn adopt<E: Into<BoxError> + 'static>(error: E, kind: Kind) -> Self {
        let mut slot = Some(error);
        if let Some(ours) = (&mut slot as &mut dyn Any).downcast_mut::<Option<Error>>()
            && let Some(ours) = ours.take()
        {
            return ours;
        }
        match slot.take().map(Into::into).map(|boxed: BoxError| boxed.downcast::<Error>()) {
            Some(Ok(ours)) => *ours,
            Some(Err(source)) => Error::new(kind, "").because(source),
            None => Error::new(kind, ""),
        }
    }

    /// Names the place (endpoint, topic, object, file and line), unless one closer to the cause is named already.
    #[must_use]
    pub fn at(mut self, place: impl Into<Arc<str>>) -> Self {
        if self.0.place.is_none() {
            self.edit().place = Some(place.into());
        }
        self
    }

    /// Says when it makes sense to come back.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.edit().retry_after = Some(wait);
        self
    }

    /// Says that the request was refused on this side and never left: it added no load anywhere else.
    #[must_use]
    pub fn unsent(mut self) -> Self {
        self.edit().unsent = true;
        self
    }

    /// Says that the request has left all the same: it was given to an endpoint, whatever refused it there.
    #[must_use]
    pub fn sent(mut self) -> Self {
        if self.0.unsent {
            self.edit().unsent = false;
        }
        self
    }

    /// Adds what caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.edit().source = Some(Arc::from(source.into()));
        self
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where: an endpoint, a topic, an object, a file and line.
    pub fn place(&self) -> Option<&str> {
        self.0.place.as_deref()
    }

    /// The message alone, without kind and place; empty where the kind says it all.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// When it makes sense to come back, where the one who refused said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the request was refused on this side and never left: a limit, a breaker, nobody to send it to; not what
    /// was given to an endpoint and refused there. What is
    /// counted for attempts (a budget, a breaker's window) does not count it.
    pub fn is_unsent(&self) -> bool {
        self.0.unsent
    }

    /// The first error of type `T` in the chain of sources: how a user gets at their own.
    pub fn downcast_ref<T: StdError + 'static>(&self) -> Option<&T> {
        let mut next = self.source();
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<T>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// This message and those of all sources, joined by `: `; what has been said is not said again.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            let said = error.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = error.source();
        }
        text
    }

    /// Whether the same request may succeed later or elsewhere: a time-out, an overload, nobody there.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), Kind::Timeout | Kind::Overloaded | Kind::Unavailable)
    }

    /// Whether it did not end within the time given.
    pub fn is_timeout(&self) -> bool {
        self.kind() == Kind::Timeout
    }

    /// Whether the expected state was not there.
    pub fn is_conflict(&self) -> bool {
        self.kind() == Kind::Conflict
    }

    /// Whether the thing named does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == Kind::NotFound
    }

    /// Whether the other side has ended in order.
    pub fn is_closed(&self) -> bool {
        self.kind() == Kind::Closed
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place() {
            write!(f, "{place}: ")?;
        }
        f.write_str(self.kind().as_str())?;
        if !self.0.message.is_empty() {
            write!(f, ": {}", self.0.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::*;
        let error = match error.downcast::<Error>() {
            Ok(ours) => return ours,
            Err(foreign) => foreign,
        };
        let kind = match error.kind() {
            TimedOut => Kind::Timeout,
            ConnectionRefused | ConnectionReset | ConnectionAborted | HostUnreachable | NetworkUnreachable
            | NetworkDown => Kind::Unavailable,
            NotFound => Kind::NotFound,
            AlreadyExists | AddrInUse => Kind::Conflict,
            InvalidInput | InvalidData => Kind::Invalid,
            PermissionDenied => Kind::Rejected,
            BrokenPipe | NotConnected | UnexpectedEof => Kind::Closed,
            Unsupported => Kind::Unsupported,
            _ => Kind::Failed,
        };
        Error::new(kind, "").because(error)
    }
}

/// How an error of ours goes through an interface that knows only `io::Error`, and comes back unchanged.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            Kind::Timeout => io::ErrorKind::TimedOut,
            Kind::Unavailable => io::ErrorKind::ConnectionRefused,
            Kind::NotFound => io::ErrorKind::NotFound,
            Kind::Conflict => io::ErrorKind::AlreadyExists,
            Kind::Invalid => io::ErrorKind::InvalidInput,
            Kind::Closed => io::ErrorKind::BrokenPipe,
            Kind::Rejected => io::ErrorKind::PermissionDenied,
            Kind::Unsupported => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::new(Kind::Invalid, "this is not the JSON expected").because(error)
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Error::new(kind, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pointer() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }

    #[test]
    fn a_chain_says_nothing_twice() {
        let inner = Error::new(Kind::Failed, "disk full");
        let outer = Error::new(Kind::Invalid, "2 mistakes\na\nb").because(io::Error::other("2 mistakes"));
        assert_eq!(outer.chain(), "invalid: 2 mistakes\na\nb");
        let outer = Error::new(Kind::Failed, "cannot write").because(io::Error::other(inner));
        assert_eq!(outer.chain(), "failed: cannot write: failed: disk full");
    }

    #[test]
    fn ours_passes_through_and_foreign_is_widened() {
        let ours = Error::new(Kind::Conflict, "version 3 is there").at("pods/a");
        let boxed: BoxError = Box::new(ours.clone());
        assert_eq!(Error::adopt(boxed, Kind::Failed).to_string(), "pods/a: conflict: version 3 is there");
        assert_eq!(Error::adopt(ours, Kind::Failed).kind(), Kind::Conflict);
        let foreign = Error::adopt("oh no".to_string(), Kind::Failed).at("a").at("b");
        assert_eq!(foreign.to_string(), "a: failed");
        assert_eq!(foreign.chain(), "a: failed: oh no");
    }

    #[test]
    fn a_trip_through_io_changes_nothing() {
        let ours = Error::new(Kind::LeaseLost, "epoch 4 is over").at("orders/7");
        assert_eq!(Error::from(io::Error::from(ours)).to_string(), "orders/7: lease lost: epoch 4 is over");
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::ConnectionReset)).kind(), Kind::Unavailable);
    }

    #[test]
    fn the_users_own_error_is_one_call_away() {
        let parse = "x".parse::<u8>().unwrap_err();
        let error = Error::adopt(Error::new(Kind::Failed, "").because(parse.clone()), Kind::Timeout);
        assert_eq!(error.downcast_ref::<std::num::ParseIntError>(), Some(&parse));
        assert!(error.downcast_ref::<io::Error>().is_none());
    }

    #[test]
    fn clones_do_not_share_edits() {
        let first = Error::new(Kind::Timeout, "");
        let second = first.clone().at("b").after(Duration::from_secs(1)).unsent();
        assert_eq!((first.place(), first.retry_after(), first.is_unsent()), (None, None, false));
        assert_eq!((second.place(), second.is_unsent()), (Some("b"), true));
    }
}
