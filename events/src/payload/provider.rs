//! Providers and their keys. A provider key's secret lies sealed in the private table `sealed_secret`; events carry
//! its id and the hash of what lies there.

use serde::{Deserialize, Serialize};

use super::JsonObject;
use crate::{
    ids::{ProviderId, SealedSecretId},
    units::Sha256Digest,
};

/// `provider.created`, `provider.updated`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderBody {
    #[serde(rename = "type")]
    pub kind: ProviderType,
    pub name: String,
    /// Ends before `/chat/completions`; without a slash at its end.
    pub base_url: String,
    pub timeout_ms: u64,
    pub config: JsonObject,
    pub enabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderType {
    #[serde(rename = "openai")]
    OpenAi,
    Anthropic,
    Google,
    #[serde(rename = "azure_openai")]
    AzureOpenAi,
    Vllm,
    Mistral,
    #[serde(rename = "huggingface")]
    HuggingFace,
    Custom,
}

impl ProviderType {
    pub const ALL: [Self; 8] = [
        Self::OpenAi,
        Self::Anthropic,
        Self::Google,
        Self::AzureOpenAi,
        Self::Vllm,
        Self::Mistral,
        Self::HuggingFace,
        Self::Custom,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Google => "google",
            Self::AzureOpenAi => "azure_openai",
            Self::Vllm => "vllm",
            Self::Mistral => "mistral",
            Self::HuggingFace => "huggingface",
            Self::Custom => "custom",
        }
    }
}

/// `provider_key.created`, `provider_key.updated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderKeyBody {
    pub provider_id: ProviderId,
    pub name: String,
    pub key_preview: String,
    pub revoked: bool,
    pub sealed_secret_id: SealedSecretId,
    /// SHA-256 of the envelope's JSON as stored.
    pub sealed_sha256: Sha256Digest,
}
