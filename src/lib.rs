//! **Start in one process; grow to a cluster without changing the code.**
//!
//! Cloud-native patterns as a library, composed from four things: a [`tower::Service`](https://docs.rs/tower) answers, a
//! container runs until told to stop, a broker holds topics of messages, a store holds versioned state that can be watched.
//! Three pumps turn a source into calls: [`pod::serve`] (connections), [`queue::consume`] (deliveries) and
//! [`control::reconcile`] (changed keys).
//!
//! # The map
//!
//! A module uses only floors below its own; a test holds them to this table.
//!
//! | floor | module | what it is for |
//! | --- | --- | --- |
//! | 0 | [`base`] | names, labels, errors, time, chance, faults, locks |
//! | 0 | [`net`] | byte streams and addresses, in memory and over TCP; what dies together |
//! | 1 | [`layer`] | Service → Service: retry, deadline, breaker, hedge, limits, cache and the like |
//! | 1 | [`http`] | HTTP/1.1 and HTTP/2 over `net` |
//! | 1 | [`disk`] | records in one file, behind one commit thread |
//! | 2 | [`pod`] | what runs: containers, context, images, volumes, probes |
//! | 2 | [`store`] | versioned state that can be watched |
//! | 3 | [`serving`] | endpoints, the replicas behind them, shards and their maps, scatter/gather |
//! | 3 | [`queue`] | brokers, leases, workers |
//! | 3 | [`control`] | reconcile: changed keys to calls |
//! | 4 | [`flow`] | graphs of operators over topics |
//! | 4 | [`adapter`] | an application's metrics, logs, health and API, as all others have them |
//! | 5 | [`cluster`] | objects, scheduler, kubelet, controllers, services, DNS |
//! | beside | [`testing`] | probes, conformance suites, checkers for your own tests |
//!
//! # Where to start
//!
//! To put replicas in front of a service: [`serving::Replicas`]; where each key lives at one of them: [`serving::Shards`].
//! To hand out work and lose none: [`queue::Broker`] and [`queue::consume`]; where one piece of work leads to others:
//! [`flow::Flow`]. To run a system in a test:
//! [`cluster::Cluster`]. Each pattern has an example of its name, and
//! `cargo run --example boutique` runs them all together.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "adapter")]
pub mod adapter;
#[cfg(feature = "base")]
pub mod base;
#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "durable")]
pub mod disk;
#[cfg(feature = "flow")]
pub mod flow;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "layer")]
pub mod layer;
#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "pod")]
pub mod pod;
#[cfg(feature = "queue")]
pub mod queue;
#[cfg(feature = "serving")]
pub mod serving;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "base")]
pub use base::{BoxError, Error, Kind, Result};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
