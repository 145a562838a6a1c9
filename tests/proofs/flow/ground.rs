//! What a flow stands on: memory, or a disk that fails and is opened again.

use super::trouble::Trouble;
use seedpod::{
    base::{Rng, time, time::WallClock},
    net::Scope,
    queue::{Broker, Durable, Id, Memory, Publish, Topic, TopicOptions},
    testing::disk::Platter,
};
use std::{sync::Arc, time::Duration};

pub(super) const POWER_CUT: &str = "power cut";
pub(super) const SYNC_FAILED: &str = "sync failed";
pub(super) const DISK_FULL: &str = "disk full";
pub(super) const TORN: &str = "torn tail";

const BALLAST: &str = "ballast";

/// Memory, or a disk.
pub(super) struct Ground {
    disk: Option<Platter>,
    /// What it was told to do wrong.
    fault: Option<&'static str>,
}

impl Ground {
    pub(super) fn memory() -> Ground {
        Ground { disk: None, fault: None }
    }

    pub(super) fn disk() -> Ground {
        Ground { disk: Some(Platter::new()), fault: None }
    }

    pub(super) fn is_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// The broker on what is there.
    pub(super) async fn broker(&self) -> Arc<dyn Broker> {
        let Some(platter) = &self.disk else { return Arc::new(Memory::new()) };
        let opened = Durable::on(Arc::new(platter.clone())).clock(WallClock::ambient()).opened().await;
        let broker = opened.unwrap_or_else(|error| panic!("it does not open: {}", error.chain()));
        broker.declare(&Topic::new(BALLAST), TopicOptions::new().subscription("nobody")).await.unwrap();
        Arc::new(broker)
    }

    /// Has the disk go wrong, and waits until that has closed the broker; or it does not go wrong, for nothing is written.
    pub(super) async fn strike(&mut self, broker: &Trouble, aside: &Scope, rng: &mut Rng) {
        let Some(platter) = &self.disk else { return };
        let fault = *rng.choose(&[POWER_CUT, SYNC_FAILED, DISK_FULL]).unwrap();
        match fault {
            POWER_CUT => platter.cut_after(1 + rng.below(60)),
            SYNC_FAILED => platter.fail_sync_after(1 + rng.below(8)),
            _ => {
                platter.room(0);
                let (current, large) = (broker.current(), Publish::new(BALLAST, Id::of("x"), vec![0_u8; 8 << 20]));
                drop(aside.spawn(async move { current.publish([large].into_iter().collect()).await.map(drop) }));
            }
        }
        self.fault = Some(fault);
        for _ in 0..100 {
            time::sleep(Duration::from_millis(5)).await;
            if broker.current().inspect(&Topic::new(BALLAST)).await.is_err() {
                return broker.closed(fault);
            }
        }
        if fault == POWER_CUT {
            platter.cut();
            return broker.closed(fault);
        }
        self.fault = None;
        platter.room(usize::MAX);
        platter.fail_sync_after(u64::MAX / 2);
    }

    /// The broker on what is left of the disk, once all that stood on it is gone.
    pub(super) async fn recover(&mut self, broker: &Trouble, rng: &mut Rng) -> Arc<dyn Broker> {
        let (Some(fault), Some(platter)) = (self.fault.take(), &self.disk) else { return self.broker().await };
        if platter.unsynced() > 0 {
            broker.closed(TORN);
        }
        platter.cut();
        let process_alone = fault != POWER_CUT && rng.chance(0.5);
        let left = if process_alone { Platter::holding(platter.bytes()) } else { platter.after_power_cut(rng) };
        self.disk = Some(left);
        self.broker().await
    }

    /// The broker as whoever comes later finds it: of a disk, what is on it.
    pub(super) async fn left(&mut self, broker: &Trouble) -> Arc<dyn Broker> {
        let Some(platter) = &self.disk else { return broker.current() };
        let bytes = platter.bytes();
        platter.cut();
        self.disk = Some(Platter::holding(bytes));
        self.broker().await
    }
}
