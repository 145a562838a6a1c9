//! Items from a producer's task to a consumer's through a bounded channel: nobody leases, nobody acknowledges.

use std::hint::black_box;

/// How many items the channel holds.
pub const CAPACITY: usize = 1024;

type Item = (u64, u64);

/// Through kanal's channel, the fastest of the asynchronous ones.
pub async fn kanal(count: u64) {
    let (sender, receiver) = kanal::bounded_async::<Item>(CAPACITY);
    let producer = tokio::spawn(async move {
        for number in 0..count {
            if sender.send((number, number)).await.is_err() {
                return;
            }
        }
    });
    let mut sum = 0;
    while let Ok((number, _)) = receiver.recv().await {
        sum ^= number;
    }
    black_box(sum);
    let _ = producer.await;
}

/// Through tokio's own.
pub async fn mpsc(count: u64) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Item>(CAPACITY);
    let producer = tokio::spawn(async move {
        for number in 0..count {
            if sender.send((number, number)).await.is_err() {
                return;
            }
        }
    });
    let mut sum = 0;
    while let Some((number, _)) = receiver.recv().await {
        sum ^= number;
    }
    black_box(sum);
    let _ = producer.await;
}
