//! The three tasks, each with a connection of its own and one transaction a batch. Every transaction locks in one
//! order: checkpoints (compare-and-set), rules, accounts sorted by id, the configuration's counter, the log's head
//! last; after it come only inserts and rows that no other task writes.

pub(crate) mod derived;
pub(crate) mod full;
pub(crate) mod grants;
pub(crate) mod management;
pub(crate) mod parked;
pub(crate) mod usage;
