//! One fixed example of each kind of event: the goldens are made of them, and docs/EVENTS.md shows them.

mod overlay;
mod rules;

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use self::rules::{account, budget, quota};
use crate::{
    clock::Timestamp,
    envelope::{Actor, EntityKind, EntityRef, Envelope, Meta},
    ids::{
        AttemptId, CommandId, EventId, GatewayId, KeyId, ModelId, OrganisationId, ProviderId,
        ProviderKeyId, ReclaimId, SealedSecretId, TeamId, UsageId, UserId,
    },
    kind::{Event, Kind},
    payload::{
        JsonObject, Nothing,
        command::CommandRejected,
        gateway::{GatewayClosed, GatewayLost, GatewayOpened, LogGap},
        grant::{GrantBody, GrantTarget},
        key::{KeyBody, KeyRotated, KeyType},
        lease::{
            BudgetBreached, LeaseGranted, LeaseReturned, LeaseStated, LeaseTotals, ReturnedLease,
            StatedLease, WindowClosed,
        },
        model::{Capability, ModelBody, ModelConfig, ModelType, PriceSource, ResolvedPrice},
        organisation::{OrganisationBody, OrganisationStatus},
        provider::{ProviderBody, ProviderKeyBody, ProviderType},
        team::{MembershipBody, MembershipRole, TeamBody},
        usage::{
            AccountUse, Attempt, AttemptOutcome, TokenDetails, Units, UsageFinished, UsageStatus,
        },
        user::{UserBody, UserRole, UserStatus},
    },
    personal::Sealed,
    pricing::{
        CostBreakdown, LongContext, Pieces, Pricing, Rates, ServiceTier, ServiceTiers, TierPrices,
        TokenUsage, Unpriced,
    },
    units::{NanoUsd, Sha256Digest},
};

/// 24 November 2026, 12:00 UTC.
pub const AT: Timestamp = Timestamp(1_795_521_600_000_000);

fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0193_5a00_0000_7000_8000_0000_0000_0000 + number)
}

fn digest(byte: u8) -> Sha256Digest {
    Sha256Digest([byte; 32])
}

fn object(value: serde_json::Value) -> JsonObject {
    match value {
        serde_json::Value::Object(map) => map,
        _ => JsonObject::new(),
    }
}

/// The meta data of an example about a team.
#[must_use]
pub fn meta() -> Meta {
    meta_of(EntityKind::Team, 2)
}

fn meta_of(kind: EntityKind, version: u64) -> Meta {
    Meta {
        id: EventId(id(1)),
        organisation_id: Some(OrganisationId(id(2))),
        team_id: Some(TeamId(id(3))),
        actor: Actor::Service {
            name: "bootstrap".into(),
        },
        on_behalf_of: Some(Actor::User {
            id: UserId(id(4)),
            ip: Some(Sealed(vec![7; 40])),
        }),
        reason: Some("quarterly review".into()),
        change_ref: Some("CHG-1".into()),
        command_id: Some(CommandId(id(5))),
        correlation_id: Some("req-1".into()),
        causation_id: Some(EventId(id(6))),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        config_version: Some(41),
        price_version: Some(1),
        estimated: true,
        ..Meta::new(EntityRef { kind, id: id(10) }, version, AT)
    }
}

/// An event of every kind, in the order of `Kind::ALL`.
#[must_use]
pub fn one_of_each() -> Vec<Envelope> {
    Kind::ALL.iter().map(|kind| of_kind(*kind)).collect()
}

/// The example of one kind.
#[must_use]
pub fn of_kind(kind: Kind) -> Envelope {
    let (entity, version, event) = parts_of(kind);
    Envelope {
        meta: meta_of(entity, version),
        event,
    }
}

#[expect(clippy::too_many_lines, reason = "one arm a kind")]
fn parts_of(kind: Kind) -> (EntityKind, u64, Event) {
    use EntityKind as E;
    match kind {
        Kind::OrganisationCreated => (
            E::Organisation,
            1,
            Event::OrganisationCreated(organisation()),
        ),
        Kind::OrganisationUpdated => (
            E::Organisation,
            2,
            Event::OrganisationUpdated(organisation()),
        ),
        Kind::OrganisationDeleted => (E::Organisation, 3, Event::OrganisationDeleted(Nothing {})),
        Kind::TeamCreated => (E::Team, 1, Event::TeamCreated(team())),
        Kind::TeamUpdated => (E::Team, 2, Event::TeamUpdated(team())),
        Kind::TeamDeleted => (E::Team, 3, Event::TeamDeleted(Nothing {})),
        Kind::UserCreated => (E::User, 1, Event::UserCreated(user())),
        Kind::UserUpdated => (E::User, 2, Event::UserUpdated(user())),
        Kind::UserDeleted => (E::User, 3, Event::UserDeleted(Nothing {})),
        Kind::MembershipCreated => (E::Membership, 1, Event::MembershipCreated(membership())),
        Kind::MembershipUpdated => (E::Membership, 2, Event::MembershipUpdated(membership())),
        Kind::MembershipDeleted => (E::Membership, 3, Event::MembershipDeleted(Nothing {})),
        Kind::ProviderCreated => (E::Provider, 1, Event::ProviderCreated(provider())),
        Kind::ProviderUpdated => (E::Provider, 2, Event::ProviderUpdated(provider())),
        Kind::ProviderDeleted => (E::Provider, 3, Event::ProviderDeleted(Nothing {})),
        Kind::ProviderKeyCreated => (E::ProviderKey, 1, Event::ProviderKeyCreated(provider_key())),
        Kind::ProviderKeyUpdated => (E::ProviderKey, 2, Event::ProviderKeyUpdated(provider_key())),
        Kind::ProviderKeyRevoked => (E::ProviderKey, 3, Event::ProviderKeyRevoked(Nothing {})),
        Kind::ProviderKeyDeleted => (E::ProviderKey, 4, Event::ProviderKeyDeleted(Nothing {})),
        Kind::ModelCreated => (E::Model, 1, Event::ModelCreated(model())),
        Kind::ModelUpdated => (E::Model, 2, Event::ModelUpdated(model())),
        Kind::ModelDeleted => (E::Model, 3, Event::ModelDeleted(Nothing {})),
        Kind::KeyCreated => (E::Key, 1, Event::KeyCreated(key())),
        Kind::KeyUpdated => (E::Key, 2, Event::KeyUpdated(key())),
        Kind::KeyRevoked => (E::Key, 3, Event::KeyRevoked(Nothing {})),
        Kind::KeyUnrevoked => (E::Key, 4, Event::KeyUnrevoked(Nothing {})),
        Kind::KeyRotated => (E::Key, 5, Event::KeyRotated(rotation())),
        Kind::KeyDeleted => (E::Key, 6, Event::KeyDeleted(Nothing {})),
        Kind::GrantCreated => (E::Grant, 1, Event::GrantCreated(grant())),
        Kind::GrantDeleted => (E::Grant, 2, Event::GrantDeleted(Nothing {})),
        Kind::BudgetCreated => (E::Budget, 1, Event::BudgetCreated(budget())),
        Kind::BudgetUpdated => (E::Budget, 2, Event::BudgetUpdated(budget())),
        Kind::BudgetDeleted => (E::Budget, 3, Event::BudgetDeleted(Nothing {})),
        Kind::QuotaCreated => (E::Quota, 1, Event::QuotaCreated(quota())),
        Kind::QuotaUpdated => (E::Quota, 2, Event::QuotaUpdated(quota())),
        Kind::QuotaDeleted => (E::Quota, 3, Event::QuotaDeleted(Nothing {})),
        Kind::OverlayCreated => (E::Overlay, 1, Event::OverlayCreated(overlay::body())),
        Kind::OverlayUpdated => (E::Overlay, 2, Event::OverlayUpdated(overlay::body())),
        Kind::OverlayDeleted => (E::Overlay, 3, Event::OverlayDeleted(Nothing {})),
        Kind::GatewayOpened => (E::Gateway, 0, Event::GatewayOpened(opened())),
        Kind::UsageFinished => (E::Usage, 0, Event::UsageFinished(usage())),
        Kind::LeaseReturned => (E::Gateway, 0, Event::LeaseReturned(returned())),
        Kind::LeaseStated => (E::Gateway, 0, Event::LeaseStated(stated())),
        Kind::GatewayClosed => {
            let closed = GatewayClosed {
                gateway_id: GatewayId(id(20)),
                epoch: 3,
            };
            (E::Gateway, 0, Event::GatewayClosed(closed))
        }
        Kind::LeaseGranted => {
            let granted = LeaseGranted {
                gateway_id: GatewayId(id(20)),
                account: account(),
                granted: 1_000_000,
            };
            (E::Budget, 0, Event::LeaseGranted(granted))
        }
        Kind::WindowClosed => (
            E::Budget,
            0,
            Event::WindowClosed(WindowClosed {
                account: account().id,
            }),
        ),
        Kind::WindowCarried => (E::Quota, 0, Event::WindowCarried(rules::carried())),
        Kind::RaiseEnded => (E::Budget, 0, Event::RaiseEnded(rules::raise_ended())),
        Kind::ThresholdCrossed => (E::Budget, 0, Event::ThresholdCrossed(rules::crossed())),
        Kind::BudgetBreached => {
            let breached = BudgetBreached {
                account: account().id,
                usage_id: UsageId(id(21)),
                excess: 5,
            };
            (E::Budget, 0, Event::BudgetBreached(breached))
        }
        Kind::GatewayLost => {
            let lost = GatewayLost {
                gateway_id: GatewayId(id(20)),
                successor: Some(GatewayId(id(22))),
            };
            (E::Gateway, 0, Event::GatewayLost(lost))
        }
        Kind::LogGap => {
            let gap = LogGap {
                gateway_id: GatewayId(id(20)),
                first_seq: 7,
                last_seq: 9,
            };
            (E::Gateway, 0, Event::LogGap(gap))
        }
        Kind::CommandRejected => {
            let rejected = CommandRejected {
                command_id: CommandId(id(5)),
                boundary: Some(OrganisationId(id(2))),
                code: "conflict".into(),
                detail: "the organisation was at version 8, the command expects 7".into(),
            };
            (E::Command, 0, Event::CommandRejected(rejected))
        }
    }
}

fn organisation() -> OrganisationBody {
    OrganisationBody {
        name: "Acme".into(),
        contact: Some("ops desk".into()),
        branding: object(json!({"colour": "#0a0"})),
        policies: JsonObject::new(),
        status: OrganisationStatus::Active,
    }
}

fn team() -> TeamBody {
    TeamBody {
        name: "search".into(),
        policies: JsonObject::new(),
    }
}

fn user() -> UserBody {
    UserBody {
        email: Sealed(vec![1; 44]),
        name: Some(Sealed(vec![2; 36])),
        role: UserRole::OrgAdmin,
        status: UserStatus::Active,
    }
}

fn membership() -> MembershipBody {
    MembershipBody {
        team_id: TeamId(id(3)),
        user_id: UserId(id(4)),
        role: MembershipRole::Manager,
    }
}

fn provider() -> ProviderBody {
    ProviderBody {
        kind: ProviderType::OpenAi,
        name: "openai".into(),
        base_url: "https://api.openai.com/v1".into(),
        timeout_ms: 600_000,
        config: JsonObject::new(),
        enabled: true,
    }
}

fn provider_key() -> ProviderKeyBody {
    ProviderKeyBody {
        provider_id: ProviderId(id(30)),
        name: "production".into(),
        key_preview: "sk-pro…a1b2".into(),
        revoked: false,
        sealed_secret_id: SealedSecretId(id(31)),
        sealed_sha256: digest(3),
    }
}

fn pricing() -> Pricing {
    let dearer = LongContext {
        above_input_tokens: 100_000,
        rates: Rates {
            input_per_million_nanos: Some(2_000_000_000),
            ..Rates::default()
        },
    };
    let flex = TierPrices {
        rates: Rates {
            output_per_million_nanos: Some(1_000_000_000),
            ..Rates::default()
        },
        ..TierPrices::default()
    };
    Pricing {
        cached_input_per_million_nanos: Some(250_000_000),
        units_per_million_nanos: BTreeMap::from([(
            "web_search_medium".to_owned(),
            10_000_000_000_000,
        )]),
        long_context: vec![dearer],
        service_tiers: ServiceTiers {
            flex: Some(Box::new(flex)),
            ..ServiceTiers::default()
        },
        unpriced: vec![Unpriced::InputAudio],
        ..Pricing::of_tokens(1_000_000_000, 2_000_000_000)
    }
}

fn model() -> ModelBody {
    ModelBody {
        name: "fast".into(),
        slug: "gpt-fast".into(),
        kind: ModelType::Chat,
        capabilities: vec![Capability::ToolUse, Capability::Vision],
        provider_id: ProviderId(id(30)),
        provider_key_id: ProviderKeyId(id(32)),
        config: ModelConfig {
            context_window: Some(128_000),
            max_output_tokens: Some(4_096),
            max_image_tokens: Some(100),
            max_web_searches: Some(1),
            ..ModelConfig::default()
        },
        pricing: Some(Box::new(pricing())),
        catalogue_id: Some("openai/gpt-fast".into()),
        policies: JsonObject::new(),
        price: ResolvedPrice {
            version: 1,
            source: PriceSource::Model,
            pricing: Some(Box::new(pricing())),
        },
    }
}

fn key() -> KeyBody {
    KeyBody {
        kind: KeyType::Team,
        team_id: Some(TeamId(id(3))),
        user_id: None,
        name: Some("ci".into()),
        secret_sha256: digest(1),
        key_preview: "sk_Ab3…x9Qz".into(),
        revoked: false,
        rotation_count: 0,
        last_rotated_at: None,
        expires_at: Some(Timestamp(AT.0 + 86_400_000_000)),
        timezone: "Europe/Zurich".into(),
        policies: JsonObject::new(),
    }
}

fn rotation() -> KeyRotated {
    KeyRotated {
        secret_sha256: digest(2),
        key_preview: "sk_Zz9…0000".into(),
        expires_at: None,
        previous_key_preview: "sk_Ab3…x9Qz".into(),
        previous_expires_at: Some(AT),
    }
}

fn grant() -> GrantBody {
    GrantBody {
        key_id: KeyId(id(11)),
        target: GrantTarget::Model {
            id: ModelId(id(12)),
        },
    }
}

fn opened() -> GatewayOpened {
    GatewayOpened {
        gateway_id: GatewayId(id(20)),
        epoch: 3,
        nonce: "5d41402abc4b2a76".into(),
        predecessor: None,
        tail_unproven: false,
        version: "0.0.0".into(),
    }
}

fn returned() -> LeaseReturned {
    LeaseReturned {
        gateway_id: GatewayId(id(20)),
        reclaim_id: Some(ReclaimId(id(23))),
        leases: vec![ReturnedLease {
            account: account().id,
            returned: 500_000,
        }],
    }
}

fn stated() -> LeaseStated {
    let totals = LeaseTotals {
        granted: 1_000_000,
        settled: 45_000,
        returned: 500_000,
    };
    LeaseStated {
        gateway_id: GatewayId(id(20)),
        generation: 1_795_521_600_000,
        leases: vec![StatedLease {
            account: account(),
            totals,
        }],
    }
}

/// The call of CONTRACT's usage example: 5 tokens in, 20 out, 45,000 nanos.
fn usage() -> UsageFinished {
    UsageFinished {
        usage_id: UsageId(id(10)),
        request_id: "req-1".into(),
        gateway_id: GatewayId(id(20)),
        key_id: KeyId(id(11)),
        user_id: Some(UserId(id(4))),
        model_id: ModelId(id(12)),
        model: "fast".into(),
        slug: "demo-fast".into(),
        provider_id: ProviderId(id(30)),
        provider: "custom".into(),
        route: "/v1/chat/completions".into(),
        stream: true,
        status: UsageStatus::Completed,
        http_status: 200,
        tokens: TokenUsage {
            input: 5,
            cached_input: 0,
            cache_write: 0,
            output: 20,
            reasoning: 0,
        },
        details: TokenDetails {
            input_image: 1,
            ..TokenDetails::default()
        },
        units: Some(Units {
            count: 1,
            kind: "images".into(),
        }),
        pieces: Pieces::from([("web_search_medium".to_owned(), 1)]),
        service_tier: ServiceTier::Flex,
        tags: BTreeMap::from([("project".to_owned(), "alpha".to_owned())]),
        end_user: Some("customer-7".into()),
        cost: NanoUsd(45_000),
        breakdown: CostBreakdown {
            input: NanoUsd(5_000),
            output: NanoUsd(40_000),
            ..CostBreakdown::default()
        },
        accounts: vec![AccountUse {
            account: account(),
            reserved: 8_800_000,
        }],
        attempts: vec![Attempt {
            id: AttemptId(id(24)),
            model: "fast".into(),
            provider: "custom".into(),
            reserved: NanoUsd(8_800_000),
            outcome: AttemptOutcome::Success,
            status: Some(200),
            cost_nanos: NanoUsd(45_000),
        }],
        provider_request_id: Some("chatcmpl-1".into()),
        trace_id: None,
        started_at: AT,
        first_byte_at: Some(Timestamp(AT.0 + 4_000)),
        finished_at: Timestamp(AT.0 + 12_000),
        latency_ms: 12,
    }
}
