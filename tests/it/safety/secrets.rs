//! Secrets, prompts and answers are in no log, table, event, stream or error.

use std::{path::Path, process::Command};

use odock_tests::{
    Stack,
    accounting::assert_accounted,
    client::say,
    tenant::{id, token_pricing, unique},
};
use serde_json::json;

#[tokio::test]
async fn line_025_raw_keys_prompts_and_personal_fields_are_written_nowhere() -> anyhow::Result<()> {
    let stack = Stack::builder().own_redis().start().await?;
    let mut tenant = stack.tenant().await?;
    let provider_secret = unique("provider-secret");
    let marker = unique("promptmarker");
    let email = format!("{}@example.org", unique("mail"));
    let name = unique("Person");
    let user = json!({ "email": email, "name": name });
    let user = id(&tenant.admin.create(&tenant.path("/users"), &user).await?)?;
    let key = tenant
        .key_with(&json!({ "type": "user", "user_id": user }))
        .await?;
    let held =
        json!({ "provider_id": tenant.provider_id, "name": "second", "value": provider_secret });
    let provider_key = id(&tenant
        .admin
        .create(&tenant.path("/provider-keys"), &held)
        .await?)?;
    let own = std::mem::replace(&mut tenant.provider_key_id, provider_key);
    tenant
        .add_model("refused", "demo-fast", token_pricing())
        .await?;
    tenant.provider_key_id = own;
    tenant.grant(&key, "refused").await?;

    let gateway = stack.gateway(0)?;
    let mut answers = Vec::new();
    for model in ["demo-fast", "refused", "no such model"] {
        answers.push(
            gateway
                .chat(&key.secret, &say(model, &marker))
                .await?
                .text(),
        );
        let stream = gateway.stream(&key.secret, &say(model, &marker)).await?;
        answers.push(String::from_utf8_lossy(&stream.rest().await.raw).into_owned());
    }
    let unfinished = format!("{{\"model\":\"{marker}\",\"messages\":\"{marker}");
    answers.push(gateway.chat_bytes(&key.secret, unfinished).await?.text());
    let wrong = odock_events::secret_key::SecretKey::generate();
    answers.push(gateway.validate(wrong.expose()).await?.text());
    let query = format!("/v1/keys/validate?key={}", key.secret);
    answers.push(
        gateway
            .send(gateway.request(reqwest::Method::POST, &query))
            .await?
            .text(),
    );
    answers.push(gateway.get("/metrics").await?.text());
    assert_accounted(&stack).await?;

    let kept = [
        ("answers", answers.join("\n").into_bytes()),
        ("logs", stack.logs()?.into_bytes()),
        (
            "journals and snapshots",
            files_under(&stack.data_dir.join("gateway-1"))?,
        ),
        ("Postgres", dump(&stack.ready.postgres_url)?),
        ("Redis", everything_in_redis(&stack).await?),
    ];
    for (place, content) in &kept {
        assert!(content.len() > 100, "nothing was looked at in {place}");
        for (what, never) in [
            ("the key", key.secret.as_str()),
            ("an unknown key", wrong.expose()),
            ("the provider key", &provider_secret),
            ("the demo provider's key", odock_tests::tenant::DEMO_KEY),
            ("the e-mail", &email),
            ("the user's name", &name),
            ("the admin token", &tenant.admin.token),
        ] {
            assert!(!contains(content, never), "{what} is in {place}");
        }
        // A model's name is the client's own text, and the error may repeat it.
        let prompts = if *place == "answers" {
            "\"messages\""
        } else {
            marker.as_str()
        };
        assert!(!contains(content, prompts), "the prompt is in {place}");
    }
    Ok(())
}

#[tokio::test]
async fn line_132_no_stored_row_holds_a_prompt_or_an_answer() -> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let marker = unique("promptmarker");
    let mut body = say("demo-fast", &marker);
    body["tools"] = json!([{ "type": "function", "function": { "name": marker, "parameters": { "type": "object" } } }]);
    // A label that is asked for, by which calls are counted: the only text of the body that is kept.
    body["user"] = json!("end-user-7");
    stack
        .gateway(0)?
        .chat(&key.secret, &body)
        .await?
        .expect(200)?;
    stack
        .gateway(0)?
        .stream(&key.secret, &body)
        .await?
        .rest()
        .await;
    let accounted = assert_accounted(&stack).await?;
    assert_eq!(accounted.records.len(), 2);
    let dump = dump(&stack.ready.postgres_url)?;
    assert!(!contains(&dump, &marker) && !contains(&dump, "\" a a a"));
    let batches: Vec<(Vec<u8>,)> = sqlx::query_as("SELECT body FROM usage_batch")
        .fetch_all(&stack.postgres)
        .await?;
    for (batch,) in batches {
        let opened = zstd::decode_all(batch.as_slice())?;
        assert!(!contains(&opened, &marker));
    }
    Ok(())
}

/// Every table as text.
fn dump(url: &str) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("pg_dump")
        .args(["--data-only", "--inserts", url])
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Binary columns come as hex: what is text in them is looked for as bytes.
    let mut all = output.stdout;
    let hex: Vec<Vec<u8>> = all
        .split(|byte| *byte == b'\'')
        .filter_map(|part| unhex(part.strip_prefix(b"\\x")?))
        .collect();
    all.extend(hex.concat());
    Ok(all)
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn files_under(dir: &Path) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all.extend(files_under(&entry.path())?);
        } else {
            all.extend(std::fs::read(entry.path())?);
        }
    }
    Ok(all)
}

async fn everything_in_redis(stack: &Stack) -> anyhow::Result<Vec<u8>> {
    let mut redis = stack.redis().await?;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
    let mut all = keys.join("\n").into_bytes();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await?;
        let read = match kind.as_str() {
            "stream" => {
                redis::cmd("XRANGE")
                    .arg(&key)
                    .arg("-")
                    .arg("+")
                    .query_async::<redis::Value>(&mut redis)
                    .await?
            }
            "hash" => {
                redis::cmd("HGETALL")
                    .arg(&key)
                    .query_async(&mut redis)
                    .await?
            }
            "zset" => {
                redis::cmd("ZRANGE")
                    .arg(&key)
                    .arg(0)
                    .arg(-1)
                    .query_async(&mut redis)
                    .await?
            }
            "set" => {
                redis::cmd("SMEMBERS")
                    .arg(&key)
                    .query_async(&mut redis)
                    .await?
            }
            "string" => redis::cmd("GET").arg(&key).query_async(&mut redis).await?,
            // Gone since it was listed.
            "none" => continue,
            other => anyhow::bail!("{key} is a {other}, which this test cannot read"),
        };
        collect(&read, &mut all);
    }
    Ok(all)
}

fn collect(value: &redis::Value, all: &mut Vec<u8>) {
    match value {
        redis::Value::BulkString(bytes) => all.extend(bytes),
        redis::Value::SimpleString(text) => all.extend(text.as_bytes()),
        redis::Value::Array(values) => values.iter().for_each(|value| collect(value, all)),
        redis::Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            collect(key, all);
            collect(value, all);
        }),
        _ => {}
    }
}

fn contains(content: &[u8], text: &str) -> bool {
    content
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
