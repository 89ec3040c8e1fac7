//! What a limit applies to, and which limits there are: their names on the wire, their codes, their counters.

use std::hash::{Hash, Hasher};

use odock_events::{
    ids::{KeyId, ModelId, OrganisationId, TeamId},
    policy::Policy,
};
use uuid::Uuid;

use crate::error::{Code, DenialScope};

/// From the broadest to the narrowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeKind {
    /// Every call at every gateway.
    Global,
    Organisation,
    Team,
    Key,
    Model,
}

impl ScopeKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::Key => "key",
            Self::Model => "model",
        }
    }
}

/// One thing that has limits.
#[derive(Clone, Copy, Debug)]
pub struct ScopeId {
    pub kind: ScopeKind,
    pub id: Uuid,
    /// Nil for the global scope.
    pub organisation: Uuid,
}

impl ScopeId {
    pub const GLOBAL: Self = Self {
        kind: ScopeKind::Global,
        id: Uuid::nil(),
        organisation: Uuid::nil(),
    };

    #[must_use]
    pub fn organisation(id: OrganisationId) -> Self {
        Self::of(ScopeKind::Organisation, id.0, id)
    }

    #[must_use]
    pub fn team(id: TeamId, organisation: OrganisationId) -> Self {
        Self::of(ScopeKind::Team, id.0, organisation)
    }

    #[must_use]
    pub fn key(id: KeyId, organisation: OrganisationId) -> Self {
        Self::of(ScopeKind::Key, id.0, organisation)
    }

    #[must_use]
    pub fn model(id: ModelId, organisation: OrganisationId) -> Self {
        Self::of(ScopeKind::Model, id.0, organisation)
    }

    fn of(kind: ScopeKind, id: Uuid, organisation: OrganisationId) -> Self {
        Self {
            kind,
            id,
            organisation: organisation.0,
        }
    }

    /// As a denial names it.
    pub(crate) fn shown(&self) -> DenialScope {
        let id = match self.kind {
            ScopeKind::Global => "global".to_owned(),
            ScopeKind::Organisation => OrganisationId(self.id).to_string(),
            ScopeKind::Team => TeamId(self.id).to_string(),
            ScopeKind::Key => KeyId(self.id).to_string(),
            ScopeKind::Model => ModelId(self.id).to_string(),
        };
        DenialScope {
            kind: self.kind.name(),
            id,
        }
    }
}

impl PartialEq for ScopeId {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.kind == other.kind
    }
}

impl Eq for ScopeId {}

impl Hash for ScopeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
        self.kind.hash(state);
    }
}

/// A scope's policy as its snapshot has it.
#[derive(Clone, Debug)]
pub struct ScopePolicy {
    pub scope: ScopeId,
    /// `None`: it does not read, so nothing is allowed by it.
    pub policy: Option<Policy>,
}

/// Each limit of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    Ip,
    RequestBytes,
    Concurrency,
    Burst,
    PerSecond,
    PerMinute,
    MaxTokens,
    TokensPerMinute,
}

impl LimitKind {
    pub const ALL: [Self; 8] = [
        Self::Ip,
        Self::RequestBytes,
        Self::Concurrency,
        Self::Burst,
        Self::PerSecond,
        Self::PerMinute,
        Self::MaxTokens,
        Self::TokensPerMinute,
    ];

    /// The name in denials, in header fields, and as a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::RequestBytes => "max_request_bytes",
            Self::Concurrency => "concurrency",
            Self::Burst => "burst",
            Self::PerSecond => "requests_per_second",
            Self::PerMinute => "requests_per_minute",
            Self::MaxTokens => "max_tokens",
            Self::TokensPerMinute => "tokens_per_minute",
        }
    }

    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Ip => Code::RateLimitExceeded,
            Self::RequestBytes => Code::PayloadTooLarge,
            Self::Concurrency => Code::ConcurrencyExceeded,
            Self::Burst => Code::BurstExceeded,
            Self::PerSecond => Code::RpsExceeded,
            Self::PerMinute => Code::RpmExceeded,
            Self::MaxTokens => Code::MaxTokensExceeded,
            Self::TokensPerMinute => Code::TpmExceeded,
        }
    }

    /// The window that its quota is for.
    #[must_use]
    pub fn window_seconds(self) -> Option<u64> {
        match self {
            Self::PerSecond => Some(1),
            Self::PerMinute | Self::TokensPerMinute => Some(60),
            Self::Ip | Self::RequestBytes | Self::Concurrency | Self::Burst | Self::MaxTokens => {
                None
            }
        }
    }

    /// The part of its counter's key.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Concurrency => 'c',
            Self::Burst => 'b',
            Self::PerSecond => 's',
            Self::PerMinute => 'm',
            Self::TokensPerMinute => 't',
            Self::Ip | Self::RequestBytes | Self::MaxTokens => 'x',
        }
    }
}

/// A counter is of one limit of one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterId {
    pub scope: ScopeId,
    pub limit: LimitKind,
}

impl CounterId {
    /// Its key in Redis; the hash tag keeps one organisation's counters in one slot.
    pub(super) fn key(&self) -> String {
        let (organisation, letter) = (self.scope.organisation.simple(), self.limit.letter());
        match self.scope.kind {
            ScopeKind::Global => format!("{{l}}:{letter}:global"),
            ScopeKind::Organisation | ScopeKind::Team | ScopeKind::Key | ScopeKind::Model => {
                format!("{{l:{organisation}}}:{letter}:{}", self.scope.id.simple())
            }
        }
    }
}

/// What a call needs of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub counter: CounterId,
    pub limit: u64,
    /// Microseconds: the window, the time of one call in a bucket, how long a slot may last.
    pub span: u64,
    pub amount: u64,
    pub shadow: bool,
}
