//! JSON as a tree that keeps numbers as written and members in order, with a canonical text.

mod merge;
mod read;
mod write;

pub(super) use write::quote;

use crate::base::{self, Error, Result};
use serde::Serialize;
use std::borrow::Cow;

/// A JSON tree: numbers stay as they were written, members stand in the order of their keys.
///
/// Read from a text, it borrows every string that needs no unescaping. Equal trees have equal [canonical](Json::canonical)
/// texts, whatever the order and spacing they were read in.
///
/// ```
/// use seedpod::cluster::object::Json;
/// let json = Json::read(r#" {"b": 1.50, "a": [true, null]} "#)?;
/// assert_eq!(json.canonical(), r#"{"a":[true,null],"b":1.50}"#);
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json<'a> {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it was written.
    Number(Cow<'a, str>),
    /// A text, without quotes and escapes.
    String(Cow<'a, str>),
    /// A list.
    Array(Vec<Json<'a>>),
    /// Members by their keys.
    Object(Members<'a>),
}

/// The members of a JSON object, in the order of their keys, each key once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Members<'a> {
    /// No members.
    pub const fn new() -> Self {
        Members(Vec::new())
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(at, _)| (**at).cmp(key))
    }

    /// The value under this key.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.find(key).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// The value under this key, to change it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json<'a>> {
        self.find(key).ok().and_then(|at| self.0.get_mut(at)).map(|(_, value)| value)
    }

    /// Sets a member, and returns the value that stood there.
    pub fn insert(&mut self, key: impl Into<Cow<'a, str>>, value: impl Into<Json<'a>>) -> Option<Json<'a>> {
        let (key, value) = (key.into(), value.into());
        match self.find(&key) {
            Ok(at) => self.0.get_mut(at).map(|(_, old)| std::mem::replace(old, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Removes a member, and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Json<'a>> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// The value under this key; set to this one first where there is none, or `null`.
    pub fn or_insert(&mut self, key: &'a str, value: impl Into<Json<'a>>) -> &mut Json<'a> {
        let at = self.find(key).unwrap_or_else(|at| {
            self.0.insert(at, (Cow::Borrowed(key), Json::Null));
            at
        });
        #[expect(clippy::indexing_slicing, reason = "found or inserted just above")]
        let found = &mut self.0[at].1;
        if *found == Json::Null {
            *found = value.into();
        }
        found
    }

    /// All members, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// All members, in the order of their keys, to change the values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Json<'a>)> {
        self.0.iter_mut().map(|(key, value)| (&**key, value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = (Cow<'a, str>, Json<'a>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Members in any order; of several with one key the last one stays.
impl<'a, K: Into<Cow<'a, str>>, V: Into<Json<'a>>> FromIterator<(K, V)> for Members<'a> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
        let mut built: Vec<(Cow<'a, str>, Json<'a>)> =
            members.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        if !built.is_sorted_by(|(one, _), (next, _)| one < next) {
            // at once: members that come in a bad order, put in one by one, would cost the square of their number
            built.sort_by(|(one, _), (other, _)| one.cmp(other));
            built.dedup_by(|(key, value), (kept, last)| {
                let same = key == kept;
                if same {
                    std::mem::swap(last, value);
                }
                same
            });
        }
        Members(built)
    }
}

impl<'a> Json<'a> {
    /// An object of these members.
    pub fn object<K: Into<Cow<'a, str>>, V: Into<Json<'a>>>(members: impl IntoIterator<Item = (K, V)>) -> Self {
        Json::Object(members.into_iter().collect())
    }

    /// The tree of anything that serialises.
    ///
    /// # Errors
    /// [`Invalid`](base::Kind::Invalid) where the value has no JSON, such as a map whose keys are no texts.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Result<Json<'static>> {
        let text = serde_json::to_string(value)?;
        Ok(Json::read(&text)?.into_owned())
    }

    /// The member of this name, where this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.as_object()?.get(key)
    }

    /// The value at the end of this path of members.
    pub fn at(&self, path: &[&str]) -> Option<&Json<'a>> {
        path.iter().try_fold(self, |json, key| json.get(key))
    }

    /// The text, where this is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Json::String(text) = self { Some(text) } else { None }
    }

    /// The members, where this is an object.
    pub fn as_object(&self) -> Option<&Members<'a>> {
        if let Json::Object(members) = self { Some(members) } else { None }
    }

    /// The members, where this is an object, to change them.
    pub fn as_object_mut(&mut self) -> Option<&mut Members<'a>> {
        if let Json::Object(members) = self { Some(members) } else { None }
    }

    /// The items, where this is a list.
    pub fn as_array(&self) -> Option<&[Json<'a>]> {
        if let Json::Array(items) = self { Some(items) } else { None }
    }

    /// The items, where this is a list, to change them.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Json<'a>>> {
        if let Json::Array(items) = self { Some(items) } else { None }
    }

    /// What it is, in words for a message.
    pub fn type_name(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Number(_) => "a number",
            Json::String(_) => "a text",
            Json::Array(_) => "a list",
            Json::Object(_) => "an object",
        }
    }

    /// The same tree, borrowing nothing.
    pub fn into_owned(self) -> Json<'static> {
        let own = |text: Cow<'a, str>| Cow::<'static, str>::Owned(text.into_owned());
        match self {
            Json::Null => Json::Null,
            Json::Bool(value) => Json::Bool(value),
            Json::Number(number) => Json::Number(own(number)),
            Json::String(text) => Json::String(own(text)),
            Json::Array(items) => Json::Array(items.into_iter().map(Json::into_owned).collect()),
            Json::Object(members) => {
                Json::Object(Members(members.into_iter().map(|(key, value)| (own(key), value.into_owned())).collect()))
            }
        }
    }

    /// The same tree without the members that are `null`: in an object of the cluster such a member is an absent one.
    #[must_use]
    pub fn without_nulls(self) -> Json<'a> {
        match self {
            Json::Array(items) => Json::Array(items.into_iter().map(Json::without_nulls).collect()),
            Json::Object(members) => {
                let kept = members.into_iter().filter(|(_, value)| *value != Json::Null);
                Json::Object(Members(kept.map(|(key, value)| (key, value.without_nulls())).collect()))
            }
            leaf => leaf,
        }
    }
}

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Json::String(Cow::Borrowed(text))
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Json::String(Cow::Owned(text))
    }
}

impl From<bool> for Json<'_> {
    fn from(value: bool) -> Self {
        Json::Bool(value)
    }
}

impl From<i32> for Json<'_> {
    fn from(number: i32) -> Self {
        Json::Number(Cow::Owned(number.to_string()))
    }
}

impl From<i64> for Json<'_> {
    fn from(number: i64) -> Self {
        Json::Number(Cow::Owned(number.to_string()))
    }
}

impl<'a> From<Members<'a>> for Json<'a> {
    fn from(members: Members<'a>) -> Self {
        Json::Object(members)
    }
}

impl<'a> From<Vec<Json<'a>>> for Json<'a> {
    fn from(items: Vec<Json<'a>>) -> Self {
        Json::Array(items)
    }
}

#[cold]
fn refused(message: String) -> Error {
    Error::new(base::Kind::Invalid, message)
}
