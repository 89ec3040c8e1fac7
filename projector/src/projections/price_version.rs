//! Table `price_version`: every price that a model has had, so that each usage record's cost can be checked.

use odock_events::{payload::model::PriceSource, state::Model};
use sqlx::PgConnection;

use crate::error::ProjectorError;

/// Writes the model's price in force, unless that version is there.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    model: &Model,
    position: i64,
) -> Result<(), ProjectorError> {
    let price = &model.body.price;
    let pricing = price
        .pricing
        .as_ref()
        .map(serde_json::to_value)
        .transpose()?;
    let source = match price.source {
        PriceSource::Model => "model",
        PriceSource::Catalogue => "catalogue",
        PriceSource::None => "none",
    };
    sqlx::query(
        "INSERT INTO price_version (model_id, version, organisation_id, position, source, pricing)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (model_id, version) DO NOTHING",
    )
    .bind(model.id.0)
    .bind(i32::try_from(price.version).unwrap_or(i32::MAX))
    .bind(model.organisation_id.0)
    .bind(position)
    .bind(source)
    .bind(pricing)
    .execute(connection)
    .await?;
    Ok(())
}
