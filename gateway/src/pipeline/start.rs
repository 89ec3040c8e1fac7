//! The last look and the first record: the key is still valid, the provider's secret is at hand, and `started` is in the
//! journal. From here on the call has a usage record, whatever happens.

use http::HeaderValue;
use odock_events::{
    envelope::{Actor, Meta},
    ids::{AttemptId, UsageId},
    payload::usage::{Attempt, AttemptOutcome, TokenDetails, UsageFinished, UsageStatus},
    pricing::{CostBreakdown, Pieces, ServiceTier, TokenUsage},
    units::NanoUsd,
};

use super::{
    authenticate,
    decode::Origin,
    elastic::Chunks,
    grant::{Granted, Target},
    live::LiveCall,
    open_call::OpenCall,
    record::{Asked, CallRecord, Ending, Produced, reservations},
    reserve::Reserved,
};
use crate::{
    dialect::openai_chat::request::ChatRequest,
    error::{Code, GatewayError},
    journal::Started,
    state::Gateway,
    telemetry::{metrics::Route, traces},
};

/// A call that is in the journal and has not reached for its upstream yet.
pub(crate) struct StartedCall {
    pub(crate) open: OpenCall,
    pub(crate) usage_id: UsageId,
    pub(crate) attempt_id: AttemptId,
    pub(crate) request: Box<ChatRequest>,
    pub(crate) head: Box<http::request::Parts>,
    pub(crate) model: std::sync::Arc<odock_events::state::Model>,
    pub(crate) target: Target,
    pub(crate) authorization: HeaderValue,
    pub(crate) output_cap: Option<u64>,
    /// How a stream under an elastic budget goes on.
    pub(crate) more: Option<Box<Chunks>>,
    /// Cut when the key stops being valid.
    pub(crate) live: LiveCall,
}

pub(crate) async fn start(
    gateway: &Gateway,
    reserved: Reserved,
) -> Result<StartedCall, GatewayError> {
    let record = draft(gateway, &reserved);
    let uses = reservations(&record.started.usage);
    // Nothing waits between the reservation and the record, so a caller who goes away cannot leave money reserved.
    match write_started(gateway, &reserved, &record) {
        Ok(Written {
            authorization,
            live,
            number,
        }) => {
            let started = into_started(gateway, reserved, record, authorization, live);
            if gateway.settings.journal_strict {
                return wait_for_disk(gateway, started, number).await;
            }
            Ok(started)
        }
        Err(error) => {
            gateway.books.money.release(&uses);
            Err(error)
        }
    }
}

/// `strict`: nothing reaches an upstream that a power loss could make us forget.
async fn wait_for_disk(
    gateway: &Gateway,
    started: StartedCall,
    number: u64,
) -> Result<StartedCall, GatewayError> {
    match gateway.books.journal.synced(number).await {
        Ok(()) => Ok(started),
        Err(error) => {
            started.open.finish(Ending {
                status: UsageStatus::UpstreamError,
                outcome: AttemptOutcome::Unreachable,
                upstream_status: None,
                http_status: Code::JournalUnavailable.status_number(),
                produced: Produced::Nothing,
                provider_request_id: None,
            });
            Err(GatewayError::from(Code::JournalUnavailable).with_cause(error))
        }
    }
}

/// What there is once a call is in the journal.
struct Written {
    authorization: HeaderValue,
    live: LiveCall,
    /// The record's number in the journal.
    number: u64,
}

fn write_started(
    gateway: &Gateway,
    reserved: &Reserved,
    record: &CallRecord,
) -> Result<Written, GatewayError> {
    let Granted { origin, target, .. } = &reserved.granted;
    // First in the list, then the look at the key: a revocation is seen by the look or finds the call in the list.
    let live = gateway
        .live
        .enter(origin.caller.entry.key.id, UsageId(origin.id));
    authenticate::check_again(gateway, &origin.caller, origin.received_at)?;
    let authorization = gateway.vault.authorization(&target.provider_key)?;
    let number = gateway
        .books
        .journal
        .started(&record.started)
        .map_err(|error| {
            GatewayError::from(Code::JournalUnavailable)
                .with_retry_after(1)
                .with_cause(error)
        })?;
    Ok(Written {
        authorization,
        live,
        number,
    })
}

fn into_started(
    gateway: &Gateway,
    reserved: Reserved,
    record: Box<CallRecord>,
    authorization: HeaderValue,
    live: LiveCall,
) -> StartedCall {
    let Reserved {
        granted,
        output_cap,
        more,
        ..
    } = reserved;
    let Granted {
        origin,
        request,
        model,
        target,
    } = granted;
    let Origin {
        head, id, place, ..
    } = *origin;
    let books = std::sync::Arc::clone(&gateway.books);
    StartedCall {
        open: OpenCall::new(record, books, place),
        usage_id: UsageId(id),
        attempt_id: AttemptId(id),
        request,
        head,
        model,
        target,
        authorization,
        output_cap,
        more,
        live,
    }
}

/// What the call becomes if the gateway dies with it: interrupted, under a hard budget all of R, under an elastic one
/// what came in. Marks raise the latter as the call goes on.
fn draft(gateway: &Gateway, reserved: &Reserved) -> Box<CallRecord> {
    let Granted {
        origin,
        request,
        model,
        target,
    } = &reserved.granted;
    let key = &origin.caller.entry.key;
    let now = gateway.books.clock.now();
    let usage_id = UsageId(origin.id);
    let provider = target.provider.body.kind.name();
    let attempt = Attempt {
        id: AttemptId(origin.id),
        model: model.body.name.clone(),
        provider: provider.to_owned(),
        reserved: reserved.upper_bound,
        outcome: AttemptOutcome::Interrupted,
        status: None,
        cost_nanos: reserved.upper_bound,
    };
    let traceparent = traces::parent_of(&origin.head.headers);
    let usage = UsageFinished {
        usage_id,
        request_id: origin.request_id.to_str().unwrap_or_default().to_owned(),
        gateway_id: gateway.id,
        key_id: key.id,
        user_id: key.body.user_id,
        model_id: model.id,
        model: model.body.name.clone(),
        slug: model.body.slug.clone(),
        provider_id: target.provider.id,
        provider: provider.to_owned(),
        route: Route::ChatCompletions.path().to_owned(),
        stream: request.stream,
        status: UsageStatus::Interrupted,
        http_status: 0,
        tokens: TokenUsage::default(),
        details: TokenDetails::default(),
        units: None,
        pieces: Pieces::new(),
        service_tier: ServiceTier::Standard,
        tags: reserved.labels.tags.clone(),
        end_user: reserved.labels.end_user.clone(),
        cost: reserved.upper_bound,
        breakdown: CostBreakdown::default(),
        accounts: reserved.accounts.clone(),
        attempts: vec![attempt],
        provider_request_id: None,
        trace_id: traceparent.map(|parent| traces::trace_id(parent).to_owned()),
        started_at: origin.received_at,
        first_byte_at: None,
        finished_at: now,
        latency_ms: 0,
    };
    let meta = Meta {
        organisation_id: Some(key.organisation_id),
        team_id: key.body.team_id,
        actor: Actor::Key { id: key.id },
        traceparent: traceparent.map(str::to_owned),
        config_version: Some(origin.caller.snapshot.version),
        price_version: Some(model.body.price.version),
        estimated: true,
        ..Meta::new(usage_id.into(), 0, now)
    };
    let mut record = Box::new(CallRecord {
        started: Started { meta, usage },
        model: std::sync::Arc::clone(model),
        asked: Asked::of(request, &model.body.config),
        first_byte_at: None,
        topped_up: false,
        so_far: Produced::Counted { output: 0 },
        limits: origin.limits.clone(),
    });
    if !record.reserves_whole() && reserved.upper_bound > NanoUsd::ZERO {
        record.owes_what_there_is();
    }
    record
}
