//! What the pipeline's tests share: a call under way, and books to write it into.

use std::sync::Arc;

use odock_events::{
    clock::{Clock, SystemClock, Timestamp},
    codec,
    envelope::Meta,
    ids::{
        AttemptId, BudgetId, GatewayId, KeyId, ModelId, OrganisationId, ProviderId, ProviderKeyId,
        UsageId,
    },
    kind::Event,
    payload::{
        JsonObject,
        account::{AccountId, AccountSpec, Unit},
        budget::{BudgetMode, Owner},
        model::{ModelBody, ModelConfig, ModelType, PriceSource, ResolvedPrice},
        threshold::Thresholds,
        usage::{AccountUse, Attempt, AttemptOutcome, TokenDetails, UsageFinished, UsageStatus},
    },
    pricing::{CostBreakdown, Pieces, Pricing, ServiceTier, TokenUsage},
    state::Model,
    units::NanoUsd,
};

use tokio::sync::mpsc;

use super::{
    open_call::{Books, OpenCall, Unfinished},
    record::{Asked, CallRecord, Produced},
};
use crate::{
    journal::{Journal, JournalOptions, Started},
    limits::{LimitSettings, Limits, metrics::LimitMetrics, receipt::Receipts},
    money::Money,
    telemetry::metrics::Metrics,
};

/// 1,000 nanos a token in, 2,000 out.
pub(crate) const PRICING: Pricing = Pricing::of_tokens(1_000_000_000, 2_000_000_000);

/// A model with this price.
pub(crate) fn priced_model(pricing: Option<Pricing>) -> Model {
    let pricing = pricing.map(Box::new);
    Model {
        id: ModelId::generate(),
        organisation_id: OrganisationId::generate(),
        version: 1,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        body: ModelBody {
            name: "fast".to_owned(),
            slug: "demo-fast".to_owned(),
            kind: ModelType::Chat,
            capabilities: Vec::new(),
            provider_id: ProviderId::generate(),
            provider_key_id: ProviderKeyId::generate(),
            config: ModelConfig::default(),
            pricing: pricing.clone(),
            catalogue_id: None,
            policies: JsonObject::new(),
            price: ResolvedPrice {
                version: 1,
                source: PriceSource::Model,
                pricing,
            },
        },
    }
}

/// Started at second 1, with one hard account.
pub(crate) fn call_record(pricing: Option<Pricing>, reserved: i64) -> CallRecord {
    let usage_id = UsageId::generate();
    let organisation_id = OrganisationId::generate();
    let account = AccountSpec {
        id: AccountId::of(BudgetId::generate(), Timestamp(0)),
        organisation_id,
        owner: Owner::Organisation {
            id: organisation_id,
        },
        unit: Unit::Nanos,
        mode: BudgetMode::Hard,
        limit: 1_000_000,
        window_end: None,
        rollover: false,
        thresholds: Thresholds::default(),
    };
    let started_at = Timestamp(1_000_000);
    let usage = UsageFinished {
        usage_id,
        request_id: "r".to_owned(),
        gateway_id: GatewayId::generate(),
        key_id: KeyId::generate(),
        user_id: None,
        model_id: ModelId::generate(),
        model: "fast".to_owned(),
        slug: "demo-fast".to_owned(),
        provider_id: ProviderId::generate(),
        provider: "custom".to_owned(),
        route: "/v1/chat/completions".to_owned(),
        stream: false,
        status: UsageStatus::Interrupted,
        http_status: 0,
        tokens: TokenUsage::default(),
        details: TokenDetails::default(),
        units: None,
        pieces: Pieces::new(),
        service_tier: ServiceTier::Standard,
        tags: std::collections::BTreeMap::new(),
        end_user: None,
        cost: NanoUsd(reserved),
        breakdown: CostBreakdown::default(),
        accounts: vec![AccountUse { account, reserved }],
        attempts: vec![Attempt {
            id: AttemptId(usage_id.0),
            model: "fast".to_owned(),
            provider: "custom".to_owned(),
            reserved: NanoUsd(reserved),
            outcome: AttemptOutcome::Interrupted,
            status: None,
            cost_nanos: NanoUsd(reserved),
        }],
        provider_request_id: None,
        trace_id: None,
        started_at,
        first_byte_at: None,
        finished_at: started_at,
        latency_ms: 0,
    };
    let meta = Meta::new(usage_id.into(), 0, started_at);
    CallRecord {
        started: Started { meta, usage },
        model: Arc::new(priced_model(pricing)),
        asked: Asked {
            input: 2,
            ..Asked::default()
        },
        first_byte_at: None,
        topped_up: false,
        so_far: Produced::Counted { output: 0 },
        limits: Receipts::default(),
    }
}

/// As many calls as the test's gateway takes at a time.
pub(crate) const CAP: usize = 8;

/// Books in a directory of their own, and what is written into them.
pub(crate) struct TestBooks {
    pub(crate) books: Arc<Books>,
    pub(crate) closer: mpsc::Sender<Unfinished>,
    pub(crate) queue: mpsc::Receiver<Unfinished>,
    _directory: tempfile::TempDir,
}

impl TestBooks {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(JournalOptions::new(directory.path().to_owned())).unwrap();
        let (closer, queue) = mpsc::channel(CAP);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Metrics::new().unwrap();
        let limits = LimitMetrics::new(metrics.registry()).unwrap();
        let limits = Limits::new(LimitSettings::default(), limits, &*clock);
        let books = Arc::new(Books {
            money: Arc::new(Money::for_testing(&journal, Arc::clone(&clock), &[])),
            journal,
            metrics: Arc::new(metrics),
            limits: Arc::new(limits),
            clock,
        });
        Self {
            books,
            closer,
            queue,
            _directory: directory,
        }
    }

    /// A call whose `started` is in the journal.
    pub(crate) fn open(&self, record: CallRecord) -> OpenCall {
        self.books.journal.started(&record.started).unwrap();
        let place = self.closer.clone().try_reserve_owned().unwrap();
        OpenCall::new(Box::new(record), Arc::clone(&self.books), place)
    }

    /// The usage records in the journal, once the last of them is on disk.
    pub(crate) async fn finished(&self) -> Vec<(Meta, UsageFinished)> {
        let last = self.books.journal.next_seq() - 1;
        let mut progressed = self.books.journal.progressed();
        progressed
            .wait_for(|progressed| progressed.synced_seq >= last)
            .await
            .unwrap();
        let mut reader = self.books.journal.reader();
        let events = reader.read(1, last, 1_000).unwrap();
        let decoded = events
            .iter()
            .map(|event| codec::decode(&event.bytes).unwrap());
        let finished = decoded.filter_map(|envelope| match envelope.event {
            Event::UsageFinished(usage) => Some((envelope.meta, usage)),
            _ => None,
        });
        finished.collect()
    }
}
