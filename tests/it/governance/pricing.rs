//! Prices: of the model, of the catalogue, and what a change of them does not touch.

use odock_projector::check::mispriced;
use odock_tests::{Stack, client::say};
use serde_json::json;

#[tokio::test]
async fn line_047_a_price_change_counts_for_later_records_only() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let before = gateway.chat(&key.secret, &say("demo-fee", "hi")).await?;
    before.expect(200)?;
    let old = tenant
        .usage(before.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    assert_eq!(
        (&old["cost_nanos"], &old["price_version"]),
        (&json!(1_000_000), &json!(1))
    );

    let path = tenant.path(&format!("/models/{}", tenant.model_id("demo-fee")?));
    let changed = tenant
        .admin
        .change(&path, &json!({ "pricing": { "per_request_nanos": 5 } }))
        .await?;
    assert_eq!(
        (&changed["price_version"], &changed["price_source"]),
        (&json!(2), &json!("model"))
    );
    let after = gateway.chat(&key.secret, &say("demo-fee", "hi")).await?;
    after.expect(200)?;
    let new = tenant
        .usage(after.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    assert_eq!(
        (&new["cost_nanos"], &new["price_version"]),
        (&json!(5), &json!(2))
    );
    let again = tenant
        .usage(before.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    assert_eq!(again, old);

    // A change of something else is no new price.
    let renamed = tenant
        .admin
        .change(&path, &json!({ "config": { "max_output_tokens": 10 } }))
        .await?;
    assert_eq!(renamed["price_version"], 2);
    Ok(())
}

#[tokio::test]
async fn a_model_of_the_catalogue_has_its_price_until_it_gets_its_own() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let provider = json!({ "type": "openai", "name": "openai" });
    let provider = tenant
        .admin
        .create(&tenant.path("/providers"), &provider)
        .await?;
    assert_eq!(provider["base_url"], "https://api.openai.com/v1");
    let held = json!({ "provider_id": provider["id"], "name": "k", "value": "sk-none" });
    let held = tenant
        .admin
        .create(&tenant.path("/provider-keys"), &held)
        .await?;
    let body = |slug: &str| json!({ "name": slug, "type": "chat", "provider_id": provider["id"], "provider_key_id": held["id"] });
    let known = tenant
        .admin
        .create(&tenant.path("/models"), &body("gpt-4o-mini"))
        .await?;
    assert_eq!(
        (&known["price_source"], &known["slug"]),
        (&json!("catalogue"), &json!("gpt-4o-mini"))
    );
    let unknown = tenant
        .admin
        .create(&tenant.path("/models"), &body("gpt-none"))
        .await?;
    assert_eq!(unknown["price_source"], "none");
    let path = tenant.path(&format!(
        "/models/{}",
        known["id"].as_str().unwrap_or_default()
    ));
    let own = tenant
        .admin
        .change(&path, &json!({ "pricing": { "per_request_nanos": 1 } }))
        .await?;
    assert_eq!(
        (&own["price_source"], &own["price_version"]),
        (&json!("model"), &json!(2))
    );
    Ok(())
}

#[tokio::test]
async fn line_045_types_and_capabilities_are_stored_filtered_and_shown() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let types = [
        "chat",
        "reasoning",
        "image",
        "embeddings",
        "audio",
        "moderation",
        "transcription",
        "tts",
        "ocr",
    ];
    for kind in types {
        let body = json!({
            "name": format!("a-{kind}"), "type": kind, "capabilities": ["vision", "reasoning", "tool_use"],
            "provider_id": tenant.provider_id, "provider_key_id": tenant.provider_key_id,
        });
        let made = tenant.admin.create(&tenant.path("/models"), &body).await?;
        assert_eq!(
            (&made["type"], &made["capabilities"]),
            (&json!(kind), &body["capabilities"])
        );
    }
    for kind in types {
        let listed = tenant
            .admin
            .list(&tenant.path(&format!("/models?type={kind}&q=a-{kind}")))
            .await?;
        assert_eq!(listed.len(), 1, "{kind}");
    }
    for wrong in [
        json!({ "type": "video" }),
        json!({ "capabilities": ["magic"] }),
    ] {
        let mut body = json!({
            "name": "wrong", "type": "chat", "provider_id": tenant.provider_id, "provider_key_id": tenant.provider_key_id,
        });
        body.as_object_mut()
            .into_iter()
            .for_each(|body| body.extend(wrong.as_object().cloned().unwrap_or_default()));
        assert_eq!(
            tenant
                .admin
                .post(&tenant.path("/models"), &body)
                .await?
                .status,
            422,
            "{body}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_record_that_does_not_cost_what_its_price_says_is_found() -> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let answer = stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?;
    answer.expect(200)?;
    tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    let mut connection = stack.postgres.acquire().await?;
    assert!(mispriced(&mut connection).await?.is_empty());
    for falsified in [
        "UPDATE usage SET cost_nanos = cost_nanos + 1",
        "UPDATE usage SET cost_nanos = cost_nanos - 1, price_version = price_version + 1",
        "UPDATE usage SET price_version = price_version - 1, config_version = 1000000",
    ] {
        sqlx::query(falsified).execute(&mut *connection).await?;
        let found = mispriced(&mut connection).await?;
        assert_eq!(found.len(), 1, "{falsified}: {found:?}");
        assert_eq!(found[0].invariant, "I12");
    }
    Ok(())
}
