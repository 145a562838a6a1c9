//! Floor 4: graphs of operators over topics, in which nothing is lost and nothing is counted twice.
//!
//! It may use `base`, `pod` and `queue`, and knows its broker by the trait alone.
//!
//! - [`Flow`]: describes a graph, and checks it — start here
//! - [`Stream`], [`Edge`]: items on their way; each operator is a method, and a file in `operator`
//! - [`Graph`], [`Run`], [`Watch`]: checked; on a broker; as it is now
//! - [`Input`], [`OpenBatch`], [`Output`]: who stands outside
//! - [`Inbox`], [`TopicInbox`]: a sink with a transaction of its own; [`outbox`](Stream::outbox): what is done outside
//! - [`Outlets`], [`OnOut`], [`Window`]: which shards are out, and what then; when a window closes
//! - [`Batch`], [`Joined`], [`OnFailed`]: what a join waits for, and what it says
//! - [`Reduce`]: what is merged; [`Count`], [`Sum`], [`Mean`], [`MinMax`], [`TopK`], [`Distinct`], [`Histogram`], [`Group`], [`Collect`]
//! - [`Tuning`]: how a stage runs
//! - [`MapReduce`], [`word_count`]: a coordinated batch over files, in one call, without a broker
//! - [`pipe`]: plain functions by themselves, without a broker

mod account;
mod cover;
mod draft;
mod draw;
mod ends;
mod fault;
mod fused;
mod graph;
mod join;
mod keeper;
mod lineage;
mod live;
mod map_reduce;
mod mark;
mod open;
mod operator;
mod part;
mod pipe;
mod reduce;
mod router;
mod run;
mod settle;
mod stream;
mod tuning;
mod turns;
mod watch;

pub use ends::{Input, Output};
pub use graph::{Flow, Graph};
pub use map_reduce::{Cut, MapReduce, Pairs, Progress, Reduced, Skipped, Words, counting, word_count, words};
pub use open::OpenBatch;
pub use operator::{
    Applied, Batch, Called, Explode, Filter, Inbox, Joined, Map, OnFailed, OnOut, Outlets, Port, TopicInbox, Window,
    port,
};
pub use pipe::{Chain, Emit, Item, Pipe, Whole, pipe};
pub use reduce::{Buckets, Collect, Count, Distinct, Group, Histogram, Mean, MinMax, Reduce, Sum, TopK};
pub use run::Run;
pub use stream::{Edge, Stream};
pub use tuning::Tuning;
pub use watch::{StageStats, Watch};
