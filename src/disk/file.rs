//! The engine: redb, one table of bytes under bytes.

use super::{
    Source, Write,
    engine::{Engine, Visit},
    storage::Injected,
};
use crate::base::{Error, Kind, Result};
use redb::{Database, DatabaseError, ReadableDatabase, TableDefinition};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// Pages that redb keeps in memory: enough for both ends of many queues, little beside a file of a million messages.
const CACHE: usize = 64 << 20;

/// A file of at least this size, of which less than half is in use, is made smaller when it is opened.
const WORTH_COMPACTING: u64 = 16 << 20;

pub(super) struct Redb(Database);

/// Opens it, or makes it. The whole file is checked: redb by itself returns wrong data after most changes of single bits.
pub(super) fn open(source: &Source) -> Result<Redb> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    let (opened, size) = match source {
        Source::File(path) => (builder.create(path), std::fs::metadata(path).map_or(0, |file| file.len())),
        Source::Storage(storage) => {
            let size = storage.len().map_err(failed)?;
            (builder.create_with_backend(Injected(storage.clone())), size)
        }
    };
    let mut database = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => {
            Error::new(Kind::Conflict, "it is open already, here or in another process")
        }
        error => failed(error),
    })?;
    let writing = database.begin_write().map_err(failed)?;
    writing.open_table(RECORDS).map_err(failed)?;
    let stats = writing.stats().map_err(failed)?;
    writing.commit().map_err(failed)?;
    if size >= WORTH_COMPACTING && (stats.stored_bytes() + stats.metadata_bytes()) < size / 2 {
        while database.compact().map_err(failed)? {}
    }
    Ok(Redb(database))
}

impl Engine for Redb {
    fn commit(&self, writes: &[Write]) -> Result {
        let writing = self.0.begin_write().map_err(failed)?;
        {
            let mut records = writing.open_table(RECORDS).map_err(failed)?;
            for write in writes {
                match &write.value {
                    Some(value) => drop(records.insert(&write.key[..], &value[..]).map_err(failed)?),
                    None => drop(records.remove(&write.key[..]).map_err(failed)?),
                }
            }
        }
        writing.commit().map_err(failed)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let records = self.0.begin_read().map_err(failed)?.open_table(RECORDS).map_err(failed)?;
        let found = records.get(key).map_err(failed)?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result {
        let records = self.0.begin_read().map_err(failed)?.open_table(RECORDS).map_err(failed)?;
        for record in records.range(from..=to).map_err(failed)? {
            let (key, value) = record.map_err(failed)?;
            if !visit(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Failed, "the storage engine failed").because(error)
}
