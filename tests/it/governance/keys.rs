//! The life of a key.

use std::time::Duration;

use odock_tests::{
    Stack,
    client::say,
    wait::{wait_for, wait_until},
};
use serde_json::{Value, json};

use crate::gateway::health::time_in;

#[tokio::test]
async fn line_028_revoke_stops_a_key_on_every_gateway_and_unrevoke_restores_it()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let path = tenant.path(&format!("/keys/{}", key.id));
    let revoked = tenant
        .admin
        .act(&format!("{path}/revoke?wait=all"))
        .await?
        .expect(200)?;
    assert_eq!(
        (&revoked["revoked"], &revoked["receipt"]["complete"]),
        (&json!(true), &json!(true))
    );
    for gateway in stack.gateways() {
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .refused(401, "api_key_revoked")?;
    }
    // Again: nothing new.
    let again = tenant
        .admin
        .act(&format!("{path}/revoke"))
        .await?
        .expect(200)?;
    assert_eq!(again["version"], revoked["version"]);
    tenant
        .admin
        .act(&format!("{path}/unrevoke?wait=all"))
        .await?
        .expect(200)?;
    for gateway in stack.gateways() {
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn line_029_rotate_keeps_all_but_the_secret() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 1_000_000_000).await?;
    let path = tenant.path(&format!("/keys/{}", key.id));
    let rotated = tenant
        .admin
        .post(&format!("{path}/rotate?wait=all"), &json!({}))
        .await?
        .expect(200)?;
    let secret = rotated["secret"].as_str().unwrap_or_default();
    assert!(secret.len() == 52 && secret != key.secret, "{rotated}");
    assert_eq!(
        (&rotated["id"], &rotated["rotation_count"]),
        (&json!(key.id), &json!(1))
    );
    for gateway in stack.gateways() {
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .refused(401, "unauthorized")?;
        let answer = gateway.chat(secret, &say("demo-fast", "hi")).await?;
        answer.expect(200)?;
        let record = tenant
            .usage(answer.header("x-odock-usage-id").unwrap_or_default())
            .await?;
        assert_eq!(
            (&record["key_id"], &record["budget_ids"]),
            (&json!(key.id), &json!([budget]))
        );
    }
    Ok(())
}

#[tokio::test]
async fn line_030_rotate_takes_no_expiry_or_a_future_one_on_an_expired_key_but_not_on_a_revoked_one()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let soon = time_in(Duration::from_millis(600))?;
    let key = tenant
        .key_with(&json!({ "type": "organisation", "expires_at": soon }))
        .await?;
    let path = tenant.path(&format!("/keys/{}", key.id));
    let rotate = async |body: Value| {
        tenant
            .admin
            .post(&format!("{path}/rotate?wait=all"), &body)
            .await
    };
    rotate(json!({ "expires_at": "2020-01-01T00:00:00Z" }))
        .await?
        .refused(422, "validation_failed")?;
    let gateway = stack.gateway(0)?;
    wait_until("the key expires", Duration::from_secs(5), async || {
        gateway
            .validate(&key.secret)
            .await?
            .refused(401, "api_key_expired")
    })
    .await?;
    let later = time_in(Duration::from_hours(1))?;
    let one = rotate(json!({ "expires_at": later })).await?.expect(200)?;
    assert_eq!(
        (&one["expires_at"], &one["rotation_count"]),
        (&json!(later), &json!(1))
    );
    gateway
        .validate(one["secret"].as_str().unwrap_or_default())
        .await?
        .expect(200)?;
    let two = rotate(json!({ "expires_at": null })).await?.expect(200)?;
    assert_eq!(
        (&two["expires_at"], &two["rotation_count"]),
        (&json!(null), &json!(2))
    );
    tenant
        .admin
        .act(&format!("{path}/revoke?wait=all"))
        .await?
        .expect(200)?;
    rotate(json!({})).await?.refused(409, "key_revoked")?;
    Ok(())
}

#[tokio::test]
async fn line_031_rotations_are_kept_with_masks_expiries_and_who() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let later = time_in(Duration::from_hours(1))?;
    let key = tenant
        .key_with(&json!({ "type": "organisation", "expires_at": later }))
        .await?;
    let path = tenant.path(&format!("/keys/{}", key.id));
    let before = tenant.admin.read(&path).await?;
    let rotate = json!({ "expires_at": null });
    tenant
        .admin
        .post(&format!("{path}/rotate"), &rotate)
        .await?
        .expect(200)?;
    let rotations = tenant.admin.list(&format!("{path}/rotations")).await?;
    assert_eq!(rotations.len(), 1, "{rotations:?}");
    let rotation = rotations.first().cloned().unwrap_or_default();
    let text = rotation.to_string();
    assert!(
        text.contains(before["key_preview"].as_str().unwrap_or("-")),
        "{text}"
    );
    assert!(
        text.contains(&later) && rotation["expires_at"].is_null(),
        "{text}"
    );
    assert!(
        rotation["rotated_at"].is_string() && !rotation["actor"].is_null(),
        "{text}"
    );
    assert!(!text.contains(&key.secret), "{text}");
    Ok(())
}

#[tokio::test]
async fn line_032_a_secret_is_returned_once_and_masked_ever_after() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let body = json!({ "type": "organisation", "name": "once" });
    let post = || {
        let request = tenant
            .admin
            .request(reqwest::Method::POST, &tenant.path("/keys"));
        tenant.admin.send(
            request
                .header(
                    "idempotency-key",
                    format!("once-{}", tenant.organisation_id),
                )
                .json(&body),
        )
    };
    let first = post().await?;
    let made = first.expect(201)?;
    let secret = made["secret"].as_str().unwrap_or_default();
    assert!(
        odock_events::secret_key::SecretKey::parse(secret.as_bytes()).is_some(),
        "{made}"
    );
    let preview = format!("{}…{}", &secret[..6], &secret[48..]);
    assert_eq!(made["key_preview"], preview);
    let replayed = post().await?;
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    let mut expected = made.clone();
    expected["secret"] = Value::Null;
    assert_eq!(replayed.expect(201)?, expected);

    let path = tenant.path(&format!(
        "/keys/{}",
        made["id"].as_str().unwrap_or_default()
    ));
    let pages = [
        tenant.admin.get(&path).await?,
        tenant.admin.get(&tenant.path("/keys")).await?,
        tenant.admin.get(&tenant.path("/events?limit=200")).await?,
        tenant.admin.act(&format!("{path}/revoke")).await?,
    ];
    for page in pages {
        assert_eq!(page.status, 200);
        assert!(!page.text().contains(secret) && !page.text().contains(&secret[3..46]));
    }
    Ok(())
}

#[tokio::test]
async fn line_034_a_key_without_a_grant_is_refused_whatever_its_type() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let user = json!({ "email": "grants@example.org" });
    let user = tenant.admin.create(&tenant.path("/users"), &user).await?;
    let team = tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "grants" }))
        .await?;
    let gateway = stack.gateway(0)?;
    for body in [
        json!({ "type": "organisation" }),
        json!({ "type": "team", "team_id": team["id"] }),
        json!({ "type": "user", "user_id": user["id"] }),
    ] {
        let key = tenant.key_without_grants(&body).await?;
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .refused(403, "model_not_allowed")?;
        tenant.grant(&key, "demo-fast").await?;
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
        gateway
            .chat(&key.secret, &say("demo-fee", "hi"))
            .await?
            .refused(403, "model_not_allowed")?;
    }
    Ok(())
}

#[tokio::test]
async fn line_035_grants_come_and_go_in_batches_and_count_at_once() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant
        .key_without_grants(&json!({ "type": "organisation" }))
        .await?;
    let first = tenant.grant(&key, "demo-slow").await?;
    let grant = |model: &str| -> anyhow::Result<Value> {
        Ok(
            json!({ "key_id": key.id, "target": { "type": "model", "id": tenant.model_id(model)? } }),
        )
    };
    let path = tenant.path("/grants/batch?wait=all");
    // All or nothing: one of them is there already.
    let twice = json!({ "create": [grant("demo-fast")?, grant("demo-slow")?] });
    let refused = tenant.admin.post(&path, &twice).await?;
    assert!(matches!(refused.status, 409 | 422), "{}", refused.text());
    let gateway = stack.gateway(1)?;
    gateway
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .refused(403, "model_not_allowed")?;

    let change = json!({ "create": [grant("demo-fast")?, grant("demo-fee")?], "delete": [first] });
    let changed = tenant.admin.post(&path, &change).await?;
    assert!(matches!(changed.status, 200 | 201), "{}", changed.text());
    for (model, status) in [("demo-fast", 200), ("demo-fee", 200), ("demo-slow", 403)] {
        for gateway in stack.gateways() {
            assert_eq!(
                gateway.chat(&key.secret, &say(model, "hi")).await?.status,
                status,
                "{model}"
            );
        }
    }
    let listed = tenant
        .admin
        .list(&tenant.path(&format!("/grants?key_id={}", key.id)))
        .await?;
    assert_eq!(listed.len(), 2);
    let many = json!({ "create": vec![grant("demo-slow")?; 501] });
    assert_eq!(tenant.admin.post(&path, &many).await?.status, 422);
    Ok(())
}

#[tokio::test]
async fn line_036_an_expiry_without_offset_is_read_in_the_keys_time_zone() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    for (zone, given, utc) in [
        (
            "Asia/Kathmandu",
            "2031-01-01T00:00:00",
            "2030-12-31T18:15:00.000000Z",
        ),
        (
            "America/New_York",
            "2031-07-01T12:00:00",
            "2031-07-01T16:00:00.000000Z",
        ),
        (
            "UTC",
            "2031-07-01T12:00:00+02:00",
            "2031-07-01T10:00:00.000000Z",
        ),
    ] {
        let body = json!({ "type": "organisation", "timezone": zone, "expires_at": given });
        let made = tenant.admin.create(&tenant.path("/keys"), &body).await?;
        assert_eq!(
            (&made["expires_at"], &made["timezone"]),
            (&json!(utc), &json!(zone))
        );
    }
    let unknown = json!({ "type": "organisation", "timezone": "Mars/Base" });
    tenant
        .admin
        .post(&tenant.path("/keys"), &unknown)
        .await?
        .refused(422, "validation_failed")?;
    let past = json!({ "type": "organisation", "expires_at": "2021-01-01T00:00:00" });
    tenant
        .admin
        .post(&tenant.path("/keys"), &past)
        .await?
        .refused(422, "validation_failed")?;
    Ok(())
}

#[tokio::test]
async fn line_026_an_expired_key_stops_on_time() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let ahead = Duration::from_millis(1200);
    let expires = std::time::Instant::now() + ahead;
    let body = json!({ "type": "organisation", "expires_at": time_in(ahead)? });
    let key = tenant.key_with(&body).await?;
    let gateway = stack.gateway(0)?;
    let mut served = 0;
    wait_for("the key stops", Duration::from_secs(5), async || {
        let before = std::time::Instant::now();
        let answer = gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await
            .ok()?;
        if answer.status == 200 {
            served += 1;
            assert!(before <= expires, "served after its end");
            return None;
        }
        assert!(
            std::time::Instant::now() >= expires,
            "refused before its end: {}",
            answer.text()
        );
        answer.refused(401, "api_key_expired").ok()
    })
    .await?;
    assert!(served > 0);
    Ok(())
}

#[tokio::test]
async fn line_027_a_new_key_works_right_after_it_was_refused_as_unknown() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    // A secret that a gateway has refused as unknown can only become known by a rotation back; so this shows the other
    // half: after thousands of unknown keys a new one is known at once.
    let gateway = stack.gateway(0)?;
    for _ in 0..200 {
        let unknown = odock_events::secret_key::SecretKey::generate();
        gateway
            .validate(unknown.expose())
            .await?
            .refused(401, "unauthorized")?;
    }
    let key = tenant.key().await?;
    gateway.validate(&key.secret).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn line_027_keys_beyond_the_cache_have_their_own_limits_and_stop_at_once()
-> anyhow::Result<()> {
    let stack = Stack::builder()
        .environment("KEY_CACHE_MAX", "2")
        .start()
        .await?;
    let tenant = stack.tenant().await?;
    let gateway = stack.gateway(0)?;
    let limited = json!({ "ratelimit": { "payload": { "max_tokens": 5 } } });
    let mut keys = Vec::new();
    for _ in 0..6 {
        let body = json!({ "type": "organisation", "name": "one of six", "policies": limited });
        keys.push(tenant.key_with(&body).await?);
    }
    let mut dear = say("demo-fast", "hi");
    dear["max_tokens"] = 6.into();
    let mut cheap = say("demo-fast", "hi");
    cheap["max_tokens"] = 5.into();
    // Twice, so that each is pushed out by the others in between.
    for key in keys.iter().chain(&keys) {
        let refused = gateway.chat(&key.secret, &dear).await?;
        refused.refused(429, "max_tokens_exceeded")?;
        gateway.chat(&key.secret, &cheap).await?.expect(200)?;
    }
    for key in &keys {
        let path = tenant.path(&format!("/keys/{}/revoke?wait=all", key.id));
        tenant.admin.act(&path).await?.expect(200)?;
        gateway
            .chat(&key.secret, &cheap)
            .await?
            .refused(401, "api_key_revoked")?;
    }
    Ok(())
}
