//! PID 1 of stage one: network, verified download, hand-off.

fn main() {}
