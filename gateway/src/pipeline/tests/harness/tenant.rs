//! One organisation as the gateway's snapshot has it.

use std::net::SocketAddr;

use odock_events::{
    clock::Timestamp,
    ids::{GrantId, KeyId, ModelId, OrganisationId, ProviderId, ProviderKeyId, SealedSecretId},
    payload::{
        grant::{GrantBody, GrantTarget},
        key::{KeyBody, KeyType},
        model::{ModelBody, ModelConfig, ModelType, PriceSource, ResolvedPrice},
        provider::{ProviderBody, ProviderKeyBody, ProviderType},
    },
    secret_key::SecretKey,
    state::{EntityRow, Grant, Key, Model, Provider, ProviderKey, Row},
    units::Sha256Digest,
};
use serde_json::Map;

use crate::{pipeline::testing::PRICING, snapshot::vault::Vault};

/// Models that answer by themselves, all at the same upstream.
const MODELS: [&str; 10] = [
    "fast",
    "stream",
    "hang",
    "not-json",
    "error-in-200",
    "redirect",
    "error-500",
    "error-401",
    "error-429",
    "not-granted",
];

pub(super) struct TenantRows {
    rows: Vec<EntityRow>,
    pub(super) key: KeyId,
    pub(super) provider_keys: Vec<ProviderKey>,
}

impl TenantRows {
    pub(super) fn new(
        upstream: SocketAddr,
        key: &SecretKey,
        revoked: &SecretKey,
        expired: &SecretKey,
    ) -> Self {
        let organisation = OrganisationId::generate();
        let base = format!("http://{upstream}/v1");
        let live = provider(organisation, ProviderType::Custom, &base, true);
        let disabled = provider(organisation, ProviderType::Custom, &base, false);
        let gemini = provider(organisation, ProviderType::Google, &base, true);
        let unreachable = provider(
            organisation,
            ProviderType::Custom,
            "http://127.0.0.1:1",
            true,
        );
        let providers = [live, disabled, gemini, unreachable];
        let provider_keys: Vec<ProviderKey> = providers
            .iter()
            .map(|provider| provider_key(organisation, provider, false))
            .collect();
        let dead = provider_key(organisation, &providers[0], true);
        let at = |index: usize, name| {
            model(organisation, name, &providers[index], &provider_keys[index])
        };
        let mut models: Vec<Model> = MODELS.into_iter().map(|name| at(0, name)).collect();
        models.extend([at(1, "disabled"), at(2, "gemini"), at(3, "unreachable")]);
        models.push(model(organisation, "revoked-key", &providers[0], &dead));
        let keys = [
            key_row(organisation, key, false, None),
            key_row(organisation, revoked, true, None),
            key_row(organisation, expired, false, Some(Timestamp(1))),
        ];
        let first = keys[0].id;
        let granted = models
            .iter()
            .filter(|model| model.body.name != "not-granted");
        let grants = granted.map(|model| grant(organisation, first, model.id));
        let mut rows: Vec<EntityRow> = grants.map(EntityRow::from).collect();
        rows.extend(keys.map(EntityRow::from));
        rows.extend(models.into_iter().map(EntityRow::from));
        rows.extend(providers.map(EntityRow::from));
        rows.extend(provider_keys.iter().cloned().map(EntityRow::from));
        rows.push(dead.into());
        Self {
            rows,
            key: first,
            provider_keys,
        }
    }

    pub(super) fn all(&self) -> Vec<EntityRow> {
        self.rows.clone()
    }

    pub(super) fn with_revoked_key(&self) -> Vec<EntityRow> {
        let mut rows = self.all();
        for row in &mut rows {
            if let EntityRow::Key(key) = row
                && key.id == self.key
            {
                key.body.revoked = true;
            }
        }
        rows
    }
}

/// Holds the secret `upstream-key` for every provider key.
pub(super) fn vault(rows: &TenantRows) -> Vault {
    Vault::holding(rows.provider_keys.iter().map(|key| (key, "upstream-key")))
}

fn row<I, B>(organisation_id: OrganisationId, id: I, body: B) -> Row<I, B> {
    let at = Timestamp(0);
    Row {
        id,
        organisation_id,
        version: 1,
        created_at: at,
        updated_at: at,
        body,
    }
}

fn provider(
    organisation: OrganisationId,
    kind: ProviderType,
    base_url: &str,
    enabled: bool,
) -> Provider {
    row(
        organisation,
        ProviderId::generate(),
        ProviderBody {
            kind,
            name: "p".to_owned(),
            base_url: base_url.to_owned(),
            timeout_ms: 1_500,
            config: Map::new(),
            enabled,
        },
    )
}

fn provider_key(organisation: OrganisationId, provider: &Provider, revoked: bool) -> ProviderKey {
    row(
        organisation,
        ProviderKeyId::generate(),
        ProviderKeyBody {
            provider_id: provider.id,
            name: "k".to_owned(),
            key_preview: String::new(),
            revoked,
            sealed_secret_id: SealedSecretId::generate(),
            sealed_sha256: Sha256Digest([0; 32]),
        },
    )
}

fn model(
    organisation: OrganisationId,
    name: &str,
    provider: &Provider,
    provider_key: &ProviderKey,
) -> Model {
    row(
        organisation,
        ModelId::generate(),
        ModelBody {
            name: name.to_owned(),
            slug: format!("demo-{name}"),
            kind: ModelType::Chat,
            capabilities: Vec::new(),
            provider_id: provider.id,
            provider_key_id: provider_key.id,
            config: ModelConfig::default(),
            pricing: Some(Box::new(PRICING)),
            catalogue_id: None,
            policies: Map::new(),
            price: ResolvedPrice {
                version: 1,
                source: PriceSource::Model,
                pricing: Some(Box::new(PRICING)),
            },
        },
    )
}

fn key_row(
    organisation: OrganisationId,
    secret: &SecretKey,
    revoked: bool,
    expires_at: Option<Timestamp>,
) -> Key {
    row(
        organisation,
        KeyId::generate(),
        KeyBody {
            kind: KeyType::Organisation,
            team_id: None,
            user_id: None,
            name: None,
            secret_sha256: secret.sha256(),
            key_preview: secret.preview(),
            revoked,
            rotation_count: 0,
            last_rotated_at: None,
            expires_at,
            timezone: "UTC".to_owned(),
            policies: Map::new(),
        },
    )
}

fn grant(organisation: OrganisationId, key_id: KeyId, id: ModelId) -> Grant {
    let target = GrantTarget::Model { id };
    row(
        organisation,
        GrantId::generate(),
        GrantBody { key_id, target },
    )
}
