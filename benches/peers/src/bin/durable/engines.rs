//! The same records on other engines, every commit synced.

use super::folder;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use rusqlite::{Connection, params};
use seedpod_peers::{apart, bare::disk::VALUE};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// fjall 3: a log-structured tree.
pub(crate) struct Fjall {
    database: Database,
    items: Keyspace,
    started: Keyspace,
}

impl Fjall {
    pub(crate) fn open() -> Outcome<Fjall> {
        apart(|| {
            let database = Database::builder(folder("fjall")).open()?;
            let items = database.keyspace("items", KeyspaceCreateOptions::default)?;
            let started = database.keyspace("started", KeyspaceCreateOptions::default)?;
            Ok(Fjall { database, items, started })
        })
    }

    pub(crate) fn cycles(&self, count: u64, batch: u64) -> Outcome {
        let synced = || self.database.batch().durability(Some(PersistMode::SyncData));
        for first in (0..count).step_by(batch as usize) {
            let all = first..first + batch;
            let mut writing = synced();
            all.clone().for_each(|item| writing.insert(&self.items, item.to_be_bytes(), VALUE));
            writing.commit()?;
            let mut writing = synced();
            all.clone().for_each(|item| writing.insert(&self.started, item.to_be_bytes(), &VALUE[..16]));
            writing.commit()?;
            let mut writing = synced();
            for item in all {
                writing.remove(&self.items, item.to_be_bytes());
                writing.remove(&self.started, item.to_be_bytes());
            }
            writing.commit()?;
        }
        Ok(())
    }
}

/// SQLite with a write-ahead log that is synced at every commit.
pub(crate) struct Sqlite(Connection);

impl Sqlite {
    pub(crate) fn open() -> Outcome<Sqlite> {
        apart(|| {
            let connection = Connection::open(folder("sqlite").join("a.db"))?;
            connection.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 CREATE TABLE items (id INTEGER PRIMARY KEY, value BLOB) STRICT;
                 CREATE TABLE started (id INTEGER PRIMARY KEY, value BLOB) STRICT;",
            )?;
            Ok(Sqlite(connection))
        })
    }

    pub(crate) fn cycles(&self, count: u64, batch: u64) -> Outcome {
        let each = |sql: &str, items: std::ops::Range<u64>, value: Option<&[u8]>| -> Outcome {
            let mut statement = self.0.prepare_cached(sql)?;
            for item in items {
                match value {
                    Some(value) => statement.execute(params![item as i64, value])?,
                    None => statement.execute(params![item as i64])?,
                };
            }
            Ok(())
        };
        for first in (0..count).step_by(batch as usize) {
            let all = first..first + batch;
            self.0.execute_batch("BEGIN IMMEDIATE")?;
            each("INSERT INTO items VALUES (?1, ?2)", all.clone(), Some(&VALUE))?;
            self.0.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
            each("INSERT INTO started VALUES (?1, ?2)", all.clone(), Some(&VALUE[..16]))?;
            self.0.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
            each("DELETE FROM items WHERE id = ?1", all.clone(), None)?;
            each("DELETE FROM started WHERE id = ?1", all, None)?;
            self.0.execute_batch("COMMIT")?;
        }
        Ok(())
    }
}
