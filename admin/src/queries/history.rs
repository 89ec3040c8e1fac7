//! What the log says about the past: an entity as it stood at a position, and who made it so.

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    codec,
    envelope::{EntityRef, Envelope},
    ids::GatewayId,
    payload::account::AccountId,
    state::{
        EntityRow,
        fold::{self, Change},
    },
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::ApiError;

/// An event of an entity's history with its place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) position: i64,
    pub(crate) envelope: Envelope,
}

/// An entity as of a position.
#[derive(Clone, Debug)]
pub(crate) struct AsOf {
    pub(crate) row: EntityRow,
    /// The event that made it what it was.
    pub(crate) set: Step,
    /// The event that made it at all.
    pub(crate) made: Step,
}

/// The position at which a configuration version came into force. `None`: there is no such version yet.
pub(crate) async fn position_of(
    connection: &mut PgConnection,
    config_version: i64,
) -> Result<Option<i64>, ApiError> {
    let position = sqlx::query_scalar("SELECT position FROM config_delta WHERE version = $1")
        .bind(config_version)
        .fetch_optional(connection)
        .await?;
    Ok(position)
}

/// The entity as it stood at `position`; `None` where there was none.
pub(crate) async fn as_of(
    connection: &mut PgConnection,
    entity: EntityRef,
    position: i64,
) -> Result<Option<AsOf>, ApiError> {
    // What the projector decides about a budget or quota has no version of it.
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT position, body FROM event
         WHERE entity_id = $1 AND entity_version > 0 AND position <= $2
         ORDER BY position, ordinal",
    )
    .bind(entity.id)
    .bind(position)
    .fetch_all(connection)
    .await?;
    let mut found: Option<AsOf> = None;
    for (position, body) in rows {
        let envelope = codec::decode(&body).map_err(ApiError::internal)?;
        let before = found.as_ref().map(|found| found.row.clone());
        let change = fold::apply(before, &envelope).map_err(ApiError::internal)?;
        let step = Step { position, envelope };
        found = match change {
            Change::Put(row) => {
                let made = found.map_or_else(|| step.clone(), |found| found.made);
                Some(AsOf {
                    row: *row,
                    set: step,
                    made,
                })
            }
            Change::Delete(_) => None,
            Change::Nothing => found,
        };
    }
    Ok(found)
}

/// One line of the ledger about a call.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Entry {
    pub(crate) position: i64,
    pub(crate) ordinal: i32,
    pub(crate) kind: String,
    pub(crate) amount: i64,
}

/// What a call moved on an account, in the order in which it did.
pub(crate) async fn entries(
    connection: &mut PgConnection,
    account: AccountId,
    reference: Uuid,
) -> Result<Vec<Entry>, ApiError> {
    let entries = sqlx::query_as(
        "SELECT position, ordinal, kind, amount FROM ledger_entry
         WHERE rule_id = $1 AND subject = $2 AND window_start = $3 AND reference = $4
         ORDER BY position, ordinal",
    )
    .bind(account.rule.uuid())
    .bind(account.subject)
    .bind(account.window_start.to_datetime())
    .bind(reference)
    .fetch_all(connection)
    .await?;
    Ok(entries)
}

/// What an account had settled before a place in the log.
pub(crate) async fn settled_before(
    connection: &mut PgConnection,
    account: AccountId,
    (position, ordinal): (i64, i32),
) -> Result<i64, ApiError> {
    let settled = sqlx::query_scalar(
        "SELECT coalesce(sum(amount), 0)::bigint FROM ledger_entry
         WHERE rule_id = $1 AND subject = $2 AND window_start = $3 AND kind = 'settle'
             AND (position, ordinal) < ($4, $5)",
    )
    .bind(account.rule.uuid())
    .bind(account.subject)
    .bind(account.window_start.to_datetime())
    .bind(position)
    .bind(ordinal)
    .fetch_one(connection)
    .await?;
    Ok(settled)
}

/// The last grant that a gateway had of an account before a position: where, how much, when, and its total by then.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct LastGrant {
    pub(crate) position: i64,
    pub(crate) amount: i64,
    pub(crate) occurred_at: DateTime<Utc>,
    pub(crate) total: i64,
}

pub(crate) async fn last_grant(
    connection: &mut PgConnection,
    account: AccountId,
    gateway: GatewayId,
    position: i64,
) -> Result<Option<LastGrant>, ApiError> {
    let grant = sqlx::query_as(
        "SELECT g.position, g.amount, event.occurred_at,
             (sum(g.amount) OVER (ORDER BY g.position, g.ordinal))::bigint AS total
         FROM ledger_entry g JOIN event ON event.position = g.position AND event.id = g.reference
         WHERE g.rule_id = $1 AND g.subject = $2 AND g.window_start = $3 AND g.gateway_id = $4
             AND g.kind IN ('grant', 'state') AND g.position <= $5
         ORDER BY g.position DESC, g.ordinal DESC LIMIT 1",
    )
    .bind(account.rule.uuid())
    .bind(account.subject)
    .bind(account.window_start.to_datetime())
    .bind(gateway.0)
    .bind(position)
    .fetch_optional(connection)
    .await?;
    Ok(grant)
}

/// A price as it was put into force.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct PriceRow {
    pub(crate) position: i64,
    pub(crate) source: String,
    pub(crate) pricing: Option<serde_json::Value>,
}

pub(crate) async fn price(
    connection: &mut PgConnection,
    model: Uuid,
    version: i64,
) -> Result<Option<PriceRow>, ApiError> {
    let price = sqlx::query_as(
        "SELECT position, source, pricing FROM price_version WHERE model_id = $1 AND version = $2",
    )
    .bind(model)
    .bind(i32::try_from(version).unwrap_or(i32::MAX))
    .fetch_optional(connection)
    .await?;
    Ok(price)
}

/// The event of an entity at a position.
pub(crate) async fn step_at(
    connection: &mut PgConnection,
    entity: Uuid,
    position: i64,
) -> Result<Option<Step>, ApiError> {
    let body: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT body FROM event WHERE entity_id = $1 AND position = $2 AND entity_version > 0
         ORDER BY ordinal DESC LIMIT 1",
    )
    .bind(entity)
    .bind(position)
    .fetch_optional(connection)
    .await?;
    body.map(|body| {
        let envelope = codec::decode(&body).map_err(ApiError::internal)?;
        Ok(Step { position, envelope })
    })
    .transpose()
}

/// Whether the key has a grant for the model now.
pub(crate) async fn is_granted(
    connection: &mut PgConnection,
    key: Uuid,
    model: Uuid,
) -> Result<bool, ApiError> {
    let granted = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM model_grant WHERE key_id = $1 AND model_id = $2)",
    )
    .bind(key)
    .bind(model)
    .fetch_one(connection)
    .await?;
    Ok(granted)
}

/// What an account has free in the window that it is in, in its unit; `None` where nothing has happened there.
pub(crate) async fn free_of(
    connection: &mut PgConnection,
    rule: Uuid,
    subject: Uuid,
    window_start: Timestamp,
) -> Result<Option<i64>, ApiError> {
    let free = sqlx::query_scalar(
        "SELECT limit_amount + carried_in - carried_out - held - settled FROM account
         WHERE rule_id = $1 AND subject = $2 AND window_start = $3",
    )
    .bind(rule)
    .bind(subject)
    .bind(window_start.to_datetime())
    .fetch_optional(connection)
    .await?;
    Ok(free)
}
