//! Bytes in memory that do what a disk may do: lose what was not synced, fail to sync, be full, change a bit.

use crate::base::{
    Rng,
    sync::{Arc, Lock},
};
use crate::disk::Storage;
use std::{fmt, io};

/// What a disk writes in one piece, at least.
const SECTOR: usize = 512;

enum Change {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

#[derive(Default)]
struct Inner {
    /// What would be there after a power cut, whatever else is.
    synced: Vec<u8>,
    now: Vec<u8>,
    /// What was changed since the last sync.
    changes: Vec<Change>,
    operations: u64,
    syncs: u64,
    written: u64,
    /// The power fails at this operation.
    cut_at: Option<u64>,
    fail_sync: Option<u64>,
    panic_at: Option<u64>,
    room: Option<usize>,
    dead: bool,
}

/// A disk of bytes, to put below a broker that is tested: `Durable::on(Arc::new(platter.clone()))`. Clones share.
///
/// What it does wrong, it does when told to, at a chosen operation: so a seed decides it.
///
/// ```
/// use seedpod::{disk::Storage, base::Seed, testing::disk::Platter};
/// let platter = Platter::new();
/// platter.set_len(1024)?;
/// platter.write(0, &[1; 1024])?;
/// platter.sync()?;
/// platter.write(0, &[2; 1024])?; // not synced: each half of it may be lost
/// let left = platter.after_power_cut(&mut Seed::new(7).rng()).bytes();
/// assert!(left.chunks(512).all(|piece| piece == [1; 512] || piece == [2; 512]));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Platter(Arc<Lock<Inner>>);

impl Platter {
    /// No bytes yet.
    pub fn new() -> Platter {
        Platter::default()
    }

    /// These bytes.
    pub fn holding(bytes: Vec<u8>) -> Platter {
        let inner = Inner { synced: bytes.clone(), now: bytes, ..Inner::default() };
        Platter(Arc::new(Lock::new(inner)))
    }

    /// What is read from it now.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().now.clone()
    }

    /// Another, with what is left of this one after the power failed at this moment: all that was synced, and of what was
    /// written since any part, in pieces of 512 bytes.
    #[must_use]
    pub fn after_power_cut(&self, rng: &mut Rng) -> Platter {
        let inner = self.0.lock();
        let mut left = inner.synced.clone();
        let survives = rng.unit();
        for change in &inner.changes {
            match change {
                Change::Length(length) if rng.chance(survives) => left.resize(*length, 0),
                Change::Length(_) => {}
                Change::Bytes(at, bytes) => {
                    for (piece, at) in bytes.chunks(SECTOR).zip((*at..).step_by(SECTOR)) {
                        if rng.chance(survives) {
                            put(&mut left, at, piece);
                        }
                    }
                }
            }
        }
        Platter::holding(left)
    }

    /// From now on nothing gets through any more, as if the power were gone.
    pub fn cut(&self) {
        self.0.lock().dead = true;
    }

    /// The power fails at so many operations from now: a change of length, a write or a sync.
    pub fn cut_after(&self, operations: u64) {
        let mut inner = self.0.lock();
        inner.cut_at = Some(inner.operations + operations);
    }

    /// So many syncs from now, one fails; what was written may or may not be there then. The next ones succeed.
    pub fn fail_sync_after(&self, syncs: u64) {
        let mut inner = self.0.lock();
        inner.fail_sync = Some(inner.syncs + syncs);
    }

    /// So many operations from now, the engine above is made to panic.
    pub fn panic_after(&self, operations: u64) {
        let mut inner = self.0.lock();
        inner.panic_at = Some(inner.operations + operations);
    }

    /// There is room for so many bytes in all.
    pub fn room(&self, bytes: usize) {
        self.0.lock().room = Some(bytes);
    }

    /// Changes one bit.
    pub fn flip(&self, bit: u64) {
        let mut inner = self.0.lock();
        let at = (bit / 8) as usize;
        let flipped = |bytes: &mut Vec<u8>| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        };
        flipped(&mut inner.now);
        flipped(&mut inner.synced);
    }

    /// Cuts it off at this length.
    pub fn truncate(&self, length: usize) {
        let mut inner = self.0.lock();
        inner.now.truncate(length);
        inner.synced.truncate(length);
    }

    /// How often it was synced.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// How many bytes were written.
    pub fn written(&self) -> u64 {
        self.0.lock().written
    }

    /// How many changes are not synced.
    pub fn unsynced(&self) -> usize {
        self.0.lock().changes.len()
    }
}

fn put(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if to.len() < at + bytes.len() {
        to.resize(at + bytes.len(), 0);
    }
    if let Some(part) = to.get_mut(at..at + bytes.len()) {
        part.copy_from_slice(bytes);
    }
}

impl Inner {
    /// Counts an operation, which may be the one at which something is to go wrong.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        self.dead |= self.cut_at == Some(self.operations);
        if self.dead {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }

    fn fits(&self, length: usize) -> io::Result<()> {
        match self.room {
            Some(room) if length > room.max(self.now.len()) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn panics(&self) -> bool {
        self.panic_at.is_some_and(|at| self.operations >= at)
    }
}

impl Storage for Platter {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.lock();
        let part = (at as usize).checked_add(out.len()).and_then(|end| inner.now.get(at as usize..end));
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.operate()?;
        inner.fits(length as usize)?;
        inner.now.resize(length as usize, 0);
        inner.changes.push(Change::Length(length as usize));
        Ok(())
    }

    #[expect(clippy::panic, reason = "it was told to")]
    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let panics = {
            let mut inner = self.0.lock();
            inner.changes.push(Change::Bytes(at as usize, bytes.to_vec())); // a cut may leave parts of it
            inner.operate()?;
            inner.fits(at as usize + bytes.len())?;
            inner.written += bytes.len() as u64;
            put(&mut inner.now, at as usize, bytes);
            inner.panics()
        };
        if panics {
            panic!("the engine panics, as it was told to");
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.operate()?;
        inner.syncs += 1;
        if inner.fail_sync == Some(inner.syncs) {
            return Err(io::Error::other("the sync failed"));
        }
        for change in std::mem::take(&mut inner.changes) {
            match change {
                Change::Length(length) => inner.synced.resize(length, 0),
                Change::Bytes(at, bytes) => put(&mut inner.synced, at, &bytes),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Platter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.lock();
        f.debug_struct("Platter").field("bytes", &inner.now.len()).field("syncs", &inner.syncs).finish_non_exhaustive()
    }
}
