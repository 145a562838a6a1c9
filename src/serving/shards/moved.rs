//! Why a fence refuses: the key has another owner, or will have.

use crate::base::{Error, Kind};
use std::fmt;

/// Why a [`Fence`](super::Fence) refuses a request: the key has another owner under the map of this version.
///
/// It is the source of an error of [`Kind::Conflict`]; the request was not carried out. [`Shards`](super::Shards) that
/// finds it in an endpoint's error sends the request again once it has a map of this version. Whoever brings the error
/// over a wire brings the version and makes it anew: over HTTP, `Moved::answer` and `Moved::read` do (feature `http`).
///
/// ```
/// use seedpod::{Error, serving::Moved};
///
/// let error = Error::from(Moved::at(7));
/// assert_eq!(error.chain(), "conflict: the key has moved: map 7 says where");
/// assert_eq!(Moved::of(&error).map(Moved::version), Some(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved(u64);

impl Moved {
    /// The key has another owner under the map of this version.
    pub const fn at(version: u64) -> Self {
        Moved(version)
    }

    /// The version of the map that says where to ask: the lowest that will do.
    pub const fn version(self) -> u64 {
        self.0
    }

    /// What a fence said, where this error comes from one.
    pub fn of(error: &Error) -> Option<Moved> {
        match error.kind() {
            Kind::Conflict => error.downcast_ref::<Moved>().copied(),
            _ => None,
        }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map {} says where", self.0)
    }
}

impl std::error::Error for Moved {}

impl From<Moved> for Error {
    #[cold]
    fn from(moved: Moved) -> Error {
        Error::new(Kind::Conflict, "the key has moved").because(moved)
    }
}
