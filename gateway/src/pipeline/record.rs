//! From a call that reached for an upstream to its usage record: which tokens count, what they cost, what the accounts
//! settle. Pure; `pipeline::open_call` writes the result to the journal.

use std::sync::Arc;

use odock_events::{
    clock::Timestamp,
    ledger::purse,
    payload::{
        account::{AccountId, Unit},
        budget::BudgetMode,
        model::ModelConfig,
        usage::{AttemptOutcome, UsageFinished, UsageStatus},
    },
    pricing::{
        Billed, Cost, CostBreakdown, Pieces, Pricing, ServiceTier, TokenDetails, TokenUsage, cost,
    },
    state::Model,
    units::NanoUsd,
};

use super::bounds::{INPUT_IMAGES, most_searches, search_size};
use crate::{
    dialect::openai_chat::{
        request::{AskedTier, ChatRequest, SearchSize},
        usage::Usage,
    },
    journal::{Progress, Started},
    limits::receipt::Receipts,
};

/// A call under way: the record it becomes, and what its end is computed with.
#[derive(Clone, Debug)]
pub(crate) struct CallRecord {
    /// As it is in the journal: what the call becomes if the gateway dies.
    pub(crate) started: Started,
    /// With the price of the call; without one, it is recorded without cost.
    pub(crate) model: Arc<Model>,
    pub(crate) asked: Asked,
    pub(crate) first_byte_at: Option<Timestamp>,
    /// It has reserved more since it began.
    pub(crate) topped_up: bool,
    /// What there is so far: counts if the caller goes away now.
    pub(crate) so_far: Produced,
    /// What it holds of limits until it ends.
    pub(crate) limits: Receipts,
}

/// What was asked for: counts where the upstream does not say what it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Input tokens, estimated.
    pub(crate) input: u64,
    pub(crate) service_tier: ServiceTier,
    /// Searches that were asked for, as many as there can be.
    pub(crate) searches: u64,
    pub(crate) search_size: Option<SearchSize>,
    pub(crate) images: u64,
    /// Cache writes are kept for longer than by default.
    pub(crate) long_cache: bool,
}

impl Asked {
    pub(crate) fn of(request: &ChatRequest, config: &ModelConfig) -> Self {
        let service_tier = match request.tier {
            AskedTier::Tier(tier) => tier,
            AskedTier::Any | AskedTier::Unknown => ServiceTier::Standard,
        };
        // Without a limit of the model's, a search that was asked for is taken to have been one for each answer.
        let searches = request.web_search.map_or(0, |_| {
            let most = most_searches(request, config);
            most.unwrap_or_else(|| u64::from(request.choices))
        });
        Self {
            input: request.input.estimated_tokens(config.max_image_tokens),
            service_tier,
            searches,
            search_size: search_size(request, config),
            images: request.input.media.images,
            long_cache: request.long_cache,
        }
    }
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
    /// What is billed and what that costs if it ended now.
    pub(crate) fn price(&self, produced: Produced) -> (Used, Cost) {
        let used = match produced {
            Produced::Reported(usage) => self.reported(usage),
            Produced::Counted { output } => Used {
                tokens: TokenUsage {
                    input: self.asked.input,
                    output,
                    ..TokenUsage::default()
                },
                pieces: self.pieces(None),
                service_tier: self.asked.service_tier,
                ..Used::default()
            },
            Produced::Nothing => return (Used::default(), Cost::default()),
        };
        let priced = self.pricing().map(|pricing| cost(pricing, used.billed()));
        // A cost beyond 64 bits cannot come of token counts that the dialect lets through; if it did, all of R is owed.
        let overflow = Cost {
            total: self.reserved(),
            breakdown: CostBreakdown::default(),
        };
        (
            used,
            priced.map_or_else(Cost::default, |cost| cost.unwrap_or(overflow)),
        )
    }

    fn reported(&self, usage: Usage) -> Used {
        let mut details = usage.details;
        if self.asked.long_cache && !usage.tells_long_cache {
            details.cache_write_1h = usage.tokens.cache_write;
        }
        Used {
            tokens: usage.tokens,
            details,
            pieces: self.pieces(usage.web_searches),
            service_tier: usage.service_tier.unwrap_or(self.asked.service_tier),
        }
    }

    /// What has a price by the piece. Searches are counted in any case: they are of interest without a price too.
    fn pieces(&self, searches: Option<u64>) -> Pieces {
        let mut pieces = Pieces::new();
        let searches = searches.unwrap_or(self.asked.searches);
        if searches > 0 {
            let size = self.asked.search_size.unwrap_or(SearchSize::Medium);
            pieces.insert(size.unit().to_owned(), searches);
        }
        let priced = |kind| {
            self.pricing()
                .is_some_and(|pricing| pricing.units_per_million_nanos.contains_key(kind))
        };
        if self.asked.images > 0 && priced(INPUT_IMAGES) {
            pieces.insert(INPUT_IMAGES.to_owned(), self.asked.images);
        }
        pieces
    }

    fn pricing(&self) -> Option<&Pricing> {
        self.model.body.price.pricing.as_deref()
    }

    /// Whether all that it can cost is reserved on some account.
    pub(crate) fn reserves_whole(&self) -> bool {
        let mut accounts = self.started.usage.accounts.iter();
        accounts.any(|used| {
            let account = &used.account;
            account.unit == Unit::Nanos && account.mode == BudgetMode::Hard && used.reserved > 0
        })
    }

    /// Until its end it counts for what there is so far, not for what it has reserved.
    pub(crate) fn owes_what_there_is(&mut self) {
        let (used, cost) = self.price(self.so_far);
        let usage = &mut self.started.usage;
        (usage.tokens, usage.cost, usage.breakdown) = (used.tokens, cost.total, cost.breakdown);
        if let Some(attempt) = usage.attempts.last_mut() {
            attempt.cost_nanos = cost.total;
        }
    }

    /// A mark of how far it has come.
    pub(crate) fn progress(&self) -> Progress {
        let (used, cost) = self.price(self.so_far);
        let usage = &self.started.usage;
        Progress {
            usage_id: usage.usage_id,
            tokens: used.tokens,
            cost: cost.total,
            breakdown: cost.breakdown,
            reserved: if self.topped_up {
                reservations(usage)
            } else {
                Vec::new()
            },
        }
    }

    /// Adds to what the accounts have reserved, and to R.
    pub(crate) fn reserve_more(&mut self, uses: &[(AccountId, i64)]) {
        self.topped_up = true;
        self.change_reserved(uses, 1);
    }

    pub(crate) fn reserve_less(&mut self, uses: &[(AccountId, i64)]) {
        self.change_reserved(uses, -1);
    }

    fn change_reserved(&mut self, uses: &[(AccountId, i64)], sign: i64) {
        let usage = &mut self.started.usage;
        let mut most = 0;
        for used in &mut usage.accounts {
            let own = uses
                .iter()
                .filter(|(account, _)| *account == used.account.id);
            used.reserved += sign * own.map(|(_, amount)| amount).sum::<i64>();
            if used.account.unit == Unit::Nanos {
                most = used.reserved.max(most);
            }
        }
        if let Some(attempt) = usage.attempts.last_mut() {
            attempt.reserved = NanoUsd(most);
        }
    }

    /// The finished record.
    pub(crate) fn conclude(self, ending: Ending, now: Timestamp) -> Started {
        let (used, cost) = self.price(ending.produced);
        let Started {
            mut meta,
            mut usage,
        } = self.started;
        meta.occurred_at = now;
        meta.estimated = matches!(ending.produced, Produced::Counted { .. });
        usage.status = ending.status;
        usage.http_status = ending.http_status;
        usage.tokens = used.tokens;
        usage.details = used.details;
        usage.pieces = used.pieces;
        usage.service_tier = used.service_tier;
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
            .filter(|used| used.account.unit == Unit::Nanos)
            .map(|used| used.reserved);
        NanoUsd(reserved.max().unwrap_or(0))
    }
}

/// Everything of a call that has a price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) tokens: TokenUsage,
    pub(crate) details: TokenDetails,
    pub(crate) pieces: Pieces,
    pub(crate) service_tier: ServiceTier,
}

impl Used {
    fn billed(&self) -> Billed<'_> {
        Billed {
            tokens: &self.tokens,
            details: &self.details,
            units: None,
            pieces: &self.pieces,
            service_tier: self.service_tier,
        }
    }
}

/// What each lease of a finished call settles: what it took, at most what it reserved. The excess goes to the account.
pub(crate) fn settlements(usage: &UsageFinished) -> Vec<(AccountId, i64)> {
    let accounts = usage.accounts.iter();
    accounts
        .map(|used| (used.account.id, used.from_lease(usage)))
        .collect()
}

/// What a finished call had reserved on each account, and what it took of it.
pub(crate) fn taken(usage: &UsageFinished) -> Vec<purse::Used> {
    let accounts = usage.accounts.iter();
    accounts
        .map(|used| purse::Used {
            account: used.account.id,
            reserved: used.reserved,
            settled: used.amount(usage),
        })
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
        let usage = Usage::text(5, 20);
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
        let usage = Usage::text(5, 20);
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
        assert_eq!(done.usage.tokens.input, call.asked.input);
        assert_eq!(
            done.usage.cost.0,
            call.asked.input as i64 * 1_000 + 3 * 2_000
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
    fn the_tier_that_the_answer_names_is_billed_else_the_one_asked_for() {
        use ServiceTier::{Flex, Standard};
        let flex = r#"{"input_per_million_nanos":1000000000,"output_per_million_nanos":2000000000,
            "service_tiers":{"flex":{"rates":{"input_per_million_nanos":500000000,"output_per_million_nanos":1000000000}}}}"#;
        let done = |asked, answered| {
            let mut call = call_record(serde_json::from_str(flex).ok(), 90_000);
            call.asked.service_tier = asked;
            let usage = Usage {
                service_tier: answered,
                ..Usage::text(5, 20)
            };
            let done = call.conclude(ending(Produced::Reported(usage)), Timestamp(0));
            (done.usage.service_tier, done.usage.cost.0)
        };
        assert_eq!(done(Standard, None), (Standard, 45_000));
        assert_eq!(done(Standard, Some(Flex)), (Flex, 22_500));
        assert_eq!(done(Flex, None), (Flex, 22_500));
        assert_eq!(done(Flex, Some(Standard)), (Standard, 45_000));
    }

    #[test]
    fn searches_are_billed_as_told_else_as_many_as_could_be() {
        let pricing = r#"{"units_per_million_nanos":{"web_search_low":10000000000000}}"#;
        let done = |asked: u64, told: Option<u64>| {
            let mut call = call_record(serde_json::from_str(pricing).ok(), 90_000_000);
            call.asked.searches = asked;
            call.asked.search_size = Some(SearchSize::Low);
            let usage = Usage {
                web_searches: told,
                ..Usage::text(5, 20)
            };
            call.conclude(ending(Produced::Reported(usage)), Timestamp(0))
                .usage
        };
        let told = done(3, Some(2));
        assert_eq!(told.cost, NanoUsd(20_000_000));
        assert_eq!(told.breakdown.units, NanoUsd(20_000_000));
        assert_eq!(
            told.pieces,
            Pieces::from([("web_search_low".to_owned(), 2)])
        );
        assert_eq!(done(3, None).cost, NanoUsd(30_000_000));
        assert_eq!(done(0, None).cost, NanoUsd(0));
    }

    #[test]
    fn a_longer_cache_is_billed_for_all_writes_unless_the_answer_tells_them_apart() {
        let pricing = r#"{"cache_write_per_million_nanos":1000000000,"cache_write_1h_per_million_nanos":2000000000}"#;
        let cost = |long_cache, tells_long_cache| {
            let mut call = call_record(serde_json::from_str(pricing).ok(), 90_000);
            call.asked.long_cache = long_cache;
            let tokens = TokenUsage {
                cache_write: 10,
                ..TokenUsage::default()
            };
            let usage = Usage {
                tokens,
                tells_long_cache,
                ..Usage::default()
            };
            call.conclude(ending(Produced::Reported(usage)), Timestamp(0))
                .usage
                .cost
                .0
        };
        assert_eq!(cost(false, false), 10_000);
        assert_eq!(cost(true, false), 20_000);
        assert_eq!(cost(true, true), 10_000);
    }

    #[test]
    fn a_model_without_a_price_is_recorded_without_cost() {
        let usage = Usage::text(5, 20);
        let done = call_record(None, 0).conclude(ending(Produced::Reported(usage)), Timestamp(0));
        assert_eq!(done.usage.cost, NanoUsd::ZERO);
        assert_eq!(done.usage.tokens.output, 20);
    }
}
