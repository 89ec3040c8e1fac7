//! `ready.json`, as CONTRACT.md 1 has it.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    pub version: u32,
    pub gateway_url: String,
    pub gateway_urls: Vec<String>,
    pub admin_url: String,
    pub admin_token: String,
    pub organisation_id: Option<String>,
    pub key_id: Option<String>,
    pub key: Option<String>,
    pub budget_id: Option<String>,
    #[serde(default)]
    pub models: Vec<String>,
    pub demo_upstream_url: Option<String>,
    pub postgres_url: String,
    pub redis_url: String,
    pub pids: Pids,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Pids {
    pub up: u32,
    pub gateway: Vec<u32>,
    pub projector: Vec<u32>,
    pub admin: Vec<u32>,
    pub postgres: Option<u32>,
    pub redis: Option<u32>,
    pub demo: Option<u32>,
}

impl Pids {
    /// All of them, `up` first.
    pub fn all(&self) -> Vec<u32> {
        let services = [&self.gateway, &self.projector, &self.admin];
        let single = [self.postgres, self.redis, self.demo];
        std::iter::once(self.up)
            .chain(services.into_iter().flatten().copied())
            .chain(single.into_iter().flatten())
            .collect()
    }
}

impl Ready {
    pub fn read(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("ready.json");
        let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))
    }

    /// The key of the seeded tenant.
    pub fn seeded_key(&self) -> anyhow::Result<&str> {
        self.key.as_deref().context("this stack has no seeded key")
    }
}
