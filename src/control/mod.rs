//! Floor 3: control loops.
//!
//! A controller looks at what is wanted and what is there, and does one step towards it, for one key at a time. What is
//! queued is the key, never the object: the handler reads the store again, so an old event does no harm, and a hundred
//! changes of one key while it is busy are one more call.
//!
//! ```text
//! store ──watch──▶ changed entries ──keys──▶ WorkQueue ──n workers──▶ Service<Key> ─┐
//!                                                ▲   Next::After, errors (back-off)  │
//!                                                └───────────────────────────────────┘
//! ```
//!
//! It may use `base`, `store` and `pod`. It refuses to know what the keys stand for.
//!
//! - [`reconcile`]: [`Reconcile`], the pump from changed keys to calls — start here
//! - [`work_queue`](WorkQueue): keys to be worked on, never twice at once, never lost
//! - `keys`: what the queue decides (pure)
//! - `source`: what a pump watches
//! - `worker`: one of those who call
//! - `container`: the pump as a container
//!
//! ```
//! use seedpod::control::{self, Next};
//! use seedpod::store::{Key, Store};
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! let store = Store::new();
//! let copy = tower::service_fn({
//!     let store = store.clone();
//!     move |key: Key| {
//!         let store = store.clone();
//!         async move {
//!             match store.get(&key) {
//!                 Some(wanted) => store.put(["copies", key.name()], wanted.value).await?,
//!                 None => store.remove(["copies", key.name()]).await?,
//!             };
//!             Ok::<_, seedpod::Error>(Next::Done)
//!         }
//!     }
//! });
//! let copies = control::reconcile(store.clone(), copy).prefix("originals/").concurrency(4);
//!
//! store.put("originals/a", 7).await?;
//! let a_while = tokio::time::sleep(std::time::Duration::from_secs(1));
//! copies.run_until(a_while).await?;
//! assert_eq!(store.get("copies/a").unwrap().value, 7);
//! # Ok::<(), seedpod::Error>(()) }).unwrap();
//! ```

mod container;
mod keys;
mod pump;
mod source;
mod work_queue;
mod worker;

pub use pump::{Next, Reconcile, Stats, reconcile};
pub use work_queue::{Builder, Job, WorkQueue};
