//! What is put on a disk and taken off it again, by hand: redb with a record per item or per batch, and a thread that
//! syncs a raw file for all who ask meanwhile.

use redb::{Database, TableDefinition};
use std::{
    fs::File,
    io::{Result, Seek, Write},
    path::Path,
    sync::{Condvar, Mutex},
    thread,
};

/// What an item takes.
pub const VALUE: [u8; 128] = [7; 128];

const ITEMS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("items");
const STARTED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("started");

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// Puts items in batches, notes that they were begun, takes them off: a record for each of these, three commits.
pub fn redb_per_item(database: &Database, items: u64, batch: u64) -> Outcome {
    for first in (0..items).step_by(batch as usize) {
        let all = first..first + batch;
        let writing = database.begin_write()?;
        {
            let mut table = writing.open_table(ITEMS)?;
            for item in all.clone() {
                table.insert(item, &VALUE[..])?;
            }
        }
        writing.commit()?;
        let writing = database.begin_write()?;
        {
            let mut table = writing.open_table(STARTED)?;
            for item in all.clone() {
                table.insert(item, &VALUE[..16])?;
            }
        }
        writing.commit()?;
        let writing = database.begin_write()?;
        {
            let (mut table, mut started) = (writing.open_table(ITEMS)?, writing.open_table(STARTED)?);
            for item in all {
                table.remove(item)?;
                started.remove(item)?;
            }
        }
        writing.commit()?;
    }
    Ok(())
}

/// Puts each batch as one record, and takes it off: two commits.
pub fn redb_per_batch(database: &Database, items: u64, batch: u64) -> Outcome {
    let large = vec![7_u8; batch as usize * (VALUE.len() + 20)];
    for number in 0..items.div_ceil(batch) {
        let writing = database.begin_write()?;
        writing.open_table(ITEMS)?.insert(number, &large[..])?;
        writing.commit()?;
        let writing = database.begin_write()?;
        writing.open_table(ITEMS)?.remove(number)?;
        writing.commit()?;
    }
    Ok(())
}

#[derive(Default)]
struct Log {
    waiting: Vec<u8>,
    /// Which commit the next bytes belong to, less one.
    begun: u64,
    done: u64,
    stop: bool,
}

/// So many threads, each of which puts an item and takes it off, so many times; a thread writes and syncs for all that
/// came meanwhile. Syncs per item.
pub fn raw_file(folder: &Path, producers: u64, each: u64) -> Result<f64> {
    let mut file = File::create(folder.join("raw"))?;
    file.set_len(64 << 20)?;
    file.rewind()?;
    let (log, came, synced) = (Mutex::new(Log::default()), Condvar::new(), Condvar::new());
    let lock = || log.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let put = |bytes: &[&[u8]]| {
        let mut log = lock();
        bytes.iter().for_each(|bytes| log.waiting.extend_from_slice(bytes));
        let own = log.begun + 1;
        came.notify_one();
        while log.done < own {
            log = synced.wait(log).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    };
    let syncs = thread::scope(|scope| -> Result<u64> {
        let committing = scope.spawn(|| -> Result<u64> {
            let (mut bytes, mut syncs) = (Vec::new(), 0);
            loop {
                {
                    let mut log = lock();
                    while log.waiting.is_empty() && !log.stop {
                        log = came.wait(log).unwrap_or_else(|poisoned| poisoned.into_inner());
                    }
                    if log.waiting.is_empty() {
                        return Ok(syncs);
                    }
                    std::mem::swap(&mut bytes, &mut log.waiting);
                    log.begun += 1;
                }
                file.write_all(&bytes)?;
                file.sync_data()?;
                syncs += 1;
                bytes.clear();
                let mut log = lock();
                log.done = log.begun;
                synced.notify_all();
            }
        });
        let producing: Vec<_> = (0..producers)
            .map(|_| {
                scope.spawn(|| {
                    for number in 0..each {
                        put(&[&number.to_le_bytes(), &VALUE]);
                        put(&[&number.to_le_bytes()]);
                    }
                })
            })
            .collect();
        for thread in producing {
            let _ = thread.join();
        }
        lock().stop = true;
        came.notify_all();
        committing.join().unwrap_or(Ok(0))
    })?;
    Ok(syncs as f64 / (producers * each) as f64)
}
