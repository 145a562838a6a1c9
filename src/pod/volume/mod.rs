//! Volumes: files that the containers of a pod share.
//!
//! - [`Volume`]: the handle that containers get — start here
//! - `memory`: files in memory; the default
//! - `directory`: files in a real directory, for what must have a path
//!
//! It refuses to know what is in the files, and who fills them: configuration, secrets and claims are the cluster's.

mod directory;
mod memory;

use crate::base::{
    Error, Kind, Result,
    sync::atomic::{AtomicU64, Ordering},
};
use bytes::Bytes;
use directory::Directory;
use memory::Memory;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Notify;

/// The size of a volume in memory where no other is given: 64 MiB.
pub const VOLUME_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Files under relative paths such as `config/app.yaml`; cheap to clone, all clones are one volume.
///
/// In memory unless a real directory is declared. Calls do not wait: memory answers at once, a directory as fast as the
/// disk does, so keep files there small.
///
/// # Guarantees
/// - A file is read whole, as one write left it. A directory is written aside and renamed, so this holds for whoever
///   reads through its path, too.
/// - [`swap`](Volume::swap) replaces all files at once: who reads through the volume sees all old or all new.
/// - A write past the size limit changes nothing.
///
/// # Not guaranteed
/// - Who reads a directory through its path may see a swap file by file.
/// - Watches see changes made through the volume, not those made through the path.
///
/// ```
/// # fn main() -> seedpod::Result {
/// use seedpod::pod::Volume;
/// let volume = Volume::memory();
/// volume.write("config/app", "one")?;
/// assert_eq!(volume.read("config/app")?, "one");
/// assert_eq!(volume.list("config/")?, ["config/app"]);
/// let view = volume.read_only();
/// assert!(view.write("config/app", "two").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Volume {
    shared: Arc<Shared>,
    read_only: bool,
}

struct Shared {
    files: Files,
    version: AtomicU64,
    changed: Notify,
}

enum Files {
    Memory(Memory),
    Directory(Directory),
}

impl Volume {
    /// Files in memory, at most [`VOLUME_BYTES_MAX`] of them.
    pub fn memory() -> Self {
        Volume::bounded(VOLUME_BYTES_MAX)
    }

    /// Files in memory, at most this many bytes of them (contents; names are not counted).
    pub fn bounded(bytes: u64) -> Self {
        Volume::over(Files::Memory(Memory::new(bytes)))
    }

    /// Files in this directory, which is created at first use. No size limit.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Volume::over(Files::Directory(Directory::new(path.into())))
    }

    fn over(files: Files) -> Self {
        let shared = Shared { files, version: AtomicU64::new(0), changed: Notify::new() };
        Volume { shared: Arc::new(shared), read_only: false }
    }

    /// The same files, for reading only.
    #[must_use]
    pub fn read_only(&self) -> Self {
        Volume { shared: self.shared.clone(), read_only: true }
    }

    /// Whether this handle can only read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Where the files really are; none in memory. Creates the directory, if it can.
    pub fn path(&self) -> Option<&Path> {
        match &self.shared.files {
            Files::Memory(_) => None,
            Files::Directory(directory) => Some(directory.path()),
        }
    }

    /// The file at this path.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none; [`Kind::Invalid`] for a path that no file can have.
    pub fn read(&self, path: &str) -> Result<Bytes> {
        check(path)?;
        match &self.shared.files {
            Files::Memory(memory) => memory.read(path),
            Files::Directory(directory) => directory.read(path),
        }
    }

    /// The paths that begin with this text, in order; all with the empty text.
    ///
    /// # Errors
    /// What the disk reports.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut paths = match &self.shared.files {
            Files::Memory(memory) => memory.list(),
            Files::Directory(directory) => directory.list()?,
        };
        paths.retain(|path| path.starts_with(prefix));
        Ok(paths)
    }

    /// Writes a file, in the place of the one that was there.
    ///
    /// # Errors
    /// [`Kind::Rejected`] past the size limit or through a read-only handle; [`Kind::Invalid`] for a path that no file
    /// can have.
    pub fn write(&self, path: &str, content: impl Into<Bytes>) -> Result {
        self.writable(path)?;
        check(path)?;
        match &self.shared.files {
            Files::Memory(memory) => memory.write(path, content.into())?,
            Files::Directory(directory) => directory.write(path, &content.into())?,
        }
        self.announce();
        Ok(())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none; [`Kind::Rejected`] through a read-only handle.
    pub fn remove(&self, path: &str) -> Result {
        self.writable(path)?;
        check(path)?;
        match &self.shared.files {
            Files::Memory(memory) => memory.remove(path)?,
            Files::Directory(directory) => directory.remove(path)?,
        }
        self.announce();
        Ok(())
    }

    /// Replaces all files by these, at once: how new configuration arrives.
    ///
    /// # Errors
    /// [`Kind::Rejected`] past the size limit or through a read-only handle, [`Kind::Invalid`] for a path that no file
    /// can have; nothing is changed then.
    pub fn swap<P, C>(&self, files: impl IntoIterator<Item = (P, C)>) -> Result
    where
        P: Into<String>,
        C: Into<Bytes>,
    {
        let files: BTreeMap<String, Bytes> =
            files.into_iter().map(|(path, content)| (path.into(), content.into())).collect();
        self.writable("")?;
        files.keys().try_for_each(|path| check(path))?;
        match &self.shared.files {
            Files::Memory(memory) => memory.swap(files)?,
            Files::Directory(directory) => directory.swap(&files)?,
        }
        self.announce();
        Ok(())
    }

    /// Sees changes from now on.
    pub fn watch(&self) -> VolumeWatch {
        VolumeWatch { seen: self.shared.version.load(Ordering::Acquire), volume: self.clone() }
    }

    fn writable(&self, path: &str) -> Result {
        match self.read_only {
            false => Ok(()),
            true => {
                Err(Error::new(Kind::Rejected, "the volume is mounted for reading only").at(format!("file {path:?}")))
            }
        }
    }

    fn announce(&self) {
        self.shared.version.fetch_add(1, Ordering::Release);
        self.shared.changed.notify_waiters();
    }
}

impl Default for Volume {
    fn default() -> Self {
        Volume::memory()
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Volume");
        if let Files::Directory(directory) = &self.shared.files {
            debug.field("path", &directory.place()); // to be printed is no use: it makes no directory
        }
        debug.field("read_only", &self.read_only).finish_non_exhaustive()
    }
}

/// Sees the changes of one volume.
#[derive(Debug)]
pub struct VolumeWatch {
    volume: Volume,
    seen: u64,
}

impl VolumeWatch {
    /// Waits until something has changed since the last call (or since the watch began), and returns the volume to read.
    ///
    /// Many changes may be seen as one. **Cancel-safety**: dropped early it has seen nothing; the next call returns the
    /// same change.
    pub async fn changed(&mut self) -> &Volume {
        loop {
            let shared = &self.volume.shared;
            let notified = shared.changed.notified();
            let version = shared.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                break;
            }
            notified.await;
        }
        &self.volume
    }
}

/// Relative, of plain names: no empty part, no `.`, no `..`, no backslash, nothing that starts with two dots.
fn check(path: &str) -> Result {
    let plain = |part: &str| !part.is_empty() && part != "." && !part.starts_with("..") && !part.contains(['\\', '\0']);
    match path.split('/').all(plain) {
        true => Ok(()),
        false => Err(Error::new(Kind::Invalid, "not a relative path of plain names").at(format!("file {path:?}"))),
    }
}

fn no_file(path: &str) -> Error {
    Error::new(Kind::NotFound, "").at(format!("file {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// Both kinds, through the same promises.
    fn each(test: impl Fn(Volume)) {
        test(Volume::memory());
        let path = std::env::temp_dir().join(format!("seedpod-volume-{}", crate::base::Seed::ambient().get()));
        let volume = Volume::directory(&path);
        assert!(format!("{volume:?}").contains("seedpod-volume") && !path.exists(), "created at first use");
        test(volume);
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn read_write_list_remove() {
        each(|volume| {
            assert_eq!(volume.list("").unwrap(), [""; 0]);
            assert!(volume.read("a").unwrap_err().is_not_found());
            volume.write("b/c", "1").unwrap();
            volume.write("a", "2").unwrap();
            volume.write("a", "3").unwrap();
            assert_eq!(volume.list("").unwrap(), ["a", "b/c"]);
            assert_eq!(volume.list("b").unwrap(), ["b/c"]);
            assert_eq!(volume.read("a").unwrap(), "3");
            volume.remove("a").unwrap();
            assert_eq!(volume.remove("a").unwrap_err().to_string(), "file \"a\": not found");
            assert_eq!(volume.list("").unwrap(), ["b/c"]);
        });
    }

    #[test]
    fn paths_stay_inside() {
        each(|volume| {
            for path in ["", "/etc/passwd", "a//b", "../a", "a/../b", ".", "a/", "..data", "a\\b", "a\0"] {
                assert_eq!(volume.write(path, "x").unwrap_err().kind(), Kind::Invalid, "{path}");
                assert_eq!(volume.read(path).unwrap_err().kind(), Kind::Invalid, "{path}");
            }
            assert_eq!(volume.swap([("good", "x"), ("../bad", "x")]).unwrap_err().kind(), Kind::Invalid);
            assert!(volume.list("").unwrap().is_empty(), "nothing half done");
            volume.write(".hidden", "x").unwrap();
        });
    }

    #[test]
    fn swap_replaces_everything() {
        each(|volume| {
            volume.write("old", "1").unwrap();
            volume.write("both", "1").unwrap();
            volume.swap([("both", "2"), ("new/deep", "2")]).unwrap();
            assert_eq!(volume.list("").unwrap(), ["both", "new/deep"]);
            assert_eq!(volume.read("both").unwrap(), "2");
        });
    }

    #[test]
    fn a_watch_sees_every_change_and_no_more() {
        each(|volume| {
            let mut watch = volume.watch();
            assert!(watch.changed().now_or_never().is_none());
            volume.write("a", "1").unwrap();
            volume.write("a", "2").unwrap();
            assert_eq!(watch.changed().now_or_never().unwrap().read("a").unwrap(), "2");
            assert!(watch.changed().now_or_never().is_none());
            let _ = volume.read_only().write("a", "3");
            assert!(watch.changed().now_or_never().is_none());
        });
    }

    #[test]
    fn a_read_only_view_shares_the_files() {
        each(|volume| {
            let view = volume.read_only();
            volume.write("a", "1").unwrap();
            assert_eq!(view.read("a").unwrap(), "1");
            for refused in [view.write("a", "2"), view.remove("a"), view.swap([("a", "2")])] {
                assert_eq!(refused.unwrap_err().kind(), Kind::Rejected);
            }
            assert!(view.clone().is_read_only() && !volume.is_read_only());
        });
    }

    #[test]
    fn a_reader_never_sees_half_a_swap() {
        let volume = Volume::memory();
        let swaps = |volume: &Volume| {
            for round in 0..2000_u32 {
                volume.swap([("a", round.to_string()), ("b", round.to_string())]).unwrap();
            }
        };
        swaps(&volume);
        let mut watch = volume.watch();
        std::thread::scope(|scope| {
            scope.spawn(|| swaps(&volume));
            for _ in 0..2000 {
                // between two reads a swap may happen, but never back in time
                let number = |path| std::str::from_utf8(&volume.read(path).unwrap()).unwrap().parse::<u32>().unwrap();
                let (first, second, third) = (number("a"), number("b"), number("a"));
                assert!(first == 1999 || (first <= second && second <= third), "{first} {second} {third}");
            }
        });
        assert!(watch.changed().now_or_never().is_some());
    }
}
