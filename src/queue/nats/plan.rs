//! What is asked of the server for a topic and a subscription, and whether it is what the server then has.

use super::names::Names;
use crate::base::{Error, Kind, Name, Result};
use crate::queue::{Bound, Topic, TopicOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The window in which the server knows the publishes of topics that do not dedup, so that one publish, tried again after
/// its confirmation was lost, is stored once. JetStream's default.
pub(super) const OWN_WINDOW: Duration = Duration::from_secs(120);
/// For how long a note stays on a message that is never heard of again.
const NOTES_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// The longest window and hold: what JetStream counts in nanoseconds must fit.
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// The longest that a lease holds: the server waits longer than that, and for no longer than it can count.
pub(super) const HOLD_MAX: Duration = Duration::from_secs(365 * 86_400 - 10);
/// The shortest window that servers take.
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);

/// How a topic was declared. It stands in the stream's description, which old servers keep, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declared {
    /// The version of this form.
    seedpod: u32,
    pub(super) capacity: u64,
    /// Whether the topic refuses at its bound; else publishers wait.
    refuse: bool,
    dead_letters: Option<String>,
    dedup_ms: Option<u64>,
    /// Declared only because another topic sends its dead letters here.
    pub(super) implied: bool,
    history_ms: Option<u64>,
}

impl Declared {
    /// These options, if JetStream can keep them.
    pub(super) fn of(topic: &Topic, options: &TopicOptions, implied: bool, history: Option<Duration>) -> Result<Self> {
        let invalid = |message: String| Err(Error::new(Kind::Invalid, message).at(format!("topic {topic}")));
        if options.dead_letters.as_ref() == Some(topic) {
            return invalid("its dead letters cannot go to itself".to_string());
        }
        if options.capacity == 0 {
            return invalid("its capacity is 0".to_string());
        }
        if let Some(window) = options.dedup
            && !(SHORTEST_WINDOW..=LONGEST).contains(&window)
        {
            return invalid(format!("nats remembers ids for 100 ms to 365 days, not for {window:?}"));
        }
        Ok(Declared {
            seedpod: 1,
            capacity: i64::try_from(options.capacity).unwrap_or(i64::MAX).unsigned_abs(),
            refuse: options.bound == Bound::Refuse,
            dead_letters: options.dead_letters.as_ref().map(ToString::to_string),
            dedup_ms: options.dedup.map(millis),
            implied,
            history_ms: history.map(millis),
        })
    }

    /// What a stream's description says; nothing where it is not one of ours.
    pub(super) fn read(config: &Value) -> Option<Declared> {
        let declared: Declared = serde_json::from_str(config.get("description")?.as_str()?).ok()?;
        (declared.seedpod == 1).then_some(declared)
    }

    pub(super) fn bound(&self) -> Bound {
        if self.refuse { Bound::Refuse } else { Bound::Wait }
    }

    pub(super) fn dead_letters(&self) -> Option<Topic> {
        self.dead_letters.as_deref().map(Topic::new)
    }

    pub(super) fn dedup(&self) -> Option<Duration> {
        self.dedup_ms.map(Duration::from_millis)
    }

    /// For how long the server knows a publish.
    pub(super) fn window(&self) -> Duration {
        self.dedup().unwrap_or(OWN_WINDOW)
    }

    pub(super) fn has_history(&self) -> bool {
        self.history_ms.is_some()
    }

    /// The same in all but why it is there.
    pub(super) fn agrees(&self, other: &Declared) -> bool {
        Declared { implied: other.implied, ..self.clone() } == *other
    }

    /// The stream that keeps it. Kept by interest, a message goes once every subscription has settled it, and one that
    /// no subscription is there for is not kept at all.
    pub(super) fn stream(&self, names: &Names, topic: &Name, replicas: usize) -> Value {
        let history = self.history_ms.map(|millis| nanos(Duration::from_millis(millis)));
        json!({
            "name": names.stream(topic),
            "description": serde_json::to_string(self).unwrap_or_default(),
            "subjects": [names.subjects(topic)],
            "retention": if history.is_some() { "limits" } else { "interest" },
            "storage": "file",
            "discard": "new",
            "max_msgs": self.capacity,
            "max_bytes": -1,
            "max_age": history.unwrap_or(0),
            "duplicate_window": nanos(self.window()),
            "num_replicas": replicas,
        })
    }
}

/// The consumer that is a subscription; what it does not settle within `wait` it gets again.
pub(super) fn consumer(name: &str, wait: Duration, from_the_start: bool) -> Value {
    json!({
        "durable_name": name,
        "deliver_policy": if from_the_start { "all" } else { "new" },
        "ack_policy": "explicit",
        "ack_wait": nanos(wait),
        "max_deliver": -1,
        "max_ack_pending": -1,
        "max_waiting": 16_384,
        "replay_policy": "instant",
    })
}

/// The stream of notes: the latest of each subject.
pub(super) fn notes(names: &Names, replicas: usize) -> Value {
    json!({
        "name": names.notes(),
        "subjects": [format!("{}.>", names.notes())],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_msgs_per_subject": 1,
        "max_age": nanos(NOTES_KEPT),
        "num_replicas": replicas,
    })
}

/// The bucket of the state, as the tools of NATS make one.
pub(super) fn bucket(names: &Names, replicas: usize) -> Value {
    let subjects = format!("$KV.{}.>", names.bucket().trim_start_matches("KV_"));
    json!({
        "name": names.bucket(),
        "subjects": [subjects],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "allow_rollup_hdrs": true,
        "deny_delete": true,
        "allow_direct": true,
        "num_replicas": replicas,
    })
}

/// The first field that the server has otherwise than asked: old servers leave out what they do not know, and say
/// nothing.
pub(super) fn differs(asked: &Value, has: &Value) -> Option<String> {
    let Some(asked) = asked.as_object() else { return (asked != has).then(|| format!("{has} instead of {asked}")) };
    asked.iter().find_map(|(field, asked)| match has.get(field) {
        Some(has) if has == asked => None,
        Some(has) => Some(format!("{field} is {has}, not {asked}")),
        None if *asked == json!(false) => None,
        None => Some(format!("it knows no {field}, asked for as {asked}")),
    })
}

pub(super) fn nanos(time: Duration) -> i64 {
    i64::try_from(time.min(LONGEST).as_nanos()).unwrap_or(i64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// How much longer the server waits than the lease holds: within it a late message on the wire does no harm, and pull
/// requests end.
pub(super) fn grace(hold: Duration) -> Duration {
    (hold / 4).clamp(Duration::from_secs(1), Duration::from_secs(10))
}

/// How long the server has to wait for leases that hold this long.
pub(super) fn wait_for(hold: Duration) -> Duration {
    hold.min(HOLD_MAX).saturating_add(grace(hold))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(options: TopicOptions) -> Result<Declared> {
        Declared::of(&"orders".into(), &options, false, None)
    }

    #[test]
    fn what_is_declared_reads_back() {
        let options = TopicOptions::new().capacity(10).bound(Bound::Refuse).dead_letters("dead").dedup(OWN_WINDOW);
        let declared = declared(options).unwrap();
        let config = declared.stream(&Names::new("shop").unwrap(), &"orders".into(), 1);
        let kept = concat!(
            r#"{"seedpod":1,"capacity":10,"refuse":true,"dead_letters":"dead","dedup_ms":120000,"#,
            r#""implied":false,"history_ms":null}"#
        );
        assert_eq!(config["description"], kept, "what streams out there have");
        assert_eq!(Declared::read(&config), Some(declared.clone()));
        assert_eq!((declared.bound(), declared.dead_letters()), (Bound::Refuse, Some("dead".into())));
        assert!(declared.agrees(&Declared { implied: true, ..declared.clone() }));
        assert!(!declared.agrees(&Declared { capacity: 11, ..declared.clone() }));
        assert_eq!(Declared::read(&json!({ "description": "orders of the shop" })), None);
        assert_eq!(Declared::read(&json!({})), None);
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for bad in [
            TopicOptions::new().capacity(0),
            TopicOptions::new().dead_letters("orders"),
            TopicOptions::new().dedup(Duration::from_millis(99)),
            TopicOptions::new().dedup(Duration::MAX),
        ] {
            let error = declared(bad).unwrap_err();
            assert_eq!((error.kind(), error.place()), (Kind::Invalid, Some("topic orders")));
        }
    }

    #[test]
    fn what_an_old_server_leaves_out_is_seen() {
        let asked = json!({ "max_msgs": 3, "allow_msg_schedules": true, "deny_delete": false });
        assert_eq!(differs(&asked, &json!({ "max_msgs": 3, "allow_msg_schedules": true })), None);
        let said = differs(&asked, &json!({ "max_msgs": 3 })).unwrap();
        assert_eq!(said, "it knows no allow_msg_schedules, asked for as true");
        let said = differs(&asked, &json!({ "max_msgs": 4, "allow_msg_schedules": true })).unwrap();
        assert_eq!(said, "max_msgs is 4, not 3");
    }

    #[test]
    fn the_server_waits_longer_than_the_lease_holds() {
        for hold in [0, 1, 200, 30_000, 3_600_000].map(Duration::from_millis) {
            assert!(wait_for(hold) >= hold + Duration::from_secs(1), "{hold:?}");
        }
        assert_eq!(wait_for(Duration::MAX), LONGEST);
    }
}
