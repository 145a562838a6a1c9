//! Manifests: YAML or JSON in; objects with their defaults, or all mistakes at once, out.
//!
//! It may use `base` and [`object`](crate::cluster::object), and refuses to know what is in the store: what depends on
//! other objects (a name that is taken, a namespace that is missing) is not its business.
//!
//! - [`parse`]: a text of documents to objects — start here
//! - [`complete`]: the same for an object that is no text: its defaults, and what is wrong with it
//! - [`check_update`]: what must not change when an object is applied again
//! - [`warnings`], [`INERT`]: what a manifest says without effect
//! - [`Mistakes`], [`Mistake`]: what is wrong, for programs; the error's message lists the same for people
//! - [`limits`]: how large a text may be
//!
//! A text is read whole or not at all: one mistake in one document, and no object comes out.
//!
//! # What is checked, kept and refused
//!
//! | | |
//! | --- | --- |
//! | checked, and given defaults | every field that has a [view](crate::cluster::object::View) |
//! | kept as written, without effect, and [warned of](Warning) | every other field, and those of the table [`INERT`] |
//! | refused | kinds not in [`Kind::all`](crate::cluster::object::Kind::all); volumes other than `emptyDir`, `configMap`, `secret` (a stateful set's claim templates are not such volumes); `hostNetwork`, `hostPID`, `hostIPC` |
//!
//! Defaults are filled in for checked fields alone, so an object has fewer fields than a Kubernetes server would show.

mod check;
mod defaults;
mod inert;
pub mod limits;
mod mistake;
mod parse;
mod path;
mod types;
mod yaml;

pub use check::check_update;
pub use inert::{INERT, Inert, Of, Warning};
pub use mistake::{Mistake, Mistakes};
pub(super) use parse::{Read, read};
pub use parse::{complete, parse, warnings};
