//! What the call may cost at most, and that much of every hard budget on its path, a first chunk of it of every elastic
//! one: of all of them or of none.

use odock_events::{
    ledger::purse::{Refusal, Want},
    payload::{account::AccountSpec, budget::BudgetMode, usage::AccountUse},
    state::Model,
    units::NanoUsd,
};

use super::{
    bounds::{Bounds, cost_up_to},
    elastic::Chunks,
    final_gate::Limited,
    grant::Granted,
};
use crate::{
    dialect::openai_chat::request::ChatRequest,
    error::{BudgetDenial, Code, DenialScope, GatewayError},
    state::Gateway,
    telemetry::metrics::{BudgetDecision, Metrics},
};

/// A call that every budget has room for.
pub(crate) struct Reserved {
    pub(crate) granted: Granted,
    pub(crate) accounts: Vec<AccountUse>,
    /// R; 0 when no budget on the path reserves.
    pub(crate) upper_bound: NanoUsd,
    /// The output limit that R was computed with, where the model sets one, or a policy.
    pub(crate) output_cap: Option<u64>,
    /// How a stream goes on that has reserved a first chunk only.
    pub(crate) more: Option<Box<Chunks>>,
}

pub(crate) async fn reserve(gateway: &Gateway, limited: Limited) -> Result<Reserved, GatewayError> {
    let Limited {
        granted,
        output_cap: allowed,
    } = limited;
    let caller = &granted.origin.caller;
    let path = gateway.accounts.on_path(
        &caller.snapshot,
        &caller.entry.key,
        granted.origin.received_at,
    );
    if !path.iter().any(|account| account.mode.refuses()) {
        let without = |account| AccountUse {
            account,
            reserved: 0,
        };
        return Ok(Reserved {
            granted,
            accounts: path.into_iter().map(without).collect(),
            upper_bound: NanoUsd::ZERO,
            output_cap: allowed,
            more: None,
        });
    }
    let first = First::of(&granted.request, &granted.model, &path)?;
    let wants: Vec<Want> = path
        .iter()
        .filter(|account| account.mode.refuses())
        .map(|account| Want {
            account: account.clone(),
            amount: first.amount(account.mode).0,
        })
        .collect();
    let metrics = &gateway.books.metrics;
    let upper_bound = wants.iter().map(|want| want.amount).max();
    let upper_bound = NanoUsd(upper_bound.unwrap_or_default());
    if let Err(refusal) = gateway.books.money.reserve(&wants).await {
        let cost = format!("this call can cost up to {upper_bound} USD");
        return Err(refused(metrics, refusal, &cost));
    }
    metrics.decided_budget(BudgetDecision::Reserved);
    let caps = [granted.model.body.config.max_output_tokens, allowed];
    let output_cap = caps.into_iter().flatten().min();
    Ok(Reserved {
        granted,
        accounts: uses(path, wants),
        upper_bound,
        output_cap,
        more: first.chunks.map(|(chunks, _)| Box::new(chunks)),
    })
}

/// What a call reserves before it begins.
struct First {
    /// Of a hard budget, and of every one by a call that is no stream: all it can cost.
    whole: NanoUsd,
    /// Of an elastic budget by a stream: its input and a chunk.
    chunks: Option<(Chunks, NanoUsd)>,
}

impl First {
    fn of(
        request: &ChatRequest,
        model: &Model,
        path: &[AccountSpec],
    ) -> Result<Self, GatewayError> {
        let bounds = Bounds::of(request, model);
        let is = |mode| move |account: &&AccountSpec| account.mode == mode;
        let elastic = path.iter().filter(is(BudgetMode::Elastic));
        let elastic: Vec<AccountSpec> = elastic.cloned().collect();
        if !request.stream || elastic.is_empty() {
            let what = if path.iter().any(|account| account.mode == BudgetMode::Hard) {
                "a hard budget"
            } else {
                "an elastic budget"
            };
            let whole = bounds.cost.map_err(|unbounded| unbounded.under(what))?;
            return Ok(Self {
                whole,
                chunks: None,
            });
        }
        let hard = path.iter().any(|account| account.mode == BudgetMode::Hard);
        let whole = match bounds.cost {
            Ok(whole) => whole,
            Err(unbounded) if hard => return Err(unbounded.under("a hard budget")),
            Err(_) => NanoUsd::ZERO,
        };
        let mut chunks = Chunks::first(elastic, request.choices, bounds.tokens_out.ok());
        let cost = |output| {
            cost_up_to(request, model, output)
                .map_err(|unbounded| unbounded.under("an elastic budget"))
        };
        let first = cost(chunks.covered())?;
        let next = cost(chunks.covered().saturating_add(chunks.tokens()))?;
        // Each chunk is rounded up by itself.
        chunks.set_price(next.0.saturating_sub(first.0).saturating_add(1));
        Ok(Self {
            whole,
            chunks: Some((chunks, first)),
        })
    }

    fn amount(&self, mode: BudgetMode) -> NanoUsd {
        match (mode, &self.chunks) {
            (BudgetMode::Elastic, Some((_, first))) => *first,
            (BudgetMode::Elastic, None) | (BudgetMode::Hard | BudgetMode::Soft, _) => self.whole,
        }
    }
}

/// The accounts on the path with what was taken of each.
fn uses(path: Vec<AccountSpec>, wants: Vec<Want>) -> Vec<AccountUse> {
    let mut taken = wants.into_iter().map(|want| want.amount);
    let of = |account: AccountSpec| {
        let refuses = account.mode.refuses();
        let reserved = if refuses { taken.next() } else { None };
        AccountUse {
            account,
            reserved: reserved.unwrap_or_default(),
        }
    };
    path.into_iter().map(of).collect()
}

/// What a caller is told that there is no money for. `cost` says what it would have taken.
pub(crate) fn refused(metrics: &Metrics, refusal: Refusal, cost: &str) -> GatewayError {
    match refusal {
        Refusal::Denied { account, denial } => {
            metrics.decided_budget(BudgetDecision::Denied);
            let message = format!(
                "the budget {} of this {} has too little left: {cost}",
                account.id.budget,
                account.owner.kind(),
            );
            GatewayError::denied(
                message,
                BudgetDenial {
                    scope: DenialScope {
                        kind: account.owner.kind(),
                        id: account.owner.id_text(),
                    },
                    budget_id: account.id.budget,
                    limit_nanos: NanoUsd(denial.limit),
                    held_nanos: NanoUsd(denial.held),
                    settled_nanos: NanoUsd(denial.settled),
                    resets_at: account.window_end,
                    silent_gateways: denial.silent.iter().map(ToString::to_string).collect(),
                },
            )
        }
        Refusal::Unanswered { account } => {
            metrics.decided_budget(BudgetDecision::Unavailable);
            let message = format!("there was no answer on the budget {}", account.id.budget);
            GatewayError::new(Code::BudgetUnavailable, message).with_retry_after(1)
        }
        Refusal::Crowded => {
            metrics.decided_budget(BudgetDecision::Unavailable);
            GatewayError::new(
                Code::BudgetUnavailable,
                "too many calls wait for their budgets",
            )
            .with_retry_after(1)
        }
    }
}
