//! `…/users`. Names and addresses are ciphertext in the table, so a search reads, opens and compares row by row.

use async_trait::async_trait;
use odock_events::{envelope::EntityKind, ids::UserId, payload::user::UserBody, state::User};
use serde_json::Value;

use super::crud::{self, Changeable, Resource};
use crate::{
    call::Call,
    command::{Decision, snapshot::Snapshot},
    domain::user,
    error::ApiError,
    page::{Filter, ListQuery, ListSpec, Place, Takes},
    person,
    queries::{
        entity,
        private::{self, PrivateRow},
    },
    reply::Reply,
    shape::{
        user::{UserCreate, UserPatch},
        views,
    },
};

const FILTERS: &[Filter] = &[
    Filter::new("role", "body ->> 'role' = ", Takes::Text),
    Filter::new("status", "body ->> 'status' = ", Takes::Text),
];
/// Rows that a search opens at a time.
const SEARCH_BATCH: i64 = 500;

#[async_trait]
impl Resource for UserBody {
    type Create = UserCreate;
    const NOUN: &'static str = "user";
    const LIST: ListSpec = ListSpec::searchable(FILTERS);

    async fn create(at: &mut Snapshot<'_>, asked: &UserCreate) -> Result<Decision, ApiError> {
        let id = UserId::generate();
        let (key, wrapped) = at
            .app
            .subject_keys
            .new_subject(id.0)
            .map_err(ApiError::internal)?;
        let mut decision = user::create(at.stamp, id, asked, &key)?;
        decision.private.push(PrivateRow::SubjectKey {
            subject: id.0,
            wrapped,
        });
        Ok(decision)
    }

    async fn delete(at: &mut Snapshot<'_>, row: User) -> Result<Decision, ApiError> {
        let referrer = crud::referrer::<Self>(at, &row).await?;
        user::delete(at.stamp, row, referrer)
    }
}

#[async_trait]
impl Changeable for UserBody {
    type Patch = UserPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: User,
        asked: &UserPatch,
    ) -> Result<Decision, ApiError> {
        let keys = private::subject_keys(at.connection, &[row.id.0]).await?;
        let key = person::key_of(&at.app.subject_keys, row.id, keys.get(&row.id.0))?;
        user::update(at.stamp, row, asked, &key)
    }
}

/// As every list, with `q` over name and address and `email` as an exact filter.
pub(crate) async fn list(mut call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let email = take_email(&mut call);
    let mut query = ListQuery::read(&call, &UserBody::LIST)?;
    let search = query.search.take();
    if email.is_none() && search.is_none() {
        return crud::list::<UserBody>(call).await;
    }
    let wanted = |view: &Value| {
        let text = |member: &str| view[member].as_str().unwrap_or_default().to_lowercase();
        let (address, name) = (text("email"), text("name"));
        email.as_ref().is_none_or(|email| *email == address)
            && search
                .as_ref()
                .is_none_or(|part| name.contains(part) || address.contains(part))
    };
    let mut found: Vec<(Place, Value)> = Vec::new();
    loop {
        let mut connection = call.app.pool.acquire().await?;
        crud::require_organisation(&mut connection, organisation).await?;
        let kind = EntityKind::User;
        let rows = entity::list(
            &mut connection,
            kind,
            Some(organisation),
            &query,
            SEARCH_BATCH,
        )
        .await?;
        drop(connection);
        let places: Vec<Place> = rows.iter().map(entity::place).collect();
        let read = places.len();
        query.after = places.last().copied().or(query.after);
        let views = views::many(&call.app, rows, call.now).await?;
        found.extend(
            places
                .into_iter()
                .zip(views)
                .filter(|(_, view)| wanted(view)),
        );
        if found.len() > query.limit || read < SEARCH_BATCH as usize {
            found.truncate(query.limit + 1);
            return Ok(query.reply(found));
        }
    }
}

/// The list itself knows no filter on what is sealed. It stays in what a cursor is bound to: as a part of the path.
fn take_email(call: &mut Call) -> Option<String> {
    let at = call.query.iter().position(|(name, _)| name == "email")?;
    let (_, email) = call.query.remove(at);
    let email = email.to_lowercase();
    call.path = format!("{}?email={email}", call.path);
    Some(email)
}
