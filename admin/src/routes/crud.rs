//! Create, read, list, update and delete for every entity, and actions on one. A resource says what its bodies are, what
//! its rules need, and which rules they are.

use async_trait::async_trait;
use odock_events::{envelope::EntityKind, ids::OrganisationId, state::Row};
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use crate::{
    call::Call,
    command::{self, Command, Decision, snapshot::Snapshot},
    domain,
    error::ApiError,
    page::{ListQuery, ListSpec},
    queries::{
        entity::{self, Stored},
        references,
    },
    reply::Reply,
    shape::views,
};

/// An entity of the management API, by its body.
#[async_trait]
pub(crate) trait Resource: Stored {
    type Create: DeserializeOwned + Send + Sync + 'static;
    const NOUN: &'static str;
    /// The name of its id in paths.
    const ID: &'static str = "id";
    const LIST: ListSpec;

    async fn create(at: &mut Snapshot<'_>, asked: &Self::Create) -> Result<Decision, ApiError>;

    async fn delete(at: &mut Snapshot<'_>, row: Row<Self::Id, Self>) -> Result<Decision, ApiError>;
}

/// One that can be changed after it was made.
#[async_trait]
pub(crate) trait Changeable: Resource {
    type Patch: DeserializeOwned + Send + Sync + 'static;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Row<Self::Id, Self>,
        asked: &Self::Patch,
    ) -> Result<Decision, ApiError>;
}

/// The organisation whose boundary a change of this kind lies in, and the row's own.
fn places<B: Resource>(
    call: &Call,
) -> Result<(Option<OrganisationId>, Option<OrganisationId>), ApiError> {
    if B::KIND == EntityKind::Organisation {
        // Organisations are changed on the platform; a row is its own organisation's.
        return Ok((None, call.organisation().ok()));
    }
    let organisation = call.organisation()?;
    Ok((Some(organisation), Some(organisation)))
}

pub(crate) async fn create<B: Resource>(call: Call) -> Result<Reply, ApiError> {
    let (boundary, _) = places::<B>(&call)?;
    let create = Create::<B> {
        asked: call.json()?,
    };
    command::run(&call, boundary, &create).await
}

pub(crate) async fn get<B: Resource>(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let id: B::Id = call.path_id(B::ID, B::NOUN)?;
    let mut connection = call.app.pool.acquire().await?;
    let row = entity::find::<B>(&mut connection, organisation, id).await?;
    drop(connection);
    let row = B::into_entity(row.ok_or_else(|| ApiError::not_found(B::NOUN))?);
    let version = row.version();
    let view = views::one(&call.app, row, call.now).await?;
    Ok(Reply::new(http::StatusCode::OK, view).etag(version))
}

pub(crate) async fn list<B: Resource>(call: Call) -> Result<Reply, ApiError> {
    let (_, organisation) = places::<B>(&call)?;
    let query = ListQuery::read(&call, &B::LIST)?;
    let mut connection = call.app.pool.acquire().await?;
    if let Some(organisation) = organisation {
        require_organisation(&mut connection, organisation).await?;
    }
    let rows = entity::list(&mut connection, B::KIND, organisation, &query, query.rows()).await?;
    drop(connection);
    let places: Vec<_> = rows.iter().map(entity::place).collect();
    let shown = views::many(&call.app, rows, call.now).await?;
    Ok(query.reply(places.into_iter().zip(shown).collect()))
}

pub(crate) async fn update<B: Changeable>(call: Call) -> Result<Reply, ApiError> {
    let (boundary, organisation) = places::<B>(&call)?;
    let update = Update::<B> {
        organisation: organisation.ok_or_else(|| ApiError::not_found(B::NOUN))?,
        id: call.path_id(B::ID, B::NOUN)?,
        expected: call.required_if_match()?,
        asked: call.json()?,
    };
    command::run(&call, boundary, &update).await
}

pub(crate) async fn delete<B: Resource>(call: Call) -> Result<Reply, ApiError> {
    let (boundary, organisation) = places::<B>(&call)?;
    let delete = Delete::<B> {
        organisation: organisation.ok_or_else(|| ApiError::not_found(B::NOUN))?,
        id: call.path_id(B::ID, B::NOUN)?,
        expected: call.required_if_match()?,
    };
    command::run(&call, boundary, &delete).await
}

/// An action on one entity: `act` decides on its row.
pub(crate) async fn act<B: Resource, A: Act<B>>(call: Call, action: A) -> Result<Reply, ApiError> {
    let acting = Acting::<B, A> {
        organisation: call.organisation()?,
        id: call.path_id(B::ID, B::NOUN)?,
        expected: call.if_match()?,
        action,
    };
    command::run(&call, Some(acting.organisation), &acting).await
}

/// What an action does.
#[async_trait]
pub(crate) trait Act<B: Resource>: Send + Sync {
    async fn decide(&self, at: &mut Snapshot<'_>, row: Row<B::Id, B>)
    -> Result<Decision, ApiError>;
}

/// An organisation that is not there has no lists either.
pub(crate) async fn require_organisation(
    connection: &mut PgConnection,
    organisation: OrganisationId,
) -> Result<(), ApiError> {
    use odock_events::payload::organisation::OrganisationBody;
    let row = entity::find::<OrganisationBody>(connection, organisation, organisation).await?;
    row.map(|_| ())
        .ok_or_else(|| ApiError::not_found("organisation"))
}

/// What refers to a row, for `delete` of most resources.
pub(crate) async fn referrer<B: Resource>(
    at: &mut Snapshot<'_>,
    row: &Row<B::Id, B>,
) -> Result<Option<String>, ApiError> {
    Ok(references::referrer(at.connection, row.id.into()).await?)
}

async fn load<B: Resource>(
    at: &mut Snapshot<'_>,
    organisation: OrganisationId,
    id: B::Id,
    expected: Option<u64>,
) -> Result<Row<B::Id, B>, ApiError> {
    let row = entity::find::<B>(at.connection, organisation, id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(B::NOUN))?;
    domain::check_version(row.version, expected)?;
    Ok(row)
}

struct Create<B: Resource> {
    asked: B::Create,
}

#[async_trait]
impl<B: Resource> Command for Create<B> {
    async fn decide(&self, at: &mut Snapshot<'_>) -> Result<Decision, ApiError> {
        B::create(at, &self.asked).await
    }
}

struct Update<B: Changeable> {
    organisation: OrganisationId,
    id: B::Id,
    expected: u64,
    asked: B::Patch,
}

#[async_trait]
impl<B: Changeable> Command for Update<B> {
    async fn decide(&self, at: &mut Snapshot<'_>) -> Result<Decision, ApiError> {
        let row = load::<B>(at, self.organisation, self.id, Some(self.expected)).await?;
        B::update(at, row, &self.asked).await
    }
}

struct Delete<B: Resource> {
    organisation: OrganisationId,
    id: B::Id,
    expected: u64,
}

#[async_trait]
impl<B: Resource> Command for Delete<B> {
    async fn decide(&self, at: &mut Snapshot<'_>) -> Result<Decision, ApiError> {
        let row = load::<B>(at, self.organisation, self.id, Some(self.expected)).await?;
        B::delete(at, row).await
    }
}

struct Acting<B: Resource, A> {
    organisation: OrganisationId,
    id: B::Id,
    expected: Option<u64>,
    action: A,
}

#[async_trait]
impl<B: Resource, A: Act<B>> Command for Acting<B, A> {
    async fn decide(&self, at: &mut Snapshot<'_>) -> Result<Decision, ApiError> {
        let row = load::<B>(at, self.organisation, self.id, self.expected).await?;
        self.action.decide(at, row).await
    }
}
