//! Placeholder until its subject lands.
fn main() {}
