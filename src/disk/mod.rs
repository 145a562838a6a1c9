//! Floor 1: one file and one commit thread: what is asked for at the same time is synced together.
//!
//! It may use `base`, and refuses to know what a message, a queue or a store is: it keeps records under keys, in the
//! order of the keys.
//!
//! - [`Storage`]: the bytes below: a file, or what a test puts in its place to cut the power — start here
//!
//! # Guarantees
//! A commit is on the disk, whole, when it has answered; one sync serves all that was asked for meanwhile. The file is
//! checked whole when it is opened, and each record again when it is read. Two processes cannot open one file.
//!
//! A sync that failed, an engine that panicked, a record that does not read back: from then on every call is an error
//! that says so, since what is on the disk is no longer known. Opening it again tells.
//!
//! # Not guaranteed
//! Anything of a disk that loses what it said it had synced.

mod commit;
mod engine;
mod file;
mod record;
mod rhythm;
mod storage;

pub(crate) use commit::{Answered, Group, Running, Waiting};
pub(crate) use engine::{Disk, Write};
pub(crate) use record::{Key, Reader, Writer};
pub(crate) use storage::Source;
pub use storage::Storage;
