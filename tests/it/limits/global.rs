//! The global policy, and where callers come from.

use std::time::Duration;

use odock_tests::{Stack, client::say};
use serde_json::json;

use super::{early_in_a_minute, limit_key};

#[tokio::test]
async fn line_068_the_global_policy_counts_the_calls_of_all_tenants_together() -> anyhow::Result<()>
{
    let policy = json!({ "ratelimit": { "requests": { "per_minute": 4 } } });
    let stack = Stack::builder()
        .gateways(2)
        .environment("RATELIMIT_GLOBAL_POLICY", &policy.to_string())
        .start()
        .await?;
    let (one, other) = (stack.tenant().await?, stack.tenant().await?);
    let keys = [one.key().await?, other.key().await?];
    early_in_a_minute(stack.redis().await?, Duration::from_secs(10)).await?;
    let hi = say("demo-fast", "hi");
    for turn in 0..4 {
        let (gateway, key) = (stack.gateway(turn / 2)?, &keys[turn % 2]);
        gateway.chat(&key.secret, &hi).await?.expect(200)?;
    }
    for key in &keys {
        let refused = stack.gateway(0)?.chat(&key.secret, &hi).await?;
        let denial = refused.refused(429, "rpm_exceeded")?;
        let scope = json!({ "type": "global", "id": "global" });
        assert_eq!(denial["error"]["scope"], scope);
    }
    Ok(())
}

#[tokio::test]
async fn line_061_the_global_address_rules_hold_before_any_key_is_looked_at() -> anyhow::Result<()>
{
    let policy = json!({ "ip": { "blocklist": ["192.0.2.0/24", "2001:db8::/32"] } });
    let stack = Stack::builder()
        .environment("RATELIMIT_GLOBAL_POLICY", &policy.to_string())
        .environment("HTTP_TRUST_PROXY_HEADERS", "true")
        .environment("HTTP_TRUSTED_PROXY_CIDRS", "127.0.0.0/8")
        .start()
        .await?;
    let gateway = stack.gateway(0)?;
    let from = async |address: &str| {
        let request = gateway.chat_request("sk_no_such_key");
        let request = request.header("x-forwarded-for", address);
        gateway.send(request.json(&say("demo-fast", "hi"))).await
    };
    for blocked in ["192.0.2.7", "2001:db8::7", "203.0.113.1, 192.0.2.7"] {
        let refused = from(blocked).await?;
        let denial = refused.refused(429, "rate_limit_exceeded")?;
        assert_eq!(denial["error"]["limit"], "ip", "{denial}");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
    }
    from("203.0.113.1").await?.refused(401, "unauthorized")?;
    Ok(())
}

#[tokio::test]
async fn line_061_a_key_with_an_allowlist_is_good_for_nothing_from_elsewhere() -> anyhow::Result<()>
{
    let stack = Stack::builder()
        .environment("HTTP_TRUST_PROXY_HEADERS", "true")
        .environment("HTTP_TRUSTED_PROXY_CIDRS", "127.0.0.1")
        .start()
        .await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let rules =
        json!({ "ip": { "allowlist": ["198.51.100.0/24"], "blocklist": ["198.51.100.9"] } });
    limit_key(&tenant, &key, rules).await?;
    let gateway = stack.gateway(0)?;
    for (address, status) in [
        ("198.51.100.1", 200),
        ("198.51.100.9", 429),
        ("203.0.113.1", 429),
    ] {
        let request = gateway.chat_request(&key.secret);
        let request = request.header("x-forwarded-for", address);
        let answer = gateway.send(request.json(&say("demo-fast", "hi"))).await?;
        assert_eq!(answer.status, status, "{address}: {}", answer.text());
    }
    // Without the header the proxy itself calls, and its address is on no list.
    gateway
        .validate(&key.secret)
        .await?
        .refused(429, "rate_limit_exceeded")?;
    Ok(())
}

#[tokio::test]
async fn line_062_nobody_is_believed_unless_he_is_trusted() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let rules = json!({ "ip": { "allowlist": ["198.51.100.0/24"] } });
    limit_key(&tenant, &key, rules).await?;
    let gateway = stack.gateway(0)?;
    for name in ["x-forwarded-for", "forwarded", "x-real-ip"] {
        let value = if name == "forwarded" {
            "for=198.51.100.1"
        } else {
            "198.51.100.1"
        };
        let request = gateway.chat_request(&key.secret).header(name, value);
        let answer = gateway.send(request.json(&say("demo-fast", "hi"))).await?;
        answer.refused(429, "rate_limit_exceeded")?;
    }
    Ok(())
}
