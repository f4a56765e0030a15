//! Boots a broken PC from far away.

fn main() {}
