//! Map and reduce over texts: the same result however it is cut and by whomever it is done, and nothing half counted.

use seedpod::{
    Kind,
    base::{Rng, Seed},
    flow::{self, Cut, MapReduce, Pairs, Sum},
};
use std::{
    collections::BTreeMap,
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
};

/// A directory that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("seedpod-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn some_text(rng: &mut Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.below(400) {
        text.push_str(["to", "be", "or", "größer", "日本", "x"][rng.below(6) as usize]);
        text.push([' ', '\n', '\t', '\x0b'][rng.below(4) as usize]);
    }
    text
}

fn workers(number: usize) -> NonZero<usize> {
    NonZero::new(number).unwrap()
}

fn piece(bytes: u32) -> NonZero<u32> {
    NonZero::new(bytes).unwrap()
}

#[tokio::test]
async fn words_are_counted_as_one_after_the_other_would_count_them() {
    let mut rng = Seed::new(1).rng();
    let folder = Folder::new("counted");
    let mut due = BTreeMap::new();
    for number in 0..20 {
        let text = some_text(&mut rng);
        flow::words(&text).for_each(|word| *due.entry(word.to_string()).or_insert(0_u64) += 1);
        folder.write(&format!("{}/{number}", number % 3), text);
    }
    let due: Vec<_> = due.into_iter().collect();
    for (hands, bytes) in [(1, 1 << 20), (2, 1 << 20), (3, 1), (5, 7), (2, 64), (16, 300)] {
        let batch = flow::counting().files(&folder.0).workers(workers(hands)).piece(piece(bytes));
        let progress = batch.progress();
        let counted = batch.run().await.unwrap();
        assert_eq!(counted.rows, due, "{hands} workers, pieces of {bytes}");
        assert_eq!((counted.texts, counted.skipped.len()), (20, 0));
        assert_eq!((progress.bytes(), progress.fraction()), (counted.bytes, 1.0));
    }
}

/// Per line a key and a number: partial sums of all pieces, in any order, are the sum.
#[tokio::test]
async fn a_reduction_of_ones_own_is_the_sequential_fold() {
    let mut rng = Seed::new(2).rng();
    let (mut due, mut text) = (BTreeMap::new(), String::new());
    for _ in 0..2000 {
        let (key, number) = (format!("key {}", rng.below(50)), rng.below(1000) as i64 - 500);
        *due.entry(key.clone()).or_insert(0_i128) += i128::from(number);
        text.push_str(&format!("{key}={number}\n"));
    }
    let map = |text: &str, pairs: &mut Pairs<'_, i64, _>| {
        for (key, number) in text.lines().filter_map(|line| line.split_once('=')) {
            pairs.emit(key, &number.parse().unwrap());
        }
    };
    let sums = MapReduce::new(map, Sum::of(|number: &i64| *number)).text("sales", text);
    let sums = sums.workers(workers(4)).piece(piece(100)).run().await.unwrap();
    assert_eq!(sums.rows, due.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_utf_8_is_said_and_counts_for_nothing() {
    let folder = Folder::new("bad");
    folder.write("good", "to be\n");
    folder.write("latin-1", b"to b\xe9\n");
    folder.write("late", ["be\n".repeat(1000).as_bytes(), b"\xff\n"].concat()); // bad in its last piece of many
    folder.write("empty", "");
    for bytes in [100, 1 << 20] {
        let counted = flow::counting().files(&folder.0).piece(piece(bytes)).run().await.unwrap();
        assert_eq!(counted.rows, [("be".to_string(), 1), ("to".to_string(), 1)], "pieces of {bytes}");
        let said: Vec<_> = counted.skipped.iter().map(ToString::to_string).collect();
        assert!(said[0].starts_with("late: invalid: it is no UTF-8, at about byte 3000"), "{said:?}");
        assert!(said[1].starts_with("latin-1: invalid: it is no UTF-8, at about byte 4"), "{said:?}");
        assert_eq!((said.len(), counted.texts, counted.bytes), (2, 2, 6));
    }
}

#[tokio::test]
async fn what_was_asked_for_by_name_and_is_not_there_is_an_error() {
    let error = flow::word_count("/nowhere/at/all").await.unwrap_err();
    assert_eq!((error.kind(), error.place()), (Kind::NotFound, Some("/nowhere/at/all")));
    let nothing = flow::counting().run().await.unwrap();
    assert_eq!((nothing.rows.len(), nothing.texts, nothing.bytes), (0, 0, 0));
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_was_named_is_followed_and_links_below_it_are_not() {
    let folder = Folder::new("links");
    folder.write("real/text", "to be\n");
    std::os::unix::fs::symlink(folder.0.join("real"), folder.0.join("link")).unwrap();
    std::os::unix::fs::symlink(folder.0.join("real/text"), folder.0.join("real/again")).unwrap();
    let counted = flow::word_count(folder.0.join("link")).await.unwrap();
    assert_eq!((counted.texts, counted.bytes), (1, 6));
}

#[tokio::test]
async fn a_function_that_panics_ends_the_run_and_names_the_text() {
    let map = |text: &str, pairs: &mut Pairs<'_, (), _>| {
        assert!(!text.contains("poison"), "it is poison");
        pairs.emit("text", &());
    };
    let batch = MapReduce::new(map, flow::Count).text("one", "good").text("two", "poison").text("three", "good");
    let error = batch.run().await.unwrap_err();
    assert_eq!(error.to_string(), "two: panicked: it is poison");
}

#[tokio::test]
async fn a_record_that_does_not_fit_leaves_its_text_out() {
    let long = "x".repeat((16 << 20) + 1000);
    let batch = flow::counting().text("long", long).text("short", "x").piece(piece(100)).workers(workers(1));
    let counted = batch.run().await.unwrap();
    assert_eq!(counted.rows, [("x".to_string(), 1)]);
    assert_eq!(counted.skipped[0].error.to_string(), "long: invalid: a record at about byte 100 is longer than 16 MiB");
}

/// Dropped, it ends with the pieces in hand.
#[tokio::test]
async fn a_run_that_is_dropped_stops() {
    let (go, may) = mpsc::channel::<()>();
    let (may, begun) = (std::sync::Arc::new(seedpod::base::sync::Lock::new(may)), Arc::new(AtomicUsize::new(0)));
    let (seen, gate) = (begun.clone(), Arc::downgrade(&may));
    let map = move |_: &str, _: &mut Pairs<'_, (), flow::Count>| {
        seen.fetch_add(1, Relaxed);
        let _ = may.lock().recv();
    };
    let text = "line\n".repeat(1000);
    let batch = MapReduce::new(map, flow::Count).text("text", text).piece(piece(5)).workers(workers(1)).cut(Cut::Lines);
    let mut running = Box::pin(batch.run());
    while begun.load(Relaxed) == 0 {
        let step = tokio::time::timeout(std::time::Duration::from_millis(5), &mut running);
        assert!(step.await.is_err(), "it waits");
    }
    drop(running);
    while go.send(()).is_ok() && gate.strong_count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(begun.load(Relaxed), 1);
}

/// The sources of this project, counted by the shell's tools and by us.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn words_are_counted_as_the_shell_counts_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let script = "find \"$0\" -type f -exec cat {} + | tr -s '[:space:]' '\\n' | LC_ALL=C sort | uniq -c";
    let shell = std::process::Command::new("sh").arg("-c").arg(script).arg(&src).output().unwrap();
    let shell = String::from_utf8(shell.stdout).unwrap();
    let due: Vec<(String, u64)> = shell
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .filter(|(_, word)| !word.is_empty())
        .map(|(count, word)| (word.to_string(), count.parse().unwrap()))
        .collect();
    assert!(due.len() > 10_000, "{} words", due.len());
    assert_eq!(flow::word_count(src).await.unwrap().rows, due);
}
