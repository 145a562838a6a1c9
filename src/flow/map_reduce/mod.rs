//! A coordinated batch over texts: read, map, combine, shuffle by hash, reduce, sort, in one call.

mod progress;
mod table;
mod text;
mod words;
mod work;

pub use progress::Progress;
pub use text::Cut;
pub use words::{Words, words};

use super::{Count, Item, Reduce};
use crate::base::{Error, Result, hash};
use bytes::Bytes;
use std::{
    fmt,
    marker::PhantomData,
    num::NonZero,
    path::{Path, PathBuf},
};
use table::Table;

/// Map and reduce over texts in one process: the texts are read in parallel, piece by piece; a function says which items
/// each piece holds, and under which keys; items of one key are merged where they are found, then the workers exchange
/// what they have by the hash of its key and merge that; out come the keys in order, each with its result.
///
/// Default: a worker for each core, pieces of 4 MiB, cut at the ends of lines.
///
/// - What cannot be read, or is no UTF-8, is [skipped](Reduced::skipped) and said, and the rest goes on. Of what is
///   skipped nothing counts: a text of more than one piece is looked through before its first piece is.
/// - In memory stand one piece for each worker, and every key with its partial result, once for each worker. A record
///   (a line, or a word: see [`Cut`]) of more than 16 MiB has its text skipped.
/// - The result depends on the texts alone: not on the number of workers, the size of pieces, or who was first.
///
/// ```
/// use seedpod::flow::{MapReduce, Sum};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> seedpod::Result {
/// let sales = MapReduce::new(
///     |text: &str, pairs: &mut seedpod::flow::Pairs<'_, i64, _>| {
///         for (city, amount) in text.lines().filter_map(|line| line.split_once(' ')) {
///             pairs.emit(city, &amount.parse().unwrap_or(0));
///         }
///     },
///     Sum::of(|amount: &i64| *amount),
/// );
/// let sales = sales.text("monday", "Berne 3\nParis 5\n").text("tuesday", "Paris 2\n").run().await?;
/// assert_eq!(sales.rows, [("Berne".to_string(), 3), ("Paris".to_string(), 7)]);
/// # Ok(()) }
/// ```
#[must_use = "it does nothing until it is run"]
pub struct MapReduce<T, M, R> {
    plan: Plan,
    progress: Progress,
    map: M,
    reduce: R,
    items: PhantomData<fn(&T)>,
}

/// What is worked on, and how.
struct Plan {
    roots: Vec<PathBuf>,
    texts: Vec<(String, Bytes)>,
    workers: Option<NonZero<usize>>,
    piece: u64,
    cut: Cut,
}

/// Takes what a function finds in a piece of text; see [`MapReduce`].
pub struct Pairs<'a, T, R: Reduce<T>> {
    table: &'a mut Table<R::Partial>,
    reduce: &'a R,
}

impl<T, R: Reduce<T>> Pairs<'_, T, R> {
    /// Merges this item into what stands under the key.
    #[inline]
    pub fn emit(&mut self, key: &str, item: &T) {
        let (key, reduce) = (key.as_bytes(), self.reduce);
        let new = |item: &T| reduce.one(item);
        self.table.merge((key, hash::of(key)), item, new, |partial, item| reduce.add(partial, item));
    }
}

/// What a [`MapReduce`] comes to.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reduced<V> {
    /// The keys in order of their bytes, each with its result.
    pub rows: Vec<(String, V)>,
    /// The texts that were left out, in the order of their names.
    pub skipped: Vec<Skipped>,
    /// How many texts were worked on.
    pub texts: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

/// A text that was left out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Skipped {
    /// Its path below the directory that was asked for, or its name.
    pub name: String,
    /// Why: [`Kind::Invalid`](crate::base::Kind::Invalid) where it is no UTF-8 or has a record that is too long, else what
    /// the system says.
    pub error: Error,
}

impl PartialEq for Skipped {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.error.kind() == other.error.kind()
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error.chain())
    }
}

const PIECE: u64 = 4 << 20;

impl<T, M, R> MapReduce<T, M, R>
where
    T: 'static,
    R: Reduce<T>,
    M: Fn(&str, &mut Pairs<'_, T, R>) + Send + Sync + 'static,
{
    /// Nothing to work on yet. `map` is given pieces of text that end where a record does.
    pub fn new(map: M, reduce: R) -> Self {
        let plan = Plan { roots: Vec::new(), texts: Vec::new(), workers: None, piece: PIECE, cut: Cut::default() };
        MapReduce { plan, progress: Progress::default(), map, reduce, items: PhantomData }
    }

    /// Works on this file, or on all files below this directory. Links below it are not followed.
    pub fn files(mut self, path: impl AsRef<Path>) -> Self {
        self.plan.roots.push(path.as_ref().to_path_buf());
        self
    }

    /// Works on this text.
    pub fn text(mut self, name: impl Into<String>, text: impl Into<Bytes>) -> Self {
        self.plan.texts.push((name.into(), text.into()));
        self
    }

    /// How many work at once. Default: as many as the machine has cores.
    pub fn workers(mut self, workers: NonZero<usize>) -> Self {
        self.plan.workers = Some(workers);
        self
    }

    /// A piece has about this many bytes. Default 4 MiB.
    pub fn piece(mut self, bytes: NonZero<u32>) -> Self {
        self.plan.piece = bytes.get().into();
        self
    }

    /// Where texts may be cut. Default: at the ends of lines.
    pub fn cut(mut self, cut: Cut) -> Self {
        self.plan.cut = cut;
        self
    }

    /// A handle that says how far it is.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The run as a graph, in Mermaid's language.
    pub fn to_mermaid(&self) -> String {
        work::drawn(self.plan.workers().get())
    }

    /// Runs it, on threads of its own. Dropped, they end with the piece that they have in hand.
    ///
    /// # Errors
    /// Those of a path that was named itself and cannot be read, or of its directories;
    /// [`Kind::Conflict`](crate::base::Kind::Conflict) where a file of more than one piece changed between the first look
    /// and the second, [`Kind::Panicked`](crate::base::Kind::Panicked) where a function has, both naming the file: no part
    /// of a result is given out.
    pub async fn run(self) -> Result<Reduced<R::Out>>
    where
        R::Out: Item,
    {
        work::run(self).await
    }
}

impl Plan {
    fn workers(&self) -> NonZero<usize> {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        self.workers.unwrap_or_else(cores)
    }
}

/// Counts the words of a file, or of all files below a directory: [`words`] in a [`MapReduce`]. The same as
/// `cat $(find … -type f) | tr -s '[:space:]' '\n' | LC_ALL=C sort | uniq -c` for files that are UTF-8 and end in white
/// space.
///
/// # Errors
/// See [`MapReduce::run`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> seedpod::Result {
/// # let folder = std::env::temp_dir().join(format!("seedpod-words-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// std::fs::write(folder.join("a"), "to be or not\n")?;
/// std::fs::write(folder.join("b"), "to be\n")?;
/// let counted = seedpod::flow::word_count(&folder).await?;
/// let rows: Vec<_> = counted.rows.iter().map(|(word, count)| format!("{word} {count}")).collect();
/// assert_eq!(rows, ["be 2", "not 1", "or 1", "to 2"]);
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok(()) }
/// ```
pub async fn word_count(path: impl AsRef<Path>) -> Result<Reduced<u64>> {
    counting().files(path).run().await
}

/// A [`MapReduce`] that counts [`words`]: add what it is to count, and run it.
pub fn counting() -> MapReduce<(), impl Fn(&str, &mut Pairs<'_, (), Count>) + Send + Sync + 'static, Count> {
    let map = |text: &str, pairs: &mut Pairs<'_, (), Count>| words(text).for_each(|word| pairs.emit(word, &()));
    MapReduce::new(map, Count).cut(Cut::Spaces)
}

impl<T, M, R> fmt::Debug for MapReduce<T, M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapReduce").field("files", &self.plan.roots).field("texts", &self.plan.texts.len()).finish()
    }
}

impl<T, R: Reduce<T>> fmt::Debug for Pairs<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").field("keys", &self.table.len()).finish()
    }
}
