//! A shard as a map knows it.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// A shard as a map knows it: its name, how much it takes, where it is.
///
/// The name is the key of its endpoint, which may itself be [`Replicas`](crate::serving::Replicas).
///
/// ```
/// use seedpod::serving::{Shard, ShardMap};
///
/// let big = Shard::new("db-0").weight(3).zone("eu-1a");
/// let map = ShardMap::planned([big, Shard::from("db-1")]).build()?;
/// assert_eq!(map.share("db-0"), 0.75);
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Shard {
    /// Its name.
    pub name: Arc<str>,
    /// Its share against the others': 1 by default, 0 to own nothing, [`WEIGHT_MAX`](Self::WEIGHT_MAX) at most.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub weight: u32,
    /// Where it is: what copies are kept apart by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
}

fn one() -> u32 {
    1
}

fn is_one(weight: &u32) -> bool {
    *weight == 1
}

impl Shard {
    /// The most that a shard may weigh.
    pub const WEIGHT_MAX: u32 = 10_000;

    /// A shard of this name; it weighs 1 and is nowhere in particular.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Shard { name: name.into(), weight: 1, zone: None }
    }

    /// Its share against the others'.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        Shard { weight, ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn zone(self, zone: impl Into<Arc<str>>) -> Self {
        Shard { zone: Some(zone.into()), ..self }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.weight != 1 {
            write!(f, ", weight {}", self.weight)?;
        }
        self.zone.as_ref().map_or(Ok(()), |zone| write!(f, ", zone {zone}"))
    }
}

impl<T: Into<Arc<str>>> From<T> for Shard {
    fn from(name: T) -> Self {
        Shard::new(name)
    }
}
