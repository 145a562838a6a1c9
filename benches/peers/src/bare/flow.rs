//! Five steps of work over numbers: as one loop, and as five tasks with channels of whole batches between them.

use std::hint::black_box;
use tokio::sync::mpsc;

/// The first step of work.
#[inline]
pub fn increment(number: &u64) -> u64 {
    number + 1
}

/// The first criterion.
#[inline]
pub fn no_third(number: &u64) -> bool {
    number % 3 != 0
}

/// The second step of work.
#[inline]
pub fn triple(number: &u64) -> u64 {
    number * 3
}

/// The second criterion.
#[inline]
pub fn no_fifth(number: &u64) -> bool {
    number % 5 != 0
}

/// The last step of work.
#[inline]
pub fn flip(number: &u64) -> u64 {
    number ^ 0x55
}

/// All of it, item by item.
pub fn one_loop(count: u64) -> u64 {
    let mut sum = 0_u64;
    for number in 0..count {
        let number = increment(&black_box(number));
        if !no_third(&number) {
            continue;
        }
        let number = triple(&number);
        if no_fifth(&number) {
            sum = sum.wrapping_add(flip(&number));
        }
    }
    sum
}

type Step = fn(&mut Vec<u64>);

/// How many batches a channel holds.
const CHANNEL: usize = 16;

/// A task for each step, which works on each batch in place and passes it on. Nobody leases, nobody acknowledges.
pub async fn channels(count: u64, batch: u64) -> u64 {
    let (sender, mut receiver) = mpsc::channel::<Vec<u64>>(CHANNEL);
    tokio::spawn(async move {
        for first in (0..count).step_by(batch as usize) {
            if sender.send((first..(first + batch).min(count)).collect()).await.is_err() {
                return;
            }
        }
    });
    let steps: [Step; 5] = [
        |all| all.iter_mut().for_each(|number| *number = increment(number)),
        |all| all.retain(no_third),
        |all| all.iter_mut().for_each(|number| *number = triple(number)),
        |all| all.retain(no_fifth),
        |all| all.iter_mut().for_each(|number| *number = flip(number)),
    ];
    for step in steps {
        let (sender, next) = mpsc::channel(CHANNEL);
        let mut from = std::mem::replace(&mut receiver, next);
        tokio::spawn(async move {
            while let Some(mut batch) = from.recv().await {
                step(&mut batch);
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut sum = 0_u64;
    while let Some(batch) = receiver.recv().await {
        sum = batch.iter().fold(sum, |sum, number| sum.wrapping_add(*number));
    }
    sum
}
