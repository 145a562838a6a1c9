//! The way in: text to documents, each a tree that knows its lines.

use super::{limits, path::Segment};
use crate::cluster::object::{Json, Members};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess},
};
use serde_saphyr::{Location, Spanned};
use std::{borrow::Cow, fmt};

/// A document, or an item of one: a JSON value that knows the line it begins on.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) line: usize,
    node: Node,
}

#[derive(Debug)]
enum Node {
    Leaf(Json<'static>),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

/// One document of a text: what stands between two lines `---`.
#[derive(Debug, PartialEq)]
pub(super) struct Document<'a> {
    pub(super) text: &'a str,
    /// The line of the whole text on which it begins, counted from 1.
    pub(super) line: usize,
}

/// The documents of a text that have something in them, in order.
pub(super) fn split(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = Some((text, 1));
    let documents = std::iter::from_fn(move || {
        let (text, line) = rest?;
        let end = marker(text);
        let (document, next) = text.split_at_checked(end.unwrap_or(text.len()))?;
        rest = end.map(|_| (next, line + breaks(document)));
        Some(Document { text: document, line })
    });
    documents.filter(|document| document.text.split(['\n', '\r']).any(|line| !is_nothing(line)))
}

/// How many lines end in it. A line ends as YAML 1.2 has it: in a line feed, a carriage return, or both.
fn breaks(text: &str) -> usize {
    let (returns, feeds) = (text.matches('\r').count(), text.matches('\n').count());
    returns + feeds - text.matches("\r\n").count()
}

/// Where the next line `---` begins, this text's own first line apart.
fn marker(text: &str) -> Option<usize> {
    let mut markers = text.match_indices("---").map(|(at, _)| at).filter(|at| {
        let (before, after) = (text.get(..*at).unwrap_or_default(), text.get(at + 3..).unwrap_or_default());
        before.ends_with(['\n', '\r']) && (after.is_empty() || after.starts_with(char::is_whitespace))
    });
    markers.next()
}

/// Whether a line says nothing: blank, a comment, a directive, a lone marker.
fn is_nothing(line: &str) -> bool {
    let bare = line.strip_prefix("---").unwrap_or(line).trim();
    bare.is_empty() || bare.starts_with('#') || line.starts_with('%') || bare == "..." || bare == "\u{feff}"
}

/// Reads one document.
///
/// What is refused is refused with the line it stands on, and with a reason without snippet.
pub(super) fn read(document: &Document<'_>) -> Result<Tree, (usize, String)> {
    let offset = document.line - 1;
    let mut tree = match serde_saphyr::from_str_with_options::<Spanned<Tree>>(document.text, limits::yaml()) {
        Ok(root) => Tree { line: line(root.referenced), ..root.value },
        Err(error) => {
            let at = error.location().map_or(1, line);
            return Err((at + offset, refusal(&error)));
        }
    };
    tree.shift(offset);
    Ok(tree)
}

/// The reader's message without its own places and hints for programmers.
fn refusal(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if let Some(key) = text.strip_prefix("duplicate mapping key: ") {
        let key = key.split(", set DuplicateKeyPolicy").next().unwrap_or_default();
        return format!("the key {key:?} stands here twice");
    }
    for (says, means) in [
        ("alias replay limit exceeded", format!("aliases repeat more than {} values", limits::REPEATS)),
        ("alias expansion limit exceeded", format!("aliases repeat more than {} values", limits::REPEATS)),
        ("recursion limit exceeded", format!("is nested more than {} deep", limits::DEPTH)),
        ("budget breached: Depth", format!("is nested more than {} deep", limits::DEPTH)),
        (
            "budget breached: ScalarBytes",
            format!("its texts have more than {} bytes, repeated ones too", limits::DOCUMENT_BYTES),
        ),
        ("budget breached", format!("has more than {} values", limits::VALUES)),
        ("recursive references", "an alias stands within what it repeats".into()),
        ("non-finite float", "a number must be finite".into()),
        ("multiple YAML documents", "a document ends before this line: the next one begins with a line '---'".into()),
    ] {
        if text.starts_with(says) {
            return means;
        }
    }
    if text.starts_with("the key") || text.starts_with("a key") {
        return text.into();
    }
    format!("this is not YAML: {text}")
}

fn line(location: Location) -> usize {
    usize::try_from(location.line()).unwrap_or(usize::MAX).max(1)
}

impl Tree {
    /// The tree of an object that was not read from a text: it knows no lines.
    pub(super) fn without_lines() -> Tree {
        Tree { line: 0, node: Node::Leaf(Json::Null) }
    }

    fn shift(&mut self, offset: usize) {
        self.line += offset;
        match &mut self.node {
            Node::Leaf(_) => {}
            Node::List(items) => items.iter_mut().for_each(|item| item.shift(offset)),
            Node::Map(members) => members.iter_mut().for_each(|(_, member)| member.shift(offset)),
        }
    }

    /// How many values it has, itself included.
    pub(super) fn count(&self) -> usize {
        match &self.node {
            Node::Leaf(_) => 1,
            Node::List(items) => 1 + items.iter().map(Tree::count).sum::<usize>(),
            Node::Map(members) => 1 + members.iter().map(|(_, member)| member.count()).sum::<usize>(),
        }
    }

    /// The JSON of it.
    pub(super) fn json(&self) -> Json<'static> {
        match &self.node {
            Node::Leaf(json) => json.clone(),
            Node::List(items) => Json::Array(items.iter().map(Tree::json).collect()),
            Node::Map(members) => {
                members.iter().map(|(key, member)| (key.clone(), member.json())).collect::<Members<'static>>().into()
            }
        }
    }

    /// The member of this name.
    pub(super) fn get(&self, key: &str) -> Option<&Tree> {
        let Node::Map(members) = &self.node else { return None };
        members.iter().find(|(name, _)| name == key).map(|(_, member)| member)
    }

    /// The items, where it is a list.
    pub(super) fn items(&self) -> Option<&[Tree]> {
        if let Node::List(items) = &self.node { Some(items) } else { None }
    }

    /// The line of what stands at this path, or of the closest thing around it.
    pub(super) fn line_of(&self, path: &[Segment]) -> usize {
        let next = path.split_first().and_then(|(segment, rest)| {
            let child = match segment {
                Segment::Key(key) => self.get(key),
                Segment::Index(index) => self.items().and_then(|items| items.get(*index)),
            };
            child.map(|child| (child, rest))
        });
        next.map_or(self.line, |(child, rest)| child.line_of(rest))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf(Json::Null))
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf(Json::Null))
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                deserializer.deserialize_any(self)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Leaf(value.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
                Ok(Node::Leaf(number.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
                Ok(Node::Leaf(Json::Number(Cow::Owned(number.to_string()))))
            }

            fn visit_i128<E>(self, number: i128) -> Result<Node, E> {
                Ok(Node::Leaf(Json::Number(Cow::Owned(number.to_string()))))
            }

            fn visit_u128<E>(self, number: u128) -> Result<Node, E> {
                Ok(Node::Leaf(Json::Number(Cow::Owned(number.to_string()))))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
                Ok(Node::Leaf(Json::Number(Cow::Owned(number.to_string()))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Leaf(text.to_string().into()))
            }

            fn visit_string<E>(self, text: String) -> Result<Node, E> {
                Ok(Node::Leaf(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element::<Spanned<Tree>>()? {
                    items.push(Tree { line: line(item.referenced), ..item.value });
                }
                Ok(Node::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members: Vec<(String, Tree)> = Vec::new();
                let mut mixed = false;
                while let Some(key) = map.next_key::<Spanned<Tree>>()? {
                    let at = line(key.referenced);
                    mixed |= !matches!(key.value.node, Node::Leaf(Json::String(_)));
                    let name = match key.value.node {
                        Node::Leaf(Json::String(text) | Json::Number(text)) => text.into_owned(),
                        Node::Leaf(json) => json.canonical(),
                        _ => return Err(de::Error::custom("a key must be a plain value")),
                    };
                    let member: Tree = map.next_value()?;
                    members.push((name, Tree { line: at, ..member }));
                }
                // the reader has compared keys of one type; as text, `1` and `"1"` are the same
                if mixed {
                    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                    names.sort_unstable();
                    if let Some((name, _)) = names.iter().zip(names.iter().skip(1)).find(|(name, next)| name == next) {
                        return Err(de::Error::custom(format!("the key {name:?} stands here twice")));
                    }
                }
                Ok(Node::Map(members))
            }
        }
        deserializer.deserialize_any(Visitor).map(|node| Tree { line: 0, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Tree, (usize, String)> {
        let documents: Vec<_> = split(text).collect();
        assert_eq!(documents.len(), 1);
        read(&documents[0])
    }

    #[test]
    fn what_yaml_means() {
        for (text, json) in [
            ("a: yes\nb: on\nc: true", r#"{"a":"yes","b":"on","c":true}"#),
            ("a: 0644\nb: 0o644\nc: 1_000", r#"{"a":420,"b":420,"c":1000}"#),
            ("a: 1.10\nb: 1e3\nc: 12345678901234567890", r#"{"a":1.1,"b":1000,"c":12345678901234567890}"#),
            ("a: ~\nb:\nc: 2024-01-01\nd: 22:22", r#"{"a":null,"b":null,"c":"2024-01-01","d":"22:22"}"#),
            ("x: &x {p: 1}\ny:\n  <<: *x\n  q: 2", r#"{"x":{"p":1},"y":{"p":1,"q":2}}"#),
            ("a: |\n  x\n  y\nb: >-\n  f\n  g", r#"{"a":"x\ny\n","b":"f g"}"#),
            ("8080: a\ntrue: b", r#"{"8080":"a","true":"b"}"#),
            ("{\"a\":\t[1, \"\\ud83d\\ude00\\/\"],\n\t\"b\": null}", r#"{"a":[1,"😀/"],"b":null}"#),
            ("%YAML 1.2\n---\na: 1\n...", r#"{"a":1}"#),
            ("a: !ours 1\nb: !!str 5", r#"{"a":1,"b":"5"}"#),
        ] {
            assert_eq!(tree(text).unwrap().json().canonical(), json, "{text}");
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let text = "# c\n---\na: 1\nb:\n  - x: &x {p: q}\n    y: *x\n  -\n    z: |\n      t\n";
        let tree = tree(text).unwrap();
        let key = |key: &str| Segment::Key(key.into());
        for (path, line) in [
            (vec![], 3),
            (vec![key("b")], 4),
            (vec![key("b"), Segment::Index(0), key("y"), key("p")], 6),
            (vec![key("b"), Segment::Index(1), key("z")], 8),
            (vec![key("b"), Segment::Index(1), key("gone"), key("far")], 8),
            (vec![key("b"), Segment::Index(7)], 4),
        ] {
            assert_eq!(tree.line_of(&path), line, "{path:?}");
        }
        assert_eq!(tree.count(), 10);
    }

    #[test]
    fn documents_begin_at_markers() {
        let parts = |text| split(text).map(|document| (document.line, document.text)).collect::<Vec<_>>();
        assert_eq!(parts("a\n---\nb\n---\n"), [(1, "a\n"), (2, "---\nb\n")]);
        assert_eq!(parts("# only\n---\n\n--- # c\n--- {a: b}\r\n---"), [(5, "--- {a: b}\r\n")]);
        assert_eq!(parts("a: |\n  ---\n----\n---x\n"), [(1, "a: |\n  ---\n----\n---x\n")]);
        assert_eq!(parts("a\r---\rb\r\n---\nc"), [(1, "a\r"), (2, "---\rb\r\n"), (4, "---\nc")]);
        assert_eq!(parts(""), []);
    }

    #[test]
    fn a_line_ends_in_a_feed_a_return_or_both() {
        let key = |key: &str| [Segment::Key(key.into())];
        for end in ["\n", "\r", "\r\n"] {
            let text = ["x: 1", "# one", "---", "a: 1", "", "b: 2", ""].join(end);
            let documents: Vec<_> = split(&text).collect();
            let second = read(&documents[1]).unwrap();
            assert_eq!((second.line_of(&key("a")), second.line_of(&key("b"))), (4, 6), "{end:?}");
            let broken = text.replace("b: 2", "b: [");
            let documents: Vec<_> = split(&broken).collect();
            assert_eq!(read(&documents[1]).unwrap_err().0, 6, "{end:?}");
        }
    }
}
