//! A member of a PATCH body: absent keeps, null clears, a value replaces.

use serde::{Deserialize, Deserializer};

use crate::error::ApiError;

/// One member. Use with `#[serde(default)]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Member<T> {
    #[default]
    Absent,
    Null,
    Given(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Given))
    }
}

impl<T> Member<T> {
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<T: Clone> Member<T> {
    /// The value, `cleared` after a null, `kept` when absent.
    pub(crate) fn or(&self, kept: &T, cleared: impl FnOnce() -> T) -> T {
        match self {
            Self::Absent => kept.clone(),
            Self::Null => cleared(),
            Self::Given(value) => value.clone(),
        }
    }

    /// For a member that may be null.
    pub(crate) fn or_cleared(&self, kept: Option<&T>) -> Option<T> {
        match self {
            Self::Absent => kept.cloned(),
            Self::Null => None,
            Self::Given(value) => Some(value.clone()),
        }
    }

    /// For a member that always has a value.
    pub(crate) fn or_refuse_null(&self, field: &str, kept: &T) -> Result<T, ApiError> {
        match self {
            Self::Absent => Ok(kept.clone()),
            Self::Null => Err(ApiError::invalid(field, "cannot be null")),
            Self::Given(value) => Ok(value.clone()),
        }
    }
}

/// Refuses a member that is fixed when the thing is made.
pub(crate) fn refuse_fixed<T>(field: &str, member: &Member<T>) -> Result<(), ApiError> {
    if member.is_absent() {
        return Ok(());
    }
    let message = "cannot be changed after creation; delete this one and create another";
    Err(ApiError::invalid(field, message))
}
