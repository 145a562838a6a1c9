//! Logs of any application, as JSON lines.
//!
//! - [`LogAdapter`]: the container — start here
//! - [`Translator`]: the same without a container: bytes in, JSON lines out
//! - [`Format`]: plain, logfmt, access logs, syslog, JSON with other names, the first of several
//! - [`Level`]: how grave it is; [`LogCounts`]: what became of the lines
//!
//! It refuses to know where records go to from here: shipping them is another container's.

mod container;
mod format;
mod joining;
mod moment;
mod record;
mod tail;
mod translator;

pub use container::LogAdapter;
pub use format::Format;
pub use record::Level;
pub use translator::{LogCounts, Translator};
