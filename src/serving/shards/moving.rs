//! One part on its way from one shard to another.

use super::super::{ShardKey, shard::Span};
use serde::{Deserialize, Deserializer, Serialize};
use std::{fmt, sync::Arc};

/// A part of the keys on its way from one shard to another, and the map by which it arrives.
///
/// Another try at the same move has a higher version, also one by another process: what was done for a lower one is void, and
/// whoever still works for it must be refused, by [`Fence::receive`](super::Fence::receive).
///
/// Of one version, no two have the same `from`, `to`, `owners` and `stays`. It can be sent (`serde`), to where the fence and
/// the data are.
///
/// ```
/// use seedpod::serving::Moving;
///
/// let told = r#"{"from":"s0","to":"s3","spans":[{"hashes":{"seed":0,"first":0,"last":281474976710655}}],"version":7,"stays":false,"owners":["s0"]}"#;
/// let moving: Moving = serde_json::from_str(told)?;
/// assert_eq!(moving.to_string(), "s0 to s3 by map 7: slot 0");
/// assert_eq!(serde_json::to_string(&moving)?, told);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Moving {
    /// The shard that owns the part now.
    pub from: Arc<str>,
    /// The shard that is to own it.
    pub to: Arc<str>,
    /// The keys: spans in order, of which none meets another.
    #[serde(deserialize_with = "in_order")]
    pub spans: Arc<[Span]>,
    /// The version of the map by which they arrive.
    pub version: u64,
    /// Whether the old owner goes on owning a copy, so that it must not be cleaned.
    pub stays: bool,
    /// All that own the part now, `from` among them, in the order of the map: where another copy may be better than that of
    /// `from`, or `from` is lost.
    pub owners: Arc<[Arc<str>]>,
}

impl Moving {
    /// Whether this key moves.
    pub fn contains(&self, key: &(impl ShardKey + ?Sized)) -> bool {
        Span::any(&self.spans, key)
    }

    /// How many slots move, in parts where slots are split; 0 where it is ranges of keys.
    pub fn width(&self) -> f64 {
        self.spans.iter().map(Span::width).sum()
    }
}

fn in_order<'de, D: Deserializer<'de>>(told: D) -> Result<Arc<[Span]>, D::Error> {
    Ok(Span::in_order(Vec::deserialize(told)?).into())
}

impl fmt::Display for Moving {
    /// `s1 to s3 by map 7: 512 slots`, `s1 to s3 by map 7: keys until "m"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} by map {}: ", self.from, self.to, self.version)?;
        match &*self.spans {
            [one] => write!(f, "{one}"),
            _ if self.width() > 0.0 => write!(f, "{} slots", self.width()),
            many => write!(f, "{} ranges", many.len()),
        }
    }
}
