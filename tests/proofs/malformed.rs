//! Malformed input: seeded edits of good and of broken texts never break a reader, and never make it say more than so
//! much.
//!
//! `SEEDPOD_MALFORMED` says how many of each (2,000 by default); `SEEDPOD_SEED` runs just that one.

mod adapter;
mod frames;
mod mutate;
mod properties;

use seedpod::{
    base::Seed,
    cluster::manifest::{self, limits},
};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};

/// Holds edited texts to a property, and both outcomes to have happened.
fn run(test: &str, texts: &[String], words: &[&str], property: fn(&str) -> bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let only = number("SEEDPOD_SEED");
    let count = only.map_or_else(|| number("SEEDPOD_MALFORMED").unwrap_or(2000), |_| 1);
    let first = only.unwrap_or(0);
    let mut read = 0;
    for seed in first..first + count {
        let text = mutate::mutated(&mut Seed::new(seed).fork(test).rng(), texts, words);
        match catch_unwind(AssertUnwindSafe(|| property(&text))) {
            Ok(good) => read += u64::from(good),
            Err(panic) => {
                eprintln!("{text}\nseed {seed} breaks it; again: SEEDPOD_SEED={seed} cargo test --test proofs {test}");
                resume_unwind(panic);
            }
        }
    }
    println!("summary {count} inputs of {test}: {read} read, {} refused", count - read);
    if only.is_none() && count >= 100 {
        assert!(read * 50 >= count && (count - read) * 50 >= count, "{read} of {count} were read");
    }
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The broken manifests, and the documents of good ones, each alone and some together.
fn manifests() -> Vec<String> {
    let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/manifests")).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    let mut texts: Vec<_> = paths.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for good in [file("tests/data/kinds.yaml"), file("examples/boutique/shop.yaml")] {
        manifest::parse(&good).unwrap();
        let documents: Vec<_> = good.split("\n---\n").map(|document| format!("{document}\n")).collect();
        texts.extend(documents.iter().cloned().cycle().take(40.max(documents.len())));
        texts.extend(documents.windows(2).map(|pair| pair.join("---\n")));
    }
    texts
}

/// What edits put in: a word each, and those with blanks in them.
fn words(plain: &'static str, blanks: &[&'static str]) -> Vec<&'static str> {
    plain.split_whitespace().chain(blanks.iter().copied()).collect()
}

#[test]
fn malformed_manifests() {
    let plain = r#"null ~ true [] {} "" 0 -1 1e400 .inf 9223372036854775808 65536 0644 a Always 100% 1Gi -5m &a *a | >- !!str
        é 😀 # { } [ ] , ' " Name -a- a.b.c 2025-01-01T00:00:00Z"#;
    let blanks =
        ["---\n", "...\n", "%YAML 1.2", "\u{feff}", "\t", "\u{0}", ": ", "- ", "? ", "<<: *a", "!!binary aGk="];
    let members =
        ["apiVersion: v1\n", "kind: List\n", "kind: Pod\n", "metadata: {name: a}\n", "items: [*a]", "name: x"];
    run("malformed_manifests", &manifests(), &words(plain, &[&blanks[..], &members].concat()), properties::manifest);
}

#[test]
fn malformed_json() {
    let mut texts: Vec<_> = [
        r#"{"b":{},"a":[true,false,null]}"#,
        r#"[1.0, -0, 1e3, 12345678901234567890123, -1.5E-7]"#,
        r#""\u0041\/\n\u00e9\ud83d\ude00\u0001\"\\""#,
        "[[[[[[[[]]]]]]]]",
    ]
    .map(String::from)
    .to_vec();
    for object in manifest::parse(&file("tests/data/kinds.yaml")).unwrap() {
        texts.push(object.write(7));
        texts.push(object.write(0).replace(",\"", ",\n  \""));
    }
    let plain =
        r#"null true false 0 - 1e 1E+5 .5 -0.0 " \ \u \ud800 \udc00 \x { } [ ] , : "a":1, "kind":"Pod" é 😀 01"#;
    run("malformed_json", &texts, &words(plain, &[" ", "\n", "\u{0}", "\u{7f}"]), properties::json);
}

#[test]
fn malformed_selectors() {
    let texts = ["a=b", "app=cart, tier in (web,api), !legacy", "a notin (b)", "x.io/a!=", "a==b,c", "", "a in (,b)"];
    let words = words("= == != ! , ( ) in a x.io/a / . - é", &[" in ", " notin ", " ", "\n"]);
    run("malformed_selectors", &texts.map(String::from), &words, properties::selector);
}

#[test]
fn malformed_quantities() {
    let texts = "0 500m 1.5Gi -1.5 +3 1e3 12E2 1E 100e-3 9223372036854775807 0.000000001 1152921504606846976 0.1Ki 7Ei
        123456789.123456789k";
    let texts: Vec<_> = texts.split_whitespace().map(String::from).collect();
    let words = words("0 1 9 5 . - + e E e- n u m k Ki Mi Ei 000 99 é", &[" "]);
    run("malformed_quantities", &texts, &words, properties::quantity);
}

/// Each as large as it may be, and made to be told or repeated often.
#[test]
fn the_largest_inputs_are_answered_in_proportion() {
    let config = |more: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\n{more}");
    let pod = |name: &str, more: &str| {
        let head = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n");
        format!("{head}spec:\n  containers:\n  - name: m\n    image: a\n{more}")
    };
    let lines = |count: usize, line: fn(usize) -> String| (0..count).map(line).collect::<String>();
    let long = "x".repeat(limits::DOCUMENT_BYTES / 2);
    let ports = format!("    ports:\n{}", lines(300, |_| "    - containerPort: x\n".into()));
    let keys = lines(60_000, |number| format!("  k{:05}: v\n", 60_000 - number));
    let twice = lines(20_000, |_| "  - {name: m, image: a}\n".into());
    let wrong = lines(30_000, |number| format!("    - {{name: V{number}, value: [1]}}\n"));
    for (what, text, told) in [
        ("a long name, and many mistakes", pod(&long, &ports), "301 mistakes"),
        ("a long kind", format!("apiVersion: v1\nkind: {long}\nmetadata: {{name: a}}\n"), "1 mistake"),
        ("a long text repeated", config(&format!("a: &a {long}\nb: [*a, *a, *a]\n")), "bytes, repeated ones too"),
        ("keys in falling order", config(&format!("data:\n{keys}")), ""),
        ("containers of one name", pod("a", &twice), "20000 mistakes"),
        ("values of a wrong type", pod("a", &format!("    env:\n{wrong}")), " mistakes"),
    ] {
        assert!(text.len() < limits::DOCUMENT_BYTES, "{what}");
        assert_eq!(properties::manifest(&text), told.is_empty(), "{what}");
        let error = manifest::parse(&text).map_or_else(|error| error.to_string(), |_| String::new());
        let start: String = error.chars().take(200).collect();
        assert!(error.contains(told), "{what}: {start}");
    }
}
