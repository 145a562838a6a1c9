//! A number of pods, absolute or as a part of those wanted.

use std::str::FromStr;

/// `maxSurge` and `maxUnavailable`: a count or a percentage of the replicas wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many.
    Count(u32),
    /// This part in a hundred.
    Percent(u32),
}

impl Bound {
    /// The number of pods for so many replicas, a fraction rounded up.
    pub fn up(self, replicas: u32) -> u32 {
        match self {
            Bound::Count(count) => count,
            Bound::Percent(percent) => saturate((u64::from(replicas) * u64::from(percent)).div_ceil(100)),
        }
    }

    /// The number of pods for so many replicas, a fraction rounded down.
    pub fn down(self, replicas: u32) -> u32 {
        match self {
            Bound::Count(count) => count,
            Bound::Percent(percent) => saturate(u64::from(replicas) * u64::from(percent) / 100),
        }
    }
}

fn saturate(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Default for Bound {
    /// 25 %: the Deployment's default for both.
    fn default() -> Self {
        Bound::Percent(25)
    }
}

impl FromStr for Bound {
    type Err = crate::base::Error;

    /// Reads `3` or `25%`.
    fn from_str(text: &str) -> crate::base::Result<Self> {
        let read = |digits: &str| digits.parse().ok();
        let bound = match text.strip_suffix('%') {
            Some(percent) => read(percent).map(Bound::Percent),
            None => read(text).map(Bound::Count),
        };
        bound.ok_or_else(|| {
            crate::base::Error::new(crate::base::Kind::Invalid, format!("{text:?} is neither a count nor a percentage"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_round_as_asked() {
        assert_eq!((Bound::Percent(25).up(10), Bound::Percent(25).down(10), Bound::Count(4).up(1)), (3, 2, 4));
        assert_eq!("25%".parse::<Bound>().unwrap(), Bound::Percent(25));
        assert_eq!("3".parse::<Bound>().unwrap(), Bound::Count(3));
        assert_eq!(
            "x%".parse::<Bound>().unwrap_err().to_string(),
            r#"invalid: "x%" is neither a count nor a percentage"#
        );
    }
}
