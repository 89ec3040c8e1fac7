//! Money and what else is counted, pure: what rules there are ([`rule`]), which windows they have ([`window`]), what follows from events for accounts and leases ([`books`], the projector's
//! side), when a lease is granted ([`grant`]), and how a gateway spends what it holds ([`purse`]). No clock, no I/O.

pub mod books;
pub mod grant;
pub mod purse;
pub mod rule;
pub mod window;
