//! Objects: Kubernetes' own JSON in parts, each its canonical text with a typed view parsed once on demand.
//!
//! It may use `base` and `store` alone, and refuses to know what becomes of an object: who schedules, runs or counts it.
//! An object keeps what it does not understand: fields without a view are read, stored, patched and written like the
//! others. A status update touches nothing but the status; pods of one template share one spec.
//!
//! - [`Object`]: read, view, edit, patch, write — start here
//! - [`Kind`]: the kinds there are, by name, plural and short name
//! - [`Json`]: a JSON tree in canonical order, with merge and diff
//! - [`Template`]: what pods are made from
//! - [`view`](View): the typed views, ours and partial: [`Metadata`], [`PodSpec`], [`PodStatus`], [`DeploymentSpec`] …
//! - [`Quantity`], [`IntOrString`], [`Timestamp`], [`Sensitive`]: values as Kubernetes writes them
//!
//! ```
//! use seedpod::cluster::object::{DeploymentSpec, Object};
//!
//! let cart = Object::read(r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart", "namespace": "shop"},
//!     "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "cart"}}, "ours": [1.0],
//!              "template": {"metadata": {"labels": {"app": "cart"}}, "spec": {"containers": [{"name": "main", "image": "shop/cart"}]}}}}"#)?;
//! let more = cart.edit::<DeploymentSpec>(|spec| spec.replicas = Some(3))?;
//! assert_eq!(more.view::<DeploymentSpec>()?.replicas, Some(3));
//! assert!(more.write(7).contains(r#""ours":[1.0]"#), "what has no view is kept");
//! assert_eq!(more.key().as_str(), "deployments/shop/cart");
//! # Ok::<(), seedpod::Error>(())
//! ```

mod base64;
mod edit;
mod int_or_string;
mod json;
mod kind;
mod part;
mod parts;
mod quantity;
mod template;
mod timestamp;
mod view;
mod whole;

pub use base64::Sensitive;
pub use int_or_string::IntOrString;
pub use json::{Json, Members};
pub use kind::Kind;
pub use parts::Object;
pub use quantity::Quantity;
pub use template::Template;
pub use timestamp::Timestamp;
pub use view::*;
