//! The cluster from outside.

mod ambassador;
mod control;
mod determinism;
mod edges;
mod endpoints;
mod expose;
mod life;
mod objects;
mod scenario;
mod schedule;
mod shop;
mod start;
mod stateful;
mod traffic;
mod world;
