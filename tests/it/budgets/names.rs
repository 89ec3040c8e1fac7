//! Budgets and quotas by model, provider, tag and end user.

use std::time::Duration;

use odock_tests::{
    Stack,
    client::{Gateway, say},
    invariants::assert_invariants,
    tenant::{FEE_NANOS, Key, Tenant, id},
    wait::wait_until,
};
use serde_json::{Value, json};

async fn budget(tenant: &Tenant, owner: Value, amount: i64) -> anyhow::Result<String> {
    let body = json!({ "owner": owner, "period": "monthly", "amount_nanos": amount });
    let path = tenant.path("/budgets?wait=all");
    id(&tenant.admin.create(&path, &body).await?)
}

async fn status(
    gateway: &Gateway,
    key: &Key,
    headers: &[(&str, &str)],
    body: &Value,
) -> anyhow::Result<u16> {
    let mut request = gateway.chat_request(&key.secret).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(gateway.send(request).await?.status)
}

#[tokio::test]
async fn line_157_models_providers_tags_and_end_users_have_budgets_of_their_own()
-> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let model = tenant.model_id("demo-fee")?.to_owned();
    let owners = [
        json!({ "type": "model", "id": model }),
        json!({ "type": "provider", "id": tenant.provider_id }),
        json!({ "type": "tag", "name": "project", "value": "apollo" }),
        json!({ "type": "end_user", "id": "alice" }),
    ];
    let mut budgets = Vec::new();
    for owner in &owners {
        budgets.push(budget(&tenant, owner.clone(), 100 * FEE_NANOS).await?);
    }
    let fee = say("demo-fee", "hi");
    let mut labelled = fee.clone();
    labelled["user"] = json!("alice");
    labelled["metadata"] = json!({ "project": "apollo" });
    let answer = gateway.chat(&key.secret, &labelled).await?;
    answer.expect(200)?;
    let record = tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    assert_eq!(record["budget_ids"], json!(budgets), "{record}");
    assert_eq!(
        (&record["tags"], &record["end_user"]),
        (&json!({ "project": "apollo" }), &json!("alice")),
    );
    // Headers win over the body, and other names are others' business.
    let headers = [
        ("x-odock-tags", "project=gemini"),
        ("x-odock-end-user", "bob"),
    ];
    assert_eq!(status(gateway, &key, &headers, &labelled).await?, 200);
    tenant.reclaim().await?;
    for (budget, calls) in budgets.iter().zip([2, 2, 1, 1]) {
        let window = tenant.window(budget).await?;
        assert_eq!(
            (window.settled, window.held),
            (calls * FEE_NANOS, 0),
            "{budget}"
        );
    }
    // Each refuses by itself, and says whose it is.
    for (budget, owner) in budgets.iter().zip(&owners) {
        let path = tenant.path(&format!("/budgets/{budget}"));
        tenant
            .admin
            .change(&path, &json!({ "amount_nanos": 0 }))
            .await?;
        // On a busy machine the answer on money may be late: such a call is told to come again.
        let refused = wait_until("the denial", Duration::from_secs(10), async || {
            let answer = gateway.chat(&key.secret, &labelled).await?;
            answer.refused(402, "budget_exceeded")
        })
        .await?;
        let error = &refused["error"];
        assert_eq!(
            (&error["budget_id"], &error["scope"]["type"]),
            (&json!(budget), &owner["type"])
        );
        tenant
            .admin
            .change(&path, &json!({ "amount_nanos": 100 * FEE_NANOS }))
            .await?;
    }
    // What somebody is counted by cannot go.
    let path = tenant.path(&format!("/providers/{}", tenant.provider_id));
    assert!(tenant.admin.remove(&path).await.is_err());
    let bad = [("x-odock-tags", "no value")];
    assert_eq!(status(gateway, &key, &bad, &fee).await?, 400);
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn line_157_each_tag_value_and_end_user_can_be_counted_by_itself() -> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let each_user = budget(&tenant, json!({ "type": "end_user" }), 2 * FEE_NANOS).await?;
    let body = json!({
        "owner": { "type": "tag", "name": "project" }, "metric": "requests", "period": "daily", "limit": 3,
    });
    let path = tenant.path("/quotas?wait=all");
    let each_project = id(&tenant.admin.create(&path, &body).await?)?;
    let fee = say("demo-fee", "hi");
    for user in ["alice", "bob", "carol"] {
        let headers = [("x-odock-end-user", user)];
        for (call, expected) in [200, 200, 402].into_iter().enumerate() {
            let gateway = stack.gateway(call % 2)?;
            assert_eq!(
                status(gateway, &key, &headers, &fee).await?,
                expected,
                "{user} {call}"
            );
        }
    }
    for project in ["apollo", "gemini"] {
        let headers = [("x-odock-tags", format!("project={project}"))];
        let headers = [(headers[0].0, headers[0].1.as_str())];
        for (call, expected) in [200, 200, 200, 429].into_iter().enumerate() {
            let gateway = stack.gateway(call % 2)?;
            assert_eq!(
                status(gateway, &key, &headers, &fee).await?,
                expected,
                "{project} {call}"
            );
        }
    }
    // Nobody in particular is nobody's business.
    assert_eq!(status(stack.gateway(0)?, &key, &[], &fee).await?, 200);
    tenant.reclaim().await?;
    let windows = tenant
        .admin
        .list(&tenant.path(&format!("/budgets/{each_user}/windows")))
        .await?;
    let mut users: Vec<(&Value, &Value)> = windows
        .iter()
        .map(|window| (&window["owner"]["id"], &window["settled_nanos"]))
        .collect();
    users.sort_by_key(|(user, _)| user.as_str());
    let spent = json!(2 * FEE_NANOS);
    let expected = [json!("alice"), json!("bob"), json!("carol")];
    let expected: Vec<(&Value, &Value)> = expected.iter().map(|user| (user, &spent)).collect();
    assert_eq!(users, expected);
    let path = tenant.path(&format!(
        "/quotas/{each_project}/windows?owner=project=apollo"
    ));
    let windows = tenant.admin.list(&path).await?;
    assert_eq!(
        (windows.len(), &windows[0]["settled"]),
        (1, &json!(3)),
        "{windows:?}"
    );
    let shown = tenant
        .admin
        .read(&tenant.path(&format!("/budgets/{each_user}")))
        .await?;
    assert!(shown["window"].is_null());
    assert_invariants(&stack.postgres).await
}
