//! Every scope counts on its own, all must pass, and a change is in force when its receipt says so.

use std::time::Duration;

use odock_events::clock::{Clock as _, SystemClock, Timestamp};
use odock_tests::{Stack, client::say, wait::wait_until};
use serde_json::json;

use super::{early_in_a_minute, limit_key, requests};

#[tokio::test]
async fn line_059_each_scope_counts_on_its_own_and_the_denial_names_it() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    for narrow in ["organisation", "team", "key", "model"] {
        let tenant = stack.tenant().await?;
        let team = tenant
            .admin
            .create(&tenant.path("/teams"), &json!({ "name": "red" }))
            .await?;
        let team_id = team["id"].as_str().unwrap_or_default().to_owned();
        let body = json!({ "type": "team", "team_id": team_id });
        let key = tenant.key_with(&body).await?;
        let scopes = [
            (
                "organisation",
                tenant.path(""),
                tenant.organisation_id.clone(),
            ),
            ("team", tenant.path(&format!("/teams/{team_id}")), team_id),
            (
                "key",
                tenant.path(&format!("/keys/{}", key.id)),
                key.id.clone(),
            ),
            (
                "model",
                tenant.path(&format!("/models/{}", tenant.model_id("demo-fast")?)),
                tenant.model_id("demo-fast")?.to_owned(),
            ),
        ];
        for (kind, path, _) in &scopes {
            let limit = if *kind == narrow { 2 } else { 50 };
            let policies = requests(json!({ "per_minute": limit }));
            let body = json!({ "policies": policies });
            tenant.admin.change(path, &body).await?;
        }
        early_in_a_minute(stack.redis().await?, Duration::from_secs(10)).await?;
        let hi = say("demo-fast", "hi");
        for turn in 0..2 {
            let gateway = stack.gateway(turn)?;
            gateway.chat(&key.secret, &hi).await?.expect(200)?;
        }
        let refused = stack.gateway(0)?.chat(&key.secret, &hi).await?;
        let denial = refused.refused(429, "rpm_exceeded")?;
        let id = scopes.iter().find(|(kind, ..)| *kind == narrow);
        let id = id.map(|(_, _, id)| id.as_str()).unwrap_or_default();
        let error = &denial["error"];
        assert_eq!(
            error["scope"],
            json!({ "type": narrow, "id": id }),
            "{error}"
        );
        assert_eq!(error["limit_value"], 2, "{error}");
        // Another model of the same key is none of the model's business.
        let other = stack.gateway(0)?;
        let other = other.chat(&key.secret, &say("demo-fee", "hi")).await?;
        let expected = if narrow == "model" { 200 } else { 429 };
        assert_eq!(other.status, expected, "{narrow}: {}", other.text());
    }
    Ok(())
}

#[tokio::test]
async fn line_060_a_narrower_scope_never_loosens_a_broader_one() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let body = json!({ "policies": requests(json!({ "per_minute": 1 })) });
    tenant.admin.change(&tenant.path(""), &body).await?;
    limit_key(&tenant, &key, requests(json!({ "per_minute": 1_000_000 }))).await?;
    early_in_a_minute(stack.redis().await?, Duration::from_secs(10)).await?;
    let (gateway, hi) = (stack.gateway(0)?, say("demo-fast", "hi"));
    gateway.chat(&key.secret, &hi).await?.expect(200)?;
    let denial = gateway
        .chat(&key.secret, &hi)
        .await?
        .refused(429, "rpm_exceeded")?;
    assert_eq!(denial["error"]["scope"]["type"], "organisation");
    Ok(())
}

#[tokio::test]
async fn line_071_a_policy_holds_when_its_receipt_is_complete_and_no_longer_when_it_is_gone()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let hi = say("demo-fast", "hi");
    for gateway in stack.gateways() {
        gateway.chat(&key.secret, &hi).await?.expect(200)?;
    }
    limit_key(&tenant, &key, requests(json!({ "per_minute": 0 }))).await?;
    for gateway in stack.gateways() {
        gateway
            .chat(&key.secret, &hi)
            .await?
            .refused(429, "rpm_exceeded")?;
    }
    limit_key(&tenant, &key, json!({})).await?;
    for gateway in stack.gateways() {
        gateway.chat(&key.secret, &hi).await?.expect(200)?;
    }
    let path = tenant.path(&format!("/keys/{}", key.id));
    let wrong = json!({ "policies": requests(json!({ "per_hour": 1 })) });
    let answer = tenant.admin.patch(&path, 3, &wrong).await?;
    let problem = answer.refused(422, "validation_failed")?;
    assert_eq!(
        problem["errors"][0]["field"],
        "/policies/ratelimit/requests/per_hour"
    );
    Ok(())
}

#[tokio::test]
async fn line_070_an_overlay_scales_the_limits_of_its_scope_until_it_ends() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    limit_key(&tenant, &key, requests(json!({ "per_minute": 2 }))).await?;
    early_in_a_minute(stack.redis().await?, Duration::from_secs(20)).await?;
    let scope = json!({ "type": "key", "id": key.id });
    let double = json!({ "scope": scope, "percent": 200, "ends_at": "2200-01-01T00:00:00Z" });
    let path = tenant.path("/overlays");
    let made = tenant
        .admin
        .create(&format!("{path}?wait=all"), &double)
        .await?;
    assert_eq!((&made["percent"], &made["scope"]), (&json!(200), &scope));
    let hi = say("demo-fast", "hi");
    for turn in 0..4 {
        let gateway = stack.gateway(turn % 2)?;
        gateway.chat(&key.secret, &hi).await?.expect(200)?;
    }
    let refused = stack.gateway(0)?.chat(&key.secret, &hi).await?;
    let denial = refused.refused(429, "rpm_exceeded")?;
    assert_eq!(denial["error"]["limit_value"], 4);
    let used = tenant
        .admin
        .get(&format!("{path}?scope_id={}", key.id))
        .await?;
    assert_eq!(used.expect(200)?["data"][0]["id"], made["id"]);

    // One that ends by itself: until then nothing is allowed.
    let other = tenant.key().await?;
    limit_key(&tenant, &other, requests(json!({ "per_minute": 50 }))).await?;
    let end = Timestamp(SystemClock.now().0 + 3_000_000).to_string();
    let scope = json!({ "type": "key", "id": other.id });
    let none = json!({ "scope": scope, "percent": 0, "ends_at": end });
    tenant
        .admin
        .create(&format!("{path}?wait=all"), &none)
        .await?;
    let (gateway, secret) = (stack.gateway(1)?, &other.secret);
    gateway
        .chat(secret, &hi)
        .await?
        .refused(429, "rpm_exceeded")?;
    wait_until("the overlay's end", Duration::from_secs(10), async || {
        gateway.chat(secret, &hi).await?.expect(200)
    })
    .await?;
    Ok(())
}
