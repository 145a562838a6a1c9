//! Keys and prefixes.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    ops::Deref,
    sync::Arc,
};

/// Where an entry stands: segments joined by `/`, such as `pods/shop/cart-7f`.
///
/// Cheap to clone. Always in normal form: no slash at the ends, none doubled, so that equal keys are equal text; making
/// a key puts it there. Keys sort as their text does. The empty key exists, but nothing can be stored under it.
///
/// A **prefix**, where one is asked for, is `""` (everything), a text that ends with `/` (everything below it), or a
/// whole key (that entry alone): `pods/shop` does not cover `pods/shopping`, nor `pods/shop/cart`.
///
/// ```
/// use seedpod::store::Key;
/// let key = Key::from(["pods", "shop", "cart"]);
/// assert_eq!(key, Key::from("/pods//shop/cart/"));
/// assert_eq!(key.segments().collect::<Vec<_>>(), ["pods", "shop", "cart"]);
/// assert_eq!(key.name(), "cart");
/// assert!(key.is_under("pods/") && key.is_under("") && !key.is_under("pods/shop"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of this text, brought into normal form.
    pub fn new(text: &str) -> Self {
        let text = normal(text);
        Key(text.strip_suffix('/').unwrap_or(&text).into())
    }

    /// The text, in normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, in order; none for the empty key.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// Its last segment; empty for the empty key.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// The key one segment below. Slashes in the segment split it.
    #[must_use]
    pub fn child(&self, segment: &str) -> Key {
        Key::new(&format!("{}/{segment}", self.0))
    }

    /// Whether a prefix covers it.
    pub fn is_under(&self, prefix: &str) -> bool {
        covers(&normal(prefix), &self.0)
    }

    /// The prefixes in normal form that cover it: `""`, `"pods/"`, `"pods/shop/"`, `"pods/shop/cart"`.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &str> {
        let slashes = self.0.match_indices('/').filter_map(|(at, _)| self.0.get(..=at));
        [""].into_iter().chain(slashes).chain([&*self.0])
    }
}

/// A key or prefix in normal form: no slash in front, none doubled; one at the end stays, since it tells them apart.
pub(super) fn normal(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'/') && !bytes.windows(2).any(|pair| pair == b"//") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for segment in text.split('/').filter(|segment| !segment.is_empty()) {
        if !out.is_empty() {
            out.push('/');
        }
        out.push_str(segment);
    }
    if text.ends_with('/') && !out.is_empty() {
        out.push('/');
    }
    Cow::Owned(out)
}

/// Whether a prefix covers a key, both in normal form.
pub(super) fn covers(prefix: &str, key: &str) -> bool {
    if prefix.is_empty() || prefix.ends_with('/') { key.starts_with(prefix) } else { key == prefix }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Key::new(text)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Key::new(&text)
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Self {
        Key::new(text)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

impl From<Key> for Arc<str> {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl From<&Key> for Arc<str> {
    fn from(key: &Key) -> Self {
        key.0.clone()
    }
}

impl<const N: usize> From<[&str; N]> for Key {
    fn from(segments: [&str; N]) -> Self {
        Key::new(&segments.join("/"))
    }
}

impl PartialEq<str> for Key {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Key {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form() {
        for (text, wanted) in [
            ("", ""),
            ("/", ""),
            ("///", ""),
            ("a", "a"),
            ("/a/", "a"),
            ("a//b", "a/b"),
            ("//a///b//", "a/b"),
            ("a b/ü", "a b/ü"),
        ] {
            assert_eq!(Key::new(text), wanted, "{text:?}");
            assert_eq!(Key::new(&Key::new(text)), wanted);
        }
        assert_eq!(normal("/a//"), "a/");
        assert_eq!(normal("/"), "");
        assert_eq!(Key::from(["a", "", "b/c"]), "a/b/c");
        assert_eq!(Key::new("a/b").child("c"), "a/b/c");
        assert_eq!(Key::new("").child("c"), "c");
    }

    #[test]
    fn ancestors_are_exactly_the_prefixes_that_cover() {
        let key = Key::new("pods/shop/cart");
        assert_eq!(key.ancestors().collect::<Vec<_>>(), ["", "pods/", "pods/shop/", "pods/shop/cart"]);
        assert!(key.ancestors().all(|prefix| key.is_under(prefix)));
        for not in ["pods", "pods/shop", "pods/shop/car", "pods/shop/cart/", "s/"] {
            assert!(!key.is_under(not), "{not:?}");
        }
        assert!(key.is_under("/") && key.is_under("/pods//"));
    }
}
