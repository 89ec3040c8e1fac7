//! The policy envelope that organisations, teams, keys and models carry: who may call from where, how often, how much.
//! `admin` refuses what does not read; a gateway reads it once, when its snapshot is built.
//!
//! Absent means without a limit, 0 refuses everything. A limit is a whole number, or `{"limit": 5, "shadow": true}`: a
//! shadowed limit is counted and told of, and denies nothing. `"shadow": true` beside `ip` and `ratelimit` shadows all.

use std::net::IpAddr;

mod network;
mod read;

pub use self::{
    network::{Network, ParseNetworkError},
    read::Fault,
};
use crate::payload::JsonObject;

/// A policy that holds in itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub ip: IpRules,
    pub requests_per_second: Option<Limit>,
    pub requests_per_minute: Option<Limit>,
    /// Most calls at once: a bucket of this size that fills again at `per_second`, else at `per_minute`, else whole in
    /// a second.
    pub burst: Option<Limit>,
    pub tokens_per_minute: Option<Limit>,
    /// Most calls under way.
    pub concurrency: Option<Limit>,
    /// A slot ends then, even if its call goes on.
    pub lease_ttl_seconds: Option<u64>,
    pub max_request_bytes: Option<Limit>,
    /// The most output tokens that a call may ask for.
    pub max_tokens: Option<Limit>,
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub amount: u64,
    /// Counted and told of, never enforced.
    pub shadow: bool,
}

/// From where calls may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpRules {
    /// Empty: from everywhere.
    pub allowlist: Vec<Network>,
    /// Wins over the allowlist.
    pub blocklist: Vec<Network>,
    pub shadow: bool,
}

impl Policy {
    /// Reads an envelope, or says everything that is wrong with it, each by a JSON pointer into it.
    pub fn read(envelope: &JsonObject) -> Result<Self, Vec<Fault>> {
        read::policy(envelope)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many calls a second the bucket of `burst` takes in again, as calls and the seconds they take.
    #[must_use]
    pub fn refill(&self) -> Option<(u64, u64)> {
        let burst = self.burst?;
        let per_second = self.requests_per_second.map(|limit| (limit.amount, 1));
        let per_minute = self.requests_per_minute.map(|limit| (limit.amount, 60));
        Some(per_second.or(per_minute).unwrap_or((burst.amount, 1)))
    }
}

impl IpRules {
    #[must_use]
    pub fn allow(&self, address: IpAddr) -> bool {
        let among = |networks: &[Network]| networks.iter().any(|network| network.has(address));
        !among(&self.blocklist) && (self.allowlist.is_empty() || among(&self.allowlist))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allowlist.is_empty() && self.blocklist.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(envelope: &serde_json::Value) -> Result<Policy, Vec<Fault>> {
        Policy::read(envelope.as_object().unwrap())
    }

    #[test]
    fn line_058_the_whole_envelope_reads_and_what_is_absent_is_unlimited() {
        assert!(read(&json!({})).unwrap().is_empty());
        assert!(
            read(&json!({ "ratelimit": { "requests": {} }, "ip": {} }))
                .unwrap()
                .is_empty()
        );
        let policy = read(&json!({
            "ip": { "allowlist": ["10.0.0.0/8", "2001:db8::/32"], "blocklist": ["10.1.2.3"] },
            "ratelimit": {
                "requests": { "per_second": 5, "per_minute": 100, "burst": 10 },
                "tokens": { "per_minute": 20000 },
                "concurrency": { "max": 4, "lease_ttl_seconds": 30 },
                "payload": { "max_request_bytes": 65536, "max_tokens": 4096 },
            },
        }))
        .unwrap();
        let limit = |amount| {
            Some(Limit {
                amount,
                shadow: false,
            })
        };
        assert_eq!(policy.requests_per_second, limit(5));
        assert_eq!(policy.requests_per_minute, limit(100));
        assert_eq!(policy.burst, limit(10));
        assert_eq!(policy.tokens_per_minute, limit(20_000));
        assert_eq!(policy.concurrency, limit(4));
        assert_eq!(policy.lease_ttl_seconds, Some(30));
        assert_eq!(policy.max_request_bytes, limit(65_536));
        assert_eq!(policy.max_tokens, limit(4_096));
        assert_eq!(policy.refill(), Some((5, 1)));
        assert_eq!(policy.ip.allowlist.len(), 2);
    }

    #[test]
    fn line_058_what_does_not_hold_is_named_by_its_place() {
        for (envelope, pointer) in [
            (json!({ "routing": {} }), "/routing"),
            (json!({ "ip": [] }), "/ip"),
            (json!({ "ip": { "allow": [] } }), "/ip/allow"),
            (
                json!({ "ip": { "allowlist": "10.0.0.1" } }),
                "/ip/allowlist",
            ),
            (
                json!({ "ip": { "blocklist": ["10.0.0.1", "300.0.0.1"] } }),
                "/ip/blocklist/1",
            ),
            (
                json!({ "ip": { "blocklist": ["10.0.0.0/33"] } }),
                "/ip/blocklist/0",
            ),
            (
                json!({ "ratelimit": { "requests": { "per_second": -1 } } }),
                "/ratelimit/requests/per_second",
            ),
            (
                json!({ "ratelimit": { "requests": { "per_second": 1.5 } } }),
                "/ratelimit/requests/per_second",
            ),
            (
                json!({ "ratelimit": { "requests": { "per_hour": 1 } } }),
                "/ratelimit/requests/per_hour",
            ),
            (
                json!({ "ratelimit": { "tokens": { "per_minute": "9" } } }),
                "/ratelimit/tokens/per_minute",
            ),
            (
                json!({ "ratelimit": { "tokens": { "per_minute": { "limit": 9, "a/b": 1 } } } }),
                "/ratelimit/tokens/per_minute/a~1b",
            ),
            (
                json!({ "ratelimit": { "tokens": { "per_minute": { "shadow": true } } } }),
                "/ratelimit/tokens/per_minute/limit",
            ),
            (
                json!({ "ratelimit": { "concurrency": { "max": 1, "lease_ttl_seconds": 0 } } }),
                "/ratelimit/concurrency/lease_ttl_seconds",
            ),
            (
                json!({ "ratelimit": { "concurrency": { "lease_ttl_seconds": 5 } } }),
                "/ratelimit/concurrency/max",
            ),
            (
                json!({ "ratelimit": { "payload": 1 } }),
                "/ratelimit/payload",
            ),
            (
                json!({ "ratelimit": { "payload": { "max_tokens": 1_000_000_000_000_001_u64 } } }),
                "/ratelimit/payload/max_tokens",
            ),
            (json!({ "shadow": "yes" }), "/shadow"),
        ] {
            let faults = read(&envelope).unwrap_err();
            assert_eq!(faults[0].pointer, pointer, "{envelope}");
            assert_eq!(faults.len(), 1, "{envelope}");
        }
        let several = json!({ "ip": { "x": 1 }, "ratelimit": { "requests": { "burst": -2 } } });
        assert_eq!(read(&several).unwrap_err().len(), 2);
    }

    #[test]
    fn line_069_one_limit_or_all_of_them_are_shadowed() {
        let one = read(&json!({
            "ratelimit": { "requests": { "per_second": { "limit": 5, "shadow": true }, "per_minute": 9 } },
        }))
        .unwrap();
        assert!(one.requests_per_second.unwrap().shadow);
        assert!(!one.requests_per_minute.unwrap().shadow);
        let all = read(&json!({
            "shadow": true,
            "ip": { "blocklist": ["10.0.0.1"] },
            "ratelimit": { "requests": { "per_second": 5 }, "payload": { "max_tokens": 1 } },
        }))
        .unwrap();
        assert!(all.requests_per_second.unwrap().shadow && all.max_tokens.unwrap().shadow);
        assert!(all.ip.shadow);
        let ip = read(&json!({ "ip": { "blocklist": ["10.0.0.1"], "shadow": true } })).unwrap();
        assert!(ip.ip.shadow);
    }

    #[test]
    fn line_061_a_blocklist_wins_and_an_allowlist_admits_only_its_own() {
        let policy = read(&json!({ "ip": {
            "allowlist": ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"],
            "blocklist": ["10.66.0.0/16", "2001:db8:bad::/48"],
        } }))
        .unwrap();
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.66.1.1", false),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::1", true),
            ("2001:db8:bad::1", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(
                policy.ip.allow(address.parse().unwrap()),
                allowed,
                "{address}"
            );
        }
        assert!(IpRules::default().allow("203.0.113.1".parse().unwrap()));
    }
}
