//! From a call that reached for an upstream to its usage record: which tokens count, what they cost, what the accounts
//! settle. Pure; `pipeline::open_call` writes the result to the journal.

use odock_events::{
    clock::Timestamp,
    payload::{
        account::AccountId,
        usage::{AttemptOutcome, TokenDetails, UsageFinished, UsageStatus},
    },
    pricing::{Cost, CostBreakdown, Pricing, TokenUsage, cost},
    units::NanoUsd,
};

use crate::{dialect::openai_chat::usage::Usage, journal::Started};

/// A call under way: the record it becomes, and what its end is computed with.
#[derive(Clone, Debug)]
pub(crate) struct CallRecord {
    /// As it is in the journal: what the call becomes if the gateway dies.
    pub(crate) started: Started,
    /// `None`: the model has no price, the call is recorded without cost.
    pub(crate) pricing: Option<Pricing>,
    /// Input tokens if the upstream does not say.
    pub(crate) estimated_input: u64,
    pub(crate) first_byte_at: Option<Timestamp>,
    /// What there is so far: counts if the caller goes away now.
    pub(crate) so_far: Produced,
}

/// What the upstream produced, as far as anybody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Produced {
    /// It said so itself; what it says counts, also zero.
    Reported(Usage),
    /// It did not say: output tokens counted on the way, the input estimated.
    Counted { output: u64 },
    /// Nothing that is billed: it refused, failed, or never heard of the call.
    Nothing,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) status: UsageStatus,
    pub(crate) outcome: AttemptOutcome,
    /// What the upstream answered, if it did.
    pub(crate) upstream_status: Option<u16>,
    /// What the caller got.
    pub(crate) http_status: u16,
    pub(crate) produced: Produced,
    pub(crate) provider_request_id: Option<String>,
}

impl CallRecord {
    /// Tokens and cost if it ended now.
    pub(crate) fn price(&self, produced: Produced) -> (TokenUsage, Cost) {
        let tokens = match produced {
            Produced::Reported(usage) => TokenUsage {
                input: usage.input,
                cached_input: usage.cached_input,
                cache_write: usage.cache_write,
                output: usage.output,
                reasoning: usage.reasoning,
            },
            Produced::Counted { output } => TokenUsage {
                input: self.estimated_input,
                output,
                ..TokenUsage::default()
            },
            Produced::Nothing => return (TokenUsage::default(), Cost::default()),
        };
        let priced = self.pricing.as_ref().map(|pricing| cost(pricing, &tokens));
        // A cost beyond 64 bits cannot come of token counts that the dialect lets through; if it did, all of R is owed.
        let overflow = Cost {
            total: self.reserved(),
            breakdown: CostBreakdown::default(),
        };
        (
            tokens,
            priced.map_or_else(Cost::default, |cost| cost.unwrap_or(overflow)),
        )
    }

    /// The finished record.
    pub(crate) fn conclude(self, ending: Ending, now: Timestamp) -> Started {
        let (tokens, cost) = self.price(ending.produced);
        let Started {
            mut meta,
            mut usage,
        } = self.started;
        meta.occurred_at = now;
        meta.estimated = matches!(ending.produced, Produced::Counted { .. });
        if let Produced::Reported(reported) = ending.produced {
            usage.details = TokenDetails {
                input_audio: reported.input_audio,
                output_audio: reported.output_audio,
                ..TokenDetails::default()
            };
        }
        usage.status = ending.status;
        usage.http_status = ending.http_status;
        usage.tokens = tokens;
        usage.cost = cost.total;
        usage.breakdown = cost.breakdown;
        usage.provider_request_id = ending.provider_request_id;
        usage.first_byte_at = self.first_byte_at;
        usage.finished_at = now;
        usage.latency_ms = now.since(usage.started_at).as_millis() as u64;
        if let Some(attempt) = usage.attempts.last_mut() {
            attempt.outcome = ending.outcome;
            attempt.status = ending.upstream_status;
            attempt.cost_nanos = cost.total;
        }
        Started { meta, usage }
    }

    fn reserved(&self) -> NanoUsd {
        let reserved = self
            .started
            .usage
            .accounts
            .iter()
            .map(|account| account.reserved);
        NanoUsd(reserved.max().unwrap_or(0))
    }
}

/// What each lease of a finished call settles: the cost, at most what it reserved. The excess goes to the account.
pub(crate) fn settlements(usage: &UsageFinished) -> Vec<(AccountId, i64)> {
    let accounts = usage.accounts.iter();
    accounts
        .map(|used| (used.account.id, usage.cost.0.min(used.reserved)))
        .collect()
}

/// What each account has reserved for the call.
pub(crate) fn reservations(usage: &UsageFinished) -> Vec<(AccountId, i64)> {
    usage
        .accounts
        .iter()
        .map(|used| (used.account.id, used.reserved))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::testing::{PRICING, call_record};

    fn ending(produced: Produced) -> Ending {
        Ending {
            status: UsageStatus::Completed,
            outcome: AttemptOutcome::Success,
            upstream_status: Some(200),
            http_status: 200,
            produced,
            provider_request_id: Some("chatcmpl-1".to_owned()),
        }
    }

    #[test]
    fn what_the_upstream_reports_is_what_it_costs() {
        let usage = Usage {
            input: 5,
            output: 20,
            ..Usage::default()
        };
        let mut call = call_record(Some(PRICING), 90_000);
        call.first_byte_at = Some(Timestamp(1_500_000));
        let done = call.conclude(ending(Produced::Reported(usage)), Timestamp(2_000_000));
        assert_eq!(done.usage.cost, NanoUsd(45_000));
        assert_eq!(done.usage.attempts[0].cost_nanos, NanoUsd(45_000));
        assert_eq!(done.usage.latency_ms, 1_000);
        assert!(!done.meta.estimated);
        let account = done.usage.accounts[0].account.id;
        assert_eq!(settlements(&done.usage), [(account, 45_000)]);
        assert_eq!(reservations(&done.usage), [(account, 90_000)]);
    }

    #[test]
    fn a_lease_never_settles_more_than_it_reserved() {
        let usage = Usage {
            input: 5,
            output: 20,
            ..Usage::default()
        };
        let done = call_record(Some(PRICING), 40_000)
            .conclude(ending(Produced::Reported(usage)), Timestamp(2_000_000));
        assert_eq!(done.usage.cost, NanoUsd(45_000));
        assert_eq!(settlements(&done.usage)[0].1, 40_000);
    }

    #[test]
    fn counted_tokens_are_flagged_and_a_failure_costs_nothing() {
        let call = call_record(Some(PRICING), 90_000);
        let done = call
            .clone()
            .conclude(ending(Produced::Counted { output: 3 }), Timestamp(0));
        assert!(done.meta.estimated);
        assert_eq!(done.usage.tokens.input, call.estimated_input);
        assert_eq!(
            done.usage.cost.0,
            call.estimated_input as i64 * 1_000 + 3 * 2_000
        );
        let fee = Pricing {
            per_request_nanos: 7,
            ..PRICING
        };
        let none = call_record(Some(fee), 90_000).conclude(ending(Produced::Nothing), Timestamp(0));
        assert_eq!(none.usage.cost, NanoUsd::ZERO);
        assert!(!none.meta.estimated);
    }

    #[test]
    fn a_model_without_a_price_is_recorded_without_cost() {
        let usage = Usage {
            input: 5,
            output: 20,
            ..Usage::default()
        };
        let done = call_record(None, 0).conclude(ending(Produced::Reported(usage)), Timestamp(0));
        assert_eq!(done.usage.cost, NanoUsd::ZERO);
        assert_eq!(done.usage.tokens.output, 20);
    }
}
