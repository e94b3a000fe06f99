//! Peitho.
fn main() {}
