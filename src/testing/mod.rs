//! Beside the floors: what users test their own services with. It may use all modules, and nothing uses it.
//!
//! - [`broker`]: the conformance suite of brokers, a function per promise

pub mod broker;
