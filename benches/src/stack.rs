//! A real `odock up` of the release build, with a tenant whose provider is the benches' stub.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// A running stack; stopped when dropped.
pub struct Stack {
    up: Child,
    pub ready: Value,
    client: reqwest::Client,
    /// Secret of a key with a grant and a hard budget, and its model's name.
    pub key: String,
    pub model: String,
    _data: tempfile::TempDir,
}

impl Stack {
    /// Starts it with `gateways` gateways of one worker each and makes the tenant.
    pub async fn start(odock: &Path, gateways: usize, stub: &str) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let up = Command::new(odock)
            .args(["up", "--data-dir"])
            .arg(data.path())
            .args([
                "--gateway-port",
                "0",
                "--admin-port",
                "0",
                "--demo-port",
                "0",
            ])
            .args(["--gateways", &gateways.to_string()])
            .env("GATEWAY_WORKER_THREADS", "1")
            .env("LOG_LEVEL", "warn")
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start {}", odock.display()))?;
        let ready = wait_ready(&data.path().join("ready.json")).await?;
        let mut stack = Self {
            up,
            ready,
            client: reqwest::Client::builder().build()?,
            key: String::new(),
            model: "bench".to_owned(),
            _data: data,
        };
        stack.make_tenant(stub).await?;
        Ok(stack)
    }

    /// A string of ready.json.
    pub fn text(&self, pointer: &str) -> anyhow::Result<String> {
        let value = self.ready.pointer(pointer).and_then(Value::as_str);
        value
            .map(str::to_owned)
            .with_context(|| format!("ready.json has no {pointer}"))
    }

    /// A pid of ready.json.
    pub fn pid(&self, pointer: &str) -> anyhow::Result<u32> {
        let value = self.ready.pointer(pointer).and_then(Value::as_u64);
        let pid = value.with_context(|| format!("ready.json has no {pointer}"))?;
        Ok(u32::try_from(pid)?)
    }

    /// `host:port` of a gateway.
    pub fn gateway(&self, index: usize) -> anyhow::Result<String> {
        Ok(self
            .text(&format!("/gateway_urls/{index}"))?
            .replace("http://", ""))
    }

    /// One call of the admin API below the organisation.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let organisation = self.text("/organisation_id")?;
        let url = format!(
            "{}/api/v1/organisations/{organisation}/{path}",
            self.text("/admin_url")?
        );
        let request = self
            .client
            .post(url)
            .bearer_auth(self.text("/admin_token")?)
            .json(&body);
        let answer = request.send().await?;
        let status = answer.status();
        let value: Value = answer.json().await?;
        if !status.is_success() {
            bail!("POST {path}: {status} {value}");
        }
        Ok(value)
    }

    async fn make_tenant(&mut self, stub: &str) -> anyhow::Result<()> {
        let provider =
            json!({"type": "custom", "name": "bench", "base_url": format!("http://{stub}/v1")});
        let provider = id(&self.post("providers", provider).await?)?;
        let provider_key = json!({"provider_id": provider, "name": "bench", "value": "sk-bench"});
        let provider_key = id(&self.post("provider-keys", provider_key).await?)?;
        let key = self
            .post("keys", json!({"type": "organisation", "name": "bench"}))
            .await?;
        for name in ["bench", "bench-gap"] {
            let model = json!({
                "name": name, "type": "chat", "provider_id": provider, "provider_key_id": provider_key,
                "config": {"context_window": 128_000, "max_output_tokens": 4_096},
                "pricing": {"input_per_million_nanos": 1_000_000_000_i64, "output_per_million_nanos": 2_000_000_000_i64},
            });
            let model = id(&self.post("models", model).await?)?;
            let grant = json!({"key_id": id(&key)?, "target": {"type": "model", "id": model}});
            self.post("grants", grant).await?;
        }
        let budget = json!({
            "owner": {"type": "key", "id": id(&key)?}, "period": "monthly", "mode": "hard",
            "amount_nanos": 9_000_000_000_000_000_i64,
        });
        self.post("budgets", budget).await?;
        let secret = key
            .get("secret")
            .and_then(Value::as_str)
            .context("no secret")?;
        secret.clone_into(&mut self.key);
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.up.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.up.wait();
    }
}

async fn wait_ready(path: &Path) -> anyhow::Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
        if let Ok(ready) = serde_json::from_str(&text) {
            return Ok(ready);
        }
        if Instant::now() > deadline {
            bail!("odock up was not ready within 60 s");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn id(value: &Value) -> anyhow::Result<String> {
    value
        .get("id")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .context("no id")
}

/// The release build beside this bench's own executable.
pub fn odock() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own
        .parent()
        .map(|folder| folder.join("odock"))
        .unwrap_or_default();
    anyhow::ensure!(
        path.is_file(),
        "{} is missing: run `make bench`",
        path.display()
    );
    Ok(path)
}
