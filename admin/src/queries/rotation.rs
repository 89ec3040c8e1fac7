//! Table `api_key_rotation`: the history of a key's secrets, as masks.

use chrono::{DateTime, Utc};
use odock_events::{clock::Timestamp, ids::KeyId};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, QueryBuilder};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::ApiError,
    page::{ListQuery, Place},
};

#[derive(Serialize, ToSchema)]
pub(crate) struct RotationView {
    #[schema(value_type = String)]
    rotated_at: Timestamp,
    previous_key_preview: String,
    #[schema(value_type = Option<String>)]
    previous_expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// Who did it.
    actor: String,
}

type Columns = (
    i64,
    DateTime<Utc>,
    String,
    Option<DateTime<Utc>>,
    Option<DateTime<Utc>>,
    String,
);

pub(crate) async fn list(
    connection: &mut PgConnection,
    key: KeyId,
    query: &ListQuery,
) -> Result<Vec<(Place, Value)>, ApiError> {
    let mut sql = QueryBuilder::new(
        "SELECT version, rotated_at, previous_key_preview, previous_expires_at, expires_at, actor
         FROM api_key_rotation WHERE key_id = ",
    );
    sql.push_bind(key.0);
    if let Some(place) = query.after {
        sql.push(" AND version")
            .push(query.order.beyond())
            .push_bind(place.key);
    }
    sql.push(" ORDER BY version").push(query.order.direction());
    sql.push(" LIMIT ").push_bind(query.rows());
    let rows: Vec<Columns> = sql.build_query_as().fetch_all(connection).await?;
    rows.into_iter().map(view).collect()
}

fn view(columns: Columns) -> Result<(Place, Value), ApiError> {
    let (version, rotated_at, previous_key_preview, previous, expires, actor) = columns;
    let view = RotationView {
        rotated_at: Timestamp::from_datetime(rotated_at),
        previous_key_preview,
        previous_expires_at: previous.map(Timestamp::from_datetime),
        expires_at: expires.map(Timestamp::from_datetime),
        actor,
    };
    let value = serde_json::to_value(view).map_err(ApiError::internal)?;
    Ok((
        Place {
            key: version,
            tie: Uuid::nil(),
        },
        value,
    ))
}
