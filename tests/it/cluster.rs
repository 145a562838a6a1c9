//! The cluster from outside.

mod life;
mod scenario;
mod schedule;
mod world;
