//! Of a unique key one job is under way at a time, or one in a window; what was replaced is not begun.

use super::super::world::{HOLD, Places};
use crate::queue::{model::Model, record::Record};
use seedpod::{
    base::{sync::Lock, time},
    queue::{Id, Message, Step},
};
use std::collections::BTreeMap;

struct Claim {
    id: Id,
    at: time::Instant,
    /// In milliseconds of the wall clock.
    until: Option<u64>,
}

/// The last claim on each key.
#[derive(Default)]
pub(super) struct Claims(Lock<BTreeMap<String, Claim>>);

impl Claims {
    pub(super) fn claimed(&self, record: &Record, places: &Places, model: &Model, step: &Step) {
        for write in &step.state {
            let Some((key, value)) = write.key.as_str().strip_prefix("unique/jobs/").zip(write.value.as_ref()) else {
                continue;
            };
            let Some(claim) = read(value) else { continue };
            let before = self.0.lock().insert(key.to_string(), claim);
            let Some(before) = before else { continue };
            match before.until {
                Some(until) => {
                    let now = time::WallClock::ambient().unix_millis();
                    record.hold(until <= now, || format!("{key} is free {} ms early", until.saturating_sub(now)));
                }
                None if key.starts_with("replace") => {}
                None => {
                    let open = [&places.jobs, &places.quarantine].map(|place| model.is_open(place, before.id));
                    record.hold(open == [false, false], || format!("{key} is free, and {} is under way", before.id));
                }
            }
        }
    }

    /// A job with a key begins.
    pub(super) fn begins(&self, record: &Record, message: &Message, key: Option<&str>) {
        let Some(key) = key.filter(|key| key.starts_with("replace")) else { return };
        if message.headers().get("redriven-id").is_some() {
            return;
        }
        let claims = self.0.lock();
        let Some(newest) = claims.get(key) else { return };
        let long_since = newest.at + 3 * HOLD <= time::now();
        record.hold(newest.id == message.id() || !long_since, || {
            format!("{} of {key} begins, and {} has taken its place", message.id(), newest.id)
        });
    }
}

fn read(row: &[u8]) -> Option<Claim> {
    let value: serde_json::Value = serde_json::from_slice(row).ok()?;
    let id = value.get("id")?.as_str()?.parse().ok()?;
    Some(Claim { id, at: time::now(), until: value.get("until").and_then(serde_json::Value::as_u64) })
}
