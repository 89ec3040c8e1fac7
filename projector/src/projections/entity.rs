//! The entity tables: one row an entity, its body as the fold made it, its version and last position.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    envelope::{EntityKind, EntityRef},
    ids::OrganisationId,
    ledger::rule::Rule,
    payload::account::RuleId,
    state::{EntityRow, RowError, RowParts},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::ProjectorError;

/// The statements of one table.
struct Table {
    select: &'static str,
    upsert: &'static str,
    delete: &'static str,
    share: &'static str,
    lock: &'static str,
}

macro_rules! table {
    ($name:literal) => {
        &Table {
            select: concat!(
                "SELECT id, organisation_id, version, created_at, updated_at, body FROM ",
                $name,
                " WHERE id = ANY($1) ORDER BY id"
            ),
            upsert: concat!(
                "INSERT INTO ",
                $name,
                " (id, organisation_id, version, position, created_at, updated_at, body)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (id) DO UPDATE SET version = EXCLUDED.version,
                     position = EXCLUDED.position, updated_at = EXCLUDED.updated_at,
                     body = EXCLUDED.body"
            ),
            delete: concat!("DELETE FROM ", $name, " WHERE id = $1"),
            share: concat!(
                "SELECT id, organisation_id, version, created_at, updated_at, body FROM ",
                $name,
                " WHERE id = ANY($1) ORDER BY id FOR SHARE"
            ),
            lock: concat!(
                "SELECT id FROM ",
                $name,
                " WHERE id = ANY($1) ORDER BY id FOR UPDATE"
            ),
        }
    };
}

fn table_of(kind: EntityKind) -> Result<&'static Table, RowError> {
    Ok(match kind {
        EntityKind::Organisation => table!("organisation"),
        EntityKind::Team => table!("team"),
        EntityKind::User => table!("app_user"),
        EntityKind::Membership => table!("membership"),
        EntityKind::Provider => table!("provider"),
        EntityKind::ProviderKey => table!("provider_key"),
        EntityKind::Model => table!("model"),
        EntityKind::Key => table!("api_key"),
        EntityKind::Grant => table!("model_grant"),
        EntityKind::Budget => table!("budget"),
        EntityKind::Quota => table!("quota"),
        EntityKind::Overlay => table!("overlay"),
        EntityKind::Usage | EntityKind::Gateway | EntityKind::Command => {
            return Err(RowError::NoTable(kind));
        }
    })
}

type Columns = (
    Uuid,
    Uuid,
    i64,
    DateTime<Utc>,
    DateTime<Utc>,
    serde_json::Value,
);

/// Those of the entities that exist.
pub(crate) async fn load(
    connection: &mut PgConnection,
    kind: EntityKind,
    ids: &[Uuid],
) -> Result<Vec<EntityRow>, ProjectorError> {
    let rows: Vec<Columns> = sqlx::query_as(table_of(kind)?.select)
        .bind(ids)
        .fetch_all(connection)
        .await?;
    rows.into_iter()
        .map(|columns| Ok(row_of(kind, columns)?))
        .collect()
}

/// Locks rules against change until the transaction ends, budgets first, and returns those that exist.
pub(crate) async fn share_rules(
    connection: &mut PgConnection,
    ids: &BTreeSet<RuleId>,
) -> Result<BTreeMap<RuleId, Rule>, ProjectorError> {
    let budgets: Vec<Uuid> = ids
        .iter()
        .filter_map(RuleId::budget)
        .map(|id| id.0)
        .collect();
    let quotas: Vec<Uuid> = ids
        .iter()
        .filter_map(RuleId::quota)
        .map(|id| id.0)
        .collect();
    let mut rules = BTreeMap::new();
    for (kind, ids) in [(EntityKind::Budget, budgets), (EntityKind::Quota, quotas)] {
        if ids.is_empty() {
            continue;
        }
        let rows: Vec<Columns> = sqlx::query_as(table_of(kind)?.share)
            .bind(ids)
            .fetch_all(&mut *connection)
            .await?;
        for columns in rows {
            if let Some(rule) = Rule::of_row(row_of(kind, columns)?) {
                rules.insert(rule.id(), rule);
            }
        }
    }
    Ok(rules)
}

/// Locks the rules of one kind that the management task is about to change.
pub(crate) async fn lock_rules(
    connection: &mut PgConnection,
    kind: EntityKind,
    ids: &[Uuid],
) -> Result<(), ProjectorError> {
    sqlx::query(table_of(kind)?.lock)
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

fn row_of(kind: EntityKind, columns: Columns) -> Result<EntityRow, RowError> {
    let (id, organisation_id, version, created_at, updated_at, body) = columns;
    EntityRow::from_parts(
        kind,
        RowParts {
            id,
            organisation_id: OrganisationId(organisation_id),
            version: version as u64,
            created_at: Timestamp::from_datetime(created_at),
            updated_at: Timestamp::from_datetime(updated_at),
            body,
        },
    )
}

pub(crate) async fn put(
    connection: &mut PgConnection,
    row: &EntityRow,
    position: i64,
) -> Result<(), ProjectorError> {
    let entity = row.entity();
    sqlx::query(table_of(entity.kind)?.upsert)
        .bind(entity.id)
        .bind(row.organisation_id().0)
        .bind(row.version() as i64)
        .bind(position)
        .bind(row.created_at().to_datetime())
        .bind(row.updated_at().to_datetime())
        .bind(row.body_json()?)
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn delete(
    connection: &mut PgConnection,
    entity: EntityRef,
) -> Result<(), ProjectorError> {
    sqlx::query(table_of(entity.kind)?.delete)
        .bind(entity.id)
        .execute(connection)
        .await?;
    Ok(())
}
