//! placeholder for the wire tests
fn main() {}
