//! How much one address may send before anybody looks at its key: what the global policy allows all callers together,
//! with room for two windows that meet. It never refuses what the exact gates would take from that address, and keeps
//! one address' nonsense from costing everybody's time. In this process alone.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use odock_events::policy::Limit;

use super::{
    denial::LimitDenial,
    scope::{LimitKind, ScopeId, ScopePolicy},
};
use crate::error::GatewayError;

/// One bucket (GCRA) for each address and limit.
pub(crate) struct AddressMeter {
    began: Instant,
    meters: Vec<Meter>,
}

struct Meter {
    limit: LimitKind,
    value: u64,
    /// Microseconds that one call takes of the bucket.
    each: u64,
    /// Microseconds that the bucket holds.
    room: u64,
    /// When each address' bucket is empty again, in microseconds since the start.
    empty_at: Mutex<HashMap<IpAddr, u64>>,
}

/// An address that sends too much.
pub(crate) struct Refusal {
    pub(crate) limit: LimitKind,
    value: u64,
}

impl AddressMeter {
    /// `None`: the policy has no limit of requests.
    pub(crate) fn of(global: &ScopePolicy) -> Option<Self> {
        let policy = global.policy.as_ref()?;
        let limits = [
            (LimitKind::PerSecond, policy.requests_per_second, 1),
            (LimitKind::PerMinute, policy.requests_per_minute, 60),
        ];
        let meters: Vec<Meter> = limits
            .into_iter()
            .filter_map(|(kind, limit, seconds)| Meter::new(kind, limit?, seconds))
            .collect();
        (!meters.is_empty()).then(|| Self {
            began: Instant::now(),
            meters,
        })
    }

    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let customer = crate::http::connection::canonical(address);
        let now = self.now();
        let full = self.meters.iter().find(|meter| !meter.takes(customer, now));
        full.map_or(Ok(()), |meter| {
            Err(Refusal {
                limit: meter.limit,
                value: meter.value,
            })
        })
    }

    /// Drops the addresses that have been quiet.
    pub(crate) fn forget(&self) {
        let now = self.now();
        for meter in &self.meters {
            meter.lock().retain(|_, empty_at| *empty_at > now);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Meter {
    /// A limit of 0 is the exact gate's affair: it refuses everybody.
    fn new(limit: LimitKind, of: Limit, seconds: u64) -> Option<Self> {
        let each = (seconds * 1_000_000).checked_div(of.amount)?.max(1);
        (!of.shadow).then(|| Self {
            limit,
            value: of.amount,
            each,
            room: each.saturating_mul(of.amount).saturating_mul(2),
            empty_at: Mutex::default(),
        })
    }

    fn takes(&self, customer: IpAddr, now: u64) -> bool {
        let mut all = self.lock();
        if all.len() >= MOST_ADDRESSES && !all.contains_key(&customer) {
            all.retain(|_, empty_at| *empty_at > now);
            // A flood from everywhere is nothing that this can tell apart.
            if all.len() >= MOST_ADDRESSES {
                return true;
            }
        }
        let empty_at = all.entry(customer).or_insert(now);
        let next = (*empty_at).max(now).saturating_add(self.each);
        if next > now.saturating_add(self.room) {
            return false;
        }
        *empty_at = next;
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.empty_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    pub(crate) fn into_error(self, scope: &ScopeId) -> GatewayError {
        let message = format!(
            "the limit `{}` for all callers is {}, and this address alone sends more",
            self.limit.name(),
            self.value
        );
        let denial = LimitDenial {
            scope: scope.shown(),
            limit: self.limit.name(),
            limit_value: Some(self.value),
            retry_after: Some(1),
            quota: None,
        };
        GatewayError::limited(self.limit.code(), message, denial)
    }
}

const MOST_ADDRESSES: usize = 100_000;

#[cfg(test)]
mod tests {
    use odock_events::policy::Policy;

    use super::*;

    fn meter(limit: Limit) -> Option<AddressMeter> {
        let policy = Policy {
            requests_per_minute: Some(limit),
            ..Policy::default()
        };
        AddressMeter::of(&ScopePolicy {
            scope: ScopeId::GLOBAL,
            policy: Some(policy),
        })
    }

    #[test]
    fn line_068_one_address_that_sends_more_than_everybody_may_is_stopped_before_its_key() {
        let limit = Limit {
            amount: 5,
            shadow: false,
        };
        let meter = meter(limit).unwrap();
        let (loud, quiet) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let passed = (0..20).filter(|_| meter.check(loud).is_ok()).count();
        assert_eq!(passed, 10, "two windows that meet");
        assert!(meter.check(quiet).is_ok());
        meter.forget();
        assert!(meter.check(loud).is_err(), "it has not been quiet");
    }

    #[test]
    fn a_shadowed_limit_and_one_of_zero_are_not_metered_here() {
        let shadow = Limit {
            amount: 5,
            shadow: true,
        };
        assert!(meter(shadow).is_none());
        let zero = Limit {
            amount: 0,
            shadow: false,
        };
        assert!(meter(zero).is_none());
    }
}
