//! Why a call was decided as it was, from the log alone.

use std::time::Duration;

use odock_tests::{
    Stack,
    client::say,
    tenant::{FEE_NANOS, Key, OUTPUT_NANOS, Tenant},
    wait::wait_until,
};
use serde_json::{Value, json};

fn setting<'a>(record: &'a Value, kind: &str) -> &'a Value {
    let settings = record["settings"].as_array();
    let mut found = settings.into_iter().flatten();
    found
        .find(|setting| setting["entity"]["type"] == kind)
        .unwrap_or(&Value::Null)
}

async fn change_everything(tenant: &Tenant, key: &Key, budget: &str) -> anyhow::Result<()> {
    let key_path = tenant.path(&format!("/keys/{}", key.id));
    tenant
        .admin
        .change(&key_path, &json!({ "policies": {}, "name": "renamed" }))
        .await?;
    let path = tenant.path(&format!("/budgets/{budget}"));
    tenant
        .admin
        .change(&path, &json!({ "amount_nanos": 0 }))
        .await?;
    let model = tenant.model_id("demo-fee")?.to_owned();
    let path = tenant.path(&format!("/models/{model}"));
    let dearer = json!({ "pricing": { "per_request_nanos": 3 * FEE_NANOS } });
    tenant.admin.change(&path, &dearer).await?;
    tenant
        .admin
        .act(&tenant.path(&format!("/keys/{}/revoke?wait=all", key.id)))
        .await?
        .expect(200)?;
    Ok(())
}

fn assert_then(record: &Value, key: &Key, budget: &str, policies: &Value) {
    // The key as it stood, who had set it and why; and that it is another one now.
    let of_key = setting(record, "key");
    assert_eq!(of_key["value"]["policies"], *policies, "{of_key}");
    assert_eq!(of_key["value"]["revoked"], false);
    assert_eq!(of_key["set"]["reason"], "a limit for the explanation");
    assert_eq!(of_key["set"]["change_ref"], "TICKET-1");
    assert_eq!(of_key["set"]["kind"], "key.updated");
    assert_eq!(of_key["created"]["kind"], "key.created");
    assert_eq!(
        (&of_key["changed_since"], &of_key["gone"]),
        (&json!(true), &json!(false))
    );
    assert!(of_key["value"].get("secret_sha256").is_none(), "{of_key}");
    assert_eq!(setting(record, "provider")["changed_since"], false);
    let of_budget = setting(record, "budget");
    assert_eq!(of_budget["value"]["amount_nanos"], 10 * FEE_NANOS);
    assert_eq!(
        record["limits"],
        json!([{ "scope": { "type": "key", "id": key.id }, "policies": policies }])
    );
    assert_eq!(record["price"]["pricing"]["per_request_nanos"], FEE_NANOS);
    assert_eq!(record["price"]["set"]["kind"], "model.created");
    let account = &record["accounts"][0];
    assert_eq!(account["rule"], json!({ "type": "budget", "id": budget }));
    assert_eq!(
        (&account["limit"], &account["reserved"]),
        (&json!(10 * FEE_NANOS), &json!(FEE_NANOS))
    );
    assert_eq!(
        (&account["settled_before"], &account["settled_after"]),
        (&json!(0), &json!(FEE_NANOS))
    );
    assert!(
        account["lease"]["granted_in_all"].as_i64() >= Some(FEE_NANOS),
        "{account}"
    );
}

fn assert_now(now: &Value) {
    assert_eq!(
        (&now["allowed"], &now["cost_nanos"]),
        (&json!(false), &json!(3 * FEE_NANOS))
    );
    let refusing: Vec<&Value> = now["checks"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|check| check["allows"] == false)
        .map(|check| &check["what"])
        .collect();
    assert_eq!(refusing, ["key", "budget"], "{now}");
}

#[tokio::test]
async fn line_175_a_call_is_explained_by_what_stood_then_and_who_set_it() -> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 10 * FEE_NANOS).await?;
    let key_path = tenant.path(&format!("/keys/{}", key.id));
    let policies = json!({ "ratelimit": { "requests": { "per_minute": 50 } } });
    let change = tenant.admin.read(&key_path).await?;
    let version = change["version"].as_u64().unwrap_or_default();
    let request = tenant
        .admin
        .request(http::Method::PATCH, &format!("{key_path}?wait=all"))
        .header("if-match", format!("\"{version}\""))
        .header("x-odock-reason", "a limit for the explanation")
        .header("x-odock-change-ref", "TICKET-1")
        .json(&json!({ "policies": policies }));
    tenant.admin.send(request).await?.expect(200)?;
    let gateway = stack.gateway(0)?;
    let request = gateway
        .chat_request(&key.secret)
        .header("x-request-id", "explain-me")
        .json(&say("demo-fee", "hi"));
    let answer = gateway.send(request).await?;
    answer.expect(200)?;
    let usage_id = answer
        .header("x-odock-usage-id")
        .unwrap_or_default()
        .to_owned();
    tenant.usage(&usage_id).await?;

    // Afterwards everything is other than it was.
    change_everything(&tenant, &key, &budget).await?;

    for asked in ["explain-me", usage_id.as_str()] {
        let path = tenant.path(&format!("/requests/{asked}/explanation"));
        let explained = wait_until("settled", Duration::from_secs(5), async || {
            let explained = tenant.admin.read(&path).await?;
            let settled = &explained["records"][0]["accounts"][0]["settled"];
            anyhow::ensure!(settled == FEE_NANOS, "{explained}");
            Ok(explained)
        })
        .await?;
        assert_eq!(explained["request_id"], asked);
        assert_eq!(explained["records"].as_array().map_or(0, Vec::len), 1);
        let record = &explained["records"][0];
        assert_eq!(record["usage"]["id"], usage_id.as_str());
        assert_then(record, &key, &budget, &policies);
        assert_now(&record["now"]);
    }
    let unknown = tenant.path("/requests/never-seen/explanation");
    assert_eq!(tenant.admin.get(&unknown).await?.status, 404);
    // Another tenant's call is nobody's.
    let other = stack.tenant().await?;
    let foreign = other.path(&format!("/requests/{usage_id}/explanation"));
    assert_eq!(other.admin.get(&foreign).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn line_175_the_command_says_it_in_words() -> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let answer = stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?;
    answer.expect(200)?;
    let usage_id = answer
        .header("x-odock-usage-id")
        .unwrap_or_default()
        .to_owned();
    tenant.usage(&usage_id).await?;
    let command = async |id: &str, more: &[&str]| -> anyhow::Result<std::process::Output> {
        let ready = &stack.ready;
        let output = tokio::process::Command::new(odock_tests::place::odock()?)
            .args(["explain", id, "--organisation", &tenant.organisation_id])
            .args([
                "--admin-url",
                &ready.admin_url,
                "--admin-token",
                &ready.admin_token,
            ])
            .args(more)
            .output()
            .await?;
        Ok(output)
    };
    let said = command(&usage_id, &[]).await?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{text}");
    for part in [
        usage_id.as_str(),
        "completed (200)",
        "no budget or quota on its path",
        "now it would be allowed",
        &format!("key {} version 1, set by ", key.id),
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let as_json = command(&usage_id, &["--json"]).await?;
    let as_json: Value = serde_json::from_slice(&as_json.stdout)?;
    let cost = as_json["records"][0]["usage"]["cost_nanos"].as_i64();
    assert!(cost >= Some(OUTPUT_NANOS), "{as_json}");
    let unknown = command("never-seen", &[]).await?;
    assert_eq!(unknown.status.code(), Some(1));
    let wrong = command("no id!", &[]).await?;
    assert_eq!(wrong.status.code(), Some(1));
    Ok(())
}
