//! Where in an object something stands.

use std::fmt::{self, Write};

/// One step down into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Into a member.
    Key(String),
    /// Into an item.
    Index(usize),
}

/// A path being walked: each step borrows the one before, so that walking allocates nothing.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The object itself.
    pub(super) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    pub(super) fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    pub(super) fn segments(&self) -> Vec<Segment> {
        let mut segments = self.parent.map_or_else(Vec::new, Path::segments);
        match self.step {
            Step::Root => {}
            Step::Key(key) => segments.push(Segment::Key(key.into())),
            Step::Index(index) => segments.push(Segment::Index(index)),
        }
        segments
    }
}

/// As people write paths: `spec.containers[0].image`, `metadata.labels["app.kubernetes.io/name"]`.
pub(super) struct Written<'a>(pub(super) &'a [Segment]);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(at) => write!(f, "[{at}]")?,
                Segment::Key(key)
                    if key.is_empty() || key.contains(|c: char| !c.is_alphanumeric() && !"-_$".contains(c)) =>
                {
                    write!(f, "[{key:?}]")?;
                }
                Segment::Key(key) => {
                    if index > 0 {
                        f.write_char('.')?;
                    }
                    f.write_str(key)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_people_write_them() {
        let spec = Path::ROOT.key("spec");
        let containers = spec.key("containers");
        let first = containers.index(0);
        assert_eq!(Written(&first.key("image").segments()).to_string(), "spec.containers[0].image");
        let labels = Path::ROOT.key("labels");
        assert_eq!(Written(&labels.key("a.b/c").segments()).to_string(), "labels[\"a.b/c\"]");
    }
}
