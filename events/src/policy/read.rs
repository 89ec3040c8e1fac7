//! Reads a policy envelope member by member and collects what is wrong. Called by `Policy::read`.

use serde_json::Value;

use super::{IpRules, Limit, Network, Policy};
use crate::payload::JsonObject;

/// Something that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A JSON pointer into the envelope.
    pub pointer: String,
    pub message: String,
}

pub(super) fn policy(envelope: &JsonObject) -> Result<Policy, Vec<Fault>> {
    let mut reader = Reader::default();
    let policy = reader.envelope(envelope);
    if reader.faults.is_empty() {
        Ok(policy)
    } else {
        Err(reader.faults)
    }
}

#[derive(Default)]
struct Reader {
    faults: Vec<Fault>,
    /// The whole envelope is shadowed.
    shadow: bool,
}

impl Reader {
    fn envelope(&mut self, envelope: &JsonObject) -> Policy {
        self.shadow = self.flag(envelope, "");
        self.check_members(envelope, "", &["ip", "ratelimit", "shadow"]);
        let mut policy = Policy::default();
        if let Some(ip) = self.object(envelope, "", "ip") {
            policy.ip = self.ip(ip);
        }
        let Some(limits) = self.object(envelope, "", "ratelimit") else {
            return policy;
        };
        let at = "/ratelimit";
        self.check_members(
            limits,
            at,
            &["requests", "tokens", "concurrency", "payload"],
        );
        if let Some(group) = self.object(limits, at, "requests") {
            let at = "/ratelimit/requests";
            self.check_members(group, at, &["per_second", "per_minute", "burst"]);
            policy.requests_per_second = self.limit(group, at, "per_second");
            policy.requests_per_minute = self.limit(group, at, "per_minute");
            policy.burst = self.limit(group, at, "burst");
        }
        if let Some(group) = self.object(limits, at, "tokens") {
            let at = "/ratelimit/tokens";
            self.check_members(group, at, &["per_minute"]);
            policy.tokens_per_minute = self.limit(group, at, "per_minute");
        }
        if let Some(group) = self.object(limits, at, "concurrency") {
            self.concurrency(group, &mut policy);
        }
        if let Some(group) = self.object(limits, at, "payload") {
            let at = "/ratelimit/payload";
            self.check_members(group, at, &["max_request_bytes", "max_tokens"]);
            policy.max_request_bytes = self.limit(group, at, "max_request_bytes");
            policy.max_tokens = self.limit(group, at, "max_tokens");
        }
        policy
    }

    fn concurrency(&mut self, group: &JsonObject, policy: &mut Policy) {
        let at = "/ratelimit/concurrency";
        self.check_members(group, at, &["max", "lease_ttl_seconds"]);
        policy.concurrency = self.limit(group, at, "max");
        if let Some(value) = group.get("lease_ttl_seconds").filter(|v| !v.is_null()) {
            match value.as_u64() {
                Some(seconds @ 1..=LONGEST_LEASE) => policy.lease_ttl_seconds = Some(seconds),
                Some(_) | None => self.add(
                    format!("{at}/lease_ttl_seconds"),
                    format!("must be a whole number from 1 to {LONGEST_LEASE}"),
                ),
            }
            if !group.contains_key("max") {
                self.add(format!("{at}/max"), "is required beside lease_ttl_seconds");
            }
        }
    }

    fn ip(&mut self, rules: &JsonObject) -> IpRules {
        self.check_members(rules, "/ip", &["allowlist", "blocklist", "shadow"]);
        IpRules {
            allowlist: self.networks(rules, "allowlist"),
            blocklist: self.networks(rules, "blocklist"),
            shadow: self.flag(rules, "/ip") || self.shadow,
        }
        .or_nothing()
    }

    fn networks(&mut self, rules: &JsonObject, member: &str) -> Vec<Network> {
        let at = format!("/ip/{member}");
        let list = match rules.get(member) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(list)) if list.len() <= MOST_NETWORKS => list,
            Some(_) => {
                let message = format!("must be a list of at most {MOST_NETWORKS} addresses");
                self.add(at, message);
                return Vec::new();
            }
        };
        let mut networks = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            match value.as_str().map(str::parse::<Network>) {
                Some(Ok(network)) => networks.push(network),
                Some(Err(error)) => self.add(format!("{at}/{index}"), error.to_string()),
                None => self.add(format!("{at}/{index}"), "must be a string"),
            }
        }
        networks
    }

    fn limit(&mut self, group: &JsonObject, at: &str, member: &str) -> Option<Limit> {
        let at = format!("{at}/{member}");
        match group.get(member)? {
            Value::Null => None,
            Value::Object(limit) => {
                self.check_members(limit, &at, &["limit", "shadow"]);
                let shadow = self.flag(limit, &at) || self.shadow;
                let at = format!("{at}/limit");
                let amount = self.amount(limit.get("limit").unwrap_or(&Value::Null), at)?;
                Some(Limit { amount, shadow })
            }
            value => {
                let amount = self.amount(value, at)?;
                let shadow = self.shadow;
                Some(Limit { amount, shadow })
            }
        }
    }

    fn amount(&mut self, value: &Value, at: String) -> Option<u64> {
        let amount = value.as_u64().filter(|amount| *amount <= LARGEST_AMOUNT);
        if amount.is_none() {
            self.add(
                at,
                format!("must be a whole number from 0 to {LARGEST_AMOUNT}"),
            );
        }
        amount
    }

    fn object<'a>(
        &mut self,
        object: &'a JsonObject,
        at: &str,
        member: &str,
    ) -> Option<&'a JsonObject> {
        match object.get(member)? {
            Value::Null => None,
            Value::Object(object) => Some(object),
            _ => {
                self.add(format!("{at}/{member}"), "must be an object");
                None
            }
        }
    }

    fn flag(&mut self, object: &JsonObject, at: &str) -> bool {
        match object.get("shadow") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.add(format!("{at}/shadow"), "must be true or false");
                false
            }
        }
    }

    /// A member that nothing acts on would be a promise that is not kept.
    fn check_members(&mut self, object: &JsonObject, at: &str, known: &[&str]) {
        for member in object
            .keys()
            .filter(|member| !known.contains(&member.as_str()))
        {
            let escaped = member.replace('~', "~0").replace('/', "~1");
            self.add(format!("{at}/{escaped}"), "this policy does not work");
        }
    }

    fn add(&mut self, pointer: String, message: impl Into<String>) {
        let message = message.into();
        self.faults.push(Fault { pointer, message });
    }
}

impl IpRules {
    /// Shadowing no rule is no rule.
    fn or_nothing(self) -> Self {
        if self.is_empty() {
            Self::default()
        } else {
            self
        }
    }
}

/// What a counter in Redis still holds exactly, with room to add.
const LARGEST_AMOUNT: u64 = 1_000_000_000_000_000;
/// A day.
const LONGEST_LEASE: u64 = 86_400;
const MOST_NETWORKS: usize = 1_000;
