//! The bare things: what an expert writes by hand for one case, a file each.

pub mod p2c;
