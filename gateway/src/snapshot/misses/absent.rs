//! Secrets that no key has, remembered for a second: an unknown key that is tried again and again costs one query a second.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use odock_events::units::Sha256Digest;
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Absent {
    until: HashMap<Sha256Digest, Instant>,
    /// In the order in which they end.
    order: VecDeque<(Instant, Sha256Digest)>,
}

impl Absent {
    pub(super) fn has(&mut self, secret: &Sha256Digest, now: Instant) -> bool {
        self.expire(now);
        self.until.contains_key(secret)
    }

    pub(super) fn add(&mut self, secret: Sha256Digest, now: Instant) {
        self.expire(now);
        if self.order.len() >= MOST
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.until.remove(&oldest);
        }
        let until = now + KEPT;
        self.until.insert(secret, until);
        self.order.push_back((until, secret));
    }

    /// There is a key with it now.
    pub(super) fn forget(&mut self, secret: &Sha256Digest) {
        self.until.remove(secret);
    }

    fn expire(&mut self, now: Instant) {
        while let Some((until, secret)) = self.order.front().copied()
            && until <= now
        {
            self.order.pop_front();
            if self.until.get(&secret) == Some(&until) {
                self.until.remove(&secret);
            }
        }
    }
}

const KEPT: Duration = Duration::from_secs(1);
const MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(number: u32) -> Sha256Digest {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        Sha256Digest(bytes)
    }

    #[test]
    fn they_are_remembered_for_a_second_and_forgotten_when_they_come_to_be() {
        let mut absent = Absent::default();
        let now = Instant::now();
        absent.add(secret(1), now);
        absent.add(secret(2), now);
        absent.forget(&secret(2));
        assert!(absent.has(&secret(1), now) && !absent.has(&secret(2), now));
        absent.add(secret(2), now + KEPT / 2);
        assert!(!absent.has(&secret(1), now + KEPT));
        assert!(absent.has(&secret(2), now + KEPT));
        assert!(!absent.has(&secret(2), now + KEPT * 2));
        assert!(absent.until.is_empty() && absent.order.is_empty());
    }

    #[test]
    fn they_are_bounded() {
        let mut absent = Absent::default();
        let now = Instant::now();
        for number in 0..u32::try_from(MOST).unwrap() + 5 {
            absent.add(secret(number), now);
        }
        assert_eq!((absent.until.len(), absent.order.len()), (MOST, MOST));
        assert!(!absent.has(&secret(4), now) && absent.has(&secret(5), now));
    }
}
