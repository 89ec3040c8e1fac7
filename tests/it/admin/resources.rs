//! Every resource from its making to its end.

use odock_tests::{
    Stack,
    tenant::{Tenant, id, unique},
};
use serde_json::{Value, json};

/// A resource with what `POST` takes, what the answer must then show, a change, and what that shows.
struct Case {
    resource: &'static str,
    body: Value,
    shows: Value,
    change: Value,
}

#[tokio::test]
async fn line_137_every_resource_is_made_read_changed_and_deleted() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    for case in cases(&tenant).await? {
        life(&tenant, &case)
            .await
            .map_err(|error| error.context(case.resource))?;
    }
    Ok(())
}

async fn life(tenant: &Tenant, case: &Case) -> anyhow::Result<()> {
    let admin = &tenant.admin;
    let list = tenant.path(&format!("/{}", case.resource));
    let made = admin.post(&list, &case.body).await?;
    let body = made.expect(201)?;
    let own_id = id(&body)?;
    let path = format!("{list}/{own_id}");
    assert_eq!(
        made.header("location"),
        Some(format!("/api/v1{path}").as_str())
    );
    assert_eq!(made.header("etag"), Some("\"1\""));
    assert!(
        made.header("x-odock-position").is_some()
            && made.header("x-odock-config-version").is_some()
    );
    for common in [
        "id",
        "organisation_id",
        "version",
        "created_at",
        "updated_at",
    ] {
        assert!(!body[common].is_null(), "{common} of {body}");
    }
    assert_eq!(
        (&body["organisation_id"], &body["version"]),
        (&json!(tenant.organisation_id), &json!(1))
    );
    shows(&body, &case.shows);

    let read = admin.get(&path).await?;
    let mut expected = body.clone();
    if expected.get("secret").is_some() {
        expected["secret"] = Value::Null;
    }
    let mut shown = read.expect(200)?;
    if expected.get("secret").is_some() && shown.get("secret").is_none() {
        shown["secret"] = Value::Null;
    }
    // A budget's window is part of its own page only.
    if expected.get("window").is_none() {
        shown
            .as_object_mut()
            .into_iter()
            .for_each(|shown| drop(shown.remove("window")));
    }
    assert_eq!(shown, expected);
    assert_eq!(read.header("etag"), Some("\"1\""));
    let listed = admin.list(&list).await?;
    assert!(listed.iter().any(|item| item["id"] == own_id.as_str()));

    if case.change != json!({}) {
        let changed = admin.patch(&path, 1, &case.change).await?;
        let body = changed.expect(200)?;
        assert_eq!(
            (&body["version"], changed.header("etag")),
            (&json!(2), Some("\"2\""))
        );
        shows(&body, &case.change);
    }
    let gone = admin.remove(&path).await?;
    assert_eq!(
        (&gone["id"], &gone["deleted"]),
        (&json!(own_id), &json!(true))
    );
    admin.get(&path).await?.refused(404, "not_found")?;
    admin.delete(&path, 2).await?.refused(404, "not_found")?;
    Ok(())
}

async fn cases(tenant: &Tenant) -> anyhow::Result<Vec<Case>> {
    let team = id(&tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "base" }))
        .await?)?;
    let person = json!({ "email": "base@example.org" });
    let user = id(&tenant.admin.create(&tenant.path("/users"), &person).await?)?;
    let key = tenant
        .key_without_grants(&json!({ "type": "organisation" }))
        .await?;
    let model = tenant.model_id("demo-fast")?;
    Ok(vec![
        Case {
            resource: "teams",
            body: json!({ "name": "red" }),
            shows: json!({ "name": "red", "policies": {} }),
            change: json!({ "name": "blue" }),
        },
        Case {
            resource: "users",
            body: json!({ "email": "ada@example.org", "name": "Ada" }),
            shows: json!({ "email": "ada@example.org", "name": "Ada", "role": "user", "status": "active" }),
            change: json!({ "name": null, "role": "manager" }),
        },
        Case {
            resource: "memberships",
            body: json!({ "team_id": team, "user_id": user }),
            shows: json!({ "team_id": team, "user_id": user, "role": "member" }),
            change: json!({ "role": "manager" }),
        },
        Case {
            resource: "providers",
            body: json!({ "type": "vllm", "name": "local", "base_url": "https://upstream.example/v1" }),
            shows: json!({ "type": "vllm", "name": "local", "timeout_ms": 600_000, "enabled": true, "config": {} }),
            change: json!({ "enabled": false, "timeout_ms": 1000 }),
        },
        Case {
            resource: "provider-keys",
            body: json!({ "provider_id": tenant.provider_id, "name": "spare", "value": "abcdefghijklmnop" }),
            shows: json!({ "provider_id": tenant.provider_id, "name": "spare", "revoked": false }),
            change: json!({ "name": "spare two" }),
        },
        Case {
            resource: "models",
            body: json!({
                "name": "m", "type": "chat", "capabilities": ["tool_use"], "provider_id": tenant.provider_id,
                "provider_key_id": tenant.provider_key_id, "pricing": { "per_request_nanos": 3 },
            }),
            shows: json!({ "name": "m", "slug": "m", "type": "chat", "price_version": 1, "price_source": "model" }),
            change: json!({ "slug": "other" }),
        },
        Case {
            resource: "keys",
            body: json!({ "type": "team", "team_id": team, "name": "ci" }),
            shows: json!({
                "type": "team", "team_id": team, "user_id": null, "name": "ci", "revoked": false, "rotation_count": 0,
                "expires_at": null, "timezone": "UTC", "policies": {},
            }),
            change: json!({ "name": null }),
        },
        Case {
            resource: "grants",
            body: json!({ "key_id": key.id, "target": { "type": "model", "id": model } }),
            shows: json!({ "key_id": key.id, "target": { "type": "model", "id": model } }),
            change: json!({}),
        },
        Case {
            resource: "budgets",
            body: json!({ "owner": { "type": "team", "id": team }, "period": "weekly", "amount_nanos": 7 }),
            shows: json!({ "period": "weekly", "amount_nanos": 7, "mode": "hard", "timezone": "UTC", "active": true }),
            change: json!({ "amount_nanos": 9, "active": false }),
        },
    ])
}

fn shows(body: &Value, expected: &Value) {
    for (name, value) in expected.as_object().into_iter().flatten() {
        assert_eq!(&body[name], value, "{name} of {body}");
    }
}

#[tokio::test]
async fn line_137_an_organisation_lives_and_its_name_is_taken_once() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let admin = &stack.admin;
    let name = unique("acme");
    let body =
        json!({ "name": name, "contact": "ops@example.org", "branding": { "colour": "red" } });
    let made = admin.create("/organisations", &body).await?;
    assert_eq!(
        (&made["id"], &made["contact"]),
        (&made["organisation_id"], &json!("ops@example.org"))
    );
    assert!(made["status"].is_string(), "{made}");
    admin
        .post("/organisations", &json!({ "name": name }))
        .await?
        .refused(409, "name_taken")?;
    let path = format!("/organisations/{}", id(&made)?);
    let renamed = unique("acme");
    admin
        .change(&path, &json!({ "name": renamed, "contact": null }))
        .await?;
    admin
        .create("/organisations", &json!({ "name": name }))
        .await?;
    admin
        .create(&format!("{path}/teams"), &json!({ "name": "t" }))
        .await?;
    let version = admin.read(&path).await?["version"]
        .as_u64()
        .unwrap_or_default();
    admin.delete(&path, version).await?.refused(409, "in_use")?;
    Ok(())
}

#[tokio::test]
async fn what_is_referred_to_is_not_deleted() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    tenant.key_budget(&key, 1).await?;
    let team = id(&tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "t" }))
        .await?)?;
    let user = id(&tenant
        .admin
        .create(&tenant.path("/users"), &json!({ "email": "u@example.org" }))
        .await?)?;
    tenant
        .admin
        .create(
            &tenant.path("/memberships"),
            &json!({ "team_id": team, "user_id": user }),
        )
        .await?;
    for path in [
        format!("/providers/{}", tenant.provider_id),
        format!("/provider-keys/{}", tenant.provider_key_id),
        format!("/models/{}", tenant.model_id("demo-fast")?),
        format!("/keys/{}", key.id),
        format!("/teams/{team}"),
        format!("/users/{user}"),
    ] {
        let path = tenant.path(&path);
        let version = tenant.admin.read(&path).await?["version"]
            .as_u64()
            .unwrap_or_default();
        tenant
            .admin
            .delete(&path, version)
            .await?
            .refused(409, "in_use")
            .map_err(|error| error.context(path))?;
    }
    Ok(())
}
