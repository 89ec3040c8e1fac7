//! Tests of the crate from outside: goldens and the page of events, the log in a seeded simulation, the log on real
//! Redis servers, and windows against another calendar.

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
#[cfg(test)]
mod windows;
