//! apalis on SQLite, as its users have it: tasks are pushed one by one by 32 producers, then a worker takes them.

use apalis_core::{
    backend::TaskSink,
    worker::{builder::WorkerBuilder, context::WorkerContext},
};
use apalis_sqlite::{SqliteConnectOptions, SqlitePool, SqliteStorage};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub(crate) struct Store {
    pool: SqlitePool,
    workers: u64,
}

impl Store {
    pub(crate) async fn open(path: &Path) -> Outcome<Store> {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await?;
        SqliteStorage::setup(&pool).await?;
        Ok(Store { pool, workers: 0 })
    }

    pub(crate) async fn cycles(&mut self, count: u64) -> Outcome {
        let storage = SqliteStorage::<u64>::new(&self.pool);
        let producers: Vec<_> = (0..32)
            .map(|producer| {
                let mut storage = storage.clone();
                tokio::spawn(async move {
                    for number in (producer..count).step_by(32) {
                        storage.push(number).await.map_err(|error| error.to_string())?;
                    }
                    Ok::<_, String>(())
                })
            })
            .collect();
        for producer in producers {
            producer.await??;
        }
        let done = Arc::new(AtomicU64::new(0));
        let work = move |_: u64, worker: WorkerContext| {
            if done.fetch_add(1, Relaxed) + 1 == count {
                let _ = worker.stop();
            }
            std::future::ready(())
        };
        self.workers += 1;
        let worker = WorkerBuilder::new(format!("worker {}", self.workers)).backend(storage).build(work);
        worker.run().await.map_err(|error| error.to_string().into())
    }
}
