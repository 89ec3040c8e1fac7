//! The management API: resources, rules and the price catalogue.

pub mod catalogue;
