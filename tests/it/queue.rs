//! Queues: the broker in memory keeps every promise, and the pump settles as it says.

use seedpod::{base::Seed, queue::Memory, testing};

#[tokio::test(start_paused = true)]
async fn memory_keeps_every_promise() {
    testing::broker::all(&Memory::new()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_every_promise_in_a_simulation_too() {
    let _simulation = Seed::new(1).simulate();
    testing::broker::all(&Memory::new()).await.unwrap();
}
