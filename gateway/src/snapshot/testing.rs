//! Rows for tests: one organisation whose entities have ids made from small numbers.

use odock_events::{
    clock::Timestamp,
    ids::{
        BudgetId, GrantId, KeyId, ModelId, OrganisationId, ProviderId, ProviderKeyId,
        SealedSecretId,
    },
    payload::{
        JsonObject,
        budget::{BudgetBody, BudgetMode, Owner, Period, USD},
        grant::{GrantBody, GrantTarget},
        key::{KeyBody, KeyType},
        model::{ModelBody, ModelConfig, ModelType, PriceSource, ResolvedPrice},
        organisation::{OrganisationBody, OrganisationStatus},
        provider::{ProviderBody, ProviderKeyBody, ProviderType},
        threshold::Thresholds,
    },
    state::{Budget, Grant, Key, Model, Organisation, Provider, ProviderKey, Row},
    units::{NanoUsd, Sha256Digest},
};
use uuid::Uuid;

#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    organisation_id: OrganisationId,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            organisation_id: OrganisationId(Uuid::from_u128(1)),
        }
    }

    fn row<I: From<Uuid>, B>(self, kind: u128, number: u32, body: B) -> Row<I, B> {
        Row {
            id: id(kind, number).into(),
            organisation_id: self.organisation_id,
            version: 1,
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            body,
        }
    }

    pub(crate) fn organisation(self) -> Organisation {
        Row {
            id: self.organisation_id,
            ..self.row(
                0,
                0,
                OrganisationBody {
                    name: "acme".to_owned(),
                    contact: None,
                    branding: JsonObject::new(),
                    policies: JsonObject::new(),
                    status: OrganisationStatus::Active,
                },
            )
        }
    }

    pub(crate) fn provider(self, number: u32) -> Provider {
        let body = ProviderBody {
            kind: ProviderType::Custom,
            name: format!("provider-{number}"),
            base_url: "http://127.0.0.1:9/v1".to_owned(),
            timeout_ms: 600_000,
            config: JsonObject::new(),
            enabled: true,
        };
        self.row(PROVIDER, number, body)
    }

    /// Sealed under a secret id of the same number, with a hash that fits nothing.
    pub(crate) fn provider_key(self, number: u32) -> ProviderKey {
        let body = ProviderKeyBody {
            provider_id: ProviderId(id(PROVIDER, 1)),
            name: format!("provider-key-{number}"),
            key_preview: "sk-…1".to_owned(),
            revoked: false,
            sealed_secret_id: SealedSecretId(id(SEALED, number)),
            sealed_sha256: Sha256Digest::of(b"none"),
        };
        self.row(PROVIDER_KEY, number, body)
    }

    pub(crate) fn model(self, number: u32) -> Model {
        let body = ModelBody {
            name: format!("model-{number}"),
            slug: "slug".to_owned(),
            kind: ModelType::Chat,
            capabilities: Vec::new(),
            provider_id: ProviderId(id(PROVIDER, 1)),
            provider_key_id: ProviderKeyId(id(PROVIDER_KEY, 1)),
            config: ModelConfig {
                context_window: Some(8_000),
                ..ModelConfig::default()
            },
            pricing: None,
            catalogue_id: None,
            policies: JsonObject::new(),
            price: ResolvedPrice {
                version: 1,
                source: PriceSource::None,
                pricing: None,
            },
        };
        self.row(MODEL, number, body)
    }

    pub(crate) fn key(self, number: u32) -> Key {
        let body = KeyBody {
            kind: KeyType::Organisation,
            team_id: None,
            user_id: None,
            name: Some(format!("key-{number}")),
            secret_sha256: Sha256Digest::of(&number.to_le_bytes()),
            key_preview: "sk_Ab3…x9Qz".to_owned(),
            revoked: false,
            rotation_count: 0,
            last_rotated_at: None,
            expires_at: None,
            timezone: "UTC".to_owned(),
            policies: JsonObject::new(),
        };
        self.row(KEY, number, body)
    }

    pub(crate) fn grant(self, number: u32, key: u32, model: u32) -> Grant {
        let target = GrantTarget::Model {
            id: ModelId(id(MODEL, model)),
        };
        self.row(
            GRANT,
            number,
            GrantBody {
                key_id: KeyId(id(KEY, key)),
                target,
            },
        )
    }

    pub(crate) fn budget(self, number: u32, owner: Owner) -> Budget {
        let body = BudgetBody {
            name: None,
            owner,
            period: Period::Monthly,
            amount_nanos: NanoUsd(1_000_000),
            mode: BudgetMode::Hard,
            timezone: "UTC".to_owned(),
            start_at: None,
            end_at: None,
            active: true,
            rollover: false,
            thresholds: Thresholds::default(),
            raise: None,
            currency: USD.to_owned(),
        };
        self.row(BUDGET, number, body)
    }

    pub(crate) fn budget_of_key(self, number: u32, key: u32) -> Budget {
        self.budget(
            number,
            Owner::Key {
                id: KeyId(id(KEY, key)),
            },
        )
    }
}

pub(crate) fn grant_id(number: u32) -> GrantId {
    GrantId(id(GRANT, number))
}

pub(crate) fn model_id(number: u32) -> ModelId {
    ModelId(id(MODEL, number))
}

pub(crate) fn key_id(number: u32) -> KeyId {
    KeyId(id(KEY, number))
}

pub(crate) fn budget_id(number: u32) -> BudgetId {
    BudgetId(id(BUDGET, number))
}

fn id(kind: u128, number: u32) -> Uuid {
    Uuid::from_u128((kind << 32) + u128::from(number))
}

const PROVIDER: u128 = 1;
const PROVIDER_KEY: u128 = 2;
const SEALED: u128 = 3;
const MODEL: u128 = 4;
const KEY: u128 = 5;
const GRANT: u128 = 6;
const BUDGET: u128 = 7;
