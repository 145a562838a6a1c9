//! Manifests: a corpus of broken ones with their exact errors, real ones from elsewhere, and round trips.

use proptest::prelude::*;
use seedpod::{
    cluster::{
        manifest::{self, Mistakes},
        object::{DeploymentSpec, Json, Kind, Object, PodSpec, ServiceSpec},
    },
    store::{Key, Store, Write},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            found.push(path);
        }
    }
    found
}

#[test]
#[ignore = "needs a folder of real manifests: SEEDPOD_MANIFESTS"]
fn real_manifests_are_read_or_refused_with_a_reason() {
    let folder = std::env::var("SEEDPOD_MANIFESTS")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/manifests"), PathBuf::from);
    let (mut read, mut objects) = (0, 0);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let files = files(&folder);
    for path in &files {
        match manifest::parse(&fs::read_to_string(path).unwrap()) {
            Ok(found) => {
                read += 1;
                objects += found.len();
            }
            Err(error) => {
                let mistakes = error.downcast_ref::<Mistakes>().unwrap();
                assert!(!mistakes.list.is_empty(), "{}", path.display());
                for mistake in &mistakes.list {
                    if !mistake.message.contains("is not known here") {
                        println!("{}: {mistake}", path.display());
                    }
                    *reasons.entry(mistake.message.chars().take(60).collect()).or_default() += 1;
                }
            }
        }
    }
    println!("{} files, {read} read with {objects} objects", files.len());
    for (reason, count) in reasons {
        println!("{count:5} {reason}");
    }
}
