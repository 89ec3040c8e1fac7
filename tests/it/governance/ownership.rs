//! Who may own a key, and that tenants do not see one another.

use odock_tests::{Stack, Tenant, tenant::id};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn line_033_the_owner_of_a_key_is_exactly_what_its_type_needs() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let team = id(&tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "owners" }))
        .await?)?;
    let user = json!({ "email": "owner@example.org" });
    let user = id(&tenant.admin.create(&tenant.path("/users"), &user).await?)?;
    for wrong in [
        json!({}),
        json!({ "type": "robot" }),
        json!({ "type": "organisation", "team_id": team }),
        json!({ "type": "organisation", "user_id": user }),
        json!({ "type": "team" }),
        json!({ "type": "team", "user_id": user }),
        json!({ "type": "team", "team_id": team, "user_id": user }),
        json!({ "type": "user" }),
        json!({ "type": "user", "team_id": team }),
        json!({ "type": "team", "team_id": user }),
        json!({ "type": "team", "team_id": format!("team_{}", "0".repeat(32)) }),
    ] {
        let answer = tenant.admin.post(&tenant.path("/keys"), &wrong).await?;
        assert_eq!(answer.status, 422, "{wrong}: {}", answer.text());
        assert!(
            answer.json()?["errors"]
                .as_array()
                .is_some_and(|errors| !errors.is_empty()),
            "{wrong}"
        );
    }
    let made = tenant
        .admin
        .create(
            &tenant.path("/keys"),
            &json!({ "type": "team", "team_id": team }),
        )
        .await?;
    let path = tenant.path(&format!("/keys/{}", id(&made)?));
    let moved = tenant
        .admin
        .patch(&path, 1, &json!({ "team_id": null, "user_id": user }))
        .await?;
    assert_eq!(moved.status, 422, "{}", moved.text());
    let other = stack.tenant().await?;
    let foreign = json!({ "type": "team", "team_id": team });
    assert_eq!(
        other
            .admin
            .post(&other.path("/keys"), &foreign)
            .await?
            .status,
        422
    );
    Ok(())
}

#[tokio::test]
async fn line_139_no_route_shows_or_changes_what_is_another_tenants() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let (mine, other) = (stack.tenant().await?, stack.tenant().await?);
    for (resource, resource_id, change) in everything_of(&mine).await? {
        let own = mine.path(&format!("/{resource}/{resource_id}"));
        let before = mine.admin.read(&own).await?;
        let foreign = other.path(&format!("/{resource}/{resource_id}"));
        other.admin.get(&foreign).await?.refused(404, "not_found")?;
        let changed = other.admin.patch(&foreign, 1, &change).await?;
        assert!(
            matches!(changed.status, 404 | 405),
            "{resource}: {}",
            changed.text()
        );
        other
            .admin
            .delete(&foreign, 1)
            .await?
            .refused(404, "not_found")?;
        let listed = other
            .admin
            .list(&other.path(&format!("/{resource}")))
            .await?;
        assert!(
            listed.iter().all(|item| item["id"] != resource_id.as_str()),
            "{resource}"
        );
        assert_eq!(mine.admin.read(&own).await?, before, "{resource}");
        for action in ["revoke", "unrevoke", "rotate"] {
            let answer = other.admin.act(&format!("{foreign}/{action}")).await?;
            assert!(
                matches!(answer.status, 404 | 405),
                "{resource} {action}: {}",
                answer.text()
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn references_cannot_cross_tenants() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let (mine, other) = (stack.tenant().await?, stack.tenant().await?);
    let key = mine.key().await?;
    let model = |provider: &str, key: &str| json!({ "name": "crossed", "type": "chat", "provider_id": provider, "provider_key_id": key });
    let target = json!({ "type": "model", "id": other.model_id("demo-fast")? });
    for (path, body) in [
        ("/models", model(&other.provider_id, &mine.provider_key_id)),
        ("/models", model(&mine.provider_id, &other.provider_key_id)),
        (
            "/provider-keys",
            json!({ "provider_id": other.provider_id, "name": "x", "value": "y" }),
        ),
        ("/grants", json!({ "key_id": key.id, "target": target })),
        (
            "/grants",
            json!({ "key_id": other.key().await?.id, "target": { "type": "model", "id": mine.model_id("demo-fast")? } }),
        ),
        (
            "/budgets",
            json!({ "owner": { "type": "organisation", "id": other.organisation_id }, "period": "daily", "amount_nanos": 1 }),
        ),
        (
            "/budgets",
            json!({ "owner": { "type": "key", "id": other.key().await?.id }, "period": "daily", "amount_nanos": 1 }),
        ),
    ] {
        let answer = mine.admin.post(&mine.path(path), &body).await?;
        assert_eq!(answer.status, 422, "{path} {body}: {}", answer.text());
    }
    Ok(())
}

#[tokio::test]
async fn line_139_no_admin_route_answers_without_its_token() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let document = tenant.admin.read("/openapi.json").await?;
    let key = tenant.key().await?;
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        // Health is for balancers.
        let Some(path) = path.strip_prefix("/api/v1") else {
            continue;
        };
        let path = path.replace("{organisation_id}", &tenant.organisation_id);
        let path = path.split('/').map(|part| {
            if part.starts_with('{') {
                key.id.as_str()
            } else {
                part
            }
        });
        let path = path.collect::<Vec<_>>().join("/");
        for method in operations
            .as_object()
            .into_iter()
            .flatten()
            .map(|(method, _)| method.to_uppercase())
        {
            let Ok(method) = Method::from_bytes(method.as_bytes()) else {
                continue;
            };
            for token in [
                "",
                "adm_wrong",
                &key.secret,
                &format!("{}x", tenant.admin.token),
            ] {
                let mut request = tenant.admin.anonymous(method.clone(), &path);
                if !token.is_empty() {
                    request = request.bearer_auth(token);
                }
                let answer = tenant.admin.send(request).await?;
                answer
                    .refused(401, "unauthorized")
                    .map_err(|error| error.context(format!("{method} {path}")))?;
                asked += 1;
            }
        }
    }
    assert!(asked > 150, "the document names too few routes: {asked}");
    Ok(())
}

/// One of each resource of a tenant, with a change that would be valid for its owner.
async fn everything_of(tenant: &Tenant) -> anyhow::Result<Vec<(&'static str, String, Value)>> {
    let key = tenant
        .key_without_grants(&json!({ "type": "organisation" }))
        .await?;
    let team = id(&tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "a" }))
        .await?)?;
    let user = json!({ "email": "a@example.org", "name": "A" });
    let user = id(&tenant.admin.create(&tenant.path("/users"), &user).await?)?;
    let membership = json!({ "team_id": team, "user_id": user });
    let membership = id(&tenant
        .admin
        .create(&tenant.path("/memberships"), &membership)
        .await?)?;
    let grant = tenant.grant(&key, "demo-fast").await?;
    let budget = tenant.key_budget(&key, 5).await?;
    let name = json!({ "name": "changed" });
    Ok(vec![
        ("teams", team, name.clone()),
        ("users", user, name.clone()),
        ("memberships", membership, json!({ "role": "manager" })),
        ("providers", tenant.provider_id.clone(), name.clone()),
        (
            "provider-keys",
            tenant.provider_key_id.clone(),
            name.clone(),
        ),
        (
            "models",
            tenant.model_id("demo-fast")?.to_owned(),
            name.clone(),
        ),
        ("keys", key.id, name.clone()),
        ("grants", grant, json!({})),
        ("budgets", budget, name),
    ])
}
