//! The cluster from outside.

mod control;
mod determinism;
mod expose;
mod life;
mod objects;
mod scenario;
mod schedule;
mod start;
mod traffic;
mod world;
