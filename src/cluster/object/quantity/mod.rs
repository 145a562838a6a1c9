//! Amounts as Kubernetes writes them: `500m`, `1Gi`, `2e3`.

mod text;

use std::{
    cmp::Ordering,
    iter::Sum,
    ops::{Add, Sub},
};

/// An amount of a resource.
///
/// Exact to a billionth, below which it is rounded away from zero, and bounded by what 63 bits of whole units hold, both
/// as in Kubernetes. Two amounts are equal when they are the same amount, however written; printing one gives its
/// canonical text. (As there, an amount in binary units that none of them divides is printed as a plain number, which is
/// read as a decimal one: `2.9296875Ki` prints `3000`, and that prints `3k`.)
///
/// ```
/// use seedpod::cluster::object::Quantity;
/// let half: Quantity = "0.5".parse()?;
/// assert_eq!(half.to_string(), "500m");
/// assert!("1Gi".parse::<Quantity>()? > "1G".parse()?);
/// assert_eq!((half + "1500m".parse()?).to_string(), "2");
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    form: Form,
}

/// How an amount is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    /// `k`, `M`, `m`, …
    #[default]
    Decimal,
    /// `Ki`, `Mi`, …
    Binary,
    /// `e3`, `E6`, …
    Exponent,
}

const NANO: i128 = 1_000_000_000;
/// The largest amount, in billionths.
const MOST: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity { nano: 0, form: Form::Decimal };

    /// This many whole units: bytes, CPUs, pods.
    pub const fn units(units: i64) -> Self {
        Quantity { nano: units as i128 * NANO, form: Form::Decimal }
    }

    /// This many thousandths: of a CPU, mostly.
    pub const fn millis(thousandths: i64) -> Self {
        Quantity { nano: thousandths as i128 * (NANO / 1000), form: Form::Decimal }
    }

    /// In whole units, rounded up.
    pub fn value(self) -> i64 {
        i64::try_from(ceiling(self.nano, NANO)).unwrap_or(if self.nano < 0 { i64::MIN } else { i64::MAX })
    }

    /// In thousandths, rounded up; at most what 64 bits hold.
    pub fn milli_value(self) -> i64 {
        i64::try_from(ceiling(self.nano, NANO / 1000)).unwrap_or(if self.nano < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }
}

/// Division rounding up.
fn ceiling(nano: i128, unit: i128) -> i128 {
    nano.div_euclid(unit) + i128::from(nano.rem_euclid(unit) > 0)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// The sum is written as the first amount is, or as the second where the first is nothing.
impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        let form = if self.nano == 0 { other.form } else { self.form };
        Quantity { nano: self.nano.saturating_add(other.nano), form }
    }
}

impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        let form = if self.nano == 0 { other.form } else { self.form };
        Quantity { nano: self.nano.saturating_sub(other.nano), form }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(amounts: I) -> Quantity {
        amounts.fold(Quantity::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_values_round_up() {
        let of = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!((of("1500m").value(), of("1500m").milli_value(), of("1u").milli_value()), (2, 1500, 1));
        assert_eq!((of("-1500m").value(), of("7E").milli_value()), (-1, i64::MAX));
    }
}
