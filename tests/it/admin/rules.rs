//! The rules that hold for every resource: versions, idempotency, bodies, errors.

use futures_util::future::try_join_all;
use odock_tests::{
    Stack,
    client::Answer,
    tenant::{Tenant, id, unique},
};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_change_needs_the_version_it_was_made_for() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let team = id(&tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "a" }))
        .await?)?;
    let path = tenant.path(&format!("/teams/{team}"));
    let change = json!({ "name": "b" });
    let without = tenant.admin.request(Method::PATCH, &path).json(&change);
    tenant
        .admin
        .send(without)
        .await?
        .refused(428, "if_match_required")?;
    tenant
        .admin
        .send(tenant.admin.request(Method::DELETE, &path))
        .await?
        .refused(428, "if_match_required")?;
    tenant
        .admin
        .patch(&path, 7, &change)
        .await?
        .refused(412, "version_mismatch")?;
    tenant.admin.patch(&path, 1, &change).await?.expect(200)?;
    tenant
        .admin
        .patch(&path, 1, &change)
        .await?
        .refused(412, "version_mismatch")?;
    tenant
        .admin
        .delete(&path, 1)
        .await?
        .refused(412, "version_mismatch")?;
    // Optional on actions, and then it counts.
    let key = tenant
        .key_without_grants(&json!({ "type": "organisation" }))
        .await?;
    let revoke = tenant.path(&format!("/keys/{}/revoke", key.id));
    let stale = tenant
        .admin
        .request(Method::POST, &revoke)
        .header("if-match", "\"9\"");
    tenant
        .admin
        .send(stale)
        .await?
        .refused(412, "version_mismatch")?;
    tenant.admin.act(&revoke).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn of_two_changes_at_once_to_one_version_exactly_one_wins() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let team = id(&tenant
        .admin
        .create(&tenant.path("/teams"), &json!({ "name": "a" }))
        .await?)?;
    let path = tenant.path(&format!("/teams/{team}"));
    let bodies: Vec<Value> = (0..10)
        .map(|number| json!({ "name": format!("n{number}") }))
        .collect();
    let answers =
        try_join_all(bodies.iter().map(|body| tenant.admin.patch(&path, 1, body))).await?;
    let won: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .collect();
    assert_eq!(won.len(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer.status, 200 | 409 | 412))
    );
    let winner = won.first().map(|answer| answer.json()).transpose()?;
    assert_eq!(Some(tenant.admin.read(&path).await?), winner);
    Ok(())
}

#[tokio::test]
async fn an_idempotency_key_makes_one_effect_and_one_answer() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = unique("idem");
    let body = json!({ "name": "once" });
    let first = post_with(&tenant, "/teams", &key, &body).await?;
    let made = first.expect(201)?;
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = post_with(&tenant, "/teams", &key, &body).await?;
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (201, Some("true"))
    );
    assert_eq!(again.json()?, made);
    assert_eq!(again.header("location"), first.header("location"));
    post_with(&tenant, "/teams", &key, &json!({ "name": "twice" }))
        .await?
        .refused(422, "idempotency_key_reused")?;

    let key = unique("idem");
    let at_once = try_join_all((0..20).map(|_| post_with(&tenant, "/teams", &key, &body))).await?;
    let made: std::collections::BTreeSet<String> = at_once
        .iter()
        .filter(|answer| answer.status == 201)
        .map(|answer| id(&answer.json()?))
        .collect::<anyhow::Result<_>>()?;
    assert_eq!(made.len(), 1, "{made:?}");
    let teams = tenant.admin.list(&tenant.path("/teams?q=once")).await?;
    assert_eq!(teams.len(), 2);

    // A refusal is not kept: the same request is tried anew.
    let key = unique("idem");
    let provider = json!({ "type": "openai", "name": "there can be one" });
    let first = tenant
        .admin
        .create(&tenant.path("/providers"), &provider)
        .await?;
    post_with(&tenant, "/providers", &key, &provider)
        .await?
        .refused(409, "name_taken")?;
    let path = tenant.path(&format!("/providers/{}", id(&first)?));
    tenant.admin.remove(&path).await?;
    post_with(&tenant, "/providers", &key, &provider)
        .await?
        .expect(201)?;
    for wrong in ["", "two words\u{e9}", &"x".repeat(201)] {
        let request = tenant.admin.request(Method::POST, &tenant.path("/teams"));
        let request = request
            .header("idempotency-key", wrong.as_bytes())
            .json(&body);
        assert_eq!(tenant.admin.send(request).await?.status, 422, "{wrong}");
    }
    Ok(())
}

#[tokio::test]
async fn bodies_are_bounded_strict_and_told_what_is_wrong_with_them() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let path = tenant.path("/teams");
    let send = async |body: Vec<u8>| -> anyhow::Result<Answer> {
        let request = tenant
            .admin
            .request(Method::POST, &path)
            .header("content-type", "application/json");
        tenant.admin.send(request.body(body)).await
    };
    for (body, code) in [
        (&b"{"[..], "invalid_body"),
        (b"[]", "invalid_body"),
        (b"{\"name\":\"a\",\"name\":\"b\"}", "invalid_body"),
        (b"{\"name\":\"\xff\"}", "invalid_body"),
    ] {
        let answer = send(body.to_vec()).await?;
        answer.refused(400, code)?;
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    let deep = format!(
        "{{\"name\":\"a\",\"policies\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert!(matches!(send(deep.into_bytes()).await?.status, 400 | 422));
    let unknown = send(br#"{"name":"a","is_admin":true}"#.to_vec())
        .await?
        .refused(422, "unknown_field")?;
    assert_eq!(unknown["errors"][0]["field"], "/is_admin", "{unknown}");
    let variant = send(br#"{"Name":"a"}"#.to_vec()).await?;
    assert!(matches!(variant.status, 400 | 422), "{}", variant.text());
    for body in [
        json!({}),
        json!({ "name": 7 }),
        json!({ "name": "" }),
        json!({ "name": null }),
        json!({ "name": "x".repeat(10_000) }),
    ] {
        let answer = tenant.admin.post(&path, &body).await?;
        assert_eq!(answer.status, 422, "{}", answer.text());
        let problem = answer.json()?;
        assert_eq!(problem["errors"][0]["field"], "/name", "{problem}");
        for member in ["type", "title", "status", "code", "detail", "request_id"] {
            assert!(!problem[member].is_null(), "{member} of {problem}");
        }
    }
    let policies = json!({ "name": "p", "policies": { "requests": { "per_second": 1 } } });
    assert_eq!(tenant.admin.post(&path, &policies).await?.status, 422);
    send(vec![b' '; (1 << 20) + 1])
        .await?
        .refused(413, "body_too_large")?;
    let text = "' OR 1=1; DROP TABLE team; --\u{1F511}%_\\";
    let made = tenant.admin.create(&path, &json!({ "name": text })).await?;
    assert_eq!(made["name"], text);
    Ok(())
}

#[tokio::test]
async fn ids_of_any_form_that_are_not_there_are_not_found() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let zero = "0".repeat(32);
    for resource in [
        "teams",
        "users",
        "memberships",
        "providers",
        "provider-keys",
        "models",
        "keys",
        "grants",
        "budgets",
        "usage",
    ] {
        for wrong in [
            "x",
            "..%2f..",
            "%00",
            &format!("key_{zero}"),
            &zero,
            "key_%27",
            &"a".repeat(500),
        ] {
            let answer = tenant
                .admin
                .get(&tenant.path(&format!("/{resource}/{wrong}")))
                .await?;
            assert!(
                matches!(answer.status, 400 | 404),
                "{resource}/{wrong}: {}",
                answer.text()
            );
        }
    }
    tenant
        .admin
        .get("/organisations/org_x/teams")
        .await?
        .refused(404, "not_found")?;
    tenant
        .admin
        .get(&format!("/organisations/org_{zero}/teams"))
        .await?
        .refused(404, "not_found")?;
    Ok(())
}

#[tokio::test]
async fn a_reason_and_a_change_reference_are_kept_on_the_event() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant
        .key_without_grants(&json!({ "type": "organisation" }))
        .await?;
    let path = tenant.path(&format!("/keys/{}/revoke", key.id));
    let request = tenant.admin.request(Method::POST, &path);
    let request = request
        .header("x-odock-reason", "leaked in a chat")
        .header("x-odock-change-ref", "CHG-7");
    tenant.admin.send(request).await?.expect(200)?;
    let events = tenant
        .admin
        .list(&tenant.path(&format!("/events?entity_id={}", key.id)))
        .await?;
    let kinds: Vec<_> = events
        .iter()
        .filter_map(|event| event["kind"].as_str())
        .collect();
    assert!(
        kinds.contains(&"key.created") && kinds.contains(&"key.revoked"),
        "{kinds:?}"
    );
    let revoked = events
        .iter()
        .find(|event| event["kind"] == "key.revoked")
        .cloned()
        .unwrap_or_default();
    assert!(
        revoked.to_string().contains("leaked in a chat"),
        "{revoked}"
    );
    assert_eq!(
        (&revoked["entity"]["type"], &revoked["entity"]["id"]),
        (&json!("key"), &json!(key.id))
    );
    for member in ["position", "id", "occurred_at", "actor", "payload"] {
        assert!(!revoked[member].is_null(), "{member} of {revoked}");
    }
    let long = tenant
        .admin
        .request(Method::POST, &path)
        .header("x-odock-reason", "x".repeat(501));
    assert_eq!(tenant.admin.send(long).await?.status, 422);
    Ok(())
}

#[tokio::test]
async fn status_tells_where_everything_stands() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let status = stack.admin.read("/status").await?;
    for member in ["gen", "head_position", "config_version"] {
        assert!(
            status[member].as_u64().is_some_and(|number| number > 0),
            "{member} of {status}"
        );
    }
    assert!(
        status["lag"]["management_ms"].is_u64() && status["lag"]["usage_events"].is_u64(),
        "{status}"
    );
    assert_eq!(
        status["gateways"].as_array().map_or(0, Vec::len),
        2,
        "{status}"
    );
    assert!(
        status["projectors"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["active"] == true)),
        "{status}"
    );
    let document = stack.admin.read("/openapi.json").await?;
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    Ok(())
}

async fn post_with(tenant: &Tenant, path: &str, key: &str, body: &Value) -> anyhow::Result<Answer> {
    let request = tenant.admin.request(Method::POST, &tenant.path(path));
    tenant
        .admin
        .send(request.header("idempotency-key", key).json(body))
        .await
}
