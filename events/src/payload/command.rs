//! Commands that the projector refused: the log says why.

use serde::{Deserialize, Serialize};

use crate::ids::{CommandId, OrganisationId};

/// `command.rejected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRejected {
    pub command_id: CommandId,
    /// `None`: the platform's boundary.
    pub boundary: Option<OrganisationId>,
    /// A code of the admin API: `conflict`, `name_taken`, `in_use`.
    pub code: String,
    pub detail: String,
}
