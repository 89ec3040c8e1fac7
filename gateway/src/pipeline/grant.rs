//! Whether the key may use the model, and where the model lives: provider, provider key, address.

use std::sync::Arc;

use odock_events::{
    payload::provider::ProviderType,
    state::{Model, Provider, ProviderKey},
};

use super::decode::{Decoded, Origin};
use crate::{
    dialect::openai_chat::request::ChatRequest,
    error::{Code, GatewayError},
    snapshot::Tenant,
    state::Gateway,
};

/// A call that its key may make, with everything that configuration says about it.
pub(crate) struct Granted {
    pub(crate) origin: Box<Origin>,
    pub(crate) request: Box<ChatRequest>,
    pub(crate) model: Arc<Model>,
    pub(crate) target: Target,
}

/// The upstream of a call.
pub(crate) struct Target {
    pub(crate) provider: Arc<Provider>,
    pub(crate) provider_key: Arc<ProviderKey>,
    pub(crate) uri: http::Uri,
}

pub(crate) fn grant(gateway: &Gateway, decoded: Decoded) -> Result<Granted, GatewayError> {
    let Decoded { origin, request } = decoded;
    let key = &origin.caller.entry.key;
    let unknown = || {
        let message = format!("there is no model `{}`", request.model);
        GatewayError::new(Code::ModelNotFound, message)
    };
    let tenant = origin
        .caller
        .snapshot
        .tenant(key.organisation_id)
        .ok_or_else(unknown)?;
    let model = tenant.model(&request.model).ok_or_else(unknown)?;
    if !origin.caller.entry.may_use(model.id) {
        let message = format!("this key has no grant for the model `{}`", request.model);
        return Err(GatewayError::new(Code::ModelNotAllowed, message));
    }
    let target = resolve(gateway, tenant, model)?;
    let model = Arc::clone(model);
    Ok(Granted {
        origin,
        request,
        model,
        target,
    })
}

fn resolve(gateway: &Gateway, tenant: &Tenant, model: &Model) -> Result<Target, GatewayError> {
    let provider = tenant.provider(model.body.provider_id);
    let provider = provider.ok_or(Code::ProviderNotConfigured)?;
    if !provider.body.enabled {
        return Err(GatewayError::from(Code::ProviderDisabled));
    }
    if !speaks_openai_chat(provider.body.kind) {
        return Err(GatewayError::from(Code::ProviderTypeUnsupported));
    }
    let provider_key = tenant.provider_key(model.body.provider_key_id);
    let provider_key = provider_key
        .filter(|key| key.body.provider_id == provider.id)
        .ok_or(Code::ProviderApiKeyNotConfigured)?;
    if provider_key.body.revoked {
        return Err(GatewayError::from(Code::ProviderApiKeyRevoked));
    }
    let uri = gateway.targets.chat_completions(provider)?;
    Ok(Target {
        provider: Arc::clone(provider),
        provider_key: Arc::clone(provider_key),
        uri,
    })
}

/// Providers that take this dialect at `<base_url>/chat/completions`.
fn speaks_openai_chat(kind: ProviderType) -> bool {
    match kind {
        ProviderType::OpenAi
        | ProviderType::Vllm
        | ProviderType::Mistral
        | ProviderType::HuggingFace
        | ProviderType::Custom => true,
        ProviderType::Anthropic | ProviderType::Google | ProviderType::AzureOpenAi => false,
    }
}
