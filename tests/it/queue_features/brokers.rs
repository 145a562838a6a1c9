//! What brokers guarantee, as the documentation shows it; and what a topic keeps for those who come later.

use super::*;
use seedpod::queue::{BrokerExt, Brokers, Id, Json, Payload};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// The columns of a table, by the name at their head.
fn columns(table: &str) -> BTreeMap<String, Vec<String>> {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let heads = rows.first().cloned().unwrap_or_default();
    heads
        .iter()
        .enumerate()
        .map(|(at, head)| (head.to_string(), rows.iter().skip(2).map(|row| row[at].to_string()).collect()))
        .collect()
}

/// `src/queue/brokers.md` says what the brokers say that this build has. `SEEDPOD_RECORD=1` writes their columns anew, and
/// leaves those of the others.
#[tokio::test]
async fn the_table_in_the_documentation_is_what_the_brokers_say() {
    let folder = std::env::temp_dir().join(format!("seedpod-table-{}", std::process::id()));
    let file = format!("file:{}", folder.display());
    let urls = ["memory:", &file, "nats://127.0.0.1:1", "amqp://127.0.0.1:1"];
    let there: Vec<_> =
        urls.iter().filter_map(|url| Brokers::default().get(url).ok()).map(|it| it.guarantees()).collect();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/queue/brokers.md");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut told = columns(&text);
    let ours = columns(&Guarantees::table(&there));
    if std::env::var_os("SEEDPOD_RECORD").is_some() {
        let rows = ours[""].clone();
        told.retain(|head, cells| !head.is_empty() && cells.len() == rows.len());
        told.extend(ours.clone().into_iter().filter(|(head, _)| !head.is_empty()));
        let known = ["memory", "file", "nats", "amqp"];
        let mut heads: Vec<_> = told.keys().cloned().collect();
        heads.sort_unstable_by_key(|head| known.iter().position(|name| name == head).unwrap_or(known.len()));
        let mut table = format!("| | {} |\n| --- |{}\n", heads.join(" | "), " --- |".repeat(heads.len()));
        for (at, row) in rows.iter().enumerate() {
            let cells: Vec<_> = heads.iter().map(|head| told[head][at].clone()).collect();
            table += &format!("| {row} | {} |\n", cells.join(" | "));
        }
        fs::write(&path, table).unwrap();
    }
    let told = columns(&fs::read_to_string(&path).unwrap());
    for (head, cells) in &ours {
        assert_eq!(told.get(head), Some(cells), "column {head:?} of {}", path.display());
    }
    for broker in &there {
        assert!(broker.emulated.iter().all(|(row, _)| Guarantees::is_row(row)), "{}", broker.name);
    }
    let _ = fs::remove_dir_all(folder);
}

async fn got(broker: &dyn Broker, subscription: &Subscription) -> Vec<u32> {
    let mut all = Vec::new();
    for delivery in broker.lease(subscription, Want::items(99).wait(Duration::ZERO)).await.unwrap() {
        all.extend((0..delivery.len()).map(|item| delivery.json::<u32>(item).unwrap()));
        broker.ack(delivery.lease).await.unwrap();
    }
    all
}

#[tokio::test]
async fn who_comes_late_sees_the_last_of_what_was_published() {
    let (broker, news) = (Memory::new(), Topic::new("news"));
    let options = || TopicOptions::new().history(4).capacity(6);
    broker.declare(&news, options().subscription("early")).await.unwrap();
    for number in 0..4 {
        broker.send(Publish::json(&news, Id::of(number.to_string()), number)).await.unwrap();
    }
    let early = news.subscription("early");
    assert_eq!(got(&broker, &early).await, [0, 1, 2, 3]);
    let batch = Payload::values(vec![4_u32, 5, 6], Json);
    broker.send(Publish::new(&news, Id::of("batch"), batch)).await.unwrap();
    broker.declare(&news, options().subscription("late")).await.unwrap();
    broker.declare(&news, options().subscription("late")).await.unwrap(); // again changes nothing
    let late = news.subscription("late");
    assert_eq!(broker.inspect(&news).await.unwrap().stored, 7, "three of the early one, four of the late one");
    assert_eq!(got(&broker, &late).await, [3, 4, 5, 6], "the last four, settled or not");
    assert_eq!(got(&broker, &early).await, [4, 5, 6]);
    assert_eq!(broker.inspect(&news).await.unwrap().stored, 0);
    broker.send(Publish::json(&news, Id::of("7"), 7_u32)).await.unwrap();
    assert_eq!((got(&broker, &early).await, got(&broker, &late).await), (vec![7], vec![7]));
}

#[tokio::test]
async fn a_broker_without_history_refuses_it() {
    let (poor, topic) = (Poor(Memory::new(), Some(60 * SECOND)), Topic::new("news"));
    for (options, lack) in [
        (TopicOptions::new().history(1), "keeps no history"),
        (TopicOptions::new().dedup(61 * SECOND), "remembers ids for 60 s at most, not for 61 s"),
    ] {
        let error = poor.declare(&topic, options).await.unwrap_err();
        assert_eq!(error.to_string(), format!("topic news: unsupported: the broker poor {lack}"));
    }
}
