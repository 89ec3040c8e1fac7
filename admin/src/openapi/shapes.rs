//! Descriptions of answers that are put together by hand rather than from one type.

use serde_json::Value;
use utoipa::ToSchema;

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "only its schema is used")]
        pub(crate) struct $name { $($(#[$field_doc])* $field: $type,)* }
    )*};
}

shapes! {
    Health { status: String, }
    Deleted { id: String, deleted: bool, }
    EncryptionKey { key_id: String, alg: String, public_key_pem: String, }
    /// A `day`, a `key_id` or a `model`, as it was grouped.
    SummaryGroup {
        day: Option<String>,
        key_id: Option<String>,
        model: Option<String>,
        requests: i64,
        input_tokens: i64,
        output_tokens: i64,
        cost_nanos: i64,
        errors: i64,
    }
    SummaryView { data: Vec<SummaryGroup>, }
    /// Why one record says what it says.
    ExplainedRecord {
        /// As `GET …/usage/{id}`.
        usage: Value,
        /// The configuration version that decided, and where in the log it came into force.
        decided_at: Value,
        /// Key, user, team, organisation, model, provider, budgets and quotas: as they were, and who set them when.
        settings: Vec<Value>,
        /// The policies in force.
        limits: Vec<Value>,
        /// The price, its source, and who put it into force.
        price: Value,
        /// What was reserved and settled on each account, what it stood at, and the lease it came out of.
        accounts: Vec<Value>,
        /// What would be decided now, and what it would cost.
        now: Value,
    }
    ExplanationView { request_id: String, records: Vec<ExplainedRecord>, }
    /// Amounts end in `_nanos` for budgets and quotas of cost, and have no ending for other metrics.
    AccountWindowView {
        window_start: String,
        window_end: Option<String>,
        limit_nanos: Option<i64>,
        held_nanos: Option<i64>,
        settled_nanos: Option<i64>,
        free_nanos: Option<i64>,
        carried_nanos: Option<i64>,
        limit: Option<i64>,
        held: Option<i64>,
        settled: Option<i64>,
        free: Option<i64>,
        carried: Option<i64>,
        /// The largest threshold that was crossed.
        crossed_percent: i16,
        /// Where each is counted by itself, the one that is counted here.
        owner: Value,
        closed: bool,
    }
    /// What the window of now comes to if it goes on as it did so far. Amounts end as those of the window do.
    ProjectionView {
        window: Value,
        elapsed_seconds: i64,
        /// Null: the window never ends.
        remaining_seconds: Option<i64>,
        per_day_nanos: Option<i64>,
        projected_nanos: Option<i64>,
        per_day: Option<i64>,
        projected: Option<i64>,
        /// When the limit is reached, if that is before the window ends.
        exhausted_at: Option<String>,
    }
    EventEntity { r#type: String, id: String, version: u64, }
    EventView {
        position: i64,
        id: String,
        kind: String,
        entity: EventEntity,
        occurred_at: String,
        actor: String,
        reason: Option<String>,
        change_ref: Option<String>,
        command_id: Option<String>,
        request_id: Option<String>,
        payload: Value,
    }
    UsageTokens {
        /// Without cached and cache-write tokens.
        input: i64,
        cached_input: i64,
        cache_write: i64,
        /// Without reasoning.
        output: i64,
        reasoning: i64,
        total: i64,
    }
    UsageCost {
        request: i64,
        input: i64,
        cached_input: i64,
        cache_write: i64,
        output: i64,
        reasoning: i64,
    }
    UsageAttempt {
        id: String,
        model: String,
        provider: String,
        outcome: String,
        status: Option<u16>,
        cost_nanos: i64,
        reserved_nanos: i64,
    }
    UsageView {
        id: String,
        request_id: String,
        organisation_id: String,
        team_id: Option<String>,
        user_id: Option<String>,
        key_id: String,
        model_id: String,
        model: String,
        slug: String,
        provider_id: String,
        provider: String,
        route: String,
        stream: bool,
        /// `completed`, `client_closed`, `upstream_error`, `timeout` or `interrupted`.
        status: String,
        http_status: u16,
        estimated: bool,
        tokens: UsageTokens,
        cost_nanos: i64,
        cost: UsageCost,
        price_version: i32,
        config_version: i64,
        budget_ids: Vec<String>,
        quota_ids: Vec<String>,
        provider_request_id: Option<String>,
        trace_id: Option<String>,
        attempts: Vec<UsageAttempt>,
        details: Value,
        units: Value,
        tags: Value,
        end_user: Option<String>,
        gateway_id: String,
        started_at: String,
        first_byte_at: Option<String>,
        finished_at: String,
        latency_ms: i64,
    }
}
