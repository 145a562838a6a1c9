//! Beside the floors: what you test your own services with.
//!
//! It may use every module; none uses it. It refuses to know any test framework: a check is a function that returns what
//! it found, or fails with what it saw.
//!
//! - [`broker`]: the conformance suite of brokers, a function per promise
//! - `disk`, with feature `durable`: a disk that loses, fails, is full or changes bits when told to
//! - [`drops`]: does a call that is dropped leave anything behind?
//! - [`fleet`]: clients and servers in virtual time, your stack between them
//! - [`readiness`]: does a layer keep the rule of readiness?

pub mod broker;
#[cfg(feature = "durable")]
pub mod disk;
pub mod drops;
pub mod fleet;
pub mod readiness;
