//! Floor 5: a Kubernetes-shaped cluster in this process.
//!
//! It may use every floor below its own, and refuses to know the mesh: what is injected into pods comes through an
//! admission closure.
//!
//! - [`Cluster`]: put together, started, given manifests, watched, disturbed — start here
//! - [`object`]: Kubernetes' own JSON in parts, with typed views
//! - [`manifest`]: YAML in; objects with their defaults, or all mistakes at once, out
//! - [`schedule`]: which node a pod goes to, pure
//! - [`rollout`]: how a Deployment moves from one template to the next, pure
//! - [`service`]: addresses that stay while pods come and go
//!
//! Inside, `plane` holds what all parts share and the rules by which objects are written; `controllers` and `kubelet` are
//! [`reconcile`](crate::control::reconcile) pumps around the pure decisions, run as containers of one pod.
//!
//! # What is like Kubernetes
//!
//! | | acted on | not there |
//! | --- | --- | --- |
//! | pods | images, command, args, env (values, fields, resources, config maps, secrets), `envFrom`, ports, probes, hooks, init containers, sidecars, restarts, grace | ephemeral containers, host network |
//! | volumes | `emptyDir`, `configMap`, `secret`, with changes while the pod runs; claims of stateful sets, in memory | claims of other pods, host paths, storage classes |
//! | scheduling | requests, number of pods, node selector, taints, cordon, topology spread | preemption |
//! | Deployment, ReplicaSet | rolling update and recreate, proportional scaling, revisions, history, progress deadline, deletion cost | adoption of strays |
//! | StatefulSet | names, numbers and order, names in DNS, a volume for each pod that it finds again, rolling update from the highest number, `OnDelete`, `Parallel` | partitions, deletion of claims |
//! | Service | cluster addresses, headless, external names, named ports, `publishNotReadyAddresses`, p2c in the place of random | |
//! | names | `service.namespace.svc.cluster.local`, pods of headless services, pods by address, search lists | names outside of the cluster |
//! | nodes | cordon, drain; each is always ready; pods of one that was deleted are deleted after 40 s | node failure, eviction by taint |
//! | objects | owners and garbage, namespaces, generations, events counted and bounded | |
//!
//! Other kinds, and what is not there, are refused when they are applied. What is kept and not acted on stands in one
//! table, [`manifest::INERT`], and [`Cluster::apply`] warns of it.

mod apply;
mod available;
mod builder;
mod claims;
mod control_plane;
mod controllers;
mod demand;
mod drain;
mod expose;
mod furnish;
mod handle;
mod identity;
mod kubelet;
pub mod manifest;
pub mod object;
mod plane;
mod recorder;
mod reference;
pub mod rollout;
pub mod schedule;
pub mod service;

pub use apply::{Applied, Change};
pub use available::Available;
pub use builder::Builder;
pub use handle::Cluster;
