//! Boutique.
#![allow(clippy::disallowed_macros, reason = "an example prints")]

mod arguments;
mod call;
mod form;
mod model;
mod page;
mod refusal;
mod services;
mod standins;
mod summary;
mod table;
mod telemetry;
mod traffic;

const HELP: &str = "";

fn main() {}
