//! Why a fence refuses: the key has another owner, or will have.

use crate::base::{Error, Kind};
use std::fmt;

/// Why a [`Fence`](super::Fence) refuses a request: the key has another owner under the map of this version, or may have.
///
/// It is the source of an error of [`Kind::Conflict`]; the request was not carried out. [`Shards`](super::Shards) that
/// finds it in an endpoint's error sends the request again once it has a map of this version. Where it has that map already,
/// and the shard is [decided](Self::is_decided), sending again is in vain, and the request fails at once. Whoever brings the
/// error over a wire brings the version and whether it is decided, and makes it anew: over HTTP, `Moved::answer` and
/// `Moved::read` do (feature `http`).
///
/// ```
/// use seedpod::{Error, serving::Moved};
///
/// let error = Error::from(Moved::at(7));
/// assert_eq!(error.chain(), "conflict: the key has moved: map 7 says where");
/// assert_eq!(Moved::of(&error).map(Moved::version), Some(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moved {
    version: u64,
    decided: bool,
}

impl Moved {
    /// The key has another owner under the map of this version.
    pub const fn at(version: u64) -> Self {
        Moved { version, decided: true }
    }

    /// The map of this version will say who owns the key: the shard has not learnt it, and may turn out to be the one.
    pub const fn undecided(version: u64) -> Self {
        Moved { version, decided: false }
    }

    /// The version of the map that says where to ask: the lowest that will do. One below the router's says that the shard
    /// knows no newer one yet.
    pub const fn version(self) -> u64 {
        self.version
    }

    /// Whether the shard knows the map of this version, so that asking it again under the same one is in vain.
    pub const fn is_decided(self) -> bool {
        self.decided
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
        write!(f, "map {} says where", self.version)
    }
}

impl std::error::Error for Moved {}

impl From<Moved> for Error {
    #[cold]
    fn from(moved: Moved) -> Error {
        Error::new(Kind::Conflict, "the key has moved").because(moved)
    }
}
