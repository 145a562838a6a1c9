//! The bytes below the engine.

use crate::base::{Error, Kind, Result};
use std::{fmt, fs::File, io, path::PathBuf, sync::Arc};

/// Where the engine keeps its bytes: a file, unless a test or a simulation puts something of its own there, which can
/// lose what was not synced, fail to sync, be full, or change a bit.
///
/// # Guarantees that it must give
/// What was written is read back; what was written before a [`sync`](Storage::sync) that succeeded is still there after
/// a crash. Of what was written since, any part may be there.
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// How many bytes there are.
    ///
    /// # Errors
    /// Those of the device.
    fn len(&self) -> io::Result<u64>;

    /// Whether there are none.
    ///
    /// # Errors
    /// Those of the device.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|bytes| bytes == 0)
    }

    /// Fills `out` with the bytes from here on.
    ///
    /// # Errors
    /// Where they are not all there, and those of the device.
    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()>;

    /// Makes it this long; new bytes are zero.
    ///
    /// # Errors
    /// Where there is no room, and those of the device.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Writes these bytes from here on.
    ///
    /// # Errors
    /// Where there is no room, and those of the device.
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Answers once all that was written cannot be lost any more.
    ///
    /// # Errors
    /// Those of the device. What was written since the last success may or may not be there then.
    fn sync(&self) -> io::Result<()>;
}

/// What is to be opened.
#[derive(Clone)]
pub(crate) enum Source {
    File(PathBuf),
    Storage(Arc<dyn Storage>),
}

impl Source {
    /// Sees to it that the name of a new file survives a crash as well as its bytes do.
    pub(super) fn keep_name(&self) -> Result {
        let Source::File(path) = self else { return Ok(()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.map_or_else(|| PathBuf::from("."), PathBuf::from);
        match File::open(folder) {
            Ok(folder) => folder.sync_all().map_err(|error| Error::new(Kind::Unavailable, "").because(error)),
            Err(_) => Ok(()), // where folders cannot be opened, they need no sync
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Storage(_) => f.write_str("storage"),
        }
    }
}

/// Ours as the engine wants it.
#[derive(Debug)]
pub(super) struct Injected(pub(super) Arc<dyn Storage>);

impl redb::StorageBackend for Injected {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(at, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(at, bytes)
    }
}
