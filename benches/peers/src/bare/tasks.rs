//! Two tasks that run until they are told to stop: what is left of a pod without address, sockets, volumes, probes, logs
//! and status.

use std::hint::black_box;
use tokio::{sync::watch, task::JoinHandle};

/// Two tasks and their stop signal.
pub struct Tasks {
    stop: watch::Sender<bool>,
    tasks: [JoinHandle<bool>; 2],
}

impl Tasks {
    /// Spawns them.
    pub fn start() -> Tasks {
        let (stop, stopped) = watch::channel(false);
        let run = |mut stopped: watch::Receiver<bool>| async move { stopped.wait_for(|stop| *stop).await.is_ok() };
        let tasks = [tokio::spawn(run(stopped.clone())), tokio::spawn(run(stopped))];
        Tasks { stop, tasks }
    }

    /// Ends them at their next await.
    pub fn kill(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    /// Waits until both have ended.
    pub async fn gone(&mut self) {
        for task in &mut self.tasks {
            black_box(task.await.is_err());
        }
    }

    /// Asks them to stop.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}
