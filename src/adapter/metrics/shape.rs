//! What the application's documents look like, and what each thing in them is.

use super::{
    Dropped, Registry, Type, document, key_values,
    registry::{Reading, Sample, Value},
};
use crate::base::Result;
use std::sync::Arc;

/// What the documents of a source look like: JSON or key-value text, and rules that say what is what in them.
///
/// A rule is for a path: names joined by dots, as they stand in the document (`queue.depth`; a key of key-value text is cut
/// at its own dots). `*` in a name stands for any letters of it. Rules of the same kind: the last one counts.
///
/// What no rule is for is untyped, under its path joined by `_`.
///
/// ```
/// use seedpod::adapter::metrics::{Registry, Shape};
/// let shape = Shape::json()
///     .counter("requests").help("requests", "Requests served.")
///     .scale("uptime_ms", 0.001).name("uptime_ms", "uptime_seconds")
///     .label("queues", "queue")
///     .ignore("build.*");
/// let mut registry = Registry::new();
/// registry.read("app", &shape, br#"{
///     "requests": 12, "uptime_ms": 1500, "healthy": true,
///     "queues": {"mail": {"depth": 3}, "sms": {"depth": 0}},
///     "build": {"number": 77}
/// }"#)?;
/// let text = registry.exposition();
/// for line in ["requests_total 12", "uptime_seconds 1.5", "healthy 1", "queues_depth{queue=\"mail\"} 3"] {
///     assert!(text.lines().any(|told| told == line), "{text}");
/// }
/// # seedpod::Result::<()>::Ok(())
/// ```
#[derive(Clone, Debug)]
pub struct Shape {
    form: Form,
    rules: Arc<[Rule]>,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Json,
    KeyValues,
}

#[derive(Clone, Debug)]
struct Rule {
    path: Box<[Box<str>]>,
    means: Means,
}

#[derive(Clone, Debug)]
enum Means {
    Is(Type),
    Help(Arc<str>),
    Name(Arc<str>),
    Scale(f64),
    Label(Arc<str>),
    List(Arc<str>),
    Ignored,
}

impl Shape {
    /// A JSON document. Numbers are values, `true` is 1 and `false` 0; objects are followed; texts and `null` are dropped and
    /// counted. The elements of a list get the label `index`, unless a [`list`](Shape::list) says otherwise.
    ///
    /// At most 16 levels are followed.
    pub fn json() -> Self {
        Shape { form: Form::Json, rules: Arc::default() }
    }

    /// Lines of a name and a number, between them `=`, `:` or blanks: `hits=3`, `used_memory:1024`, `STAT threads 4`. A value
    /// may be a list of such (`db0:keys=3,expires=0`). Empty lines and those that begin with `#` are passed over.
    ///
    /// A first word in capitals before a name and a number (`STAT`) is not part of the name.
    pub fn key_values() -> Self {
        Shape { form: Form::KeyValues, rules: Arc::default() }
    }

    fn rule(self, path: &str, means: Means) -> Self {
        let path = path.split('.').map(Into::into).collect();
        let rules = self.rules.iter().cloned().chain([Rule { path, means }]).collect();
        Shape { rules, ..self }
    }

    /// These are counters.
    #[must_use]
    pub fn counter(self, path: &str) -> Self {
        self.rule(path, Means::Is(Type::Counter))
    }

    /// These are gauges.
    #[must_use]
    pub fn gauge(self, path: &str) -> Self {
        self.rule(path, Means::Is(Type::Gauge))
    }

    /// These objects are histograms: `count`, `sum`, and `buckets` as an object or a list of pairs from bounds to how many
    /// observations lie at or below (`{"0.1": 3, "+Inf": 4}`, `[[0.1, 3]]`). JSON only.
    #[must_use]
    pub fn histogram(self, path: &str) -> Self {
        self.rule(path, Means::Is(Type::Histogram))
    }

    /// What the `HELP` of these says.
    #[must_use]
    pub fn help(self, path: &str, text: &str) -> Self {
        self.rule(path, Means::Help(text.into()))
    }

    /// These have this name instead of their path.
    #[must_use]
    pub fn name(self, path: &str, name: &str) -> Self {
        self.rule(path, Means::Name(name.into()))
    }

    /// These are multiplied by this, to come to a base unit: 0.001 where milliseconds are told.
    #[must_use]
    pub fn scale(self, path: &str, factor: f64) -> Self {
        self.rule(path, Means::Scale(factor))
    }

    /// The names in the object at this path are not part of a metric's name, but values of this label. JSON only.
    #[must_use]
    pub fn label(self, path: &str, label: &str) -> Self {
        self.rule(path, Means::Label(label.into()))
    }

    /// The list at this path is of objects that name themselves in this member, which becomes a label. JSON only.
    #[must_use]
    pub fn list(self, path: &str, member: &str) -> Self {
        self.rule(path, Means::List(member.into()))
    }

    /// These are passed over, without being counted.
    #[must_use]
    pub fn ignore(self, path: &str) -> Self {
        self.rule(path, Means::Ignored)
    }

    pub(super) fn read(&self, registry: &mut Registry, reading: Reading, bytes: &[u8]) -> Result {
        match self.form {
            Form::Json => document::read(self, registry, reading, bytes),
            Form::KeyValues => {
                key_values::read(self, registry, reading, bytes);
                Ok(())
            }
        }
    }

    fn of<'s, T>(&'s self, path: &[&str], means: impl Fn(&'s Means) -> Option<T>) -> Option<T> {
        let fits = |rule: &&'s Rule| {
            rule.path.len() == path.len() && rule.path.iter().zip(path).all(|(pattern, name)| glob(pattern, name))
        };
        self.rules.iter().rev().filter(fits).find_map(|rule| means(&rule.means))
    }

    pub(super) fn ignored(&self, path: &[&str]) -> bool {
        self.of(path, |means| matches!(means, Means::Ignored).then_some(())).is_some()
    }

    pub(super) fn kind(&self, path: &[&str]) -> Option<Type> {
        self.of(path, |means| if let Means::Is(kind) = means { Some(*kind) } else { None })
    }

    /// The label that the names in this object are values of.
    pub(super) fn labelled(&self, path: &[&str]) -> Option<&str> {
        self.of(path, |means| if let Means::Label(label) = means { Some(&**label) } else { None })
    }

    /// The member by which the elements of this list name themselves.
    pub(super) fn member(&self, path: &[&str]) -> Option<&str> {
        self.of(path, |means| if let Means::List(member) = means { Some(&**member) } else { None })
    }

    /// Takes one value in; what is wrong with it is counted.
    pub(super) fn value(
        &self,
        registry: &mut Registry,
        reading: Reading,
        path: &[&str],
        labels: &[(&str, &str)],
        value: Result<Value, Dropped>,
    ) {
        let scale = self.of(path, |means| if let Means::Scale(factor) = means { Some(*factor) } else { None });
        let name = self.of(path, |means| if let Means::Name(name) = means { Some(&**name) } else { None });
        let help = self.of(path, |means| if let Means::Help(text) = means { Some(&**text) } else { None });
        let joined;
        let name = match name {
            Some(name) => name,
            None => {
                joined = super::name::joined(path.iter().copied());
                &joined
            }
        };
        let taken = value.and_then(|value| {
            let kind = self.kind(path).unwrap_or(Type::Untyped);
            let (kind, value) = match value {
                Value::Number(number) => (kind, Value::Number(scale.map_or(number, |factor| number * factor))),
                Value::Histogram(_) => (Type::Histogram, value),
            };
            match (kind, &value) {
                (Type::Histogram, Value::Number(_)) => Err(Dropped::Malformed),
                _ => registry.set(reading, &Sample { name, labels, kind, help }, value),
            }
        });
        if let Err(reason) = taken {
            registry.drop(reason);
        }
    }
}

/// Whether a name fits a pattern, in which `*` stands for any letters.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('*') else { return name.ends_with(rest) };
    for part in middle.split('*') {
        match name.find(part) {
            Some(at) => name = name.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("ab*bc", "abc", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("*a*", "bab", true),
            ("**", "x", true),
        ] {
            assert_eq!(glob(pattern, name), fits, "{pattern} {name}");
        }
    }
}
