//! Edits of a JSON document; pure.

use crate::{
    adapter::json::{self, Elements, Members, Value},
    base::{Error, Kind, Result},
};
use serde_json::value::RawValue;
use std::sync::Arc;

/// What is changed in a JSON document: fields renamed, moved, removed, added.
///
/// A path is names joined by dots; `*` stands for each element of a list, or each member of an object. Edits are made in their
/// order. What no edit is for stays as it was written, numbers to the last digit.
///
/// ```
/// use seedpod::adapter::api::Edits;
/// let edits = Edits::new()
///     .rename("cust.nm", "customer.name")
///     .rename("items.*.sku", "items.*.id")
///     .add("currency", "EUR")
///     .remove("internal");
/// let document = br#"{"cust": {"nm": "Ada", "no": 7}, "items": [{"sku": 1.10}, {"sku": 2}], "internal": true}"#;
/// assert_eq!(
///     edits.apply(document)?,
///     r#"{"cust":{"no":7},"items":[{"id":1.10},{"id":2}],"customer":{"name":"Ada"},"currency":"EUR"}"#
/// );
/// # seedpod::Result::<()>::Ok(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "edits do nothing until they are applied"]
pub struct Edits(Vec<Edit>);

#[derive(Clone, Debug)]
enum Edit {
    Rename(Path, Path),
    Remove(Path),
    Default(Path, Arc<str>),
    Set(Path, Arc<str>),
}

type Path = Vec<Box<str>>;

/// A value that is opened where an edit goes through it, and nowhere else.
enum Node<'a> {
    Raw(&'a RawValue),
    New(Arc<str>),
    Object(Vec<(String, Node<'a>)>),
    Array(Vec<Node<'a>>),
}

impl Edits {
    /// None.
    pub fn new() -> Self {
        Edits::default()
    }

    fn and(mut self, edit: Edit) -> Self {
        self.0.push(edit);
        self
    }

    /// Moves a value to another path, in the place of what is there; objects on the way are made. Where there is none nothing
    /// is done. Both paths have the same beginning up to the last `*`.
    pub fn rename(self, from: &str, to: &str) -> Self {
        self.and(Edit::Rename(path(from), path(to)))
    }

    /// Removes a value.
    pub fn remove(self, at: &str) -> Self {
        self.and(Edit::Remove(path(at)))
    }

    /// Adds a value where there is none (`null` is one).
    pub fn add(self, at: &str, value: impl Into<serde_json::Value>) -> Self {
        self.and(Edit::Default(path(at), value.into().to_string().into()))
    }

    /// Sets a value, whether there is one or not.
    pub fn set(self, at: &str, value: impl Into<serde_json::Value>) -> Self {
        self.and(Edit::Set(path(at), value.into().to_string().into()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong with them, whatever the document.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for edit in &self.0 {
            let paths: &[&Path] = match edit {
                Edit::Rename(from, to) => &[from, to],
                Edit::Remove(at) | Edit::Default(at, _) | Edit::Set(at, _) => &[at],
            };
            for path in paths {
                if path.iter().any(|name| name.is_empty()) {
                    mistakes.push(format!("JSON path {:?} has a name that is empty", path.join(".")));
                }
            }
            if let Edit::Rename(from, to) = edit {
                let shared = from.iter().zip(to).take_while(|(one, other)| one == other).count();
                let each = |path: &Path| path.iter().skip(shared).any(|name| &**name == "*");
                if each(from) || each(to) {
                    let (from, to) = (from.join("."), to.join("."));
                    mistakes.push(format!("JSON paths {from:?} and {to:?} differ before their last `*`"));
                }
            }
        }
        mistakes
    }

    /// The document with these edits made.
    ///
    /// # Errors
    /// [`Kind::Invalid`], with line and column where it is no JSON, with the name where a value is in the way of a path.
    pub fn apply(&self, document: &[u8]) -> Result<String> {
        let mut root = Node::Raw(json::document(document)?);
        for edit in &self.0 {
            match edit {
                Edit::Rename(from, to) => root.rename(from, to)?,
                Edit::Remove(at) => drop(root.take(at)?),
                Edit::Default(at, value) => root.put(at, value, true)?,
                Edit::Set(at, value) => root.put(at, value, false)?,
            }
        }
        let mut out = String::with_capacity(document.len() + 64);
        root.write(&mut out);
        Ok(out)
    }
}

fn path(text: &str) -> Path {
    text.split('.').map(Into::into).collect()
}

impl<'a> Node<'a> {
    /// Opens it by one level, where it has one.
    fn open(&mut self) -> Result {
        let Node::Raw(raw) = *self else { return Ok(()) };
        if raw.get().starts_with(['{', '[']) {
            match json::open(raw)? {
                Value::Object(Members(members)) => {
                    *self = Node::Object(members.into_iter().map(|(name, value)| (name, Node::Raw(value))).collect());
                }
                Value::Array(Elements(elements)) => *self = Node::Array(elements.into_iter().map(Node::Raw).collect()),
                _ => {}
            }
        }
        Ok(())
    }

    /// All that a `*` stands for.
    fn each(&mut self, mut change: impl FnMut(&mut Node<'a>) -> Result) -> Result {
        self.open()?;
        match self {
            Node::Object(members) => members.iter_mut().try_for_each(|(_, value)| change(value)),
            Node::Array(elements) => elements.iter_mut().try_for_each(change),
            Node::Raw(_) | Node::New(_) => Ok(()),
        }
    }

    /// The member of this name: of several the last, as most readers have it.
    fn member(&mut self, name: &str) -> Result<Option<&mut Node<'a>>> {
        self.open()?;
        let Node::Object(members) = self else { return Ok(None) };
        Ok(members.iter_mut().rev().find(|(member, _)| member == name).map(|(_, value)| value))
    }

    fn rename(&mut self, from: &[Box<str>], to: &[Box<str>]) -> Result {
        match (from, to) {
            ([one, from @ ..], [other, to @ ..]) if one == other && !from.is_empty() && !to.is_empty() => {
                match &**one {
                    "*" => self.each(|value| value.rename(from, to)),
                    name => match self.member(name)? {
                        Some(value) => value.rename(from, to),
                        None => Ok(()),
                    },
                }
            }
            _ if from == to => Ok(()),
            _ => match self.take(from)? {
                Some(value) => self.insert(to, value),
                None => Ok(()),
            },
        }
    }

    /// Takes the value at this path out; with a `*` all of them, of which the last is returned.
    fn take(&mut self, path: &[Box<str>]) -> Result<Option<Node<'a>>> {
        let Some((name, rest)) = path.split_first() else { return Ok(None) };
        if &**name == "*" {
            let mut taken = None;
            if !rest.is_empty() {
                self.each(|value| {
                    taken = value.take(rest)?;
                    Ok(())
                })?;
                return Ok(taken);
            }
            self.open()?;
            match self {
                Node::Object(members) => members.clear(),
                Node::Array(elements) => elements.clear(),
                Node::Raw(_) | Node::New(_) => {}
            }
            return Ok(None);
        }
        if !rest.is_empty() {
            return match self.member(name)? {
                Some(value) => value.take(rest),
                None => Ok(None),
            };
        }
        self.open()?;
        let Node::Object(members) = self else { return Ok(None) };
        let mut taken = None;
        while let Some(at) = members.iter().position(|(member, _)| **member == **name) {
            taken = Some(members.remove(at).1);
        }
        Ok(taken)
    }

    /// Puts a value, in the place of what is there.
    fn insert(&mut self, path: &[Box<str>], value: Node<'a>) -> Result {
        let Some((name, rest)) = path.split_first() else { return Ok(()) };
        self.open()?;
        let Node::Object(members) = self else {
            return Err(Error::new(Kind::Invalid, format!("what should have a member {name:?} is no object")));
        };
        if rest.is_empty() {
            // where the first of this name stands: an order that somebody reads is kept
            let at = members.iter().position(|(member, _)| **member == **name);
            members.retain(|(member, _)| **member != **name);
            members.insert(at.unwrap_or(members.len()), (name.to_string(), value));
            return Ok(());
        }
        if !members.iter().any(|(member, _)| **member == **name) {
            members.push((name.to_string(), Node::Object(Vec::new())));
        }
        match self.member(name)? {
            Some(inner) => inner.insert(rest, value),
            None => Ok(()),
        }
    }

    fn put(&mut self, path: &[Box<str>], value: &Arc<str>, absent: bool) -> Result {
        let at = path.iter().position(|name| &**name == "*");
        let Some((before, behind)) = at.and_then(|at| Some((path.get(..at)?, path.get(at + 1..)?))) else {
            let there = absent && self.is_there(path)?;
            return if there { Ok(()) } else { self.insert(path, Node::New(value.clone())) };
        };
        let mut node = self;
        for name in before {
            match node.member(name)? {
                Some(inner) => node = inner,
                None => return Ok(()),
            }
        }
        node.each(|inner| match behind.is_empty() {
            true if absent => Ok(()),
            true => {
                *inner = Node::New(value.clone());
                Ok(())
            }
            false => inner.put(behind, value, absent),
        })
    }

    fn is_there(&mut self, path: &[Box<str>]) -> Result<bool> {
        let mut node = self;
        for name in path {
            match node.member(name)? {
                Some(inner) => node = inner,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn write(&self, out: &mut String) {
        match self {
            Node::Raw(raw) => out.push_str(raw.get()),
            Node::New(text) => out.push_str(text),
            Node::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    json::quote(out, name);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
            Node::Array(elements) => {
                out.push('[');
                for (index, value) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.write(out);
                }
                out.push(']');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(edits: &Edits, document: &str) -> String {
        edits.apply(document.as_bytes()).unwrap_or_else(|error| error.chain())
    }

    #[test]
    fn each_edit() {
        for (edits, before, after) in [
            (Edits::new().rename("a", "b"), r#"{"a":1,"b":2,"c":3}"#, r#"{"b":1,"c":3}"#),
            (Edits::new().rename("a", "b.c.d"), r#"{"a": [ 1 ]}"#, r#"{"b":{"c":{"d":[ 1 ]}}}"#),
            (Edits::new().rename("a.b", "b"), r#"{"a":{"b":1}}"#, r#"{"a":{},"b":1}"#),
            (Edits::new().rename("a", "a.b"), r#"{"a":1}"#, r#"{"a":{"b":1}}"#),
            (Edits::new().rename("x", "y"), r#"{"a":1e400}"#, r#"{"a":1e400}"#),
            (Edits::new().rename("*.a", "*.b"), r#"[{"a":1},2,{"c":3}]"#, r#"[{"b":1},2,{"c":3}]"#),
            (Edits::new().rename("l.*.a.x", "l.*.b"), r#"{"l":[{"a":{"x":1}}]}"#, r#"{"l":[{"a":{},"b":1}]}"#),
            (Edits::new().remove("a").remove("b.*.c"), r#"{"a":1,"a":2,"b":[{"c":1,"d":2}]}"#, r#"{"b":[{"d":2}]}"#),
            (Edits::new().remove("a.*"), r#"{"a":[1,2]}"#, r#"{"a":[]}"#),
            (Edits::new().add("a", 1).add("b", "x"), r#"{"a":null}"#, r#"{"a":null,"b":"x"}"#),
            (
                Edits::new().add("l.*.n", 0).set("l.*.k", true),
                r#"{"l":[{"n":1},{}]}"#,
                r#"{"l":[{"n":1,"k":true},{"n":0,"k":true}]}"#,
            ),
            (Edits::new().set("l.*", 0), r#"{"l":[1,2]}"#, r#"{"l":[0,0]}"#),
            (Edits::new().rename("a", "b"), r#"{"a":1,"a":2}"#, r#"{"b":2}"#),
            (Edits::new().rename("a", "a"), r#"{"a":1}"#, r#"{"a":1}"#),
            (Edits::new().set("a.b", 1), r#"{"a":7}"#, "invalid: what should have a member \"b\" is no object"),
            (Edits::new().set("a", 1), "7", "invalid: what should have a member \"a\" is no object"),
        ] {
            assert_eq!(edited(&edits, before), after, "{edits:?} of {before}");
        }
        assert!(edited(&Edits::new(), "{").contains("line 1 column 1"));
    }

    #[test]
    fn mistakes_are_found_without_a_document() {
        assert!(Edits::new().rename("a.*.b", "a.*.c").add("x.y", 1).mistakes().is_empty());
        let wrong = Edits::new().rename("a.*.b", "c.*.d").remove("a..b").set("", 1);
        assert_eq!(
            wrong.mistakes(),
            [
                "JSON paths \"a.*.b\" and \"c.*.d\" differ before their last `*`",
                "JSON path \"a..b\" has a name that is empty",
                "JSON path \"\" has a name that is empty"
            ]
        );
    }

    #[test]
    fn any_document_stays_one() {
        let edits = Edits::new().rename("a", "b.c").rename("l.*.a", "l.*.b").add("d", 1).remove("l.*.c");
        let words = ["{", "}", "[", "]", ",", ":", "\"a\"", "\"l\"", "\"b\"", "1.50", "null", "\"\\u0041\"", " "];
        let good = r#"{ "a" : 1.50 , "l" : [ { "a" : 1 , "c" : 2 } , null ] , "b" : { "c" : [ ] } }"#;
        let mut rng = crate::base::Seed::new(5).rng();
        let mut read = 0;
        for _ in 0..20_000 {
            let mut document: Vec<&str> = good.split(' ').collect();
            for _ in 0..1 + rng.below(3) {
                let at = rng.below(document.len() as u64) as usize;
                document[at] = *rng.choose(&words).unwrap();
            }
            let document = document.concat();
            if let Ok(edited) = edits.apply(document.as_bytes()) {
                serde_json::from_str::<serde::de::IgnoredAny>(&edited).unwrap();
                read += 1;
            }
        }
        assert!(read > 300, "{read}");
    }
}
