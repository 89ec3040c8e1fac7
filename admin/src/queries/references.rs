//! What refers to an entity, so that it cannot be deleted, and whether a name or a pair is taken.

use odock_events::{
    envelope::EntityRef,
    ids::{KeyId, ModelId, OrganisationId, ProviderId, TeamId, UserId},
};
use sqlx::PgConnection;
use uuid::Uuid;

const ORGANISATION: &str = "SELECT CASE
    WHEN EXISTS (SELECT 1 FROM team WHERE organisation_id = $1) THEN 'a team'
    WHEN EXISTS (SELECT 1 FROM app_user WHERE organisation_id = $1) THEN 'a user'
    WHEN EXISTS (SELECT 1 FROM api_key WHERE organisation_id = $1) THEN 'a key'
    WHEN EXISTS (SELECT 1 FROM provider WHERE organisation_id = $1) THEN 'a provider'
    WHEN EXISTS (SELECT 1 FROM budget WHERE organisation_id = $1) THEN 'a budget'
    WHEN EXISTS (SELECT 1 FROM quota WHERE organisation_id = $1) THEN 'a quota'
    WHEN EXISTS (SELECT 1 FROM overlay WHERE organisation_id = $1) THEN 'an overlay' END";
const TEAM: &str = "SELECT CASE
    WHEN EXISTS (SELECT 1 FROM membership WHERE team_id = $1) THEN 'a membership'
    WHEN EXISTS (SELECT 1 FROM api_key WHERE team_id = $1) THEN 'a key'
    WHEN EXISTS (SELECT 1 FROM budget WHERE owner_id = $1) THEN 'a budget'
    WHEN EXISTS (SELECT 1 FROM quota WHERE owner_id = $1) THEN 'a quota'
    WHEN EXISTS (SELECT 1 FROM overlay WHERE scope_id = $1) THEN 'an overlay' END";
const USER: &str = "SELECT CASE
    WHEN EXISTS (SELECT 1 FROM membership WHERE user_id = $1) THEN 'a membership'
    WHEN EXISTS (SELECT 1 FROM api_key WHERE user_id = $1) THEN 'a key'
    WHEN EXISTS (SELECT 1 FROM budget WHERE owner_id = $1) THEN 'a budget'
    WHEN EXISTS (SELECT 1 FROM quota WHERE owner_id = $1) THEN 'a quota' END";
const PROVIDER: &str = "SELECT CASE
    WHEN EXISTS (SELECT 1 FROM provider_key WHERE provider_id = $1) THEN 'a provider key'
    WHEN EXISTS (SELECT 1 FROM model WHERE provider_id = $1) THEN 'a model'
    WHEN EXISTS (SELECT 1 FROM budget WHERE owner_id = $1) THEN 'a budget'
    WHEN EXISTS (SELECT 1 FROM quota WHERE owner_id = $1) THEN 'a quota' END";
const PROVIDER_KEY: &str =
    "SELECT CASE WHEN EXISTS (SELECT 1 FROM model WHERE provider_key_id = $1) THEN 'a model' END";
const MODEL: &str = "SELECT CASE
    WHEN EXISTS (SELECT 1 FROM model_grant WHERE model_id = $1) THEN 'a grant'
    WHEN EXISTS (SELECT 1 FROM budget WHERE owner_id = $1) THEN 'a budget'
    WHEN EXISTS (SELECT 1 FROM quota WHERE owner_id = $1) THEN 'a quota'
    WHEN EXISTS (SELECT 1 FROM overlay WHERE scope_id = $1) THEN 'an overlay' END";
const KEY: &str = "SELECT CASE
    WHEN EXISTS (SELECT 1 FROM model_grant WHERE key_id = $1) THEN 'a grant'
    WHEN EXISTS (SELECT 1 FROM budget WHERE owner_id = $1) THEN 'a budget'
    WHEN EXISTS (SELECT 1 FROM quota WHERE owner_id = $1) THEN 'a quota'
    WHEN EXISTS (SELECT 1 FROM overlay WHERE scope_id = $1) THEN 'an overlay' END";

/// Something that refers to it, in words. `None`: nothing does.
pub(crate) async fn referrer(
    connection: &mut PgConnection,
    entity: EntityRef,
) -> Result<Option<String>, sqlx::Error> {
    use odock_events::envelope::EntityKind;
    let statement = match entity.kind {
        EntityKind::Organisation => ORGANISATION,
        EntityKind::Team => TEAM,
        EntityKind::User => USER,
        EntityKind::Provider => PROVIDER,
        EntityKind::ProviderKey => PROVIDER_KEY,
        EntityKind::Model => MODEL,
        EntityKind::Key => KEY,
        EntityKind::Membership
        | EntityKind::Grant
        | EntityKind::Budget
        | EntityKind::Quota
        | EntityKind::Overlay
        | EntityKind::Usage
        | EntityKind::Gateway
        | EntityKind::Command => return Ok(None),
    };
    sqlx::query_scalar(statement)
        .bind(entity.id)
        .fetch_one(connection)
        .await
}

/// Things whose name is unique.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named {
    Organisation,
    Provider,
    Model,
}

/// Whether another one than `except` has this name. Organisations are unique on the platform.
pub(crate) async fn name_taken(
    connection: &mut PgConnection,
    named: Named,
    organisation: Option<OrganisationId>,
    name: &str,
    except: Option<Uuid>,
) -> Result<bool, sqlx::Error> {
    let statement = match named {
        Named::Organisation => {
            "SELECT EXISTS (SELECT 1 FROM organisation
             WHERE name = $1 AND id IS DISTINCT FROM $2 AND $3::uuid IS NULL)"
        }
        Named::Provider => {
            "SELECT EXISTS (SELECT 1 FROM provider
             WHERE name = $1 AND id IS DISTINCT FROM $2 AND organisation_id = $3)"
        }
        Named::Model => {
            "SELECT EXISTS (SELECT 1 FROM model
             WHERE name = $1 AND id IS DISTINCT FROM $2 AND organisation_id = $3)"
        }
    };
    sqlx::query_scalar(statement)
        .bind(name)
        .bind(except)
        .bind(organisation.map(|organisation| organisation.0))
        .fetch_one(connection)
        .await
}

pub(crate) async fn is_member(
    connection: &mut PgConnection,
    team: TeamId,
    user: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM membership WHERE team_id = $1 AND user_id = $2)",
    )
    .bind(team.0)
    .bind(user.0)
    .fetch_one(connection)
    .await
}

/// Those of the pairs that have a grant already, as (key, model, grant).
pub(crate) async fn grants_of(
    connection: &mut PgConnection,
    keys: &[KeyId],
    models: &[ModelId],
) -> Result<Vec<(Uuid, Uuid, Uuid)>, sqlx::Error> {
    let keys: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    let models: Vec<Uuid> = models.iter().map(|model| model.0).collect();
    sqlx::query_as(
        "SELECT g.key_id, g.model_id, g.id
         FROM unnest($1::uuid[], $2::uuid[]) AS wanted (key_id, model_id)
         JOIN model_grant g ON g.key_id = wanted.key_id AND g.model_id = wanted.model_id",
    )
    .bind(keys)
    .bind(models)
    .fetch_all(connection)
    .await
}

/// Those of `ids` that are keys of the organisation.
pub(crate) async fn keys_there(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM api_key WHERE organisation_id = $1 AND id = ANY($2)")
        .bind(organisation.0)
        .bind(ids)
        .fetch_all(connection)
        .await
}

/// Those of `ids` that are models of the organisation.
pub(crate) async fn models_there(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM model WHERE organisation_id = $1 AND id = ANY($2)")
        .bind(organisation.0)
        .bind(ids)
        .fetch_all(connection)
        .await
}

/// Those of `names` that models of the organisation have.
pub(crate) async fn model_names_there(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    names: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT name FROM model WHERE organisation_id = $1 AND name = ANY($2)")
        .bind(organisation.0)
        .bind(names)
        .fetch_all(connection)
        .await
}

/// Those of `slugs` that models of one provider have.
pub(crate) async fn model_slugs_there(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    provider: ProviderId,
    slugs: &[String],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT DISTINCT body ->> 'slug' FROM model
         WHERE organisation_id = $1 AND provider_id = $2 AND body ->> 'slug' = ANY($3)",
    )
    .bind(organisation.0)
    .bind(provider.0)
    .bind(slugs)
    .fetch_all(connection)
    .await
}

/// Which entry of the catalogue each model says it is, and its slug: of one provider, or of all.
pub(crate) async fn models_of_catalogue(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    provider: Option<ProviderId>,
) -> Result<Vec<(Option<String>, String)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT body ->> 'catalogue_id', body ->> 'slug' FROM model
         WHERE organisation_id = $1 AND ($2::uuid IS NULL OR provider_id = $2) LIMIT 100000",
    )
    .bind(organisation.0)
    .bind(provider.map(|provider| provider.0))
    .fetch_all(connection)
    .await
}

/// Models of the organisation in the order of their ids, those of `ids` or all, and the type of the provider of each.
pub(crate) async fn models_with_providers(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    ids: Option<&[Uuid]>,
    limit: i64,
) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT model.id, provider.body ->> 'type' FROM model
         JOIN provider ON provider.id = model.provider_id
         WHERE model.organisation_id = $1 AND ($2::uuid[] IS NULL OR model.id = ANY($2))
         ORDER BY model.id LIMIT $3",
    )
    .bind(organisation.0)
    .bind(ids)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// The version of each of `ids` that is a grant of the organisation.
pub(crate) async fn grant_versions(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT id, version FROM model_grant WHERE organisation_id = $1 AND id = ANY($2)",
    )
    .bind(organisation.0)
    .bind(ids)
    .fetch_all(connection)
    .await
}
