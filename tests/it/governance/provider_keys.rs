//! Provider keys: sealed before they are stored, opened only by a gateway.

use odock_events::seal::{PublicKey, associated_data};
use odock_tests::{
    Stack, Tenant,
    client::say,
    tenant::{DEMO_KEY, id, token_pricing, unique},
};
use serde_json::{Value, json};

#[tokio::test]
async fn line_039_a_wrapped_provider_key_works_and_no_store_ever_sees_its_text()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let public = tenant.admin.read("/encryption-key").await?;
    assert_eq!(public["alg"], "RSA-OAEP-256");
    let envelope = seal(&public, &tenant, DEMO_KEY)?;
    let body =
        json!({ "provider_id": tenant.provider_id, "name": "wrapped", "envelope": envelope });
    let made = tenant
        .admin
        .create(&tenant.path("/provider-keys"), &body)
        .await?;
    assert!(
        made.get("envelope").is_none() && made.get("value").is_none(),
        "{made}"
    );
    use_key(&tenant, &id(&made)?).await?;
    let key = tenant.key().await?;
    stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;

    let plain = unique("sk-plain-provider-secret");
    let body = json!({ "provider_id": tenant.provider_id, "name": "plain", "value": plain });
    let made = tenant
        .admin
        .create(&tenant.path("/provider-keys"), &body)
        .await?;
    assert!(!made.to_string().contains(&plain), "{made}");
    let rows: Vec<(String,)> = sqlx::query_as("SELECT envelope FROM sealed_secret")
        .fetch_all(&stack.postgres)
        .await?;
    assert!(!rows.is_empty() && rows.iter().all(|(envelope,)| !envelope.contains(&plain)));
    Ok(())
}

#[tokio::test]
async fn line_040_an_envelope_of_another_key_or_a_broken_one_is_a_clean_error() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let other = stack.tenant().await?;
    let public = tenant.admin.read("/encryption-key").await?;
    let good = seal(&public, &tenant, DEMO_KEY)?;
    let path = tenant.path("/provider-keys");
    for (member, value) in [
        ("keyId", json!("another")),
        ("v", json!(2)),
        ("alg", json!("none")),
        ("iv", json!("!!!")),
        ("wrappedKey", json!("")),
    ] {
        let mut broken = good.clone();
        broken[member] = value;
        let body = json!({ "provider_id": tenant.provider_id, "name": member, "envelope": broken });
        tenant
            .admin
            .post(&path, &body)
            .await?
            .refused(422, "validation_failed")?;
    }
    let both = json!({ "provider_id": tenant.provider_id, "name": "both", "envelope": good, "value": "x" });
    assert_eq!(tenant.admin.post(&path, &both).await?.status, 422);
    let neither = json!({ "provider_id": tenant.provider_id, "name": "neither" });
    assert_eq!(tenant.admin.post(&path, &neither).await?.status, 422);

    // Sealed for another tenant: it is stored, and no gateway opens it for this one.
    let foreign = json!({ "provider_id": tenant.provider_id, "name": "foreign", "envelope": seal(&public, &other, DEMO_KEY)? });
    let made = tenant.admin.create(&path, &foreign).await?;
    use_key(&tenant, &id(&made)?).await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    gateway
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .refused(400, "provider_api_key_not_configured")?;
    let metrics = gateway.get("/metrics").await?.text();
    let counted = "gateway_errors_total{code=\"provider_api_key_not_configured\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(counted));
    assert!(
        count.is_some_and(|count| count != "0"),
        "no metric of keys that cannot be opened:\n{metrics}"
    );
    Ok(())
}

#[tokio::test]
async fn line_041_a_revoked_provider_key_is_refused_on_every_gateway() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let path = tenant.path(&format!(
        "/provider-keys/{}/revoke?wait=all",
        tenant.provider_key_id
    ));
    let revoked = tenant.admin.act(&path).await?.expect(200)?;
    assert_eq!(revoked["revoked"], true);
    for gateway in stack.gateways() {
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .refused(403, "provider_api_key_revoked")?;
    }
    Ok(())
}

#[tokio::test]
async fn line_042_a_changed_provider_key_is_used_by_the_next_call() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("second", "demo-fast", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    gateway
        .chat(&key.secret, &say("second", "hi"))
        .await?
        .expect(200)?;
    let wrong =
        json!({ "provider_id": tenant.provider_id, "name": "wrong", "value": "not-the-demo-key" });
    let wrong = id(&tenant
        .admin
        .create(&tenant.path("/provider-keys"), &wrong)
        .await?)?;
    let path = tenant.path(&format!("/models/{}", tenant.model_id("second")?));
    tenant
        .admin
        .change(&path, &json!({ "provider_key_id": wrong }))
        .await?;
    gateway
        .chat(&key.secret, &say("second", "hi"))
        .await?
        .refused(502, "upstream_error")?;
    tenant
        .admin
        .change(&path, &json!({ "provider_key_id": tenant.provider_key_id }))
        .await?;
    gateway
        .chat(&key.secret, &say("second", "hi"))
        .await?
        .expect(200)?;
    Ok(())
}

/// As a browser does it.
fn seal(public: &Value, tenant: &Tenant, secret: &str) -> anyhow::Result<Value> {
    let public = PublicKey::from_pem(public["public_key_pem"].as_str().unwrap_or_default())?;
    let data = associated_data(tenant.organisation_id.parse()?, tenant.provider_id.parse()?);
    Ok(serde_json::from_str(
        &public.seal(secret, &data)?.to_json(),
    )?)
}

/// Points `demo-fast` at a provider key, and waits for every gateway.
async fn use_key(tenant: &Tenant, provider_key_id: &str) -> anyhow::Result<()> {
    let path = tenant.path(&format!("/models/{}", tenant.model_id("demo-fast")?));
    tenant
        .admin
        .change(&path, &json!({ "provider_key_id": provider_key_id }))
        .await?;
    Ok(())
}
