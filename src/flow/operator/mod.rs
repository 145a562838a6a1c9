//! The operators, one a file: what it is, what it promises, how it routes or keeps.

mod call;
mod copier;
mod explode;
mod filter;
mod inbox;
mod join;
mod map;
mod merger;
mod outbox;
mod pair;
mod reduce;
mod sharder;
mod sink;
mod source;
mod splitter;
mod throttle;
mod window;

pub use call::Called;
pub(super) use call::Caller;
pub use explode::Explode;
pub use filter::Filter;
pub use inbox::{Applied, Inbox, TopicInbox};
pub use join::{Batch, Joined, OnFailed};
pub use map::Map;
pub use sharder::{OnOut, Outlets};
pub use splitter::{Port, port};
pub use window::Window;
