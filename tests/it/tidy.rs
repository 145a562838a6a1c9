//! Style is a test: floors, the map, the examples, the changelog.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A module uses only modules of floors below its own. Beside the house stands what may use everything.
const FLOORS: &[(&str, u32)] = &[
    ("base", 0),
    ("net", 0),
    ("layer", 1),
    ("http", 1),
    ("disk", 1),
    ("pod", 2),
    ("store", 2),
    ("serving", 3),
    ("queue", 3),
    ("control", 3),
    ("flow", 4),
    ("sidecar", 4),
    ("ambassador", 4),
    ("adapter", 4),
    ("mesh", 5),
    ("cluster", 5),
    ("gateway", 6),
    ("dashboard", 6),
    ("testing", u32::MAX),
];

/// `base` carries its own floor: everything may use it.
fn allowed(from: &str, to: &str) -> bool {
    let floor = |module: &str| FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor);
    from == to
        || (to == "base" && from != "base")
        || matches!((floor(from), floor(to)), (Some(above), Some(below)) if below < above)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The source without comments, strings and character literals; what was there is blank, lines stay.
fn code(source: &str) -> String {
    let bytes: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    let blank =
        |out: &mut String, text: &[char]| text.iter().for_each(|c| out.push(if *c == '\n' { '\n' } else { ' ' }));
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => {
                let (mut depth, mut end) = (0, 0);
                while end < rest.len() {
                    match rest[end..] {
                        ['/', '*', ..] => (depth, end) = (depth + 1, end + 2),
                        ['*', '/', ..] => (depth, end) = (depth - 1, end + 2),
                        _ => end += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
                end
            }
            ['r', '"' | '#', ..] if raw(rest).is_some() && !word(&out) => raw(rest).unwrap(),
            ['"', ..] => {
                let mut end = 1;
                while end < rest.len() && rest[end] != '"' {
                    end += if rest[end] == '\\' { 2 } else { 1 };
                }
                end + 1
            }
            ['\'', '\\', ..] => 2 + rest[2..].iter().skip(1).position(|c| *c == '\'').map_or(1, |end| end + 2),
            ['\'', _, '\'', ..] => 3,
            _ => 0,
        };
        match length.min(rest.len()) {
            0 => {
                out.push(rest[0]);
                at += 1;
            }
            length => {
                blank(&mut out, &rest[..length]);
                at += length;
            }
        }
    }
    out
}

fn word(before: &str) -> bool {
    before.chars().last().is_some_and(|c| c.is_alphanumeric() || c == '_')
}

/// How long the raw string is that starts here.
fn raw(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = &rest[2 + hashes..];
    body.windows(end.len()).position(|window| window == end).map(|at| 2 + hashes + at + end.len())
}

/// Every module below the crate's root that this code names, by `crate::…` or by a chain of `super`s that reaches it.
fn uses(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let squeezed: String =
        code.split_whitespace().collect::<Vec<_>>().join(" ").replace(" ::", "::").replace(":: ", "::");
    let mut starts: Vec<usize> = squeezed.match_indices("crate::").map(|(at, text)| at + text.len()).collect();
    let chain = "super::".repeat(depth);
    // in a file `depth` levels below the root, that many supers reach it (inline modules only need more)
    starts.extend(
        squeezed
            .match_indices(&chain)
            .filter(|(at, text)| !squeezed[at + text.len()..].starts_with("super::"))
            .map(|(at, text)| at + text.len()),
    );
    for start in starts {
        let rest = &squeezed[start..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut head) = (0, true);
            let mut name = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(std::mem::take(&mut name));
                        head = true;
                    }
                    letter if head && depth == 0 && (letter.is_alphanumeric() || letter == '_') => name.push(letter),
                    ' ' if name.is_empty() => {}
                    _ => head = false,
                }
            }
            found.insert(name);
        } else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

#[test]
fn a_module_uses_only_floors_below_its_own() {
    let src = root().join("src");
    let mut seen = BTreeMap::<String, BTreeSet<String>>::new();
    let mut wrong = Vec::new();
    for path in files(&src, "rs") {
        let inside = path.strip_prefix(&src).unwrap();
        let module = inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_string();
        if module == "lib" {
            continue;
        }
        let depth = inside.components().count() - usize::from(inside.ends_with("mod.rs"));
        for target in uses(&code(&fs::read_to_string(&path).unwrap()), depth) {
            if FLOORS.iter().any(|(name, _)| *name == target) {
                seen.entry(module.clone()).or_default().insert(target.clone());
                if !allowed(&module, &target) {
                    wrong.push(format!("{} uses {target}", inside.display()));
                }
            }
        }
        assert!(FLOORS.iter().any(|(name, _)| *name == module), "{module} stands on no floor");
    }
    assert!(seen.contains_key("pod") && seen["pod"].contains("net"), "the test must see what is there: {seen:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_floors_test_sees_through_groups_macros_and_supers() {
    let list = |text: &str, depth| uses(&code(text), depth).into_iter().collect::<Vec<_>>();
    assert_eq!(list("use crate::{base::{Error, Kind}, net, pod::*};", 1), ["base", "net", "pod"]);
    assert_eq!(list("mac! { crate :: queue::Memory }", 1), ["queue"]);
    assert_eq!(list("use super::super::store::Key;", 2), ["store"]);
    assert_eq!(list("use super::sibling;", 2), Vec::<String>::new());
    assert_eq!(
        list("// crate::cluster\n/* crate::mesh */ let a = \"crate::pod\"; r#\"crate::net\"#", 1),
        Vec::<String>::new()
    );
    assert!(
        !allowed("net", "pod")
            && !allowed("store", "pod")
            && allowed("cluster", "queue")
            && !allowed("queue", "control")
    );
}

#[test]
fn the_crate_doc_is_the_map() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for line in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = line.trim_end_matches(';');
        assert!(lib.contains(&format!("[`{module}`] |")), "the map in src/lib.rs lacks {module}");
        let floor =
            FLOORS.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no floor")).1;
        let floor = if floor == u32::MAX { "beside".to_string() } else { floor.to_string() };
        assert!(
            lib.contains(&format!("| {floor} | [`{module}`] |")),
            "the map puts {module} on another floor than {floor}"
        );
    }
}

#[test]
fn every_file_is_a_module_and_opens_with_its_promise() {
    for path in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} must open with what it is for", path.display());
        let stem = path.file_stem().unwrap().to_string_lossy().to_string();
        if stem == "lib" {
            continue;
        }
        let (parent, name) = match stem.as_str() {
            "mod" => (
                path.parent().unwrap().parent().unwrap(),
                path.parent().unwrap().file_name().unwrap().to_string_lossy().to_string(),
            ),
            _ => (path.parent().unwrap(), stem),
        };
        let owner = ["lib.rs", "mod.rs"].iter().map(|file| parent.join(file)).find(|file| file.exists());
        let owner = owner.unwrap_or_else(|| parent.with_extension("rs"));
        let declared = fs::read_to_string(&owner).unwrap_or_default();
        assert!(declared.contains(&format!("mod {name};")), "{} is declared nowhere", path.display());
    }
}

#[test]
fn no_file_outgrows_its_readers() {
    for path in files(&root().join("src"), "rs") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines: cut it along its seams", path.display());
    }
}

#[test]
fn each_example_is_in_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().to_string();
        assert!(readme.contains(&format!("--example {name}")), "the README does not tell of the example {name}");
    }
}

#[test]
fn the_changelog_has_this_version() {
    let log = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        log.contains(&format!("## [{version}]")) || log.contains("## [Unreleased]"),
        "CHANGELOG.md lacks {version}"
    );
}

#[test]
fn errors_of_clippy_are_answered_with_reasons() {
    for path in files(&root().join("src"), "rs") {
        let text = code(&fs::read_to_string(&path).unwrap());
        assert!(
            !text.contains("#[allow(") && !text.contains("#![allow("),
            "{}: #[expect(…, reason)] instead",
            path.display()
        );
    }
}

/// Each row of `tests/anchors/*.md` names a test of ours in its last column, as `file::test`.
#[test]
fn every_test_that_answers_an_anchor_is_there() {
    let mut missing = Vec::new();
    let mut rows = 0;
    for table in files(&root().join("tests/anchors"), "md") {
        let text = fs::read_to_string(&table).unwrap();
        let body = text.lines().filter(|line| line.starts_with('|')).skip(2);
        for row in body {
            let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
            for named in last.split(',').map(str::trim) {
                rows += 1;
                let found = named.split_once(".rs::").is_some_and(|(file, test)| {
                    let source = fs::read_to_string(root().join(file).with_extension("rs")).unwrap_or_default();
                    let test = test.rsplit("::").next().unwrap_or_default();
                    source.contains(&format!("fn {test}("))
                });
                if !found {
                    missing.push(format!("{}: {named}", table.file_name().unwrap().to_string_lossy()));
                }
            }
        }
    }
    assert!(rows > 100, "{rows}");
    assert!(missing.is_empty(), "{missing:#?}");
}
