//! Floor 2: versioned state that can be watched.
//!
//! A [`Store`] holds entries under keys. Every commit gives the store its next revision, and every written entry bears
//! it, so that a writer can say which version it has seen and is refused where another came first. Who needs to know
//! what changes takes a [`Watch`]: everything that is there, marked, then every change in order; who is too slow gets
//! each changed key once instead of each step, and never a gap.
//!
//! Endpoints, configuration and cluster objects are rows of stores; nobody calls upward: one writes a row, and who cares
//! watches it.
//!
//! It may use `base`. It refuses to know what its values mean, and who reads or writes them.
//!
//! - [`store`](Store): the handle — commit, get, list, snapshot, watch; start here
//! - [`key`](Key): segments joined by `/`, and what a prefix is
//! - [`change`](Change): the words — [`Entry`], [`Write`], [`Expect`], [`Change`], [`Page`]
//! - [`watch`](Watch): the stream of batches
//! - [`builder`](Builder): its bounds
//! - `table`: the entries and the removals that are remembered (pure)
//! - `ring`: the latest changes of one watched prefix, and who has read how far (pure)
//!
//! ```
//! use seedpod::store::{Change, Start, Store, Write};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let store = Store::new();
//! store.put("pods/shop/cart", "pending").await?;
//!
//! let mut watch = store.watch("pods/shop/", Start);
//! assert!(matches!(&watch.next().await.unwrap()[..], [Change::Reset { entries, .. }] if entries.len() == 1));
//!
//! let cart = store.get("pods/shop/cart").unwrap();
//! store.commit(vec![Write::replace(&cart, "running")]).await?;
//! assert!(matches!(&watch.next().await.unwrap()[..], [Change::Put { old: Some("pending"), .. }]));
//!
//! // whoever has seen an older version is refused
//! let error = store.commit(vec![Write::replace(&cart, "failed")]).await.unwrap_err();
//! assert_eq!(error.to_string(), "pods/shop/cart: conflict: expected revision 1, revision 2 is there");
//! # Ok::<(), seedpod::Error>(()) }).unwrap();
//! ```

mod builder;
mod change;
mod key;
#[cfg(test)]
mod model;
mod ring;
#[expect(clippy::module_inception, reason = "the handle bears the module's name")]
mod store;
mod table;
mod watch;

pub use builder::Builder;
pub use change::{Change, Entry, Expect, Page, Since, Write};
pub use key::Key;
pub use store::{Stats, Store};
pub use table::Snapshot;
pub use watch::Watch;

pub use Since::{After, Start};
