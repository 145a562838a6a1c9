//! Mistakes: what is wrong in a manifest, and where.

use super::{
    limits,
    path::{Path, Segment, Written},
    yaml::Tree,
};
use crate::{
    base::{Error, Kind, Result},
    cluster::object::Json,
};
use std::fmt;

/// One thing that is wrong in a manifest, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// The document, counted from 1 without the empty ones; 0 where what was read was no text.
    pub document: usize,
    /// The line in the text, counted from 1; 0 where what was read was no text.
    pub line: usize,
    /// The object, by kind and name as far as they could be read: `Deployment cart`.
    pub object: String,
    /// Where in the object: `spec.template.spec.containers[0].image`; empty for the object as a whole.
    pub path: String,
    /// What is wrong: `is required`.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { document, line, object, path, message } = self;
        write!(f, "{}", Placed { document: *document, line: *line, object })?;
        if path.is_empty() { f.write_str(message) } else { write!(f, "{path} {message}") }
    }
}

/// Where something stands, as far as it is known: `document 1, line 14: Deployment cart: `.
pub(super) struct Placed<'a> {
    pub(super) document: usize,
    pub(super) line: usize,
    pub(super) object: &'a str,
}

impl fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.document > 0 {
            write!(f, "document {}, line {}: ", self.document, self.line)?;
        }
        if self.object.is_empty() { Ok(()) } else { write!(f, "{}: ", self.object) }
    }
}

/// All mistakes of a manifest: the source of the error that lists them, for programs.
///
/// ```
/// use seedpod::cluster::manifest::{self, Mistakes};
/// let error = manifest::parse("kind: Gadget").unwrap_err();
/// let mistakes = error.downcast_ref::<Mistakes>().unwrap();
/// assert_eq!((mistakes.list[0].document, mistakes.list[0].line), (1, 1));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    /// The mistakes, in the order of the text, document by document.
    pub list: Vec<Mistake>,
    /// How many more there are than are listed.
    pub more: usize,
}

impl Mistakes {
    pub(super) fn push(&mut self, mistake: Mistake) {
        if self.list.len() < limits::MISTAKES {
            self.list.push(mistake);
        } else {
            self.more += 1;
        }
    }

    /// Nothing wrong, or the error that lists what is.
    pub(super) fn end(self) -> Result {
        if self.list.is_empty() {
            return Ok(());
        }
        let mut message = self.to_string();
        for mistake in &self.list {
            message.push_str(&format!("\n{mistake}"));
        }
        if self.more > 0 {
            message.push_str(&format!("\nand {} more", self.more));
        }
        Err(Error::new(Kind::Invalid, message).because(self))
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() + self.more {
            1 => f.write_str("1 mistake"),
            count => write!(f, "{count} mistakes"),
        }
    }
}

impl std::error::Error for Mistakes {}

/// What is found wrong in one object.
pub(super) struct Report<'a> {
    /// The object as it was given, before defaults.
    pub(super) given: &'a Json<'a>,
    found: Vec<(Vec<Segment>, String)>,
    /// What could not be read, and was taken out so that the rest could: nothing more is said of it.
    unreadable: Vec<Vec<Segment>>,
    /// What no view has, as far as it is warned of.
    unseen: Vec<Vec<Segment>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(given: &'a Json<'a>) -> Self {
        Report { given, found: Vec::new(), unreadable: Vec::new(), unseen: Vec::new() }
    }

    /// A value that has the wrong type.
    pub(super) fn unreadable(&mut self, path: Vec<Segment>, message: String) {
        self.found.push((path.clone(), message));
        self.unreadable.push(path);
    }

    /// A member that is not looked at: nobody acts on it.
    pub(super) fn unseen(&mut self, path: Vec<Segment>) {
        if self.unseen.len() < limits::WARNINGS {
            self.unseen.push(path);
        }
    }

    /// The members that are not looked at.
    pub(super) fn all_unseen(&self) -> &[Vec<Segment>] {
        &self.unseen
    }

    /// Something that is wrong at this path.
    pub(super) fn add(&mut self, path: &Path<'_>, message: impl Into<String>) {
        let path = path.segments();
        if !self.unreadable.iter().any(|taken| path.starts_with(taken)) {
            self.found.push((path, message.into()));
        }
    }

    /// Something that is wrong at this path, if the check found it so.
    pub(super) fn check(&mut self, path: &Path<'_>, checked: Result) {
        if let Err(error) = checked {
            self.add(path, error.message().to_string());
        }
    }

    /// Something that is wrong at this path, unless the condition holds.
    pub(super) fn ensure(&mut self, holds: bool, path: &Path<'_>, message: &str) {
        if !holds {
            self.add(path, message);
        }
    }

    /// Something that must be there.
    pub(super) fn required(&mut self, there: bool, path: &Path<'_>) {
        self.ensure(there, path, "is required");
    }

    /// Whether the object as it was given has something at this path.
    pub(super) fn has(&self, path: &Path<'_>) -> bool {
        self.value(path).is_some()
    }

    /// What the object as it was given has at this path.
    pub(super) fn value(&self, path: &Path<'_>) -> Option<&'a Json<'a>> {
        path.segments().iter().try_fold(self.given, |json, segment| match segment {
            Segment::Key(key) => json.get(key),
            Segment::Index(index) => json.as_array()?.get(*index),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Hands the mistakes on, in the order of their lines.
    pub(super) fn end(self, document: usize, within: &[Segment], tree: &Tree, object: &str, mistakes: &mut Mistakes) {
        let placed = self.found.into_iter().map(|(path, message)| (tree.line_of(&path), path, message));
        let mut placed: Vec<_> = placed.collect();
        placed.sort_by_key(|(line, ..)| *line);
        for (line, path, message) in placed {
            let path = Written(&[within, &path].concat()).to_string();
            mistakes.push(Mistake { document, line, object: object.into(), path, message });
        }
    }
}
