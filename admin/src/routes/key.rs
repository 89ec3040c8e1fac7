//! `…/keys`: virtual keys, their revocation and rotation.

use async_trait::async_trait;
use odock_events::{
    ids::KeyId,
    payload::{key::KeyBody, team::TeamBody, user::UserBody},
    secret_key::SecretKey,
    state::Key,
};

use super::crud::{self, Act, Changeable, Resource};
use crate::{
    call::Call,
    command::{Decision, snapshot::Snapshot},
    domain::key::{self, Owners},
    error::ApiError,
    page::{Filter, ListQuery, ListSpec, Takes},
    queries::{entity, rotation},
    reply::Reply,
    shape::key::{KeyCreate, KeyPatch, KeyRotate, NoBody},
};

const FILTERS: &[Filter] = &[
    Filter::new("type", "body ->> 'type' = ", Takes::Text),
    Filter::NAME,
    Filter::new("team_id", "team_id = ", Takes::Id("team")),
    Filter::new("user_id", "user_id = ", Takes::Id("user")),
    Filter::new("revoked", "(body ->> 'revoked')::boolean = ", Takes::Flag),
];

#[async_trait]
impl Resource for KeyBody {
    type Create = KeyCreate;
    const NOUN: &'static str = "key";
    const LIST: ListSpec = ListSpec::searchable(FILTERS);

    async fn create(at: &mut Snapshot<'_>, asked: &KeyCreate) -> Result<Decision, ApiError> {
        let owners = Owners {
            team: match asked.team_id {
                Some(team) => at.has::<TeamBody>(team).await?,
                None => false,
            },
            user: match asked.user_id {
                Some(user) => at.has::<UserBody>(user).await?,
                None => false,
            },
        };
        key::create(
            at.stamp,
            KeyId::generate(),
            asked,
            owners,
            &SecretKey::generate(),
        )
    }

    async fn delete(at: &mut Snapshot<'_>, row: Key) -> Result<Decision, ApiError> {
        let referrer = crud::referrer::<Self>(at, &row).await?;
        key::delete(at.stamp, row, referrer)
    }
}

#[async_trait]
impl Changeable for KeyBody {
    type Patch = KeyPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Key,
        asked: &KeyPatch,
    ) -> Result<Decision, ApiError> {
        key::update(at.stamp, row, asked)
    }
}

pub(crate) async fn revoke(call: Call) -> Result<Reply, ApiError> {
    call.json::<NoBody>()?;
    crud::act::<KeyBody, _>(call, Revoke).await
}

pub(crate) async fn unrevoke(call: Call) -> Result<Reply, ApiError> {
    call.json::<NoBody>()?;
    crud::act::<KeyBody, _>(call, Unrevoke).await
}

pub(crate) async fn rotate(call: Call) -> Result<Reply, ApiError> {
    let asked = call.json()?;
    crud::act::<KeyBody, _>(call, Rotate { asked }).await
}

/// The history, newest first unless asked otherwise.
pub(crate) async fn rotations(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let id: KeyId = call.path_id("id", "key")?;
    let query = ListQuery::read(
        &call,
        &ListSpec {
            searchable: false,
            filters: &[],
        },
    )?;
    let mut connection = call.app.pool.acquire().await?;
    let key = entity::find::<KeyBody>(&mut connection, organisation, id).await?;
    key.ok_or_else(|| ApiError::not_found("key"))?;
    Ok(query.reply(rotation::list(&mut connection, id, &query).await?))
}

struct Revoke;
struct Unrevoke;
struct Rotate {
    asked: KeyRotate,
}

#[async_trait]
impl Act<KeyBody> for Revoke {
    async fn decide(&self, at: &mut Snapshot<'_>, row: Key) -> Result<Decision, ApiError> {
        key::revoke(at.stamp, row)
    }
}

#[async_trait]
impl Act<KeyBody> for Unrevoke {
    async fn decide(&self, at: &mut Snapshot<'_>, row: Key) -> Result<Decision, ApiError> {
        key::unrevoke(at.stamp, row)
    }
}

#[async_trait]
impl Act<KeyBody> for Rotate {
    async fn decide(&self, at: &mut Snapshot<'_>, row: Key) -> Result<Decision, ApiError> {
        key::rotate(at.stamp, row, &self.asked, &SecretKey::generate())
    }
}
