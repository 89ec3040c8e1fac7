//! Tests of the crate from outside: goldens and the page of events, the log in a seeded simulation, and the log on
//! real Redis servers.

#[cfg(test)]
mod document;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod redis_scripts;
#[cfg(test)]
mod simulation;
