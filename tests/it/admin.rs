//! The admin API: CONTRACT.md 2 and 3, rule by rule.

mod lists;
mod resources;
mod rules;
mod usage;
