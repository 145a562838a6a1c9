//! The cluster from outside.

mod control;
mod determinism;
mod edges;
mod expose;
mod life;
mod objects;
mod scenario;
mod schedule;
mod start;
mod traffic;
mod world;
