//! Names and label values as Prometheus has them.

use super::{Dropped, Type};
use smallvec::SmallVec;
use std::borrow::Cow;

/// What every metric of the adapter itself begins with; of the application's, none may.
pub(super) const OWN: &str = "seedpod_adapter_";

/// Appends this as (a part of) a metric's name: what is no ASCII letter, digit or `_` becomes one `_`. The colon, too: it is
/// kept for the names of recording rules.
pub(super) fn push(out: &mut String, raw: &str) {
    if raw.bytes().all(plain) {
        out.push_str(raw);
    } else {
        out.extend(raw.chars().map(|letter| if u8::try_from(letter).is_ok_and(plain) { letter } else { '_' }));
    }
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether this can be the beginning of a name as it is.
pub(super) fn begins_well(name: &str) -> bool {
    name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// Whether a name says nothing: empty, or nothing but what was replaced.
pub(super) fn says_nothing(name: &str) -> bool {
    name.bytes().all(|byte| byte == b'_')
}

/// A label's name. Those that Prometheus or the format keep for themselves (`__…`, `le`, `quantile`) and those that the
/// adapter sets are prefixed, as Prometheus does where a target's label meets its own.
pub(super) fn label<'a>(raw: &'a str, taken: &[(String, String)]) -> Cow<'a, str> {
    let mut name = Cow::Borrowed(raw);
    if !begins_well(raw) || !raw.bytes().all(plain) {
        let mut made = String::with_capacity(raw.len() + 1);
        if !begins_well(raw) {
            made.push('_');
        }
        push(&mut made, raw);
        name = made.into();
    }
    let kept = name.starts_with("__") || name == "le" || name == "quantile";
    if kept || taken.iter().any(|(own, _)| *own == name) { format!("exported_{name}").into() } else { name }
}

/// Appends a label's value, quoted.
pub(super) fn quote(out: &mut String, value: &str) {
    out.push('"');
    escape(out, value, true);
    out.push('"');
}

/// Appends a text of `HELP`, in which quotes stand as they are.
pub(super) fn help(out: &mut String, text: &str) {
    escape(out, text, false);
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'"' if quotes => "\\\"",
            _ => continue,
        };
        out.push_str(text.get(plain..at).unwrap_or_default());
        out.push_str(escape);
        plain = at + 1;
    }
    out.push_str(text.get(plain..).unwrap_or_default());
}

/// Appends a number as Go's `ParseFloat` reads it back to the last bit; whole ones without a point.
pub(super) fn number(out: &mut String, value: f64) {
    use std::fmt::Write;
    let _ = if value.fract() == 0.0 && value.abs() < 1e15 {
        write!(out, "{}", value as i64)
    } else if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else {
        write!(out, "{value:?}")
    };
}

/// A name for what a path of a document says, or of a plain key: the parts joined by `_`.
pub(super) fn joined<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut name = String::new();
    for part in parts {
        if !name.is_empty() {
            name.push('_');
        }
        push(&mut name, part);
    }
    name
}

/// The whole name of a metric: prefix, what the application calls it, and the suffix of counters.
pub(super) fn full(out: &mut String, prefix: &str, raw: &str, kind: Type) -> Result<(), Dropped> {
    out.clear();
    out.push_str(prefix);
    let own = out.len();
    if own == 0 && !begins_well(raw) {
        out.push('_');
    }
    push(out, raw);
    if out.get(own..).is_none_or(says_nothing) {
        return Err(Dropped::Name);
    }
    if !begins_well(out) {
        out.insert(0, '_'); // a prefix such as `2nd_`
    }
    if kind == Type::Counter && !out.ends_with("_total") {
        out.push_str("_total");
    }
    Ok(())
}

/// The labels as they stand between the braces, in the order of their names; the adapter's own come in it already.
pub(super) fn render(out: &mut String, own: &[(String, String)], raw: &[(&str, &str)]) -> Result<(), Dropped> {
    out.clear();
    if raw.is_empty() {
        own.iter().for_each(|(name, value)| one(out, name, value));
        return Ok(());
    }
    let mut all: SmallVec<[(Cow<'_, str>, &str); 8]> =
        own.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), value.as_str())).collect();
    all.extend(raw.iter().map(|(name, value)| (label(name, own), *value)));
    all.sort_unstable();
    if !all.is_sorted_by(|(before, _), (after, _)| before < after) {
        return Err(Dropped::Duplicate);
    }
    all.iter().for_each(|(name, value)| one(out, name, value));
    Ok(())
}

fn one(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push('=');
    quote(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(write: fn(&mut String, &str), raw: &str) -> String {
        let mut out = String::new();
        write(&mut out, raw);
        out
    }

    #[test]
    fn names() {
        assert_eq!(pushed(push, "http.requests-2xx/s"), "http_requests_2xx_s");
        assert_eq!(pushed(push, "Temp°C:x"), "Temp_C_x");
        assert_eq!(joined(["a", "b.c", ""]), "a_b_c_");
        assert!(says_nothing("") && says_nothing("__") && !says_nothing("_1"));
    }

    #[test]
    fn whole_names() {
        let whole = |prefix: &str, raw: &str, kind| {
            let mut out = String::from("left over");
            full(&mut out, prefix, raw, kind).map(|()| out)
        };
        assert_eq!(whole("", "2xx", Type::Gauge).as_deref(), Ok("_2xx"));
        assert_eq!(whole("shop_", "2xx", Type::Counter).as_deref(), Ok("shop_2xx_total"));
        assert_eq!(whole("2nd_", "a_total", Type::Counter).as_deref(), Ok("_2nd_a_total"));
        assert_eq!(whole("shop_", "..", Type::Gauge), Err(Dropped::Name));
    }

    #[test]
    fn labels_stand_in_order_and_once() {
        let mut out = String::new();
        let own = [("zone".to_owned(), "a\"b".to_owned())];
        render(&mut out, &own, &[("b", "2"), ("a", "1"), ("zone", "x")]).unwrap();
        assert_eq!(out, r#"a="1",b="2",exported_zone="x",zone="a\"b""#);
        assert_eq!(render(&mut out, &own, &[("a.b", "1"), ("a-b", "2")]), Err(Dropped::Duplicate));
    }

    #[test]
    fn labels_that_are_kept_are_prefixed() {
        let taken = [("app".to_owned(), String::new())];
        let named = |raw| label(raw, &taken);
        assert_eq!([named("a-b"), named("2xx"), named("")], ["a_b", "_2xx", "_"]);
        assert_eq!(
            [named("le"), named("__name__"), named("app")],
            ["exported_le", "exported___name__", "exported_app"]
        );
    }

    #[test]
    fn values_and_numbers() {
        assert_eq!(pushed(quote, "a\\b\"c\nd\r é"), "\"a\\\\b\\\"c\\nd\r é\"");
        assert_eq!(pushed(help, "say \"a\\b\"\n"), "say \"a\\\\b\"\\n");
        for (value, text) in [
            (0.0, "0"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (1e300, "1e300"),
            (2.5e-9, "2.5e-9"),
            (123456789012345.0, "123456789012345"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, text);
        }
    }
}
