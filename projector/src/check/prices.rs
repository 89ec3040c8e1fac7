//! I12: each usage record names a configuration and a price that there were, and costs what that price says. Computed by the
//! rule that the gateways price with, over the tables that the projector folded.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use odock_events::{
    payload::usage::Units,
    pricing::{Billed, Pieces, Pricing, ServiceTier, TokenDetails, TokenUsage, cost},
};
use serde::Deserialize;
use sqlx::{Connection as _, FromRow, PgConnection, types::Json};
use uuid::Uuid;

use super::Violation;

#[derive(FromRow)]
struct Priced {
    model_id: Uuid,
    version: i32,
    pricing: Option<Json<Pricing>>,
}

#[derive(FromRow)]
struct Record {
    id: Uuid,
    model_id: Uuid,
    status: String,
    input_tokens: i64,
    cached_input_tokens: i64,
    cache_write_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    cost_nanos: i64,
    price_version: i32,
    config_version: i64,
    config_exists: bool,
    more: Json<More>,
}

/// What of a record has a price and no column of its own.
#[derive(Deserialize)]
struct More {
    #[serde(default)]
    details: TokenDetails,
    #[serde(default)]
    units: Option<Units>,
    #[serde(default)]
    pieces: Pieces,
    #[serde(default)]
    service_tier: ServiceTier,
}

/// At most so many are named.
const MOST: usize = 100;

/// Reads every usage record; an empty answer is a sound database.
pub async fn mispriced(connection: &mut PgConnection) -> Result<Vec<Violation>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *transaction)
        .await?;
    let prices: Vec<Priced> =
        sqlx::query_as("SELECT model_id, version, pricing FROM price_version")
            .fetch_all(&mut *transaction)
            .await?;
    let prices: HashMap<(Uuid, i32), Option<Pricing>> = prices
        .into_iter()
        .map(|price| {
            let pricing = price.pricing.map(|Json(pricing)| pricing);
            ((price.model_id, price.version), pricing)
        })
        .collect();
    let mut records = sqlx::query_as::<_, Record>(
        "SELECT usage.id, model_id, status, input_tokens, cached_input_tokens, cache_write_tokens,
             output_tokens, reasoning_tokens, cost_nanos, price_version, config_version,
             config_delta.version IS NOT NULL AS config_exists, more
         FROM usage LEFT JOIN config_delta ON config_delta.version = config_version",
    )
    .fetch(&mut *transaction);
    let mut violations = Vec::new();
    while let Some(record) = records.try_next().await? {
        if let Some(what) = fault(&record, &prices) {
            let invariant = "I12";
            violations.push(Violation { invariant, what });
            if violations.len() >= MOST {
                break;
            }
        }
    }
    drop(records);
    transaction.commit().await?;
    Ok(violations)
}

fn fault(record: &Record, prices: &HashMap<(Uuid, i32), Option<Pricing>>) -> Option<String> {
    let (id, version) = (record.id, record.price_version);
    if !record.config_exists {
        let config = record.config_version;
        return Some(format!(
            "record {id} names configuration {config}, which there is not"
        ));
    }
    let Some(pricing) = prices.get(&(record.model_id, version)) else {
        let model = record.model_id;
        return Some(format!(
            "record {id} names price {version} of model {model}, which there is not"
        ));
    };
    let count = |tokens: i64| tokens.unsigned_abs();
    let tokens = TokenUsage {
        input: count(record.input_tokens),
        cached_input: count(record.cached_input_tokens),
        cache_write: count(record.cache_write_tokens),
        output: count(record.output_tokens),
        reasoning: count(record.reasoning_tokens),
    };
    // What nobody counted: an interrupted call owes what it had reserved, and one that never got anything owes nothing, not
    // even the fee.
    let uncounted = tokens.total() == 0;
    if uncounted && (record.status == "interrupted" || record.cost_nanos == 0) {
        return None;
    }
    let used = Billed {
        tokens: &tokens,
        details: &record.more.details,
        units: record.more.units.as_ref(),
        pieces: &record.more.pieces,
        service_tier: record.more.service_tier,
    };
    let by_price = match pricing {
        Some(pricing) => cost(pricing, used).map(|cost| cost.total.0),
        None => Ok(0),
    };
    match by_price {
        Ok(nanos) if nanos == record.cost_nanos => None,
        Ok(nanos) => {
            let told = record.cost_nanos;
            Some(format!(
                "record {id} costs {told}, by price {version} it is {nanos}"
            ))
        }
        Err(error) => Some(format!(
            "record {id} has no cost by price {version}: {error}"
        )),
    }
}
