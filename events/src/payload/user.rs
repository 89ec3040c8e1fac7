//! Users. Name and e-mail are ciphertext under the person's own key (`personal.rs`) from the first event on.

use serde::{Deserialize, Serialize};

use crate::personal::Sealed;

/// `user.created`, `user.updated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserBody {
    pub email: Sealed,
    pub name: Option<Sealed>,
    pub role: UserRole,
    pub status: UserStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    SuperAdmin,
    OrgAdmin,
    Manager,
    User,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    Pending,
    Active,
    Revoked,
}
