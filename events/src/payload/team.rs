//! Teams and who is in them.

use serde::{Deserialize, Serialize};

use super::JsonObject;
use crate::ids::{TeamId, UserId};

/// `team.created`, `team.updated`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeamBody {
    pub name: String,
    pub policies: JsonObject,
}

/// `membership.created`, `membership.updated`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipBody {
    pub team_id: TeamId,
    pub user_id: UserId,
    pub role: MembershipRole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipRole {
    Manager,
    Member,
}
