//! Malformed frames: seeded edits of good payloads, under right and wrong headers, are read or dead letters, and never
//! break who takes them.

use seedpod::{
    Error,
    base::{Rng, Seed},
    queue::{
        BrokerExt, Codec, DEAD_LETTERS, DeadLetter, Id, Json, Memory, Postcard, Publish, Queue, Schema, Want, Work,
    },
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    number: u64,
    lines: Vec<(String, u32)>,
    note: Option<String>,
}

fn order(rng: &mut Rng) -> Order {
    let lines = (0..rng.below(4)).map(|line| (format!("thing {line}"), rng.below(9) as u32)).collect();
    Order { number: rng.next_u64(), lines, note: rng.chance(0.5).then(|| "in haste".into()) }
}

/// One to three edits: a bit, a cut, a piece twice, a piece of noise.
fn edited(rng: &mut Rng, mut frame: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.below(4) {
        let at = rng.below(frame.len() as u64 + 1) as usize;
        match rng.below(4) {
            0 if at < frame.len() => frame[at] ^= 1 << rng.below(8),
            1 => frame.truncate(at),
            2 => {
                let piece = frame[at..].to_vec();
                frame.extend(piece);
            }
            _ => drop(frame.splice(at..at, (0..rng.below(9)).map(|_| rng.next_u64() as u8).collect::<Vec<_>>())),
        }
    }
    frame
}

async fn one<C: Codec<Order> + Default>(seed: u64, usual: &str) -> Result<bool, Error> {
    let mut rng = Seed::new(seed).fork("frames").rng();
    let schema = Schema::version(2).upcast::<u64, Json>(1, |number| Order { number, lines: Vec::new(), note: None });
    let builder = Queue::<Order>::builder(Arc::new(Memory::new()), "orders").codec(C::default()).schema(schema);
    let queue: Queue<Order, C> = builder.open().await?;
    let good = C::encode(&order(&mut rng))?.to_vec();
    let frame = edited(&mut rng, good);
    let version = *rng.choose(&["2", "2", "2", "2", "1", "3", "", "4294967296", "two"]).unwrap();
    let content = *rng.choose(&[usual, usual, usual, usual, "application/json", "text/plain", ""]).unwrap();
    let publish = Publish::new("orders", Id::of("x"), frame).header("schema-version", version);
    queue.broker().send(publish.header("content-type", content)).await?;
    let read = match queue.take().await? {
        Some(task) => {
            let again = C::encode(&task.value)?;
            assert_eq!(C::decode(&again)?, task.value, "what was read can be written and read again");
            task.complete(()).await?;
            true
        }
        None => {
            let dead = queue.dead_letters().subscription(DEAD_LETTERS);
            let letters = queue.broker().lease(&dead, Want::items(9).wait(Duration::ZERO)).await?;
            let reasons: Vec<_> = letters.iter().filter_map(|letter| DeadLetter::read(&letter.batch.headers)).collect();
            assert_eq!(reasons.len(), 1, "it is a dead letter, once");
            let named = format!("message {}: invalid: ", Id::of("x"));
            assert!(reasons[0].reason.starts_with(&named), "{}", reasons[0].reason);
            assert!(reasons[0].reason.len() < 500, "it says why in short: {}", reasons[0].reason);
            false
        }
    };
    assert_eq!(queue.inspect().await?.stored, 0);
    Ok(read)
}

#[test]
fn malformed_frames() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let only = number("SEEDPOD_SEED");
    let count = only.map_or_else(|| number("SEEDPOD_MALFORMED").unwrap_or(2000), |_| 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut read = 0;
    for seed in only.unwrap_or(0)..only.unwrap_or(0) + count {
        let run = async {
            let json = one::<Json>(seed, "application/json").await.unwrap();
            let postcard = one::<Postcard>(seed, "application/vnd.postcard").await.unwrap();
            u64::from(json) + u64::from(postcard)
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run)));
        read += outcome.unwrap_or_else(|panic| {
            eprintln!("again: SEEDPOD_SEED={seed} cargo test --test proofs malformed_frames");
            std::panic::resume_unwind(panic)
        });
    }
    println!("summary {} frames: {read} read, {} dead letters", 2 * count, 2 * count - read);
    if count >= 100 {
        assert!(read * 10 >= count && (2 * count - read) * 10 >= count, "{read} of {} were read", 2 * count);
    }
}
