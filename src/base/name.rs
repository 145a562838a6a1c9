//! Names: cheap to clone, hashed once, and the rules that Kubernetes has for them.

use super::{Error, Kind, Result, hash};
use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The name of a topic, a subscription, a stage: any text, cheap to clone, its hash computed once.
///
/// Equal names compare by pointer first, so passing one handle around makes look-ups nearly free.
///
/// ```
/// use seedpod::base::Name;
/// let orders = Name::from("orders");
/// assert_eq!(orders, Name::new("orders".to_string()));
/// assert_eq!(orders.as_str(), "orders");
/// ```
#[derive(Clone)]
pub struct Name(Arc<Inner>);

struct Inner {
    hash: u64,
    text: Box<str>,
}

impl Name {
    /// A name of this text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        Name(Arc::new(Inner { hash: hash::of(text.as_bytes()), text }))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// XXH3 of the text, the same in every process.
    pub fn hash64(&self) -> u64 {
        self.0.hash
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.hash == other.0.hash && self.0.text == other.0.text)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Name::new(text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Name::new(text)
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Name
where
    Name: Ord,
{
    // for ordered maps only: the hash of a name is not the hash of its text
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Checks an RFC 1123 label: at most 63 of `a-z`, `0-9` and `-`, with no `-` at either end. Names of services,
/// namespaces, containers and ports are labels.
///
/// # Errors
/// [`Kind::Invalid`], naming the text and the rule that it breaks.
pub fn check_label(text: &str) -> Result {
    segment(text, 63).map_err(|rule| refused(text, rule))
}

/// Checks an RFC 1123 subdomain: labels joined by dots, at most 253 bytes. Names of most objects are subdomains.
///
/// # Errors
/// [`Kind::Invalid`], naming the text and the rule that it breaks.
pub fn check_subdomain(text: &str) -> Result {
    if text.len() > 253 {
        return Err(refused(text, "must be no more than 253 bytes"));
    }
    text.split('.').try_for_each(|part| segment(part, 253)).map_err(|rule| refused(text, rule))
}

/// Checks a label or annotation key: a name of at most 63 bytes, perhaps behind a subdomain and a slash.
///
/// # Errors
/// [`Kind::Invalid`], naming the text and the rule that it breaks.
pub fn check_key(text: &str) -> Result {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            check_subdomain(prefix)?;
            name
        }
        None => text,
    };
    if name.is_empty() {
        return Err(refused(text, "the name part must not be empty"));
    }
    qualified(name).map_err(|rule| refused(text, rule))
}

/// Checks a label value: empty, or at most 63 of letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
///
/// # Errors
/// [`Kind::Invalid`], naming the text and the rule that it breaks.
pub fn check_value(text: &str) -> Result {
    if text.is_empty() { Ok(()) } else { qualified(text).map_err(|rule| refused(text, rule)) }
}

fn segment(text: &str, longest: usize) -> Result<(), &'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match text.as_bytes() {
        [] => Err("must not be empty"),
        bytes if bytes.len() > longest => Err("must be no more than 63 bytes"),
        bytes if !bytes.iter().all(|byte| inner(*byte) || *byte == b'-') => {
            Err("must consist of lower case letters, digits and '-'")
        }
        [first, .., last] if !inner(*first) || !inner(*last) => Err("must start and end with a letter or digit"),
        [b'-'] => Err("must start and end with a letter or digit"),
        _ => Ok(()),
    }
}

fn qualified(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    if bytes.len() > 63 {
        Err("must be no more than 63 bytes")
    } else if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)) {
        Err("must consist of letters, digits, '-', '_' and '.'")
    } else if !edge(bytes.first()) || !edge(bytes.last()) {
        Err("must start and end with a letter or digit")
    } else {
        Ok(())
    }
}

#[cold]
fn refused(text: &str, rule: &'static str) -> Error {
    Error::new(Kind::Invalid, format!("{text:?} {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules() {
        for good in ["a", "a-b", "0", "x".repeat(63).as_str()] {
            check_label(good).unwrap();
        }
        for bad in ["", "-", "-a", "a-", "A", "a.b", "a_b", "é", "x".repeat(64).as_str()] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
        check_subdomain("a.b-c.d").unwrap();
        assert!(check_subdomain("a..b").is_err());
        check_key("app.kubernetes.io/name").unwrap();
        check_key("App_1").unwrap();
        for bad in ["", "/a", "a/", "a/b/c", "A.b/c d"] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
        check_value("").unwrap();
        check_value("v1.2_x").unwrap();
        assert_eq!(
            check_value("-x").unwrap_err().to_string(),
            r#"invalid: "-x" must start and end with a letter or digit"#
        );
    }

    #[test]
    fn names_are_hashed_once_and_sort_as_text() {
        let mut names = [Name::from("b"), Name::from("a")];
        names.sort();
        assert_eq!(names.map(|name| name.to_string()), ["a", "b"]);
        assert_eq!(Name::from("a").hash64(), hash::of(b"a"));
    }
}
