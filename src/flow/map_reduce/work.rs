//! The run: looks for the texts, looks through those of several pieces, works on all pieces, exchanges, reduces, sorts.

use super::{
    MapReduce, Pairs, Plan, Progress, Reduced, Skipped,
    table::{Entry, Table},
    text::{Cut, Piece, Source, Text, unreadable},
};
use crate::base::{
    Error, Kind, Result,
    sync::{
        Arc, Lock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};
use crate::flow::{Reduce, fused::words_of};
use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
};

/// Runs it beside the executor.
pub(super) async fn run<T, M, R>(batch: MapReduce<T, M, R>) -> Result<Reduced<R::Out>>
where
    T: 'static,
    R: Reduce<T>,
    M: Fn(&str, &mut Pairs<'_, T, R>) + Send + Sync + 'static,
{
    let stop = Stop::default();
    let told = stop.0.clone();
    #[expect(clippy::disallowed_methods, reason = "files are read beside the executor; no order shows in the result")]
    let running = tokio::task::spawn_blocking(move || whole(&batch, &told));
    let ended = running.await.map_err(|error| Error::new(Kind::Panicked, "").because(error).at("map and reduce"));
    drop(stop);
    ended?
}

/// Says so when it is dropped.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What the workers share.
struct Shared<'a> {
    texts: &'a [Text],
    cut: Cut,
    progress: &'a Progress,
    stop: &'a AtomicBool,
    /// The texts that are left out, by number, and from where on.
    skipped: Lock<BTreeMap<usize, (u64, Error)>>,
    /// What ends the run.
    failed: Lock<Option<Error>>,
}

/// What one worker has for another: keys, and entries of one part.
type Part<P> = (Arc<Vec<u8>>, Vec<Entry<P>>);

fn whole<T, M, R>(batch: &MapReduce<T, M, R>, stop: &AtomicBool) -> Result<Reduced<R::Out>>
where
    T: 'static,
    R: Reduce<T>,
    M: Fn(&str, &mut Pairs<'_, T, R>) + Send + Sync + 'static,
{
    let MapReduce { plan, progress, map, reduce, .. } = batch;
    let texts = listed(plan)?;
    let pieces: Vec<_> = texts.iter().enumerate().flat_map(|(number, text)| text.pieces(number, plan.piece)).collect();
    progress.begin(texts.len() as u64, texts.iter().map(|text| text.len).sum());
    let shared = Shared {
        texts: &texts,
        cut: plan.cut,
        progress,
        stop,
        skipped: Lock::new(BTreeMap::new()),
        failed: Lock::new(None),
    };
    let workers = plan.workers().get().min(pieces.len()).max(1);

    let several: Vec<_> = pieces.iter().copied().filter(|piece| !piece.is_all).collect();
    shared.each(
        workers,
        &several,
        || (),
        |_, piece, buffer| {
            shared.read(piece, false, buffer);
        },
    );
    let bad = shared.skipped.lock().clone();
    let good: Vec<_> = pieces.into_iter().filter(|piece| !bad.contains_key(&piece.text)).collect();
    let tables = shared.each(workers, &good, Table::<R::Partial>::default, |table, piece, buffer| {
        let Some(text) = shared.read(piece, !piece.is_all, buffer) else { return };
        map(text, &mut Pairs { table, reduce });
        let whole = piece.to == shared.texts.get(piece.text).map_or(0, |text| text.len);
        progress.add(u64::from(whole), piece.to - piece.from);
    });
    if let Some(error) = shared.failed.lock().take() {
        return Err(error);
    }
    let rows = reduced(tables, workers, reduce);
    let mut left_out: Vec<_> = std::mem::take(&mut *shared.skipped.lock()).into_iter().collect();
    left_out.sort_by(|(one, _), (other, _)| name(&texts, *one).cmp(name(&texts, *other)));
    let lost: u64 = left_out.iter().filter_map(|(number, _)| Some(texts.get(*number)?.len)).sum();
    Ok(Reduced {
        rows,
        texts: (texts.len() - left_out.len()) as u64,
        bytes: texts.iter().map(|text| text.len).sum::<u64>() - lost,
        skipped: left_out
            .into_iter()
            .map(|(number, (_, error))| Skipped { name: name(&texts, number).to_string(), error })
            .collect(),
    })
}

fn name(texts: &[Text], number: usize) -> &str {
    texts.get(number).map_or("", |text| &text.name)
}

impl Shared<'_> {
    /// Has so many workers take piece after piece, each with a state of its own.
    fn each<S: Send>(
        &self,
        workers: usize,
        pieces: &[Piece],
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, &Piece, &mut Vec<u8>) + Sync,
    ) -> Vec<S> {
        let next = AtomicUsize::new(0);
        let worker = || {
            let (mut state, mut buffer) = (state(), Vec::new());
            while let Some(piece) = pieces.get(next.fetch_add(1, Relaxed)) {
                if self.stop.load(Relaxed) || self.failed.lock().is_some() {
                    break;
                }
                let worked = catch_unwind(AssertUnwindSafe(|| work(&mut state, piece, &mut buffer)));
                if let Err(panic) = worked {
                    let error = Error::new(Kind::Panicked, words_of(&*panic));
                    self.fail(error.at(name(self.texts, piece.text)));
                }
            }
            state
        };
        in_parallel(workers, |_| worker())
    }

    fn fail(&self, error: Error) {
        self.failed.lock().get_or_insert(error);
    }

    /// Reads a piece. What cannot be read leaves its text out; but not where it is read again, since other pieces of the
    /// text may have been worked on by then.
    fn read<'b>(&'b self, piece: &Piece, again: bool, buffer: &'b mut Vec<u8>) -> Option<&'b str> {
        let text = self.texts.get(piece.text)?;
        if self.skipped.lock().contains_key(&piece.text) {
            return None; // for a piece before this one: they are taken in order
        }
        match text.read(piece, self.cut, buffer) {
            Ok(text) => Some(text),
            Err(error) if !again => {
                // of several pieces that are bad the first says why, whoever found it
                let mut skipped = self.skipped.lock();
                let (at, _) = skipped.entry(piece.text).or_insert_with(|| {
                    self.progress.skip(text.len);
                    (u64::MAX, error.clone())
                });
                if piece.from < *at {
                    skipped.insert(piece.text, (piece.from, error));
                }
                None
            }
            Err(error) => {
                let changed = Error::new(Kind::Conflict, "it changed while it was worked on").because(error);
                self.fail(changed.at(text.name.clone()));
                None
            }
        }
    }
}

/// Runs this so many times at once, here and on threads that end before it returns.
fn in_parallel<S: Send>(workers: usize, work: impl Fn(usize) -> S + Sync) -> Vec<S> {
    thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..workers).map(|at| scope.spawn(move || work(at))).collect();
        let mut all = vec![work(0)];
        // a worker contains the panics of what it runs
        all.extend(others.into_iter().filter_map(|other| other.join().ok()));
        all
    })
}

/// What the workers have, exchanged by hash, merged and put in order.
fn reduced<T, R: Reduce<T>>(tables: Vec<Table<R::Partial>>, workers: usize, reduce: &R) -> Vec<(String, R::Out)> {
    let mut parts: Vec<Vec<Part<R::Partial>>> = (0..workers).map(|_| Vec::new()).collect();
    for table in tables {
        let (keys, parted) = table.parted(workers);
        let keys = Arc::new(keys);
        for (part, entries) in parts.iter_mut().zip(parted) {
            part.push((keys.clone(), entries));
        }
    }
    let parts: Vec<_> = parts.into_iter().map(|part| Lock::new(Some(part))).collect();
    let rows = in_parallel(workers, |at| {
        let part = parts.get(at).and_then(|part| part.lock().take()).unwrap_or_default();
        in_order(part, reduce)
    });
    let mut all: Vec<_> = rows.into_iter().flatten().collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other)); // finds the parts, which are in order, and merges them
    all
}

fn in_order<T, R: Reduce<T>>(mut part: Vec<Part<R::Partial>>, reduce: &R) -> Vec<(String, R::Out)> {
    let (keys, entries) = match part.len() {
        0 | 1 => part.pop().unwrap_or_default(),
        _ => {
            let mut merged = Table::default();
            for (keys, entries) in part {
                for entry in entries {
                    let (key, hash) = (entry.key(&keys), entry.hash);
                    merged.merge((key, hash), entry.partial, |one| one, |into, one| reduce.merge(into, one));
                }
            }
            let (keys, mut parted) = merged.parted(1);
            (Arc::new(keys), parted.pop().unwrap_or_default())
        }
    };
    let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    let mut rows: Vec<_> =
        entries.iter().map(|entry| (text(entry.key(&keys)), reduce.finish(Some(&entry.partial)))).collect();
    rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    rows
}

/// The texts, in the order in which they were named; of a directory, in the order of their names.
fn listed(plan: &Plan) -> Result<Vec<Text>> {
    let memory = |(name, bytes): &(String, bytes::Bytes)| Text {
        name: name.clone(),
        len: bytes.len() as u64,
        from: Source::Memory(bytes.clone()),
    };
    let mut texts: Vec<_> = plan.texts.iter().map(memory).collect();
    for root in &plan.roots {
        below(root, root, &mut texts)?;
    }
    Ok(texts)
}

fn below(root: &Path, path: &Path, texts: &mut Vec<Text>) -> Result {
    let place = |error: std::io::Error| unreadable(error).at(path.display().to_string());
    // what was named itself may be a link
    let kind = if path == root { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let kind = kind.map_err(place)?;
    if kind.is_file() {
        let name = path.strip_prefix(root).ok().filter(|name| !name.as_os_str().is_empty()).unwrap_or(path);
        let name = name.display().to_string();
        texts.push(Text { name, len: kind.len(), from: Source::File(path.to_path_buf()) });
    } else if kind.is_dir() {
        let mut inside = fs::read_dir(path).map_err(place)?.collect::<Result<Vec<_>, _>>().map_err(place)?;
        inside.sort_by_key(fs::DirEntry::file_name);
        for entry in inside {
            below(root, &entry.path(), texts)?;
        }
    }
    Ok(())
}

/// The run as Mermaid draws it.
pub(super) fn drawn(workers: usize) -> String {
    let mut lines = vec!["flowchart LR".to_string(), "  texts[(texts)]".to_string()];
    for worker in 1..=workers.min(4) {
        lines.push(format!("  texts --> map{worker}[read, map, combine]"));
        for other in 1..=workers.min(4) {
            lines.push(format!("  map{worker} -- by hash --> reduce{other}[reduce, sort]"));
        }
    }
    for worker in 1..=workers.min(4) {
        lines.push(format!("  reduce{worker} --> rows[(rows, in order)]"));
    }
    lines.join("\n") + "\n"
}
