//! What the call may take at most, and that much of every account on its path that is reserved on: of a hard budget R, of an
//! elastic one a first chunk of it, of a quota a request or a bound of tokens. Of all of them or of none.

use odock_events::{
    clock::Timestamp,
    ledger::purse::{Refusal, Want},
    log::messages::Denial,
    payload::{
        account::{AccountSpec, RuleId, Unit},
        budget::BudgetMode,
        usage::AccountUse,
    },
    state::Model,
    units::NanoUsd,
};

use super::{
    accounts::Path,
    bounds::{Bounds, Unbounded, cost_up_to},
    elastic::Chunks,
    final_gate::Limited,
    grant::Granted,
    labels::Labels,
};
use crate::{
    dialect::openai_chat::request::ChatRequest,
    error::{Code, DenialScope, Figures, GatewayError, RuleDenial},
    state::Gateway,
    telemetry::metrics::{BudgetDecision, Metrics},
};

/// A call that every budget and quota has room for.
pub(crate) struct Reserved {
    pub(crate) granted: Granted,
    pub(crate) labels: Labels,
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
    let labels = Labels::of(&granted.origin.head.headers, &granted.request)?;
    let path = Path {
        key: &caller.entry.key,
        model: &granted.model,
        provider: granted.target.provider.id,
        labels: &labels,
    };
    let now = granted.origin.received_at;
    let path = gateway.accounts.on_path(&caller.snapshot, &path, now);
    let metrics = &gateway.books.metrics;
    refuse_full(gateway, &path, now)?;
    if !path.iter().any(|account| account.mode.reserves()) {
        let without = |account| AccountUse {
            account,
            reserved: 0,
        };
        return Ok(Reserved {
            granted,
            labels,
            accounts: path.into_iter().map(without).collect(),
            upper_bound: NanoUsd::ZERO,
            output_cap: allowed,
            more: None,
        });
    }
    let first = First::of(&granted.request, &granted.model, &path)?;
    let wants: Vec<Want> = path
        .iter()
        .filter(|account| account.mode.reserves())
        .map(|account| Want {
            account: account.clone(),
            amount: first.amount(account),
        })
        .collect();
    let money = wants.iter().filter(|want| want.account.unit == Unit::Nanos);
    let upper_bound = money.map(|want| want.amount).max();
    let upper_bound = NanoUsd(upper_bound.unwrap_or_default());
    if let Err(refusal) = gateway.books.money.reserve(&wants).await {
        let cost = first.in_words();
        return Err(refused(metrics, refusal, now, |account| {
            cost.in_unit(account)
        }));
    }
    metrics.decided_budget(BudgetDecision::Reserved);
    let caps = [granted.model.body.config.max_output_tokens, allowed];
    let output_cap = caps.into_iter().flatten().min();
    Ok(Reserved {
        granted,
        labels,
        accounts: uses(path, wants),
        upper_bound,
        output_cap,
        more: first.chunks.map(|(chunks, _)| Box::new(chunks)),
    })
}

/// Nothing is reserved on what is known only afterwards; once it is full, the next call is refused.
fn refuse_full(
    gateway: &Gateway,
    path: &[AccountSpec],
    now: Timestamp,
) -> Result<(), GatewayError> {
    for account in path
        .iter()
        .filter(|account| account.mode == BudgetMode::Postpaid)
    {
        // One that lets nothing through is full before anybody has told of it.
        let never = (account.limit == 0 && !account.rollover).then_some((0, 0));
        let told = gateway.books.money.full(account.id);
        let told = told.filter(|full| full.is_full(account.limit));
        let told = told.map(|full| (account.limit + full.carried, full.settled));
        let full = told.or(never);
        if let Some((limit, settled)) = full {
            let denial = Box::new(Denial {
                must: 0,
                limit,
                settled,
                held: 0,
                silent: Vec::new(),
                resets_at: account.window_end,
                too_many: false,
            });
            let account = Box::new(account.clone());
            let refusal = Refusal::Denied { account, denial };
            let metrics = &gateway.books.metrics;
            let cost = Cost::default();
            return Err(refused(metrics, refusal, now, |account| {
                cost.in_unit(account)
            }));
        }
    }
    Ok(())
}

/// What a call reserves before it begins.
struct First {
    /// Of a hard budget, and of every one by a call that is no stream: all it can cost.
    whole: NanoUsd,
    /// Of an elastic budget by a stream: its input and a chunk.
    chunks: Option<(Chunks, NanoUsd)>,
    tokens_in: u64,
    tokens_out: u64,
}

impl First {
    fn of(
        request: &ChatRequest,
        model: &Model,
        path: &[AccountSpec],
    ) -> Result<Self, GatewayError> {
        let bounds = Bounds::of(request, model);
        let counted = |units: &[Unit]| {
            let mut path = path.iter();
            path.any(|account| account.mode.reserves() && units.contains(&account.unit))
        };
        let tokens = |bound: &Result<u64, Unbounded>, units: &[Unit]| match bound {
            _ if !counted(units) => Ok(0),
            Ok(bound) => Ok(*bound),
            Err(unbounded) => Err(unbounded.under("a quota of tokens")),
        };
        let tokens_in = tokens(&bounds.tokens_in, &[Unit::Tokens, Unit::TokensIn])?;
        let tokens_out = tokens(&bounds.tokens_out, &[Unit::Tokens, Unit::TokensOut])?;
        let (whole, chunks) = if counted(&[Unit::Nanos]) {
            Self::money(request, model, path, bounds)?
        } else {
            (NanoUsd::ZERO, None)
        };
        Ok(Self {
            whole,
            chunks,
            tokens_in,
            tokens_out,
        })
    }

    fn money(
        request: &ChatRequest,
        model: &Model,
        path: &[AccountSpec],
        bounds: Bounds,
    ) -> Result<(NanoUsd, Option<(Chunks, NanoUsd)>), GatewayError> {
        let of_money = || path.iter().filter(|account| account.unit == Unit::Nanos);
        let elastic = of_money().filter(|account| account.mode == BudgetMode::Elastic);
        let elastic: Vec<AccountSpec> = elastic.cloned().collect();
        let hard = of_money().find(|account| account.mode == BudgetMode::Hard);
        let hard = hard.map(|account| match account.id.rule {
            RuleId::Budget(_) => "a hard budget",
            RuleId::Quota(_) => "a quota of cost",
        });
        if !request.stream || elastic.is_empty() {
            let what = hard.unwrap_or("an elastic budget");
            let whole = bounds.cost.map_err(|unbounded| unbounded.under(what))?;
            return Ok((whole, None));
        }
        let whole = match (bounds.cost, hard) {
            (Ok(whole), _) => whole,
            (Err(unbounded), Some(what)) => return Err(unbounded.under(what)),
            (Err(_), None) => NanoUsd::ZERO,
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
        Ok((whole, Some((chunks, first))))
    }

    /// Of one account, in its unit.
    fn amount(&self, account: &AccountSpec) -> i64 {
        let tokens = match account.unit {
            Unit::Nanos => {
                return match (account.mode, &self.chunks) {
                    (BudgetMode::Elastic, Some((_, first))) => first.0,
                    _ => self.whole.0,
                };
            }
            Unit::Requests => 1,
            Unit::Tokens => self.tokens_in.saturating_add(self.tokens_out),
            Unit::TokensIn => self.tokens_in,
            Unit::TokensOut => self.tokens_out,
            // Known only afterwards.
            Unit::Errors | Unit::LatencyMs => 0,
        };
        i64::try_from(tokens).unwrap_or(i64::MAX)
    }

    fn in_words(&self) -> Cost {
        let first = self.chunks.as_ref().map(|(_, first)| *first);
        Cost {
            whole: self.whole,
            first: first.unwrap_or(self.whole),
            tokens_in: self.tokens_in,
            tokens_out: self.tokens_out,
        }
    }
}

/// What a refused call would have taken, for the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    whole: NanoUsd,
    /// Of an elastic budget.
    first: NanoUsd,
    tokens_in: u64,
    tokens_out: u64,
}

impl Cost {
    fn in_unit(&self, account: &AccountSpec) -> String {
        match account.unit {
            Unit::Nanos if account.mode == BudgetMode::Elastic => {
                format!("this call begins with up to {} USD", self.first)
            }
            Unit::Nanos => format!("this call can cost up to {} USD", self.whole),
            Unit::Requests => "this call is one request".to_owned(),
            Unit::Tokens => {
                let tokens = self.tokens_in.saturating_add(self.tokens_out);
                format!("this call can take up to {tokens} tokens")
            }
            Unit::TokensIn => format!("this call can send up to {} tokens", self.tokens_in),
            Unit::TokensOut => format!("this call can produce up to {} tokens", self.tokens_out),
            Unit::Errors | Unit::LatencyMs => "it takes no call until its window ends".to_owned(),
        }
    }
}

/// The accounts on the path with what was taken of each.
fn uses(path: Vec<AccountSpec>, wants: Vec<Want>) -> Vec<AccountUse> {
    let mut taken = wants.into_iter().map(|want| want.amount);
    let of = |account: AccountSpec| {
        let amount = account.mode.reserves().then(|| taken.next()).flatten();
        AccountUse {
            account,
            reserved: amount.unwrap_or_default(),
        }
    };
    path.into_iter().map(of).collect()
}

/// What a caller is told that there is no room for. `said` says what it would have taken of the account.
pub(crate) fn refused(
    metrics: &Metrics,
    refusal: Refusal,
    now: Timestamp,
    said: impl FnOnce(&AccountSpec) -> String,
) -> GatewayError {
    match refusal {
        Refusal::Denied { account, denial } => {
            metrics.decided_budget(BudgetDecision::Denied);
            denied(&account, &denial, &said(&account), now)
        }
        Refusal::Unanswered { account } => {
            metrics.decided_budget(BudgetDecision::Unavailable);
            let rule = account.id.rule;
            let message = format!("there was no answer on the {} {rule}", rule.kind());
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

fn denied(account: &AccountSpec, denial: &Denial, said: &str, now: Timestamp) -> GatewayError {
    let rule = account.id.rule;
    let code = match rule {
        _ if denial.too_many => Code::TooManyEndUsers,
        RuleId::Budget(_) => Code::BudgetExceeded,
        RuleId::Quota(_) => Code::QuotaExceeded,
    };
    let owner = account.owner.kind().replace('_', " ");
    let kind = rule.kind();
    let message = if denial.too_many {
        format!(
            "the {kind} {rule} counts each {owner} by itself, and it counts so many already that no further one is taken \
             before its windows end"
        )
    } else {
        format!("the {kind} {rule} of this {owner} has too little left: {said}")
    };
    let figures = match rule {
        RuleId::Budget(budget_id) => Figures::Budget {
            budget_id,
            limit_nanos: denial.limit,
            held_nanos: denial.held,
            settled_nanos: denial.settled,
        },
        RuleId::Quota(quota_id) => Figures::Quota {
            quota_id,
            metric: match account.unit {
                Unit::Nanos => "cost",
                unit => unit.name(),
            },
            limit: denial.limit,
            held: denial.held,
            settled: denial.settled,
        },
    };
    let of_rule = RuleDenial {
        scope: DenialScope {
            kind: account.owner.kind(),
            id: account.owner.id_text(),
        },
        figures,
        resets_at: account.window_end,
        silent_gateways: denial.silent.iter().map(ToString::to_string).collect(),
    };
    let error = GatewayError::denied(code, message, of_rule);
    match (rule, account.window_end) {
        (RuleId::Quota(_), Some(end)) => {
            let left = end.seconds().saturating_sub(now.seconds()).max(1);
            error.with_retry_after(u32::try_from(left).unwrap_or(u32::MAX))
        }
        _ => error,
    }
}
