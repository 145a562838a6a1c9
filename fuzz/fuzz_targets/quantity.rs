//! Quantities, parsed and printed.
#![no_main]

#[allow(dead_code, reason = "each target holds one subject to its properties")]
#[path = "../../tests/proofs/malformed/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|text: &str| drop(properties::quantity(text)));
