//! Images by name: which function a reference such as `gcr.io/shop/cart:v1` means.

use super::Image;
use crate::base::{Error, Kind, Result, sync::Lock};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A registry of images; cheap to clone, all clones are one registry.
///
/// A manifest names an image with registry, path, tag and digest; a program registers functions under names as short as
/// it likes. [`find`](Images::find) tries, in this order:
///
/// 1. the reference as it stands;
/// 2. from the longest tail of its path to the shortest, each with the tag and then without: `gcr.io/x/y/cart:v1` is
///    found as `x/y/cart:v1`, `x/y/cart`, `y/cart:v1`, `y/cart`, `cart:v1`, `cart`.
///
/// A name registered with a tag answers for that tag alone; a reference without a tag means `latest`, as everywhere. A
/// digest is ignored unless it is registered.
///
/// ```
/// use seedpod::pod::{Context, Images};
/// use seedpod::Result;
///
/// async fn redis(_: Context) -> Result { Ok(()) }
///
/// let images = Images::default();
/// images.register("redis", redis);
/// assert!(images.find("redis:alpine").is_ok());
/// let error = images.find("gcr.io/shop/cart:v1").unwrap_err();
/// assert_eq!(error.to_string(), "image gcr.io/shop/cart:v1: not found: registered are: redis");
/// ```
#[derive(Clone, Default)]
pub struct Images(Arc<Lock<BTreeMap<String, Image>>>);

impl Images {
    /// Registers an image, in the place of the one that had the name. Running containers keep theirs.
    pub fn register(&self, name: impl Into<String>, image: impl Into<Image>) {
        self.0.lock().insert(name.into(), image.into());
    }

    /// Removes the image of exactly this name; whether there was one. Running containers keep theirs.
    pub fn unregister(&self, name: &str) -> bool {
        self.0.lock().remove(name).is_some()
    }

    /// The image that this reference means.
    ///
    /// # Errors
    /// [`Kind::NotFound`], naming the reference and what is registered: of many names the nearest three.
    pub fn find(&self, reference: &str) -> Result<Image> {
        let images = self.0.lock();
        let found = candidates(reference).find_map(|candidate| images.get(candidate.as_ref()));
        found.cloned().ok_or_else(|| {
            let mut names: Vec<&str> = images.keys().map(String::as_str).collect();
            let message = match names.len() {
                0 => "no image is registered".into(),
                1..=NEAREST => format!("registered are: {}", names.join(", ")),
                all => {
                    names.sort_by_cached_key(|name| distance(bare(name), bare(reference)));
                    names.truncate(NEAREST);
                    format!("{all} are registered, the nearest are: {}", names.join(", "))
                }
            };
            Error::new(Kind::NotFound, message).at(format!("image {reference}"))
        })
    }

    /// An image that is looked up under this reference whenever a container of it starts. Until it is found, the
    /// container waits with the reason `ErrImagePull`, then `ImagePullBackOff`, and tries again by the back-off of
    /// restarts.
    pub fn image(&self, reference: &str) -> Image {
        Image::registered(self.clone(), reference)
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.lock().keys()).finish()
    }
}

/// So many names are told where an image is not found.
const NEAREST: usize = 3;

/// What people know an image by: the end of its path, without tag and digest.
fn bare(reference: &str) -> &str {
    let name = reference.rsplit('/').next().unwrap_or_default();
    name.split([':', '@']).next().unwrap_or_default()
}

/// How many letters must be put in, taken out or replaced to make one word of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, letter) in one.chars().enumerate() {
        let (mut diagonal, mut left) = (line, line + 1);
        for (above, wanted) in row.iter_mut().skip(1).zip(other.chars()) {
            let replaced = diagonal + usize::from(letter != wanted);
            diagonal = *above;
            left = replaced.min(*above + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The names that a reference can be registered under, in the order in which they are tried.
fn candidates(reference: &str) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    let tagged = reference.split_once('@').map_or(reference, |(tagged, _digest)| tagged);
    let last = tagged.rfind('/').map_or(0, |slash| slash + 1);
    let colon = tagged.get(last..).and_then(|name| name.find(':')).map(|colon| last + colon);
    let path = colon.and_then(|colon| tagged.get(..colon)).unwrap_or(tagged);
    let latest = colon.is_none();
    let starts = std::iter::once(0).chain(path.match_indices('/').map(|(slash, _)| slash + 1));
    let tails = starts.flat_map(move |start| {
        let tail = path.get(start..).unwrap_or_default();
        let with_tag = match latest {
            true => Some(format!("{tail}:latest").into()),
            false => tagged.get(start..).map(Into::into),
        };
        // without a tag, the bare name is the closer one
        let (first, second) = if latest { (Some(tail.into()), with_tag) } else { (with_tag, Some(tail.into())) };
        first.into_iter().chain(second)
    });
    std::iter::once(reference.into()).chain(tails)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Context;

    async fn nothing(_: Context) -> Result {
        Ok(())
    }

    fn tried(reference: &str) -> Vec<String> {
        let mut tried: Vec<_> = candidates(reference).map(|candidate| candidate.into_owned()).collect();
        tried.dedup();
        tried
    }

    #[test]
    fn the_order_in_which_names_are_tried() {
        assert_eq!(tried("cart"), ["cart", "cart:latest"]);
        assert_eq!(tried("redis:alpine"), ["redis:alpine", "redis"]);
        assert_eq!(
            tried("gcr.io:443/x/cart:v1"),
            ["gcr.io:443/x/cart:v1", "gcr.io:443/x/cart", "x/cart:v1", "x/cart", "cart:v1", "cart"]
        );
        assert_eq!(tried("cart:v1@sha256:0a"), ["cart:v1@sha256:0a", "cart:v1", "cart"]);
        assert_eq!(tried("localhost:5000/a")[..2], ["localhost:5000/a", "localhost:5000/a:latest"]);
        assert_eq!(tried(""), ["", ":latest"]);
    }

    #[test]
    fn exact_wins_and_a_tag_answers_for_itself_alone() {
        let images = Images::default();
        for (name, label) in [("cart", "any"), ("cart:v2", "two"), ("gcr.io/x/y/cart:v3", "three"), ("y/cart", "tail")]
        {
            images.register(name, Image::new(nothing).named(label));
        }
        let found = |reference| images.find(reference).map(|image| image.to_string()).unwrap_or_default();
        assert_eq!(found("gcr.io/x/y/cart:v3"), "three");
        assert_eq!(found("gcr.io/x/y/cart:v2"), "tail");
        assert_eq!(found("docker.io/cart:v2"), "two");
        assert_eq!(found("cart:v7"), "any");
        assert!(images.unregister("cart") && !images.unregister("cart"));
        assert_eq!(found("cart:v7"), "");
    }

    #[test]
    fn unknown_names_the_image_and_what_is_there() {
        let images = Images::default();
        let error = images.find("cart:v1").unwrap_err();
        assert_eq!(error.to_string(), "image cart:v1: not found: no image is registered");
        images.register("b", nothing);
        images.register("a", nothing);
        let error = images.find("cart:v1").unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "image cart:v1: not found: registered are: a, b");
        for name in ["shop/card:v1", "shop/checkout:v1", "shop/art", "redis", "shop/frontend:v1"] {
            images.register(name, nothing);
        }
        let error = images.find("gcr.io/cart:v1").unwrap_err();
        let told = "image gcr.io/cart:v1: not found: 7 are registered, the nearest are: shop/art, shop/card:v1, a";
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn words_are_as_far_apart_as_they_are_misspelt() {
        for (one, other, apart) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("cart", "cart", 0),
            ("crat", "cart", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(one, other), distance(other, one)), (apart, apart), "{one} {other}");
        }
    }
}
