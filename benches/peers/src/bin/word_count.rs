//! How often each word stands in 200 MB of real text, in order: documentation, licences and sources that are on this
//! machine, copied file by file into a folder of its own. All must agree to the last count, the shell's tools included.
//!
//! CPU time per byte, over all threads and processes. `SEEDPOD_TEXTS` names other directories to take texts from, with
//! colons between them; `SEEDPOD_TEXT_MB` another size.

#[path = "word_count/corpus.rs"]
mod corpus;
#[path = "word_count/shell.rs"]
mod shell;

use corpus::Corpus;
use hashbrown::HashMap;
use rayon::prelude::*;
use rustc_hash::FxBuildHasher;
use seedpod::flow;
use seedpod_peers::{Figure, Target};
use std::{fs, io, path::Path, process::exit, time::Duration};

/// Words in order, and how often they stand there.
type Counts = Vec<(Vec<u8>, u64)>;
type Table = HashMap<Vec<u8>, u64, FxBuildHasher>;

/// White space as C has it.
fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn count_file(table: &mut Table, path: &Path) -> io::Result<()> {
    let text = fs::read(path)?;
    if std::str::from_utf8(&text).is_err() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, path.display().to_string()));
    }
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        *table.entry_ref(word).or_insert(0) += 1;
    }
    Ok(())
}

/// One thread, one table.
fn by_hand(corpus: &Corpus) -> io::Result<Counts> {
    let mut table = Table::default();
    corpus.files.iter().try_for_each(|path| count_file(&mut table, path))?;
    let mut counts: Counts = table.into_iter().collect();
    counts.sort_unstable();
    Ok(counts)
}

/// A table per thread, merged as they end.
fn by_rayon(corpus: &Corpus) -> io::Result<Counts> {
    let table = corpus
        .files
        .par_iter()
        .try_fold(Table::default, |mut table, path| count_file(&mut table, path).map(|()| table))
        .try_reduce(Table::default, |one, other| {
            let (mut into, from) = if one.len() < other.len() { (other, one) } else { (one, other) };
            from.into_iter().for_each(|(word, count)| *into.entry(word).or_insert(0) += count);
            Ok(into)
        })?;
    let mut counts: Counts = table.into_iter().collect();
    counts.par_sort_unstable();
    Ok(counts)
}

fn by_us(corpus: &Corpus) -> io::Result<Counts> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let counted = runtime.block_on(flow::word_count(&corpus.folder)).map_err(io::Error::other)?;
    match counted.skipped.first() {
        Some(skipped) => Err(io::Error::other(skipped.to_string())),
        None => Ok(counted.rows.into_iter().map(|(word, count)| (word.into_bytes(), count)).collect()),
    }
}

/// The CPU time that this process has used, over all its threads.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Who counts, and the CPU time that it takes.
type Way<'a> = (&'a str, Box<dyn Fn(&Corpus) -> io::Result<(Counts, Duration)>>);

fn within(count: fn(&Corpus) -> io::Result<Counts>) -> Box<dyn Fn(&Corpus) -> io::Result<(Counts, Duration)>> {
    Box::new(move |corpus| {
        let begin = cpu();
        let counts = count(corpus)?;
        Ok((counts, cpu() - begin))
    })
}

fn main() -> io::Result<()> {
    let corpus = Corpus::gathered()?;
    println!("{} files, {} bytes", corpus.files.len(), corpus.bytes);
    let ways: [Way<'_>; 4] = [
        ("hashbrown + fx, one thread", within(by_hand)),
        ("rayon + fx", within(by_rayon)),
        ("tr | sort | uniq -c", Box::new(shell::count)),
        ("flow::word_count", within(by_us)),
    ];
    let expected = by_hand(&corpus)?;
    let words: u64 = expected.iter().map(|(_, count)| count).sum();
    println!("{words} words, {} of them distinct", expected.len());
    let mut spent: [Vec<f64>; 4] = Default::default();
    for round in 0..3 {
        for ((name, count), spent) in ways.iter().zip(&mut spent) {
            let (counts, time) = count(&corpus)?;
            if counts != expected {
                eprintln!("round {round}: {name} counts otherwise");
                exit(1);
            }
            spent.push(time.as_secs_f64() * 1e9 / corpus.bytes as f64);
        }
    }
    println!("all four agree to the last count, three times over");
    let [hand, rayon, shell, ours] = spent.map(|mut spent| {
        spent.sort_by(f64::total_cmp);
        spent[spent.len() / 2]
    });
    Figure::new("word_count/in_process", "ns/byte", Target::of_bare(f64::INFINITY).ahead(1.0))
        .bare("hashbrown + fx, one thread", || hand)
        .peer("rayon + fx", || rayon)
        .ours("flow::word_count", || ours)
        .run();
    Figure::new("word_count/shell", "ns/byte", Target::of_bare(f64::INFINITY).ahead(10.0))
        .peer("tr | sort | uniq -c", || shell)
        .ours("flow::word_count", || ours)
        .run();
    Ok(())
}
