//! The rules of names that stand in no other place than a manifest.

use crate::base::{Error, Kind, Result};
use std::{collections::BTreeSet, fmt::Display};

use super::super::{mistake::Report, path::Path};
use crate::cluster::object::IntOrString;

fn refused(text: &str, rule: &str) -> Error {
    Error::new(Kind::Invalid, format!("{text:?} {rule}"))
}

/// The name of a port: an IANA service name.
pub(super) fn port_name(text: &str) -> Result {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = text.bytes().next().is_some_and(inner) && text.bytes().last().is_some_and(inner);
    if text.len() > 15 {
        Err(refused(text, "must be no more than 15 bytes"))
    } else if !text.bytes().all(|byte| inner(byte) || byte == b'-') {
        Err(refused(text, "must consist of lower case letters, digits and '-'"))
    } else if !edges || text.contains("--") {
        Err(refused(text, "must start and end with a letter or digit, without '--' in between"))
    } else if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        Err(refused(text, "must have a letter"))
    } else {
        Ok(())
    }
}

/// The name of an environment variable.
pub(super) fn variable(text: &str) -> Result {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        Ok(())
    } else {
        Err(refused(text, "must consist of printable ASCII letters other than '='"))
    }
}

/// A key of a config map or secret: it can be a file's name.
pub(super) fn data_key(text: &str) -> Result {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 253 || !text.bytes().all(good) {
        Err(refused(text, "must be 1 to 253 letters, digits, '-', '_' and '.'"))
    } else if text == "." || text.starts_with("..") {
        Err(refused(text, "must not be '.' nor start with '..'"))
    } else {
        Ok(())
    }
}

/// A path inside a volume.
pub(super) fn inner_path(text: &str) -> Result {
    if text.starts_with('/') {
        Err(refused(text, "must be relative"))
    } else if text.split('/').any(|part| part == "..") {
        Err(refused(text, "must not have '..' in it"))
    } else {
        Ok(())
    }
}

/// A port's number.
pub(super) fn port(number: i32, path: &Path<'_>, report: &mut Report<'_>) {
    if report.has(path) {
        report.ensure((1..=65535).contains(&number), path, &format!("must be between 1 and 65535, not {number}"));
    } else {
        report.required(false, path);
    }
}

/// A port's number or name.
pub(super) fn port_or_name(port_or_name: Option<&IntOrString>, path: &Path<'_>, report: &mut Report<'_>) {
    match port_or_name {
        None => report.required(false, path),
        Some(IntOrString::Int(number)) => {
            report.ensure((1..=65535).contains(number), path, &format!("must be between 1 and 65535, not {number}"));
        }
        Some(IntOrString::String(name)) => report.check(path, port_name(name)),
    }
}

/// A number that is not negative.
pub(super) fn not_negative(number: impl Into<i64>, path: &Path<'_>, report: &mut Report<'_>) {
    let number = number.into();
    report.ensure(number >= 0, path, &format!("must not be negative, it is {number}"));
}

/// Finds what stands twice.
pub(super) struct Once<T>(BTreeSet<T>);

impl<T: Ord + Clone + Display> Once<T> {
    pub(super) fn new() -> Self {
        Once(BTreeSet::new())
    }

    pub(super) fn check(&mut self, thing: T, path: &Path<'_>, report: &mut Report<'_>) {
        if !self.0.insert(thing.clone()) {
            report.add(path, format!("is {thing}, which stands here already"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules() {
        for good in ["http", "a", "1a", "http-2"] {
            port_name(good).unwrap();
        }
        for bad in ["", "80", "-a", "a-", "a--b", "Http", "a.b", "sixteen-letters-"] {
            assert!(port_name(bad).is_err(), "{bad}");
        }
        for good in ["A", "a.b-c", "_", "1"] {
            variable(good).unwrap();
        }
        for bad in ["A=B", "é", "a\tb"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
        for good in ["a", ".a", "a..b", "A_1-2.txt"] {
            data_key(good).unwrap();
        }
        for bad in ["", ".", "..", "..a", "a/b", "a b"] {
            assert!(data_key(bad).is_err(), "{bad}");
        }
        assert!(inner_path("a/b").is_ok() && inner_path("/a").is_err() && inner_path("a/../b").is_err());
    }
}
