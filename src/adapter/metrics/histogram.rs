//! Observations counted in buckets.

use super::{Dropped, name};
use crate::base::{Error, Kind, Result};
use std::sync::Arc;

/// Upper bounds of buckets: finite, each above the one before. What lies above the last counts for `+Inf` alone.
///
/// ```
/// use seedpod::adapter::metrics::Buckets;
/// let buckets = Buckets::new([0.1, 0.5, 2.0])?;
/// assert!(Buckets::new([0.5, 0.1]).is_err());
/// # seedpod::Result::<()>::Ok(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets(Arc<[f64]>);

impl Buckets {
    /// These bounds.
    ///
    /// # Errors
    /// [`Kind::Invalid`] where there is none, or more than 1,000, or where they do not rise.
    pub fn new(bounds: impl IntoIterator<Item = f64>) -> Result<Self> {
        let bounds: Arc<[f64]> = bounds.into_iter().take(1001).collect();
        let rise = bounds.is_sorted_by(|before, after| before < after) && bounds.iter().all(|bound| bound.is_finite());
        match rise && (1..=1000).contains(&bounds.len()) {
            true => Ok(Buckets(bounds)),
            false => Err(Error::new(Kind::Invalid, "bounds of buckets must be finite and rise, 1 to 1,000 of them")),
        }
    }
}

/// 5 ms to 10 s, for seconds: what Prometheus' client libraries have by default.
impl Default for Buckets {
    fn default() -> Self {
        Buckets([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0].into())
    }
}

/// One histogram: how many observations lie in each bucket (not below each bound: that is added up when written).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    bounds: Arc<[f64]>,
    counts: Box<[u64]>,
    above: u64,
    sum: f64,
}

impl Histogram {
    pub(super) fn new(buckets: &Buckets) -> Self {
        let bounds = buckets.0.clone();
        Histogram { counts: vec![0; bounds.len()].into(), bounds, above: 0, sum: 0.0 }
    }

    /// As an application tells it: counts up to each bound, in all, and the sum.
    pub(super) fn told(mut cumulative: Vec<(f64, u64)>, count: u64, sum: f64) -> Result<Self, Dropped> {
        cumulative.retain(|(bound, _)| *bound != f64::INFINITY);
        if !sum.is_finite() || cumulative.iter().any(|(bound, _)| !bound.is_finite()) {
            return Err(Dropped::NotFinite);
        }
        cumulative.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (mut bounds, mut counts, mut before) = (Vec::new(), Vec::new(), 0);
        for (bound, up_to) in cumulative {
            if bounds.last() == Some(&bound) {
                return Err(Dropped::Duplicate);
            }
            counts.push(up_to.checked_sub(before).ok_or(Dropped::Malformed)?);
            bounds.push(bound);
            before = up_to;
        }
        let above = count.checked_sub(before).ok_or(Dropped::Malformed)?;
        Ok(Histogram { bounds: bounds.into(), counts: counts.into(), above, sum })
    }

    /// Takes this value in, so many times.
    pub(super) fn observe(&mut self, value: f64, times: u64) -> Result<(), Dropped> {
        let sum = self.sum + value * times as f64;
        if !sum.is_finite() {
            return Err(Dropped::NotFinite);
        }
        self.sum = sum;
        let at = self.bounds.partition_point(|bound| *bound < value);
        let count = self.counts.get_mut(at).unwrap_or(&mut self.above);
        *count = count.saturating_add(times);
        Ok(())
    }

    /// Appends its lines: `labels` are rendered, without braces.
    pub(super) fn write(&self, out: &mut String, family: &str, labels: &str) {
        let mut up_to = 0_u64;
        let mut line = |out: &mut String, bound: f64, count: u64| {
            up_to = up_to.saturating_add(count);
            out.push_str(family);
            out.push_str("_bucket{");
            if !labels.is_empty() {
                out.push_str(labels);
                out.push(',');
            }
            out.push_str("le=\"");
            name::number(out, bound);
            out.push_str("\"} ");
            name::number(out, up_to as f64);
            out.push('\n');
        };
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            line(out, *bound, *count);
        }
        line(out, f64::INFINITY, self.above);
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        for (suffix, value) in [("_sum", self.sum), ("_count", up_to as f64)] {
            for part in [family, suffix, open, labels, close, " "] {
                out.push_str(part);
            }
            name::number(out, value);
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_lies_below_it() {
        let mut histogram = Histogram::new(&Buckets::new([1.0, 2.0]).unwrap());
        for value in [0.5, 1.0, 2.0, 2.1] {
            histogram.observe(value, 2).unwrap();
        }
        let mut out = String::new();
        histogram.write(&mut out, "x", "a=\"b\"");
        assert_eq!(
            out,
            "x_bucket{a=\"b\",le=\"1\"} 4\nx_bucket{a=\"b\",le=\"2\"} 6\nx_bucket{a=\"b\",le=\"+Inf\"} 8\n\
             x_sum{a=\"b\"} 11.2\nx_count{a=\"b\"} 8\n"
        );
        assert_eq!(histogram.observe(f64::MAX, 9), Err(Dropped::NotFinite), "what would spoil the sum");
    }

    #[test]
    fn what_is_told_must_add_up() {
        let told = |buckets: &[(f64, u64)], count| Histogram::told(buckets.to_vec(), count, 1.0);
        assert!(told(&[(2.0, 3), (1.0, 1), (f64::INFINITY, 4)], 4).is_ok());
        assert_eq!(told(&[(1.0, 3), (2.0, 1)], 4), Err(Dropped::Malformed), "it falls");
        assert_eq!(told(&[(1.0, 3)], 2), Err(Dropped::Malformed), "more below a bound than in all");
        assert_eq!(told(&[(1.0, 1), (1.0, 1)], 2), Err(Dropped::Duplicate));
        assert_eq!(Histogram::told(vec![], 0, f64::NAN), Err(Dropped::NotFinite));
    }
}
