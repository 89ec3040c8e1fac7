//! Health, readiness, metrics, and whether a key is good.

use std::time::Duration;

use odock_tests::{Stack, client::say, wait::wait_until};
use serde_json::json;

#[tokio::test]
async fn line_001_health_needs_neither_store() -> anyhow::Result<()> {
    let mut stack = Stack::builder().own_postgres().own_redis().start().await?;
    stack.stop_stores().await?;
    let health = stack.gateway(0)?.get("/v1/health").await?;
    assert_eq!(health.expect(200)?, json!({ "status": "ok" }));
    Ok(())
}

#[tokio::test]
async fn line_002_healthz_names_each_dependency_and_ready_is_for_balancers() -> anyhow::Result<()> {
    let mut stack = Stack::builder().own_postgres().own_redis().start().await?;
    let gateway = stack.gateway(0)?.clone();
    let well = gateway.get("/v1/healthz").await?.expect(200)?;
    for part in ["postgres", "redis", "journal"] {
        assert_eq!(well[part], "ok", "{well}");
    }
    assert!(
        well["config_version"]
            .as_u64()
            .is_some_and(|version| version > 0),
        "{well}"
    );
    assert!(well["config_age_ms"].is_u64(), "{well}");
    gateway.get("/v1/ready").await?.expect(200)?;

    stack.stop_stores().await?;
    let ill = wait_until("healthz sees it", Duration::from_secs(10), async || {
        let answer = gateway.get("/v1/healthz").await?.expect(503)?;
        anyhow::ensure!(
            answer["postgres"] == "down" && answer["redis"] == "down",
            "{answer}"
        );
        Ok(answer)
    })
    .await?;
    assert_eq!(ill["journal"], "ok");
    // It still serves: balancers keep it.
    gateway.get("/v1/ready").await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn line_003_metrics_are_prometheus_text() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;
    let metrics = stack.gateway(0)?.get("/metrics").await?;
    assert_eq!(metrics.status, 200);
    assert!(
        metrics
            .header("content-type")
            .unwrap_or_default()
            .starts_with("text/plain")
    );
    let text = metrics.text();
    assert!(
        text.contains("# TYPE gateway_errors_total counter"),
        "{text}"
    );
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    // Labels are bounded: no tenant, key or secret in them.
    for never in [&key.id, &key.secret, &tenant.organisation_id] {
        assert!(!text.contains(never.as_str()), "{never}");
    }
    Ok(())
}

#[tokio::test]
async fn line_003_metrics_are_absent_when_switched_off() -> anyhow::Result<()> {
    let stack = Stack::builder()
        .environment("OBSERVABILITY_PROMETHEUS_ENABLED", "false")
        .start()
        .await?;
    stack
        .gateway(0)?
        .get("/metrics")
        .await?
        .refused(404, "not_found")?;
    Ok(())
}

#[tokio::test]
async fn line_004_validate_tells_live_missing_expired_and_revoked_apart() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let gateway = stack.gateway(1)?;
    let key = tenant.key().await?;
    let live = gateway.validate(&key.secret).await?.expect(200)?;
    assert_eq!(
        live,
        json!({
            "valid": true, "key_id": key.id, "organisation_id": tenant.organisation_id, "type": "organisation",
            "team_id": null, "user_id": null, "expires_at": null,
        })
    );
    gateway
        .send(gateway.request(reqwest::Method::POST, "/v1/keys/validate"))
        .await?
        .refused(401, "unauthorized")?;

    tenant
        .admin
        .act(&tenant.path(&format!("/keys/{}/revoke?wait=all", key.id)))
        .await?
        .expect(200)?;
    gateway
        .validate(&key.secret)
        .await?
        .refused(401, "api_key_revoked")?;

    let soon = time_in(Duration::from_millis(1500))?;
    let short = tenant
        .key_with(&json!({ "type": "organisation", "expires_at": soon }))
        .await?;
    gateway.validate(&short.secret).await?.expect(200)?;
    wait_until("the key expires", Duration::from_secs(5), async || {
        gateway
            .validate(&short.secret)
            .await?
            .refused(401, "api_key_expired")
    })
    .await?;
    Ok(())
}

/// A time from now, as RFC 3339.
pub(crate) fn time_in(ahead: Duration) -> anyhow::Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let at = odock_events::clock::Timestamp(i64::try_from((now + ahead).as_micros())?);
    Ok(at.to_string())
}
