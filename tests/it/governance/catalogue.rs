//! The price catalogue over HTTP: search, imports, the customer's own prices beside it, and what a hard budget makes of
//! what it does not price.

use http::Method;
use odock_tests::{Stack, client::say, tenant::Tenant};
use serde_json::{Value, json};

/// A provider and its key, for imports.
async fn provider(tenant: &Tenant, kind: &str) -> anyhow::Result<(Value, Value)> {
    let made = tenant
        .admin
        .create(
            &tenant.path("/providers"),
            &json!({ "type": kind, "name": kind, "base_url": "https://example.com/v1" }),
        )
        .await?;
    let key = json!({ "provider_id": made["id"], "name": kind, "value": "sk-none" });
    let key = tenant
        .admin
        .create(&tenant.path("/provider-keys"), &key)
        .await?;
    Ok((made["id"].clone(), key["id"].clone()))
}

fn names(answer: &Value, member: &str) -> Vec<String> {
    let rows = answer[member].as_array().cloned().unwrap_or_default();
    let name = |row: Value| {
        row["name"]
            .as_str()
            .or(row.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    rows.into_iter().map(name).collect()
}

/// The body of an import of entries for an `openai` provider, which is made for it.
struct Importer {
    provider_id: Value,
    provider_key_id: Value,
}

impl Importer {
    async fn new(tenant: &Tenant) -> anyhow::Result<Self> {
        let (provider_id, provider_key_id) = provider(tenant, "openai").await?;
        Ok(Self {
            provider_id,
            provider_key_id,
        })
    }

    fn body(&self, existing: &str, entries: &Value) -> Value {
        json!({
            "provider_id": self.provider_id, "provider_key_id": self.provider_key_id,
            "existing": existing, "entries": entries,
        })
    }
}

#[tokio::test]
async fn line_046_entries_are_found_by_a_part_of_their_id_their_vendor_and_type()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let found = tenant
        .admin
        .read(
            "/catalogue/models?q=openai/gpt-4o-mini&provider_type=openai&vendor=openai&type=chat&limit=1",
        )
        .await?;
    assert_eq!(found["data"][0]["id"], "openai/gpt-4o-mini");
    let cursor = found["next_cursor"].as_str().unwrap_or_default();
    let next = tenant
        .admin
        .read(&format!("/catalogue/models?q=openai/gpt-4o-mini&provider_type=openai&vendor=openai&type=chat&limit=1&cursor={cursor}"))
        .await?;
    assert!(
        next["data"][0]["id"].as_str() > Some("openai/gpt-4o-mini"),
        "{next}"
    );
    let one = tenant
        .admin
        .read("/catalogue/models/openai%2Fgpt-4o-mini")
        .await?;
    assert_eq!(one["pricing"]["input_per_million_nanos"], 150_000_000);
    tenant
        .admin
        .get("/catalogue/models/openai%2Fnone")
        .await?
        .refused(404, "not_found")?;
    tenant
        .admin
        .get("/catalogue/models?colour=red")
        .await?
        .refused(422, "unknown_field")?;
    tenant
        .admin
        .get("/catalogue/models?cursor=x")
        .await?
        .refused(400, "invalid_cursor")?;
    Ok(())
}

#[tokio::test]
async fn line_046_entries_become_models_all_or_none_and_under_other_names() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let importer = Importer::new(&tenant).await?;
    let path = tenant.path("/models/import");
    let import = |existing: &str, entries: Value| importer.body(existing, &entries);
    let two =
        json!([{ "catalogue_id": "openai/gpt-4o" }, { "catalogue_id": "openai/gpt-4o-mini" }]);
    let made = tenant
        .admin
        .post(&path, &import("refuse", two))
        .await?
        .expect(200)?;
    assert_eq!(names(&made, "created"), ["gpt-4o", "gpt-4o-mini"]);
    let mini = &made["created"][1];
    assert_eq!(
        (
            &mini["price_source"],
            &mini["catalogue_id"],
            &mini["type"],
            &mini["pricing"]
        ),
        (
            &json!("catalogue"),
            &json!("openai/gpt-4o-mini"),
            &json!("chat"),
            &Value::Null
        )
    );
    assert_eq!(mini["config"]["context_window"], 128_000);

    // All or nothing: the new one is not made either.
    let mixed = json!([{ "catalogue_id": "openai/gpt-4.1" }, { "catalogue_id": "openai/gpt-4o" }]);
    tenant
        .admin
        .post(&path, &import("refuse", mixed.clone()))
        .await?
        .refused(409, "name_taken")?;
    tenant
        .admin
        .post(
            &path,
            &import("refuse", json!([{ "catalogue_id": "openai/none" }])),
        )
        .await?
        .refused(422, "validation_failed")?;
    assert!(
        tenant
            .admin
            .list(&tenant.path("/models?name=gpt-4.1"))
            .await?
            .is_empty()
    );
    let skipped = tenant
        .admin
        .post(&path, &import("skip", mixed))
        .await?
        .expect(200)?;
    assert_eq!(names(&skipped, "created"), ["gpt-4.1"]);
    assert_eq!(names(&skipped, "skipped"), ["openai/gpt-4o"]);
    let again = json!([{ "catalogue_id": "openai/gpt-4o", "name": "gpt-4o-for-support" }]);
    let variant = tenant
        .admin
        .post(&path, &import("refuse", again))
        .await?
        .expect(200)?;
    assert_eq!(variant["created"][0]["slug"], "gpt-4o");
    Ok(())
}

#[tokio::test]
async fn line_046_what_is_there_is_told_from_what_is_new_and_an_import_happens_once()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let importer = Importer::new(&tenant).await?;
    let path = tenant.path("/models/import");
    let key = format!("import-{}", tenant.organisation_id);
    let body = importer.body(
        "refuse",
        &json!([{ "catalogue_id": "openai/gpt-4.1" }, { "catalogue_id": "openai/gpt-4o" }]),
    );
    for replayed in [false, true] {
        let request = tenant
            .admin
            .request(Method::POST, &path)
            .header("idempotency-key", &key)
            .json(&body);
        let answer = tenant.admin.send(request).await?;
        let made = answer.expect(200)?;
        assert_eq!(names(&made, "created"), ["gpt-4.1", "gpt-4o"]);
        assert_eq!(answer.header("idempotent-replayed").is_some(), replayed);
    }

    let beside = tenant.path("/models/catalogue?vendor=openai&limit=200");
    let existing = tenant
        .admin
        .read(&format!("{beside}&filter=existing"))
        .await?;
    let ids: Vec<&str> = existing["data"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["id"].as_str())
        .collect();
    assert_eq!(ids, ["openai/gpt-4.1", "openai/gpt-4o"]);
    let new = tenant.admin.read(&format!("{beside}&filter=new")).await?;
    assert!(
        new["data"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|entry| entry["existing"] == false)
    );
    Ok(())
}

#[tokio::test]
async fn line_156_a_customers_own_price_wins_and_a_diff_shows_every_number() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let (provider_id, provider_key_id) = provider(&tenant, "openai").await?;
    let body = json!({
        "name": "ours", "slug": "gpt-4o-mini", "type": "chat", "provider_id": provider_id, "provider_key_id": provider_key_id,
        "pricing": { "input_per_million_nanos": 1, "output_per_million_nanos": 600_000_000 },
    });
    let ours = tenant.admin.create(&tenant.path("/models"), &body).await?;
    assert_eq!(
        (&ours["price_source"], &ours["price_version"]),
        (&json!("model"), &json!(1))
    );
    let path = tenant.path(&format!(
        "/models/{}",
        ours["id"].as_str().unwrap_or_default()
    ));
    let diff = tenant.admin.read(&format!("{path}/pricing-diff")).await?;
    assert_eq!(
        (&diff["catalogue_id"], &diff["updates"]),
        (&json!("openai/gpt-4o-mini"), &json!(false))
    );
    let input = diff["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|change| change["field"] == "input_per_million_nanos");
    assert_eq!(
        input,
        Some(
            &json!({ "field": "input_per_million_nanos", "in_force": 1, "catalogue": 150_000_000 })
        )
    );

    // An update of prices leaves it alone, and says so before.
    let update = tenant.path("/models/update-pricing");
    let dry = tenant
        .admin
        .post(&update, &json!({ "dry_run": true }))
        .await?
        .expect(200)?;
    assert_eq!(dry["data"], json!([]));
    let done = tenant.admin.post(&update, &json!({})).await?.expect(200)?;
    assert_eq!(
        (&done["created"], &done["updated"]),
        (&json!([]), &json!([]))
    );
    tenant
        .admin
        .post(
            &update,
            &json!({ "model_ids": [format!("mdl_{}", "0".repeat(32))] }),
        )
        .await?
        .refused(422, "validation_failed")?;
    let same = tenant.admin.read(&path).await?;
    assert_eq!(same["version"], ours["version"]);

    // Without its own, it has the catalogue's.
    let listed = tenant
        .admin
        .change(&path, &json!({ "pricing": null }))
        .await?;
    assert_eq!(
        (&listed["price_source"], &listed["price_version"]),
        (&json!("catalogue"), &json!(2))
    );
    let diff = tenant.admin.read(&format!("{path}/pricing-diff")).await?;
    assert_eq!(diff["changes"], json!([]));
    Ok(())
}

#[tokio::test]
async fn line_131_what_a_price_does_not_say_is_refused_under_a_hard_budget_with_the_fix()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    let gap = json!({ "input_per_million_nanos": 1_000_000_000, "unpriced": ["every_call"] });
    tenant.add_model("gap", "demo-fast", gap).await?;
    let key = tenant.key().await?;
    tenant.key_budget(&key, 1_000_000_000).await?;
    let gateway = stack.gateway(0)?;
    let with = |members: Value| {
        let mut body = say("demo-fast", "hi");
        if let (Some(body), Some(more)) = (body.as_object_mut(), members.as_object()) {
            body.extend(more.clone());
        }
        body
    };
    let audio = json!([{ "role": "user", "content": [{ "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } }] }]);
    for (body, fix) in [
        (say("gap", "hi"), "`pricing`"),
        (
            with(json!({ "service_tier": "priority" })),
            "`service_tiers`",
        ),
        (
            with(json!({ "web_search_options": {} })),
            "`web_search_low`",
        ),
        (
            with(json!({ "modalities": ["text", "audio"] })),
            "`output_audio_per_million_nanos`",
        ),
        (
            with(json!({ "messages": audio })),
            "`input_audio_per_million_nanos`",
        ),
    ] {
        let refused = gateway
            .chat(&key.secret, &body)
            .await?
            .refused(400, "cost_unbounded")?;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(fix), "{message}");
    }
    gateway
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;
    Ok(())
}
