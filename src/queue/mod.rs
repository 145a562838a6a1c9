//! Floor 3: work that is stored once its submission returns, and redelivered until it is settled.
//!
//! It may use `base`, `net`, `layer`, `disk` and `pod`, and refuses to know what a cluster or a flow is: whoever hands out work
//! needs neither.
//!
//! - [`Queue`]: a typed queue of jobs: [`Submit`] for clients, [`Work`] for workers — start here
//! - [`Job`], [`Unique`], [`Task`], [`Schema`]: on which terms one is submitted, what a worker has in hand, versions
//! - [`Cron`], [`Schedule`]: jobs at the ticks of a clock, from every process and once all the same
//! - [`Limit`]: how many are begun in a time or worked on at once, by key, in a process or in all
//! - [`Batched`], [`BatchBy`]: jobs that are worked on together, each with an end of its own
//! - [`Trace`]: the trace that a message is part of, from whoever submits it to what its handler makes
//! - [`Broker`]: topics of messages, leased and settled; the seam behind which memory, disk or a server stands
//! - [`Topic`], [`Subscription`], [`TopicOptions`]: where messages go, and what happens at the bound
//! - [`Publish`], [`Payload`], [`Id`]: what is published; bytes or values by reference; ids that say where it came from
//! - [`Delivery`], [`Lease`], [`Step`]: what a lease hands out, and all that is done with it at once
//! - [`Memory`]: the broker in this process, which defines what the others do
//! - `Durable`, with feature `durable`: the broker on disk, in one file
//! - `Amqp`, with feature `amqp`: the broker on RabbitMQ
//! - `Nats`, with feature `nats`: the broker on NATS JetStream
//! - [`Brokers`]: which broker a container gets, by configuration
//! - [`consume`]: the pump: deliveries of a subscription to a [`tower::Service`]; [`Control`], [`Done`], [`Quarantine`]
//! - [`Caller`], [`respond`]: request and reply over two topics, as a [`tower::Service`]
//! - [`DeadLetter`], [`Redrive`]: what was given up and why, and how it goes back
//! - [`launch`], [`Launcher`]: a container per message, here a pod
//! - [`ambassador`]: the pump beside a worker container that only sees HTTP or a file
//! - [`scale`]: workers that scale themselves by arrivals, service time and backlog; what is measured of a queue
//!
//! # Brokers
//!
//! What each does natively, by which other means, or refuses, as its [`Guarantees`] say:
#![doc = include_str!("brokers.md")]

mod ambassador;
#[cfg(feature = "amqp")]
mod amqp;
mod batched;
mod broker;
mod codec;
mod consume;
mod context;
mod cron;
mod dead_letter;
#[cfg(feature = "durable")]
mod durable;
mod guarantees;
mod id;
mod jobs;
mod launcher;
mod limit;
mod lines;
mod memory;
mod message;
#[cfg(feature = "nats")]
mod nats;
mod payload;
mod progress;
mod redrive;
mod reply;
mod results;
pub mod scale;
mod schemes;
mod step;
mod table;
mod topic;
mod trace;
#[cfg(any(feature = "nats", feature = "amqp"))]
mod wire;

#[cfg(feature = "http")]
pub use ambassador::ByHttp;
pub use ambassador::{Ambassador, ByFile, Hand, HandOver, ambassador};
#[cfg(feature = "amqp")]
pub use amqp::Amqp;
pub use batched::{BatchBy, Batched, Ends, Values, Weighed};
pub use broker::{Broker, BrokerExt, DEAD_LETTERS, Guarantees, Receipt, TopicStats, Want};
pub use codec::{Codec, Json, Postcard};
pub use consume::{Consume, Control, Done, Left, Message, Quarantine, QuarantineNote, Tally, consume};
pub use context::Brokers;
pub use cron::{Cron, Missed, Schedule};
pub use dead_letter::DeadLetter;
#[cfg(feature = "durable")]
pub use durable::Durable;
pub use id::Id;
pub use jobs::{
    Job, Need, Queue, QueueBuilder, Schema, Submit, Submitted, SubmittedAll, Taken, Task, Unique, Work, Worker,
};
pub use launcher::{Launcher, PerItem, PodLauncher, launch};
pub use limit::Limit;
pub use memory::Memory;
pub use message::{Attempts, Batch, Delivery, Headers, Lease, Publish};
#[cfg(feature = "nats")]
pub use nats::{Nats, NatsBuilder};
pub use payload::Payload;
pub use progress::Progress;
pub use redrive::{Redrive, Redriven};
pub use reply::{Caller, Respond, Responder, respond};
pub use results::Results;
pub use step::{Charge, Reject, Retry, StateWrite, Step};
pub use topic::{Bound, Subscription, Topic, TopicOptions};
pub use trace::Trace;

#[doc(no_inline)]
pub use crate::layer::{Gradient2, Rate};
use step::given_back;

#[cfg(feature = "flow")]
pub(crate) use consume::spawned;
#[cfg(feature = "flow")]
pub(crate) use redrive::FIRST_ID;
