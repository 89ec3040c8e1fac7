//! The entity tables: one row by its id and organisation, and pages of them. A row of another organisation is no row.

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    envelope::{EntityKind, EntityRef},
    ids::OrganisationId,
    payload::{
        budget::BudgetBody,
        grant::GrantBody,
        key::KeyBody,
        model::ModelBody,
        organisation::OrganisationBody,
        overlay::OverlayBody,
        provider::{ProviderBody, ProviderKeyBody},
        quota::QuotaBody,
        team::{MembershipBody, TeamBody},
        user::UserBody,
    },
    state::{EntityRow, Row, RowError, RowParts},
};
use sqlx::{PgConnection, QueryBuilder};
use uuid::Uuid;

use crate::{
    error::ApiError,
    page::{ListQuery, Place},
};

/// The statements of one table.
struct Table {
    find: &'static str,
    list: &'static str,
}

macro_rules! table {
    ($name:literal) => {
        Table {
            find: concat!(
                "SELECT id, organisation_id, version, created_at, updated_at, body FROM ",
                $name,
                " WHERE id = $1 AND ($2::uuid IS NULL OR organisation_id = $2)"
            ),
            list: concat!(
                "SELECT id, organisation_id, version, created_at, updated_at, body FROM ",
                $name,
                " WHERE "
            ),
        }
    };
}

fn table_of(kind: EntityKind) -> Result<Table, RowError> {
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

/// What has a table of its own, by its body.
pub(crate) trait Stored: Sized + Send + Sync + 'static {
    type Id: Copy
        + Send
        + Sync
        + From<Uuid>
        + Into<EntityRef>
        + std::fmt::Display
        + std::str::FromStr;
    const KIND: EntityKind;
    fn of(row: EntityRow) -> Option<Row<Self::Id, Self>>;
    fn into_entity(row: Row<Self::Id, Self>) -> EntityRow;
}

macro_rules! stored {
    ($($body:ty = $variant:ident, $id:ident;)*) => {$(
        impl Stored for $body {
            type Id = odock_events::ids::$id;
            const KIND: EntityKind = EntityKind::$variant;
            fn of(row: EntityRow) -> Option<Row<Self::Id, Self>> {
                if let EntityRow::$variant(row) = row { Some(row) } else { None }
            }
            fn into_entity(row: Row<Self::Id, Self>) -> EntityRow {
                row.into()
            }
        }
    )*};
}

stored! {
    OrganisationBody = Organisation, OrganisationId;
    TeamBody = Team, TeamId;
    UserBody = User, UserId;
    MembershipBody = Membership, MembershipId;
    ProviderBody = Provider, ProviderId;
    ProviderKeyBody = ProviderKey, ProviderKeyId;
    ModelBody = Model, ModelId;
    KeyBody = Key, KeyId;
    GrantBody = Grant, GrantId;
    BudgetBody = Budget, BudgetId;
    QuotaBody = Quota, QuotaId;
    OverlayBody = Overlay, OverlayId;
}

type Columns = (
    Uuid,
    Uuid,
    i64,
    DateTime<Utc>,
    DateTime<Utc>,
    serde_json::Value,
);

/// A row by its id, if it is this organisation's.
pub(crate) async fn find<B: Stored>(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    id: B::Id,
) -> Result<Option<Row<B::Id, B>>, ApiError> {
    let entity: EntityRef = id.into();
    let row = fetch(connection, entity, Some(organisation)).await?;
    Ok(row.and_then(B::of))
}

/// A row by its id alone, for what the log itself names.
pub(crate) async fn find_any(
    connection: &mut PgConnection,
    entity: EntityRef,
) -> Result<Option<EntityRow>, ApiError> {
    fetch(connection, entity, None).await
}

async fn fetch(
    connection: &mut PgConnection,
    entity: EntityRef,
    organisation: Option<OrganisationId>,
) -> Result<Option<EntityRow>, ApiError> {
    let table = table_of(entity.kind).map_err(ApiError::internal)?;
    let columns: Option<Columns> = sqlx::query_as(table.find)
        .bind(entity.id)
        .bind(organisation.map(|organisation| organisation.0))
        .fetch_optional(connection)
        .await?;
    columns
        .map(|columns| row_of(entity.kind, columns))
        .transpose()
}

/// A page of an organisation's rows, or of all organisations.
pub(crate) async fn list(
    connection: &mut PgConnection,
    kind: EntityKind,
    organisation: Option<OrganisationId>,
    query: &ListQuery,
    rows: i64,
) -> Result<Vec<EntityRow>, ApiError> {
    let mut sql = QueryBuilder::new(table_of(kind).map_err(ApiError::internal)?.list);
    match organisation {
        Some(organisation) => sql.push("organisation_id = ").push_bind(organisation.0),
        None => sql.push("true"),
    };
    if let Some(text) = &query.search {
        sql.push(" AND position(")
            .push_bind(text.clone())
            .push(" in lower(coalesce(name, ''))) > 0");
    }
    query.push_filters(&mut sql);
    if let Some(Place { key, tie }) = query.after {
        sql.push(" AND (created_at, id)")
            .push(query.order.beyond())
            .push("(");
        sql.push_bind(Timestamp(key).to_datetime())
            .push(", ")
            .push_bind(tie)
            .push(")");
    }
    let direction = query.order.direction();
    sql.push(" ORDER BY created_at")
        .push(direction)
        .push(", id")
        .push(direction);
    sql.push(" LIMIT ").push_bind(rows);
    let columns: Vec<Columns> = sql.build_query_as().fetch_all(connection).await?;
    columns
        .into_iter()
        .map(|columns| row_of(kind, columns))
        .collect()
}

/// Where a row stands in lists.
pub(crate) fn place(row: &EntityRow) -> Place {
    Place {
        key: row.created_at().0,
        tie: row.entity().id,
    }
}

fn row_of(kind: EntityKind, columns: Columns) -> Result<EntityRow, ApiError> {
    let (id, organisation_id, version, created_at, updated_at, body) = columns;
    let parts = RowParts {
        id,
        organisation_id: OrganisationId(organisation_id),
        version: version as u64,
        created_at: Timestamp::from_datetime(created_at),
        updated_at: Timestamp::from_datetime(updated_at),
        body,
    };
    EntityRow::from_parts(kind, parts).map_err(ApiError::internal)
}
