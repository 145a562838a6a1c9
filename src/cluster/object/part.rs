//! One member of an object as canonical text, with its typed view; and the table that shares equal ones.

use super::{Json, Kind, kind, view::View};
use crate::base::{self, Error, Result, hash, sync::Lock};
use serde::de::DeserializeOwned;
use std::{
    any::Any,
    sync::{Arc, LazyLock, OnceLock, Weak},
};

/// Which part of an object a view is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Place {
    /// The spec.
    Spec,
    /// The status.
    Status,
    /// What is neither metadata nor spec nor status.
    Rest,
}

/// A part: its canonical text, and its view once somebody has asked for it.
pub(super) struct Part {
    text: Box<str>,
    view: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Part {
    pub(super) fn new(json: &Json<'_>) -> Arc<Part> {
        Part::of(json.canonical())
    }

    fn of(canonical: String) -> Arc<Part> {
        Arc::new(Part { text: canonical.into(), view: OnceLock::new() })
    }

    /// The part of this spec, shared with every object of the kind whose spec is the same.
    pub(super) fn shared(kind: &Kind, spec: &Json<'_>) -> Arc<Part> {
        match SPECS.get(kind.index) {
            Some(specs) => specs.lock().share(spec.canonical()),
            None => Part::new(spec),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn json(&self) -> Result<Json<'_>> {
        Json::read(&self.text)
    }

    /// The typed view, parsed at the first call.
    pub(super) fn view<T: View>(&self) -> Result<&T> {
        if self.view.get().is_none() {
            let parsed: T = parse(&self.text)?;
            // another thread may have been faster; its view is equal
            let _ = self.view.set(Box::new(parsed));
        }
        let view = self.view.get().and_then(|view| view.downcast_ref());
        view.ok_or_else(|| Error::new(base::Kind::Unsupported, "one part has one type of view"))
    }
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.text == other.text
    }
}

/// Reads a view; a mistake names the path to it.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let traced = serde_path_to_error::deserialize::<_, T>(&mut deserializer);
        let path = traced.err().map_or_else(String::new, |error| error.path().to_string());
        Error::new(base::Kind::Invalid, format!("{path} does not read")).because(error)
    })
}

/// The specs in use, by their hashes, so that equal ones are held once.
struct Shared {
    specs: hash::Map<u64, Weak<Part>>,
    /// How many entries there may be before those that nobody holds are swept out.
    sweep_at: usize,
}

const SWEEP_LEAST: usize = 1024;

/// One table for each kind, so that a shared part has one type of view. Shared by all clusters of the process: a part
/// never changes, so who else holds it cannot be told.
static SPECS: LazyLock<[Lock<Shared>; kind::COUNT]> =
    LazyLock::new(|| std::array::from_fn(|_| Lock::new(Shared { specs: hash::Map::default(), sweep_at: SWEEP_LEAST })));

impl Shared {
    fn share(&mut self, canonical: String) -> Arc<Part> {
        let hash = hash::of(canonical.as_bytes());
        if let Some(part) = self.specs.get(&hash).and_then(Weak::upgrade)
            && *part.text == *canonical
        {
            return part;
        }
        if self.specs.len() >= self.sweep_at {
            self.specs.retain(|_, part| part.strong_count() > 0);
            self.sweep_at = SWEEP_LEAST.max(self.specs.len() * 2);
        }
        let part = Part::of(canonical);
        self.specs.insert(hash, Arc::downgrade(&part));
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_specs_are_one_and_forgotten_ones_are_swept() {
        let mut shared = Shared { specs: hash::Map::default(), sweep_at: 4 };
        let one = shared.share("{}".into());
        assert!(Arc::ptr_eq(&one, &shared.share("{}".into())));
        for number in 0..4 * SWEEP_LEAST {
            shared.share(number.to_string());
        }
        assert!(shared.specs.len() <= SWEEP_LEAST + 1, "{}", shared.specs.len());
        assert!(Arc::ptr_eq(&one, &shared.share("{}".into())));
    }
}
