//! The engine and the pattern.
