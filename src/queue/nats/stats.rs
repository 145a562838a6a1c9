//! What a topic holds: the server counts messages; how many items they have, their subjects tell.

use super::{core::Core, link::Link, table::Station};
use crate::base::{Error, Kind, Result, time};
use crate::queue::{Topic, TopicStats};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// How many messages and how many items the stream holds, by its subjects, which end with the number of items.
pub(super) fn count(info: &Value) -> (u64, u64) {
    let subjects = info.pointer("/state/subjects").and_then(Value::as_object);
    subjects.into_iter().flatten().fold((0, 0), |(messages, items), (subject, count)| {
        let count = count.as_u64().unwrap_or(0);
        let each = subject.rsplit('.').next().and_then(|each| each.parse().ok()).unwrap_or(1_u64);
        (messages.saturating_add(count), items.saturating_add(count.saturating_mul(each)))
    })
}

/// What the server says of one consumer.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// Never delivered.
    pending: u64,
    /// Delivered, and not settled.
    unsettled: u64,
}

/// What this client knows of the subscription: the messages that it holds, or that went back by it and have not come
/// again; the items of those, ready, leased and due later.
#[derive(Clone, Copy, Debug, Default)]
struct Here {
    messages: u64,
    ready: usize,
    leased: usize,
    later: usize,
}

impl Here {
    fn of(station: &Station) -> Here {
        let now = time::now();
        let mut here = Here { messages: (station.held.len() + station.returned.len()) as u64, ..Here::default() };
        for (_, held) in &station.held {
            let (ready, leased, later) = held.parts.count();
            (here.ready, here.leased, here.later) = (here.ready + ready, here.leased + leased, here.later + later);
        }
        for (due, items) in station.returned.values() {
            *(if *due <= now { &mut here.ready } else { &mut here.later }) += items;
        }
        here
    }
}

/// Adds what one subscription holds, where a message has this many items on average.
fn add(stats: &mut TopicStats, counted: Counted, here: Here, mean: f64) {
    let items = |messages: u64| (messages as f64 * mean).round() as usize;
    stats.ready += items(counted.pending) + here.ready;
    stats.leased += here.leased + items(counted.unsettled.saturating_sub(here.messages));
    stats.delayed += here.later;
}

impl Core {
    pub(super) async fn inspect(self: &Arc<Self>, topic: &Topic) -> Result<TopicStats> {
        let known = self.known(topic).await?;
        let place = || self.at(format!("topic {topic}"));
        let link = self.link().await?;
        let stream = self.names().stream(topic.name());
        let question = json!({ "subjects_filter": self.names().subjects(topic.name()) });
        let info =
            match link.api(&format!("STREAM.INFO.{stream}"), &question).await.map_err(|error| error.at(place()))? {
                Ok(info) => info,
                Err(refusal) => {
                    self.forget(topic);
                    return Err(Error::new(Kind::NotFound, refusal.description).at(place()));
                }
            };
        let (messages, items) = count(&info);
        let mean = if messages == 0 { 1.0 } else { items as f64 / messages as f64 };
        let mut stats = TopicStats::default();
        let mut first_pending = u64::MAX;
        let mut offset = 0;
        loop {
            let page = link.must(&format!("CONSUMER.LIST.{stream}"), &json!({ "offset": offset })).await;
            let page = page.map_err(|error| error.at(place()))?;
            let consumers = page.get("consumers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for consumer in consumers {
                let number = |path| consumer.pointer(path).and_then(Value::as_u64).unwrap_or(0);
                let name = consumer.get("name").and_then(Value::as_str).unwrap_or_default();
                let counted = Counted { pending: number("/num_pending"), unsettled: number("/num_ack_pending") };
                let (here, rejected) = self.decide(|table| {
                    let own = |station: &&mut Station| station.stream == stream && station.consumer == name;
                    let station = table.stations.iter_mut().find(own);
                    station.map_or((Here::default(), 0), |station| {
                        if counted.unsettled < (station.held.len() + station.returned.len()) as u64 {
                            station.returned.clear(); // another has settled some, nobody tells which
                        }
                        (Here::of(station), station.rejected)
                    })
                });
                add(&mut stats, counted, here, mean);
                stats.rejected += rejected;
                if counted.pending > 0 {
                    first_pending = first_pending.min(number("/delivered/stream_seq") + 1);
                }
            }
            offset += consumers.len() as u64;
            if consumers.is_empty() || offset >= page.get("total").and_then(Value::as_u64).unwrap_or(0) {
                break;
            }
        }
        stats.stored = stats.ready + stats.leased + stats.delayed;
        if first_pending < u64::MAX {
            stats.oldest = self.age(link, &known.topic, first_pending).await;
        }
        Ok(stats)
    }

    /// How long ago the first message from this one on was stored, by the server's clock at storing and ours now.
    async fn age(&self, link: &Link, topic: &Topic, sequence: u64) -> Option<Duration> {
        let call = format!("STREAM.MSG.GET.{}", self.names().stream(topic.name()));
        let question = json!({ "seq": sequence, "next_by_subj": self.names().subjects(topic.name()) });
        let found = link.api(&call, &question).await.ok()?.ok()?;
        let stored = unix_millis_of(found.pointer("/message/time")?.as_str()?)?;
        let now = self.clock.unix_millis();
        Some(Duration::from_millis(now.saturating_sub(stored)))
    }
}

/// Milliseconds since 1970 of a time such as `2026-11-30T19:12:54.779505421Z`.
fn unix_millis_of(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // days by the calendar that begins in March, so that the leap day is a year's last
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_servers_write_them() {
        assert_eq!(unix_millis_of("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_millis_of("2026-11-30T19:12:54.779505421Z"), Some(1_796_065_974_779));
        assert_eq!(unix_millis_of("2024-02-29T12:00:00.5Z"), Some(1_709_208_000_500));
        for bad in ["", "2026", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00Z", "x-1-1T1:1:1Z"] {
            assert_eq!(unix_millis_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn items_by_subject() {
        let info = json!({ "state": { "subjects": { "seedpod.orders.1": 5, "seedpod.orders.64": 2, "seedpod.orders.x": 1 } } });
        assert_eq!((count(&info), count(&json!({}))), ((8, 134), (0, 0)));
    }

    #[test]
    fn what_is_here_is_known_to_the_item() {
        let mut stats = TopicStats::default();
        let here = Here { messages: 3, ready: 2, leased: 3, later: 1 };
        add(&mut stats, Counted { pending: 4, unsettled: 6 }, here, 2.0);
        assert_eq!((stats.ready, stats.leased, stats.delayed), (8 + 2, 3 + 6, 1));
        add(&mut stats, Counted::default(), Here::default(), 2.0);
        assert_eq!((stats.ready, stats.leased, stats.delayed), (10, 9, 1));
    }
}
