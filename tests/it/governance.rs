//! Keys, grants, providers and prices, from the change to what the next call sees.

mod catalogue;
mod explanation;
mod keys;
mod ownership;
mod pricing;
mod provider_keys;
mod providers;
mod receipts;
