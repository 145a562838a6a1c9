//! Labels and the selectors over them, equality and set based, parsed and printed as Kubernetes does.

use super::{Error, Kind, Result, name};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Key and value pairs that things carry and selectors ask for, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// No labels.
    pub const fn new() -> Self {
        Labels(BTreeMap::new())
    }

    /// The value under this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Sets a label, and returns the value that stood there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.0.insert(key.into(), value.into())
    }

    /// Removes a label, and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All pairs, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Checks every key and value against Kubernetes' rules.
    ///
    /// # Errors
    /// [`Kind::Invalid`], naming the first key or value that breaks a rule.
    pub fn check(&self) -> Result {
        for (key, value) in &self.0 {
            name::check_key(key)?;
            name::check_value(value).map_err(|error| error.at(format!("label {key}")))?;
        }
        Ok(())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Labels(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Labels {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// What a selector asks of one key. Each prints in the form that it is parsed from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requirement {
    /// `key=value`
    Equals(String, String),
    /// `key!=value`; a thing without the key matches.
    NotEquals(String, String),
    /// `key in (a,b)`
    In(String, Vec<String>),
    /// `key notin (a,b)`; a thing without the key matches.
    NotIn(String, Vec<String>),
    /// `key`
    Exists(String),
    /// `!key`
    Absent(String),
}

impl Requirement {
    /// Whether these labels meet it.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Requirement::Equals(key, value) => labels.get(key) == Some(value),
            Requirement::NotEquals(key, value) => labels.get(key) != Some(value),
            Requirement::In(key, values) => labels.get(key).is_some_and(|at| values.iter().any(|value| value == at)),
            Requirement::NotIn(key, values) => {
                !labels.get(key).is_some_and(|at| values.iter().any(|value| value == at))
            }
            Requirement::Exists(key) => labels.get(key).is_some(),
            Requirement::Absent(key) => labels.get(key).is_none(),
        }
    }

    /// The key that it asks about.
    pub fn key(&self) -> &str {
        match self {
            Requirement::Equals(key, _)
            | Requirement::NotEquals(key, _)
            | Requirement::In(key, _)
            | Requirement::NotIn(key, _)
            | Requirement::Exists(key)
            | Requirement::Absent(key) => key,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Requirement::Equals(key, value) => write!(f, "{key}={value}"),
            Requirement::NotEquals(key, value) => write!(f, "{key}!={value}"),
            Requirement::In(key, values) => write!(f, "{key} in ({})", values.join(",")),
            Requirement::NotIn(key, values) => write!(f, "{key} notin ({})", values.join(",")),
            Requirement::Exists(key) => f.write_str(key),
            Requirement::Absent(key) => write!(f, "!{key}"),
        }
    }
}

/// Which things are meant, by their labels: all requirements must hold. The empty selector means everything.
///
/// ```
/// use seedpod::base::{Labels, Selector};
/// let selector: Selector = "app=cart, tier in (web,api), !legacy".parse()?;
/// assert!(selector.matches(&Labels::from([("app", "cart"), ("tier", "api")])));
/// assert_eq!(selector.to_string(), "app=cart,tier in (web,api),!legacy");
/// # Ok::<(), seedpod::base::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// The selector that everything matches.
    pub const fn everything() -> Self {
        Selector(Vec::new())
    }

    /// The selector for things that carry all of these labels.
    pub fn equal_to(labels: &Labels) -> Self {
        labels.iter().map(|(key, value)| Requirement::Equals(key.into(), value.into())).collect()
    }

    /// Whether a thing with these labels is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// What it asks for, in the order written.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Whether it asks for nothing, so that everything matches.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        Selector(requirements.into_iter().collect())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            write!(f, "{}{requirement}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = Error;

    /// Reads `a=b,c==d,e!=f,g in (h,i),j notin (k),l,!m`, with blanks where Kubernetes allows them.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |rule: &str| Error::new(Kind::Invalid, format!("selector {text:?}: {rule}"));
        let mut requirements = Vec::new();
        for term in split(text) {
            let term = term.trim();
            if term.is_empty() {
                if text.trim().is_empty() {
                    break;
                }
                return Err(refuse("there is an empty requirement"));
            }
            let requirement = read(term).map_err(|rule| refuse(&format!("{term:?} {rule}")))?;
            name::check_key(requirement.key()).map_err(|error| refuse(error.message()))?;
            let values: &[String] = match &requirement {
                Requirement::Equals(_, value) | Requirement::NotEquals(_, value) => std::slice::from_ref(value),
                Requirement::In(_, values) | Requirement::NotIn(_, values) => values,
                _ => &[],
            };
            values.iter().try_for_each(|value| name::check_value(value)).map_err(|error| refuse(error.message()))?;
            requirements.push(requirement);
        }
        Ok(Selector(requirements))
    }
}

/// At commas, but not at those in parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    })
}

fn read(term: &str) -> Result<Requirement, &'static str> {
    let pair = |(key, value): (&str, &str)| (key.trim().to_string(), value.trim().to_string());
    if let Some(key) = term.strip_prefix('!') {
        return Ok(Requirement::Absent(key.trim().into()));
    }
    if let Some((head, list)) = term.split_once('(') {
        let list = list.strip_suffix(')').ok_or("has no closing parenthesis at its end")?;
        let values = list.split(',').map(|value| value.trim().to_string()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(Requirement::In(key.into(), values)),
            (Some(key), Some("notin"), None) => Ok(Requirement::NotIn(key.into(), values)),
            _ => Err("must be 'key in (…)' or 'key notin (…)'"),
        };
    }
    if let Some((key, value)) = term.split_once("!=").map(pair) {
        return Ok(Requirement::NotEquals(key, value));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')).map(pair) {
        return Ok(Requirement::Equals(key, value));
    }
    Ok(Requirement::Exists(term.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for text in ["", "a=b", "a!=b", "a in (b,c)", "a notin (b,c)", "a", "!a", "a=b,c in (d,e),!f", "x.io/a="] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.to_string(), text);
        }
        assert_eq!(" a == b ,c in ( d , e ) ".parse::<Selector>().unwrap().to_string(), "a=b,c in (d,e)");
    }

    #[test]
    fn mistakes_are_named() {
        let text = |bad: &str| bad.parse::<Selector>().unwrap_err().to_string();
        assert_eq!(text("a,,b"), r#"invalid: selector "a,,b": there is an empty requirement"#);
        assert_eq!(text("a in (b"), r#"invalid: selector "a in (b": "a in (b" has no closing parenthesis at its end"#);
        assert_eq!(
            text("a of (b)"),
            r#"invalid: selector "a of (b)": "a of (b)" must be 'key in (…)' or 'key notin (…)'"#
        );
        for bad in ["=b", "a=b=c", "a b", "!", "a=-"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn absence_matches_what_is_negated() {
        let labels = Labels::from([("app", "cart")]);
        for (selector, expected) in [
            ("app=cart", true),
            ("app!=cart", false),
            ("tier!=web", true),
            ("tier notin (web)", true),
            ("tier in (web)", false),
            ("app", true),
            ("!app", false),
            ("!tier,app in (cart,shop)", true),
        ] {
            assert_eq!(selector.parse::<Selector>().unwrap().matches(&labels), expected, "{selector}");
        }
    }
}
