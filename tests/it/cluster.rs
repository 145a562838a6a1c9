//! The cluster from outside.

mod scenario;
mod schedule;
