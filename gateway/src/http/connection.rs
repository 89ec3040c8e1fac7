//! What one client connection knows while it lives, shared by its socket guard and the calls on it; and the caps on
//! how many connections there are, in all and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use super::{framing::Violation, unread::Unread};

pub struct Connection {
    pub peer: SocketAddr,
    violation: AtomicU8,
    active: AtomicUsize,
    begun: AtomicUsize,
    /// Answers over HTTP/2.
    pub(crate) unread: Unread,
}

impl Connection {
    pub(crate) fn new(peer: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            peer,
            violation: AtomicU8::new(0),
            active: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            unread: Unread::new(),
        })
    }

    /// What the bytes on this connection did wrong, if anything. Checked by every call before it does anything.
    pub(crate) fn violation(&self) -> Option<Violation> {
        Violation::from_number(self.violation.load(Ordering::Relaxed))
    }

    pub(crate) fn set_violation(&self, violation: Violation) {
        self.violation.store(violation as u8, Ordering::Relaxed);
    }

    /// Calls whose answer is not yet out: a connection with one is not idle.
    pub(crate) fn active_calls(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Calls that there were.
    pub(crate) fn begun_calls(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    pub(crate) fn begin_call(self: &Arc<Self>) -> ActiveCall {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
        ActiveCall(Arc::clone(self))
    }
}

/// Counts one call as active until it is dropped.
pub struct ActiveCall(Arc<Connection>);

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionCaps {
    pub total: usize,
    pub per_address: usize,
}

/// The open connections. Locked once when one begins and once when it ends.
pub(crate) struct OpenConnections {
    caps: ConnectionCaps,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl OpenConnections {
    pub(crate) fn new(caps: ConnectionCaps) -> Arc<Self> {
        Arc::new(Self {
            caps,
            counts: Mutex::default(),
        })
    }

    /// A place for one more, given back when it is dropped. `None` when a cap is reached.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = canonical(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= self.caps.total {
            return None;
        }
        let from_here = counts.by_address.entry(address).or_default();
        if *from_here >= self.caps.per_address {
            return None;
        }
        *from_here += 1;
        counts.total += 1;
        Some(Place {
            connections: Arc::clone(self),
            address,
        })
    }

    #[cfg(test)]
    pub(crate) fn total(&self) -> usize {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .total
    }
}

pub(crate) struct Place {
    connections: Arc<OpenConnections>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .connections
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(from_here) = counts.by_address.get_mut(&self.address) {
            *from_here -= 1;
            if *from_here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// One IPv6 customer has a /64; an IPv4 address written as IPv6 is that IPv4 address.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_hold_in_all_and_per_address_and_places_come_back() {
        let open = OpenConnections::new(ConnectionCaps {
            total: 3,
            per_address: 2,
        });
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let other: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let first = open.admit(one).unwrap();
        let _second = open.admit(mapped).unwrap();
        assert!(open.admit(one).is_none());
        let _third = open.admit(other).unwrap();
        assert!(open.admit(neighbour).is_none(), "three in all");
        drop(first);
        assert_eq!(open.total(), 2);
        assert!(open.admit(neighbour).is_some());
    }
}
