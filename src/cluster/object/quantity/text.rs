//! Amounts as text: read, and printed in canonical form.

use super::{Form, MOST, NANO, Quantity, ceiling};
use crate::base::{Error, Kind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |rule: &str| Error::new(Kind::Invalid, format!("quantity {text:?} {rule}"));
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = unsigned.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(refuse("must begin with a number"));
        }
        if fraction.contains('.') {
            return Err(refuse("has two decimal points"));
        }
        let (form, power, shift) = suffix_of(suffix).ok_or_else(|| {
            refuse("must end in a unit (n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei), an exponent, or nothing")
        })?;
        let magnitude = scale(whole, fraction, power, shift).ok_or_else(|| refuse("is larger than 2^63-1"))?;
        Ok(Quantity { nano: if text.starts_with('-') { -magnitude } else { magnitude }, form })
    }
}

/// The form that a suffix means, and the powers of ten and of two that it stands for.
fn suffix_of(suffix: &str) -> Option<(Form, i32, u32)> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Form::Decimal, *power, 0));
    }
    if let Some((_, shift)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Form::Binary, 0, *shift));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let good = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| exponent.parse().ok()).flatten().map(|power| (Form::Exponent, power, 0))
}

/// `whole.fraction × 10^power × 2^shift` in billionths, rounded up; `None` where it exceeds the most.
fn scale(whole: &str, fraction: &str, power: i32, shift: u32) -> Option<i128> {
    // Digits far behind the point cannot matter but for rounding up, digits far before it only where they are zeros.
    let whole = whole.trim_start_matches('0');
    let mut places = i64::from(power) + 9 - i64::try_from(fraction.len()).ok()?; // the last digit counts 10^places
    let (mut sum, mut inexact) = (0_i128, false);
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(digit - b'0');
        // 28 digits are kept: more than the most has, with room to shift
        if sum >= 10_i128.pow(27) {
            inexact |= digit > 0;
            places += 1;
        } else {
            sum = sum * 10 + digit;
        }
    }
    if sum == 0 {
        return Some(0);
    }
    let shifted = if shift == 0 { Some(sum) } else { sum.checked_mul(1 << shift.min(30)) };
    // a large shift in two steps: scale down in between, so that small fractions of large units stay exact
    let mut value = shifted?;
    let mut rest_shift = shift.saturating_sub(30);
    while places < 0 {
        if rest_shift > 0 && value < i128::MAX >> 1 {
            value *= 2;
            rest_shift -= 1;
            continue;
        }
        inexact |= value % 10 > 0;
        value /= 10;
        places += 1;
        if value == 0 {
            break;
        }
    }
    for _ in 0..places.max(0) {
        value = value.checked_mul(10)?;
    }
    value = value.checked_mul(1 << rest_shift)?;
    value += i128::from(inexact);
    (value <= MOST).then_some(value)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nano.abs() < 1024 * NANO;
        if self.form == Form::Binary && !small {
            let mut value = ceiling(self.nano, NANO);
            let mut unit = "";
            for (name, _) in BINARY {
                if value % 1024 != 0 {
                    break;
                }
                value /= 1024;
                unit = name;
            }
            return write!(f, "{value}{unit}");
        }
        if self.nano == 0 {
            return f.write_str("0");
        }
        let (mut value, mut power, mut unit) = (self.nano, -9, "n");
        for (name, next) in DECIMAL.into_iter().skip(1) {
            if value % 1000 != 0 {
                break;
            }
            (value, power, unit) = (value / 1000, next, name);
        }
        match self.form {
            Form::Exponent if power != 0 => write!(f, "{value}e{power}"),
            Form::Exponent => write!(f, "{value}"),
            _ => write!(f, "{value}{unit}"),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 500m or 1Gi")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(|error: Error| E::custom(error.message()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity::units(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_texts_are_those_of_kubernetes() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.1Ki", "102400m"),
            ("1.1Ki", "1127"),
            ("1e3", "1e3"),
            ("12E2", "1200"),
            ("1E", "1E"),
            ("1E1", "10"),
            ("100e-3", "100e-3"),
            ("-1.5", "-1500m"),
            ("+3", "3"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("7Ei", "7Ei"),
            ("9223372036854775807", "9223372036854775807"),
            ("64Mi", "64Mi"),
            ("0.000001Ei", "1152921504607"),
            ("000000000000000000000000000000000000000001", "1"),
            ("0e999999999", "0"),
            // no binary unit divides it, and read again it is a decimal amount: in Kubernetes, too
            ("2.9296875Ki", "3000"),
            ("3000", "3k"),
        ] {
            assert_eq!(text.parse::<Quantity>().map(|q| q.to_string()).unwrap(), canonical, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, rule) in [
            ("", "must begin with a number"),
            ("m", "must begin with a number"),
            (".", "must begin with a number"),
            ("--1", "must begin with a number"),
            ("1.2.3", "has two decimal points"),
            ("8Ei", "is larger than 2^63-1"),
            ("1e99", "is larger than 2^63-1"),
            ("99999999999999999999999999999999999999999999", "is larger than 2^63-1"),
        ] {
            let error = text.parse::<Quantity>().unwrap_err();
            assert_eq!(error.message(), format!("quantity {text:?} {rule}"));
        }
        for text in ["1g", "1 Gi", "1KiB", "1e", "1e+", "1ee3", "lots", "1é"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_quantities_too() {
        for (json, text) in [("2", "2"), ("0.25", "250m"), ("1e3", "1k"), ("\"2Gi\"", "2Gi")] {
            assert_eq!(serde_json::from_str::<Quantity>(json).unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(nano in -MOST..=MOST, form in 0..3) {
            let form = [Form::Decimal, Form::Binary, Form::Exponent][form as usize];
            let quantity = Quantity { nano, form };
            let text = quantity.to_string();
            let again: Quantity = text.parse().unwrap();
            if form == Form::Binary {
                prop_assert_eq!(again.value(), quantity.value(), "whole units are all that it is printed in");
            } else {
                prop_assert_eq!(again, quantity);
                prop_assert_eq!(again.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[+-]?[0-9.]{0,40}(Ki|Mi|Ei|E|m|n|e-?[0-9]{1,10}|)") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                let again: Quantity = quantity.to_string().parse().unwrap();
                prop_assert_eq!(again.to_string().parse::<Quantity>().unwrap().to_string(), again.to_string());
                prop_assert_eq!(again.value(), quantity.value());
            }
        }
    }
}
