//! The demo tenant: made through the admin API, piece by piece, each only when it is missing. So a start that was cut off is
//! repaired by the next one, and a later start changes nothing but the demo provider's address.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    admin_client::{AdminClient, text},
    files,
    ready::DemoTenant,
};
use crate::demo::DEFAULT_KEY;

/// Where to seed, and what it refers to.
pub(crate) struct Seed<'a> {
    pub(crate) admin_url: &'a str,
    pub(crate) admin_token: &'a str,
    pub(crate) demo_url: String,
    /// Where the key's secret is kept.
    pub(crate) key_file: &'a Path,
}

impl Seed<'_> {
    pub(crate) async fn ensure(self) -> anyhow::Result<DemoTenant> {
        let admin = AdminClient::new(self.admin_url, self.admin_token)?;
        let organisation = ensure(&admin, "/organisations", json!({"name": NAME})).await?;
        let organisation_id = text(&organisation, "id")?;
        let tenant = Tenant {
            admin,
            base: format!("/organisations/{organisation_id}"),
        };
        let provider_id = tenant.ensure_provider(&self.demo_url).await?;
        let provider_key_id = tenant.ensure_provider_key(&provider_id).await?;
        let mut model_ids = Vec::new();
        for (name, price) in MODELS {
            let body = model(name, price, &provider_id, &provider_key_id);
            model_ids.push(text(&tenant.ensure("models", body).await?, "id")?);
        }
        let (key_id, key) = tenant.ensure_key(self.key_file).await?;
        let budget_id = tenant.ensure_budget(&key_id).await?;
        tenant.ensure_grants(&key_id, &model_ids).await?;
        Ok(DemoTenant {
            organisation_id,
            key_id,
            key,
            budget_id,
            models: MODELS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            demo_upstream_url: self.demo_url,
        })
    }
}

struct Tenant {
    admin: AdminClient,
    base: String,
}

impl Tenant {
    fn path(&self, resource: &str) -> String {
        format!("{}/{resource}", self.base)
    }

    async fn ensure(&self, resource: &str, body: Value) -> anyhow::Result<Value> {
        ensure(&self.admin, &self.path(resource), body).await
    }

    /// The demo provider may have got another port since.
    async fn ensure_provider(&self, demo_url: &str) -> anyhow::Result<String> {
        let base_url = format!("{demo_url}/v1");
        let body = json!({"type": "custom", "name": NAME, "base_url": base_url});
        let provider = self.ensure("providers", body).await?;
        let id = text(&provider, "id")?;
        if text(&provider, "base_url")? != base_url {
            let path = self.path(&format!("providers/{id}"));
            self.admin
                .patch(&path, &provider, &json!({"base_url": base_url}))
                .await?;
        }
        Ok(id)
    }

    async fn ensure_provider_key(&self, provider_id: &str) -> anyhow::Result<String> {
        let body = json!({"provider_id": provider_id, "name": NAME, "value": DEFAULT_KEY});
        text(&self.ensure("provider-keys", body).await?, "id")
    }

    /// The secret is shown once, so it is kept in a file; when that is lost, the key gets a new one.
    async fn ensure_key(&self, key_file: &Path) -> anyhow::Result<(String, String)> {
        let keys = self.path("keys");
        let found = self.admin.find(&keys, &[("/name", NAME)]).await?;
        if let Some(key) = &found
            && let Ok(secret) = fs::read_to_string(key_file)
            && is_secret_of(&secret, key)
        {
            return Ok((text(key, "id")?, secret));
        }
        let made = match found {
            None => {
                let body = json!({"type": "organisation", "name": NAME});
                self.admin.post(&keys, &body).await?
            }
            Some(key) => {
                let id = text(&key, "id")?;
                if key.get("revoked") == Some(&Value::Bool(true)) {
                    self.admin
                        .post(&format!("{keys}/{id}/unrevoke"), &json!({}))
                        .await?;
                }
                let no_expiry = json!({"expires_at": null});
                self.admin
                    .post(&format!("{keys}/{id}/rotate"), &no_expiry)
                    .await?
            }
        };
        let secret = text(&made, "secret")?;
        files::replace(key_file, secret.as_bytes())?;
        Ok((text(&made, "id")?, secret))
    }

    async fn ensure_budget(&self, key_id: &str) -> anyhow::Result<String> {
        let budgets = self.path("budgets");
        let wanted = [("/name", NAME), ("/owner/id", key_id)];
        if let Some(budget) = self.admin.find(&budgets, &wanted).await? {
            return text(&budget, "id");
        }
        let owner = json!({"type": "key", "id": key_id});
        let body = json!({"name": NAME, "owner": owner, "period": "monthly",
            "amount_nanos": BUDGET_NANOS, "mode": "hard"});
        text(&self.admin.post(&budgets, &body).await?, "id")
    }

    async fn ensure_grants(&self, key_id: &str, model_ids: &[String]) -> anyhow::Result<()> {
        let grants = self.path("grants");
        let mut missing = Vec::new();
        for model_id in model_ids {
            let wanted = [("/key_id", key_id), ("/target/id", model_id)];
            if self.admin.find(&grants, &wanted).await?.is_none() {
                missing
                    .push(json!({"key_id": key_id, "target": {"type": "model", "id": model_id}}));
            }
        }
        if !missing.is_empty() {
            let body = json!({"create": missing, "delete": []});
            self.admin.post(&format!("{grants}/batch"), &body).await?;
        }
        Ok(())
    }
}

/// Waits until every gateway takes the key for every model.
pub(crate) async fn until_gateways_serve(
    gateway_urls: &[String],
    tenant: &DemoTenant,
) -> anyhow::Result<()> {
    let client = reqwest::Client::builder()
        .timeout(CALL_TIMEOUT)
        .no_proxy()
        .build()?;
    let begun = Instant::now();
    for url in gateway_urls {
        loop {
            let request = client
                .get(format!("{url}/v1/models"))
                .bearer_auth(&tenant.key);
            let listed = match request.send().await {
                Ok(response) => response
                    .json()
                    .await
                    .map_or(0, |list: Value| count_models(&list)),
                Err(_) => 0,
            };
            if listed >= tenant.models.len() {
                break;
            }
            if begun.elapsed() > PATIENCE {
                bail!("the gateway at {url} does not know the demo key after {PATIENCE:?}");
            }
            sleep(POLL).await;
        }
    }
    Ok(())
}

fn count_models(list: &Value) -> usize {
    list.get("data")
        .and_then(Value::as_array)
        .map_or(0, Vec::len)
}

/// Finds an entity by its name, or makes it.
async fn ensure(admin: &AdminClient, path: &str, body: Value) -> anyhow::Result<Value> {
    let name = text(&body, "name")?;
    match admin.find(path, &[("/name", &name)]).await? {
        Some(found) => Ok(found),
        None => admin
            .post(path, &body)
            .await
            .with_context(|| format!("seed {name} in {path}")),
    }
}

/// The mask of a key shows its first six and last four characters.
fn is_secret_of(secret: &str, key: &Value) -> bool {
    let usable = key.get("revoked") == Some(&Value::Bool(false));
    let Some(preview) = key.get("key_preview").and_then(Value::as_str) else {
        return false;
    };
    let first: String = preview.chars().take(6).collect();
    let last: String = preview
        .chars()
        .skip(preview.chars().count().saturating_sub(4))
        .collect();
    usable && secret.starts_with(&first) && secret.ends_with(&last)
}

fn model(name: &str, price: &Price, provider_id: &str, provider_key_id: &str) -> Value {
    json!({
        "name": name,
        "type": "chat",
        "provider_id": provider_id,
        "provider_key_id": provider_key_id,
        "config": {"context_window": 128_000, "max_output_tokens": 4096, "max_image_tokens": 100},
        "pricing": {
            "per_request_nanos": price.request,
            "input_per_million_nanos": price.input,
            "output_per_million_nanos": price.output,
        },
    })
}

/// In nano-USD; tokens for a million.
struct Price {
    request: u64,
    input: u64,
    output: u64,
}

const BY_TOKEN: Price = Price {
    request: 0,
    input: 1_000_000_000,
    output: 2_000_000_000,
};
const BY_CALL: Price = Price {
    request: 1_000_000,
    input: 0,
    output: 0,
};

const MODELS: &[(&str, Price)] = &[
    ("demo-fast", BY_TOKEN),
    ("demo-fee", BY_CALL),
    ("demo-slow", BY_TOKEN),
    ("demo-error-500", BY_TOKEN),
    ("demo-hang", BY_TOKEN),
    ("demo-cut-stream", BY_TOKEN),
    ("demo-no-usage", BY_TOKEN),
];

const NAME: &str = "demo";
/// 10 USD.
const BUDGET_NANOS: u64 = 10_000_000_000;
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_secret_is_used_only_for_its_own_live_key() {
        let key = json!({"key_preview": "sk_Ab3…x9Qz", "revoked": false});
        assert!(is_secret_of("sk_Ab3zzzzzx9Qz", &key));
        assert!(!is_secret_of("sk_Ab4zzzzzx9Qz", &key));
        let revoked = json!({"key_preview": "sk_Ab3…x9Qz", "revoked": true});
        assert!(!is_secret_of("sk_Ab3zzzzzx9Qz", &revoked));
    }
}
