//! Records under keys: one engine behind a trait, and the handle that gives it up at the first thing it cannot vouch for.

use super::{
    Key, Source,
    record::{open, seal},
};
use crate::base::{Error, Kind, Result, sync::Lock};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

/// One record that is written, or removed.
pub(crate) struct Write {
    pub(crate) key: Key,
    /// Its fields; none removes it.
    pub(crate) value: Option<Vec<u8>>,
}

/// Who looks at records in turn, and says whether to go on.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool>;

/// What keeps the records. All that it says wrong is held against it: an error other than a refusal ends its service.
pub(super) trait Engine: Send + Sync + 'static {
    /// Does all of this and syncs it, or fails.
    fn commit(&self, writes: &[Write]) -> Result;

    /// The record under this key, sealed.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The records from here to there, that one included, sealed, in the order of their keys.
    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result;
}

/// A file of records. Once it has failed, it fails for good.
pub(crate) struct Disk {
    place: Arc<str>,
    engine: Lock<Option<Arc<dyn Engine>>>,
    failure: OnceLock<Error>,
}

impl Disk {
    /// Opens it, or makes it where there is none; checks it whole.
    pub(crate) fn open(source: &Source) -> Result<Disk> {
        let place: Arc<str> = source.to_string().into();
        let opened = catch_unwind(AssertUnwindSafe(|| super::file::open(source)));
        let engine = opened.unwrap_or_else(|panic| Err(panicked(&*panic))).map_err(|error| error.at(place.clone()))?;
        source.keep_name().map_err(|error| error.at(place.clone()))?;
        Ok(Disk { place, engine: Lock::new(Some(Arc::new(engine))), failure: OnceLock::new() })
    }

    /// What has failed, if anything has.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.get().cloned()
    }

    /// Fails unless all is well.
    pub(crate) fn check(&self) -> Result {
        self.failure().map_or(Ok(()), Err)
    }

    /// Gives it up for this reason; the error that everybody gets from now on.
    pub(crate) fn give_up(&self, cause: Error) -> Error {
        let message = "it was given up, and must be opened again: what is on the disk is not known any more";
        let error = Error::new(Kind::Closed, message).at(self.place.clone()).because(cause);
        let _ = self.failure.set(error.clone()); // the first failure is the one to tell
        self.failure().unwrap_or(error)
    }

    /// Does all of this and syncs it, or gives the file up.
    pub(crate) fn commit(&self, mut writes: Vec<Write>) -> Result {
        for write in &mut writes {
            if let Some(value) = &mut write.value {
                seal(&write.key, value);
            }
        }
        self.guarded(|engine| engine.commit(&writes))
    }

    /// The fields of the record under this key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.guarded(|engine| {
            let Some(mut sealed) = engine.get(key)? else { return Ok(None) };
            let length = open(key, &sealed)?.len();
            sealed.truncate(length);
            Ok(Some(sealed))
        })
    }

    /// Looks at the records from here to there, that one included, until told to stop.
    pub(crate) fn scan(&self, from: &[u8], to: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool>) -> Result {
        self.guarded(|engine| engine.scan(from, to, &mut |key, sealed| visit(key, open(key, sealed)?)))
    }

    /// Lets go of the file. Every later call fails.
    pub(crate) fn close(&self) {
        let engine = self.engine.lock().take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(engine)));
        let ended = Error::new(Kind::Closed, "it is closed").at(self.place.clone());
        let _ = self.failure.set(dropped.map_or_else(|panic| panicked(&*panic), |()| ended));
    }

    fn guarded<T>(&self, call: impl FnOnce(&dyn Engine) -> Result<T>) -> Result<T> {
        self.check()?;
        let Some(engine) = self.engine.lock().clone() else {
            return Err(Error::new(Kind::Closed, "it is closed").at(self.place.clone()));
        };
        let called = catch_unwind(AssertUnwindSafe(|| call(&*engine)));
        called.unwrap_or_else(|panic| Err(panicked(&*panic))).map_err(|cause| self.give_up(cause))
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Error::new(Kind::Panicked, format!("the storage engine panicked: {said}"))
}
