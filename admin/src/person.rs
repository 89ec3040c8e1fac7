//! Personal fields of users: sealed when they come in, opened when somebody who may reads or searches.

use odock_events::{
    ids::UserId,
    payload::user::UserBody,
    personal::{SubjectKey, SubjectKeys, WrappedKey},
};

use crate::error::ApiError;

pub(crate) const EMAIL: &str = "email";
pub(crate) const NAME: &str = "name";

/// A user's personal fields in plain.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Person {
    /// `None`: the person's key is gone.
    pub(crate) email: Option<String>,
    pub(crate) name: Option<String>,
}

/// Opens what can be opened. Without the person's key there is nothing to see, which is the point of it.
pub(crate) fn open(
    keys: &SubjectKeys,
    user: UserId,
    wrapped: Option<&WrappedKey>,
    body: &UserBody,
) -> Person {
    let Some(wrapped) = wrapped else {
        return Person::default();
    };
    match keys.open_subject(user.0, wrapped) {
        Ok(key) => Person {
            email: open_field(&key, EMAIL, &body.email),
            name: body
                .name
                .as_ref()
                .and_then(|name| open_field(&key, NAME, name)),
        },
        Err(error) => {
            tracing::error!(%error, user_id = %user, "a person's key does not open");
            Person::default()
        }
    }
}

fn open_field(
    key: &SubjectKey,
    field: &str,
    sealed: &odock_events::personal::Sealed,
) -> Option<String> {
    match key.open(field, sealed) {
        Ok(text) => Some(text.as_str().to_owned()),
        Err(error) => {
            tracing::error!(%error, field, "a personal field does not open");
            None
        }
    }
}

/// The key of a person who exists.
pub(crate) fn key_of(
    keys: &SubjectKeys,
    user: UserId,
    wrapped: Option<&WrappedKey>,
) -> Result<SubjectKey, ApiError> {
    let wrapped = wrapped.ok_or_else(|| ApiError::internal("a person has no key"))?;
    keys.open_subject(user.0, wrapped)
        .map_err(ApiError::internal)
}
