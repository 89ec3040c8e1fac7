//! Table `event`: every event but usage, one row each.

use odock_events::{codec, envelope::Envelope, ids::OrganisationId};
use sqlx::{PgConnection, QueryBuilder};
use uuid::Uuid;

use crate::{
    error::ApiError,
    page::{ListQuery, Place},
};

pub(crate) struct EventRow {
    pub(crate) position: i64,
    ordinal: i32,
    pub(crate) envelope: Envelope,
}

impl EventRow {
    pub(crate) fn place(&self) -> Place {
        Place {
            key: self.position,
            tie: Uuid::from_u128(u128::from(self.ordinal.unsigned_abs())),
        }
    }
}

pub(crate) async fn list(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    query: &ListQuery,
) -> Result<Vec<EventRow>, ApiError> {
    let mut sql =
        QueryBuilder::new("SELECT position, ordinal, body FROM event WHERE organisation_id = ");
    sql.push_bind(organisation.0);
    query.push_filters(&mut sql);
    if let Some(Place { key, tie }) = query.after {
        let ordinal = i32::try_from(tie.as_u128()).unwrap_or(i32::MAX);
        sql.push(" AND (position, ordinal)")
            .push(query.order.beyond())
            .push("(");
        sql.push_bind(key).push(", ").push_bind(ordinal).push(")");
    }
    let direction = query.order.direction();
    sql.push(" ORDER BY position")
        .push(direction)
        .push(", ordinal")
        .push(direction);
    sql.push(" LIMIT ").push_bind(query.rows());
    let rows: Vec<(i64, i32, Vec<u8>)> = sql.build_query_as().fetch_all(connection).await?;
    rows.into_iter()
        .map(|(position, ordinal, body)| {
            let envelope = codec::decode(&body).map_err(ApiError::internal)?;
            Ok(EventRow {
                position,
                ordinal,
                envelope,
            })
        })
        .collect()
}
