//! What a world stands on: memory, or a disk that fails and is opened again.

use super::{
    checks::Checks,
    world::{Agenda, World},
};
use crate::queue::{
    features::Features,
    record::Record,
    wire::Weather,
    witness::{Watch, Witness},
};
use seedpod::{
    base::{Rng, time::WallClock},
    net::Net,
    queue::{Broker, Durable, Memory, Publish, Topic},
    testing::disk::Platter,
};
use std::sync::Arc;

pub(super) const POWER_CUT: &str = "power cut";
pub(super) const SYNC_FAILED: &str = "sync failed";
pub(super) const DISK_FULL: &str = "disk full";
pub(super) const TORN: &str = "torn tail";

/// Memory, or a disk.
pub(super) struct Ground {
    disk: Option<Platter>,
    /// What it was told to do wrong.
    fault: Option<&'static str>,
}

/// What all brokers of a schedule share.
#[derive(Clone)]
pub(super) struct Estate {
    pub(super) record: Arc<Record>,
    pub(super) checks: Arc<Checks>,
    pub(super) net: Net,
    pub(super) agenda: Arc<Agenda>,
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

    /// A world on what is there.
    pub(super) async fn world(&self, estate: &Estate, rng: Rng) -> Arc<World> {
        let Estate { record, checks, net, agenda } = estate.clone();
        let watching = checks.clone();
        let watch: Watch = Box::new(move |model, step| watching.watch(model, step));
        let witness = match &self.disk {
            None => Witness::new(Arc::new(Memory::new()), record, watch),
            Some(platter) => {
                let opened = Durable::on(Arc::new(platter.clone())).clock(WallClock::ambient()).opened().await;
                let broker = opened.unwrap_or_else(|error| panic!("it does not open: {}", error.chain()));
                Witness::looking_on(Arc::new(broker), record, watch)
            }
        };
        let weather = Weather::new(Arc::new(witness), net.scope());
        World::new(weather, net.clone(), checks, agenda, rng)
    }

    /// Has the disk go wrong, now or soon.
    pub(super) async fn strike(&mut self, world: &World, rng: &mut Rng) {
        let Some(platter) = self.disk.as_ref().filter(|_| self.fault.is_none()) else { return };
        let fault = *rng.choose(&[POWER_CUT, SYNC_FAILED, DISK_FULL]).unwrap();
        match fault {
            POWER_CUT => platter.cut_after(1 + rng.below(60)),
            SYNC_FAILED => platter.fail_sync_after(1 + rng.below(8)),
            _ => {
                platter.room(0);
                let large = Publish::new("ballast", seedpod::queue::Id::of("x"), vec![0_u8; 8 << 20]);
                let broker = world.broker.clone();
                world.weather.calls.spawn(async move { broker.publish([large].into_iter().collect()).await.map(drop) });
            }
        }
        self.fault = Some(fault);
    }

    /// Whether its broker has closed.
    pub(super) async fn has_failed(&self, world: &World) -> bool {
        self.fault.is_some() && world.broker.inspect(&Topic::new("ballast")).await.is_err()
    }

    /// What has not struck yet strikes now, or never.
    pub(super) async fn now_or_never(&mut self, world: &World) {
        let (Some(fault), Some(platter)) = (self.fault, &self.disk) else { return };
        if self.has_failed(world).await {
            return;
        }
        if fault == POWER_CUT {
            return platter.cut();
        }
        self.fault = None;
        platter.room(usize::MAX);
        platter.fail_sync_after(u64::MAX / 2);
    }

    /// What is left of the disk, once all that stood on it is gone.
    pub(super) fn recover(&mut self, record: &Record, holds: Features, rng: &mut Rng) {
        let (Some(fault), Some(platter)) = (self.fault.take(), &self.disk) else { return };
        record.met(fault, holds);
        if platter.unsynced() > 0 {
            record.met(TORN, holds);
        }
        platter.cut();
        let process_alone = fault != POWER_CUT && rng.chance(0.5);
        let left = if process_alone { Platter::holding(platter.bytes()) } else { platter.after_power_cut(rng) };
        self.disk = Some(left);
    }
}
