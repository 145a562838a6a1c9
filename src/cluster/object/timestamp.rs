//! Moments as Kubernetes writes them.

use crate::base::{Error, Kind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// A moment on the wall clock, to the second: `2030-01-01T00:00:00Z`.
///
/// Fractions of a second are read and dropped, as in Kubernetes; offsets other than `Z` are refused.
///
/// ```
/// use seedpod::cluster::object::Timestamp;
/// let moment: Timestamp = "2030-01-01T00:00:07.5Z".parse()?;
/// assert_eq!(moment.to_string(), "2030-01-01T00:00:07Z");
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// This many seconds after the beginning of 1970; the end of the year 9999 at the latest.
    pub const fn unix_seconds(seconds: u64) -> Self {
        Timestamp(if seconds < LAST { seconds } else { LAST })
    }

    /// How many seconds after the beginning of 1970 it is.
    pub const fn as_unix_seconds(self) -> u64 {
        self.0
    }

    /// The moment as the system has it.
    pub fn system_time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0)
    }
}

/// The second that this moment is in; what lies before 1970 becomes its beginning.
impl From<SystemTime> for Timestamp {
    fn from(moment: SystemTime) -> Self {
        Timestamp(moment.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST))
    }
}

/// The end of the year 9999, the last that has a text.
const LAST: u64 = 253_402_300_799;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.min(LAST));
        write!(f, "{}", humantime::format_rfc3339_seconds(moment))
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let moment = humantime::parse_rfc3339(text).map_err(|_| {
            Error::new(Kind::Invalid, format!("{text:?} must be a moment such as 2030-01-01T00:00:00Z"))
        })?;
        Ok(moment.into())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for seconds in [0, 1_893_456_000, LAST] {
            let moment = Timestamp::unix_seconds(seconds);
            assert_eq!(moment.to_string().parse::<Timestamp>().unwrap(), moment);
            assert_eq!(Timestamp::from(moment.system_time()), moment);
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
