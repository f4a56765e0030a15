//! Measurements that have a budget.

pub mod image;
pub mod ram;
pub mod reads;
