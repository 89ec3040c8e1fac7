//! The gates: which limits of which scopes a call meets at each stage, and what becomes of it there.
//!
//! All scopes add up: each has counters of its own and all must have room, so a narrower scope never loosens a broader
//! one. What a call does not take before its key is known is looked at before its key is.

use std::{net::IpAddr, sync::Arc};

use http::HeaderMap;
use odock_events::{
    clock::Timestamp,
    policy::{Limit, Policy},
    state::{Key, Model},
};

use super::{
    Limits,
    denial::{exceeded, never},
    metrics::Stage,
    receipt::Receipts,
    scope::{CounterId, LimitKind, Need, ScopePolicy},
};
use crate::{
    dialect::openai_chat::request::ChatRequest,
    error::{Code, GatewayError},
    snapshot::Snapshot,
};

/// Where a call comes from, and its configuration.
pub(crate) struct Origin<'a> {
    pub(crate) peer: IpAddr,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) key: &'a Key,
    pub(crate) now: Timestamp,
}

/// A scope on a call's path, and the percentage that its limits have now.
struct OnPath<'a> {
    policy: &'a ScopePolicy,
    percent: u64,
}

impl Limits {
    /// Before the key is looked at: the global policy's address rules, and how much one address may send at all.
    pub(crate) fn pre_auth(&self, peer: IpAddr, headers: &HeaderMap) -> Result<(), GatewayError> {
        let Some(global) = &self.settings.global else {
            return Ok(());
        };
        let address = self.settings.proxies.client(peer, headers);
        self.check_address(global, address, Stage::PreAuth)?;
        if let Some(meter) = &self.addresses
            && let Err(refusal) = meter.check(address)
        {
            self.metrics.denied(Stage::PreAuth, refusal.limit);
            return Err(refusal.into_error(&global.scope));
        }
        self.metrics.allowed(Stage::PreAuth);
        Ok(())
    }

    /// The address rules of the scopes that a key belongs to.
    pub(crate) fn check_origin(&self, origin: &Origin<'_>) -> Result<(), GatewayError> {
        if origin.snapshot.policies.is_empty() {
            return Ok(());
        }
        let mut address = None;
        for policy in self.on_path(origin).skip_while(|on| is_global(on)) {
            let at = *address
                .get_or_insert_with(|| self.settings.proxies.client(origin.peer, origin.headers));
            self.check_address(policy.policy, at, Stage::Early)?;
        }
        Ok(())
    }

    /// With the key known and the body not yet read: addresses, length, slots and requests.
    pub(crate) async fn early(
        self: &Arc<Self>,
        origin: &Origin<'_>,
        body_bytes: Option<u64>,
    ) -> Result<Receipts, GatewayError> {
        if self.settings.global.is_none() && origin.snapshot.policies.is_empty() {
            return Ok(Receipts::default());
        }
        self.check_origin(origin)?;
        let mut needs = Vec::new();
        let mut met = false;
        for on in self.on_path(origin) {
            met = true;
            let policy = self.readable(&on, Stage::Early)?;
            self.check_length(&on, policy, body_bytes, Stage::Early)?;
            request_needs(&on, policy, &mut needs);
        }
        if !met {
            return Ok(Receipts::default());
        }
        let mut receipts = Receipts::default();
        self.take(needs, Stage::Early, &mut receipts).await?;
        Ok(receipts)
    }

    /// With the request and its model known: the model's own limits, the output asked for, and tokens. Tells the most
    /// output tokens that policies let the call have.
    pub(crate) async fn last(
        self: &Arc<Self>,
        origin: &Origin<'_>,
        model: &Model,
        request: &ChatRequest,
        receipts: &mut Receipts,
    ) -> Result<Option<u64>, GatewayError> {
        if self.settings.global.is_none() && origin.snapshot.policies.is_empty() {
            return Ok(None);
        }
        let mut needs = Vec::new();
        let mut output_cap = None;
        let own = scope(origin, model.id.0);
        if let Some(on) = &own {
            let address = self.settings.proxies.client(origin.peer, origin.headers);
            self.check_address(on.policy, address, Stage::Final)?;
            let policy = self.readable(on, Stage::Final)?;
            let bytes = Some(request.body().len() as u64);
            self.check_length(on, policy, bytes, Stage::Final)?;
            request_needs(on, policy, &mut needs);
        }
        let scopes: Vec<OnPath<'_>> = self.on_path(origin).chain(own).collect();
        for on in &scopes {
            let policy = self.readable(on, Stage::Final)?;
            if let Some(limit) = policy.max_tokens {
                self.check_output(on, limit, request)?;
                if !limit.shadow {
                    let least = output_cap.unwrap_or(limit.amount).min(limit.amount);
                    output_cap = Some(least);
                }
            }
        }
        let tokens = tokens(request, model, output_cap);
        for on in &scopes {
            let policy = self.readable(on, Stage::Final)?;
            if let Some(limit) = policy.tokens_per_minute {
                needs.push(Need {
                    amount: tokens,
                    ..on.need(LimitKind::TokensPerMinute, limit, MINUTE)
                });
            }
        }
        self.take(needs, Stage::Final, receipts).await?;
        Ok(output_cap)
    }

    async fn take(
        self: &Arc<Self>,
        needs: Vec<Need>,
        stage: Stage,
        receipts: &mut Receipts,
    ) -> Result<(), GatewayError> {
        if needs.is_empty() {
            self.metrics.allowed(stage);
            return Ok(());
        }
        match self.acquire(needs).await {
            Ok(passed) => {
                for need in &passed.shadowed {
                    let counter = need.counter;
                    self.metrics.shadowed(stage, counter.limit, &counter.scope);
                }
                self.metrics.allowed(stage);
                receipts.add(passed.held);
                Ok(())
            }
            Err(denial) => {
                self.metrics.denied(stage, denial.need.counter.limit);
                Err(exceeded(&denial))
            }
        }
    }

    /// Global, organisation, team, key: the broadest first.
    fn on_path<'a>(&'a self, origin: &'a Origin<'_>) -> impl Iterator<Item = OnPath<'a>> {
        let key = origin.key;
        let ids = [
            Some(key.organisation_id.0),
            key.body.team_id.map(|id| id.0),
            Some(key.id.0),
        ];
        let scopes = ids.into_iter().flatten();
        let global = self.settings.global.as_deref().map(|policy| OnPath {
            policy,
            percent: WHOLE,
        });
        global
            .into_iter()
            .chain(scopes.filter_map(move |id| scope(origin, id)))
    }

    fn check_address(
        &self,
        on: &ScopePolicy,
        address: IpAddr,
        stage: Stage,
    ) -> Result<(), GatewayError> {
        let Some(policy) = &on.policy else {
            return Ok(());
        };
        if policy.ip.is_empty() || policy.ip.allow(address) {
            return Ok(());
        }
        let refusal = (LimitKind::Ip, Code::RateLimitExceeded, None);
        self.refuse(on, refusal, policy.ip.shadow, stage)
    }

    fn check_length(
        &self,
        on: &OnPath<'_>,
        policy: &Policy,
        bytes: Option<u64>,
        stage: Stage,
    ) -> Result<(), GatewayError> {
        let Some(limit) = policy.max_request_bytes else {
            return Ok(());
        };
        let code = match bytes {
            Some(bytes) if bytes <= limit.amount => return Ok(()),
            Some(_) => Code::PayloadTooLarge,
            None => Code::PayloadSizeUnknown,
        };
        let refusal = (LimitKind::RequestBytes, code, Some(limit.amount));
        self.refuse(on.policy, refusal, limit.shadow, stage)
    }

    fn check_output(
        &self,
        on: &OnPath<'_>,
        limit: Limit,
        request: &ChatRequest,
    ) -> Result<(), GatewayError> {
        match request.max_output_tokens() {
            Some(asked) if asked > limit.amount => {
                let code = Code::MaxTokensExceeded;
                let refusal = (LimitKind::MaxTokens, code, Some(limit.amount));
                self.refuse(on.policy, refusal, limit.shadow, Stage::Final)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn refuse(
        &self,
        on: &ScopePolicy,
        (limit, code, value): (LimitKind, Code, Option<u64>),
        shadow: bool,
        stage: Stage,
    ) -> Result<(), GatewayError> {
        if shadow {
            self.metrics.shadowed(stage, limit, &on.scope);
            return Ok(());
        }
        self.metrics.denied(stage, limit);
        Err(never(&on.scope, limit, code, value))
    }

    /// A policy that does not read allows nothing: it is no policy that does not exist.
    fn readable<'a>(&self, on: &OnPath<'a>, stage: Stage) -> Result<&'a Policy, GatewayError> {
        on.policy.policy.as_ref().ok_or_else(|| {
            let limit = LimitKind::PerSecond;
            self.metrics.denied(stage, limit);
            never(&on.policy.scope, limit, Code::RateLimitExceeded, None)
        })
    }
}

impl OnPath<'_> {
    /// One of a counter, with the limit as it is scaled now.
    fn need(&self, kind: LimitKind, limit: Limit, span: u64) -> Need {
        Need {
            counter: CounterId {
                scope: self.policy.scope,
                limit: kind,
            },
            limit: scaled(limit.amount, self.percent),
            span,
            amount: 1,
            shadow: limit.shadow,
        }
    }
}

fn scope<'a>(origin: &'a Origin<'_>, id: uuid::Uuid) -> Option<OnPath<'a>> {
    let policy = origin.snapshot.policies.of(id)?;
    Some(OnPath {
        policy,
        percent: origin.snapshot.policies.percent(id, origin.now),
    })
}

fn is_global(on: &OnPath<'_>) -> bool {
    on.policy.scope == super::scope::ScopeId::GLOBAL
}

/// Slot, bucket and windows of one call.
fn request_needs(on: &OnPath<'_>, policy: &Policy, needs: &mut Vec<Need>) {
    if let Some(limit) = policy.concurrency {
        let ttl = policy
            .lease_ttl_seconds
            .map_or(ENDLESS, |seconds| seconds.saturating_mul(SECOND));
        needs.push(on.need(LimitKind::Concurrency, limit, ttl));
    }
    if let (Some(limit), Some((calls, seconds))) = (policy.burst, policy.refill()) {
        let calls = scaled(calls, on.percent);
        let each = seconds.saturating_mul(SECOND).div_ceil(calls.max(1)).max(1);
        let mut need = on.need(LimitKind::Burst, limit, each);
        if calls == 0 {
            need.limit = 0;
        }
        needs.push(need);
    }
    if let Some(limit) = policy.requests_per_second {
        needs.push(on.need(LimitKind::PerSecond, limit, SECOND));
    }
    if let Some(limit) = policy.requests_per_minute {
        needs.push(on.need(LimitKind::PerMinute, limit, MINUTE));
    }
}

/// What a call reserves of tokens a minute: its input as estimated, and the output that it may have.
fn tokens(request: &ChatRequest, model: &Model, output_cap: Option<u64>) -> u64 {
    let caps = [
        request.max_output_tokens(),
        model.body.config.max_output_tokens,
        output_cap,
    ];
    let output = caps.into_iter().flatten().min().unwrap_or(0);
    let output = output.saturating_mul(u64::from(request.choices));
    let input = request
        .input
        .estimated_tokens(model.body.config.max_image_tokens);
    input.saturating_add(output)
}

fn scaled(amount: u64, percent: u64) -> u64 {
    if percent == WHOLE {
        return amount;
    }
    let scaled = u128::from(amount) * u128::from(percent) / u128::from(WHOLE);
    u64::try_from(scaled).unwrap_or(u64::MAX).min(MOST)
}

/// Percent.
pub(crate) const WHOLE: u64 = 100;
/// What Redis' scripts still count exactly.
const MOST: u64 = 1_000_000_000_000_000;
/// Microseconds.
const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
/// A slot without an end of its own: ten years.
const ENDLESS: u64 = 315_360_000 * SECOND;
