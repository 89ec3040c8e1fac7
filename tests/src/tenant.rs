//! An organisation of a test's own: the demo provider, its models, keys with grants, budgets.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{client::Admin, wait::wait_until};

/// An organisation with a provider, a provider key and the models `demo-fast`, `demo-fee` and `demo-slow`.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub admin: Admin,
    pub organisation_id: String,
    pub provider_id: String,
    pub provider_key_id: String,
    models: BTreeMap<String, String>,
}

/// A key as it was made.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

/// A budget's window as the admin API tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub limit: i64,
    pub held: i64,
    pub settled: i64,
    pub free: i64,
}

/// Nanos for one token in and out of `demo-fast` and its like.
pub const INPUT_NANOS: i64 = 1_000;
pub const OUTPUT_NANOS: i64 = 2_000;
/// Nanos for one call of `demo-fee`.
pub const FEE_NANOS: i64 = 1_000_000;

impl Tenant {
    pub async fn create(admin: &Admin, demo_url: &str) -> anyhow::Result<Self> {
        let organisation = json!({ "name": unique("tenant") });
        let organisation_id = id(&admin.create("/organisations", &organisation).await?)?;
        let under = format!("/organisations/{organisation_id}");
        let provider =
            json!({ "type": "custom", "name": "demo", "base_url": format!("{demo_url}/v1") });
        let provider_id = id(&admin
            .create(&format!("{under}/providers"), &provider)
            .await?)?;
        let provider_key = json!({ "provider_id": provider_id, "name": "demo", "value": DEMO_KEY });
        let provider_key_id = id(&admin
            .create(&format!("{under}/provider-keys"), &provider_key)
            .await?)?;
        let mut tenant = Self {
            admin: admin.clone(),
            organisation_id,
            provider_id,
            provider_key_id,
            models: BTreeMap::new(),
        };
        for (slug, pricing) in [
            ("demo-fast", token_pricing()),
            ("demo-slow", token_pricing()),
            ("demo-fee", json!({ "per_request_nanos": FEE_NANOS })),
        ] {
            tenant.add_model(slug, slug, pricing).await?;
        }
        Ok(tenant)
    }

    /// `/organisations/<id><below>`.
    pub fn path(&self, below: &str) -> String {
        format!("/organisations/{}{below}", self.organisation_id)
    }

    /// A chat model of the demo provider; every gateway knows it when this returns.
    pub async fn add_model(
        &mut self,
        name: &str,
        slug: &str,
        pricing: Value,
    ) -> anyhow::Result<String> {
        let body = json!({
            "name": name, "slug": slug, "type": "chat", "pricing": pricing,
            "provider_id": self.provider_id, "provider_key_id": self.provider_key_id,
            "config": { "context_window": 128_000, "max_output_tokens": 200, "max_image_tokens": 100 },
        });
        let made = self
            .admin
            .create(&self.path("/models?wait=all"), &body)
            .await?;
        let model_id = id(&made)?;
        self.models.insert(name.to_owned(), model_id.clone());
        Ok(model_id)
    }

    pub fn model_id(&self, name: &str) -> anyhow::Result<&str> {
        self.models
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("no model {name}"))
    }

    /// An organisation key with a grant for every model there is.
    pub async fn key(&self) -> anyhow::Result<Key> {
        self.key_with(&json!({ "type": "organisation", "name": unique("key") }))
            .await
    }

    /// A key with these members, and a grant for every model there is.
    pub async fn key_with(&self, body: &Value) -> anyhow::Result<Key> {
        let key = self.key_without_grants(body).await?;
        self.grant_all(&key).await?;
        Ok(key)
    }

    pub async fn key_without_grants(&self, body: &Value) -> anyhow::Result<Key> {
        let made = self
            .admin
            .create(&self.path("/keys?wait=all"), body)
            .await?;
        let secret = made
            .get("secret")
            .and_then(Value::as_str)
            .context("a new key without secret")?;
        Ok(Key {
            id: id(&made)?,
            secret: secret.to_owned(),
        })
    }

    pub async fn grant_all(&self, key: &Key) -> anyhow::Result<()> {
        let grants: Vec<Value> = self
            .models
            .values()
            .map(|model| grant_body(&key.id, model))
            .collect();
        let batch = json!({ "create": grants });
        let made = self
            .admin
            .post(&self.path("/grants/batch?wait=all"), &batch)
            .await?;
        anyhow::ensure!(matches!(made.status, 200 | 201), "grants: {}", made.text());
        Ok(())
    }

    pub async fn grant(&self, key: &Key, model: &str) -> anyhow::Result<String> {
        let body = grant_body(&key.id, self.model_id(model)?);
        id(&self
            .admin
            .create(&self.path("/grants?wait=all"), &body)
            .await?)
    }

    /// A hard monthly budget of a key.
    pub async fn key_budget(&self, key: &Key, amount: i64) -> anyhow::Result<String> {
        self.budget("key", &key.id, amount, json!({})).await
    }

    /// A monthly budget; `others` replaces or adds members.
    pub async fn budget(
        &self,
        owner: &str,
        owner_id: &str,
        amount: i64,
        others: Value,
    ) -> anyhow::Result<String> {
        let mut body = json!({
            "owner": { "type": owner, "id": owner_id }, "period": "monthly", "amount_nanos": amount,
        });
        if let (Some(body), Value::Object(others)) = (body.as_object_mut(), others) {
            body.extend(others);
        }
        id(&self
            .admin
            .create(&self.path("/budgets?wait=all"), &body)
            .await?)
    }

    pub async fn window(&self, budget_id: &str) -> anyhow::Result<Window> {
        let budget = self
            .admin
            .read(&self.path(&format!("/budgets/{budget_id}")))
            .await?;
        let number = |name: &str| {
            let value = budget.get("window").and_then(|window| window.get(name));
            value
                .and_then(Value::as_i64)
                .with_context(|| format!("no window.{name} in {budget}"))
        };
        Ok(Window {
            limit: number("limit_nanos")?,
            held: number("held_nanos")?,
            settled: number("settled_nanos")?,
            free: number("free_nanos")?,
        })
    }

    /// The window after every gateway gave its idle part back.
    pub async fn reclaimed(&self, budget_id: &str) -> anyhow::Result<Window> {
        self.reclaim().await?;
        self.window(budget_id).await
    }

    pub async fn reclaim(&self) -> anyhow::Result<()> {
        let reclaimed = self.admin.act("/status/reclaim").await?.expect(200)?;
        let complete = reclaimed.get("complete").and_then(Value::as_bool);
        anyhow::ensure!(
            complete == Some(true),
            "the reclaim is not complete: {reclaimed}"
        );
        Ok(())
    }

    /// The record of one call: complete at most one second after its end.
    pub async fn usage(&self, usage_id: &str) -> anyhow::Result<Value> {
        let path = self.path(&format!("/usage/{usage_id}"));
        wait_until("the usage record", RECORD_DEADLINE, async || {
            self.admin.read(&path).await
        })
        .await
    }

    /// All records of the organisation.
    pub async fn all_usage(&self) -> anyhow::Result<Vec<Value>> {
        self.admin.list(&self.path("/usage?limit=200")).await
    }
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", Uuid::now_v7().simple())
}

/// The `id` of a resource.
pub fn id(resource: &Value) -> anyhow::Result<String> {
    let id = resource.get("id").and_then(Value::as_str);
    id.map(str::to_owned)
        .with_context(|| format!("no id in {resource}"))
}

/// CONTRACT.md 6's prices of `demo-fast`.
pub fn token_pricing() -> Value {
    json!({
        "input_per_million_nanos": INPUT_NANOS * 1_000_000,
        "output_per_million_nanos": OUTPUT_NANOS * 1_000_000,
    })
}

fn grant_body(key_id: &str, model_id: &str) -> Value {
    json!({ "key_id": key_id, "target": { "type": "model", "id": model_id } })
}

/// What the demo provider takes.
pub const DEMO_KEY: &str = "demo-upstream-key";
const RECORD_DEADLINE: Duration = Duration::from_secs(1);
