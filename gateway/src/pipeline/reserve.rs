//! What the call may cost at most, and that much of every hard budget on its path: of all of them or of none.

use odock_events::{
    ledger::purse::{Refusal, Want},
    payload::{account::AccountSpec, budget::BudgetMode, usage::AccountUse},
    units::NanoUsd,
};

use super::{bounds::Bounds, final_gate::Limited, grant::Granted};
use crate::{
    error::{BudgetDenial, Code, DenialScope, GatewayError},
    state::Gateway,
    telemetry::metrics::BudgetDecision,
};

/// A call that every hard budget has room for.
pub(crate) struct Reserved {
    pub(crate) granted: Granted,
    pub(crate) accounts: Vec<AccountUse>,
    /// R; 0 when no hard budget is on the path.
    pub(crate) upper_bound: NanoUsd,
    /// The output limit that R was computed with, where the model sets one, or a policy.
    pub(crate) output_cap: Option<u64>,
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
    if !path.iter().any(is_hard) {
        let accounts = uses(path, NanoUsd::ZERO);
        return Ok(Reserved {
            granted,
            accounts,
            upper_bound: NanoUsd::ZERO,
            output_cap: allowed,
        });
    }
    let upper_bound = Bounds::of(&granted.request, &granted.model)
        .cost
        .map_err(|unbounded| unbounded.under("a hard budget"))?;
    let wants: Vec<Want> = path
        .iter()
        .filter(|account| is_hard(account))
        .map(|account| Want {
            account: account.clone(),
            amount: upper_bound.0,
        })
        .collect();
    if let Err(refusal) = gateway.books.money.reserve(&wants).await {
        return Err(refused(gateway, refusal, upper_bound));
    }
    gateway
        .books
        .metrics
        .decided_budget(BudgetDecision::Reserved);
    let caps = [granted.model.body.config.max_output_tokens, allowed];
    let output_cap = caps.into_iter().flatten().min();
    Ok(Reserved {
        granted,
        accounts: uses(path, upper_bound),
        upper_bound,
        output_cap,
    })
}

fn is_hard(account: &AccountSpec) -> bool {
    match account.mode {
        BudgetMode::Hard => true,
        BudgetMode::Soft => false,
    }
}

fn uses(path: Vec<AccountSpec>, reserved: NanoUsd) -> Vec<AccountUse> {
    let of = |account: AccountSpec| {
        let reserved = if is_hard(&account) { reserved.0 } else { 0 };
        AccountUse { account, reserved }
    };
    path.into_iter().map(of).collect()
}

fn refused(gateway: &Gateway, refusal: Refusal, reserved: NanoUsd) -> GatewayError {
    let metrics = &gateway.books.metrics;
    match refusal {
        Refusal::Denied { account, denial } => {
            metrics.decided_budget(BudgetDecision::Denied);
            let message = format!(
                "the budget {} of this {} has too little left: this call can cost up to {reserved} USD",
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
