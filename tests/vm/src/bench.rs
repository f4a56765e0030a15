//! Measurements that have a budget.

pub mod ram;
pub mod reads;
