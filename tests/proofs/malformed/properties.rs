//! What must hold for any input, however malformed. The fuzz targets hold the same code to it.
//!
//! Each answers whether the input was read; a broken promise panics. None looks at a clock: what an input may cost is
//! bounded by the size of what it makes.

use seedpod::{
    base::{Kind, Labels, Selector},
    cluster::{
        manifest::{self, Mistakes, limits},
        object::{Json, Object, Quantity},
    },
};

/// How much text may come out of this much text: defaults and quotes make more of it, aliases repeat what is in it.
fn most(length: usize) -> usize {
    (64 << 10) + 32 * length + limits::REPEATS * 32
}

/// A text is read whole, to objects that are read back as they were, or is refused with mistakes that tell where.
pub(crate) fn manifest(text: &str) -> bool {
    match manifest::parse(text) {
        Ok(objects) => {
            let mut length = 0;
            for object in &objects {
                let written = object.write(0);
                length += written.len();
                assert_eq!(Object::read(&object.write(1)).unwrap().write(0), written, "it is read back as it was");
                // twice, since an amount may print in two steps
                let again = manifest::complete(object.json().unwrap()).unwrap();
                let once_more = manifest::complete(again.json().unwrap()).unwrap();
                assert_eq!(once_more.write(0), again.write(0), "what is complete stays as it is");
            }
            assert!(length <= most(text.len()), "{length} bytes of objects of {} bytes of text", text.len());
            assert!(!objects.is_empty());
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            let mistakes = error.downcast_ref::<Mistakes>().expect("the mistakes, for programs");
            assert!(!mistakes.list.is_empty() && mistakes.list.len() <= limits::MISTAKES);
            let lines = 1 + text.matches(['\n', '\r']).count(); // a lone '\r' ends a line in YAML, too
            for mistake in &mistakes.list {
                let placed =
                    (1..=limits::DOCUMENTS + 1).contains(&mistake.document) && (1..=lines).contains(&mistake.line);
                let whole = (mistake.document, mistake.line) == (0, 0) && mistake.path.is_empty();
                assert!(placed || whole, "{mistake:?} of {lines} lines");
                assert!(error.message().contains(&mistake.to_string()), "{mistake}");
            }
            let length = error.message().len();
            assert!(length <= most(text.len()), "{length} bytes of message for {} bytes of text", text.len());
            false
        }
    }
}

/// A JSON text is read to a tree whose canonical text is read back as the same tree, or is refused with its place.
pub(crate) fn json(text: &str) -> bool {
    match Json::read(text) {
        Ok(json) => {
            let canonical = json.canonical();
            assert!(canonical.len() <= text.len() * 6, "an escape is at most six bytes");
            let again = Json::read(&canonical).unwrap();
            assert_eq!(again, json);
            assert_eq!(again.canonical(), canonical);
            assert_eq!(json.clone().into_owned(), json);
            assert_eq!(json.diff(&again), None);
            serde_json::from_str::<serde::de::IgnoredAny>(&canonical).expect("other readers read it too");
            let _ = Object::read(text).map(|object| assert_eq!(Object::read(&object.write(0)).unwrap(), object));
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            assert!(error.message().starts_with("line "), "{error}");
            false
        }
    }
}

/// A selector prints as what it is parsed from again, and means the same.
pub(crate) fn selector(text: &str) -> bool {
    match text.parse::<Selector>() {
        Ok(selector) => {
            let printed = selector.to_string();
            let again: Selector = printed.parse().unwrap_or_else(|error| panic!("{printed:?}: {error}"));
            assert_eq!(again, selector, "{printed:?}");
            let own = selector.requirements().iter().map(|requirement| (requirement.key(), "a"));
            for labels in [Labels::new(), own.collect()] {
                let each = selector.requirements().iter().all(|requirement| requirement.matches(&labels));
                assert_eq!(selector.matches(&labels), each);
            }
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            false
        }
    }
}

/// A quantity prints as the same amount, unless it had to be rounded to whole units, and prints no third way.
pub(crate) fn quantity(text: &str) -> bool {
    match text.parse::<Quantity>() {
        Ok(quantity) => {
            let printed = quantity.to_string();
            assert!(printed.len() <= 32, "{printed:?}");
            let again: Quantity = printed.parse().unwrap_or_else(|error| panic!("{printed:?}: {error}"));
            let settled = again.to_string();
            assert_eq!(settled.parse::<Quantity>().unwrap().to_string(), settled, "of {text:?}");
            assert_eq!((again.value(), again.is_negative()), (quantity.value(), quantity.is_negative()), "of {text:?}");
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            false
        }
    }
}
