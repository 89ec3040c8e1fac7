//! Turns at a boundary of the management stream: an admin that lost a race leaves a mark, and others let it go first.
//! Only a courtesy: it expires by itself, may be lost or doubled, and the append script's version is what counts.

use std::time::Duration;

use redis::AsyncCommands as _;

use super::{
    LogError, boundary_field,
    keys::{self, Plane},
    redis::RedisLog,
};
use crate::ids::{CommandId, OrganisationId};

/// What an append needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// `None`: closed.
    pub generation: Option<u64>,
    /// The command that goes first.
    pub turn: Option<CommandId>,
}

impl RedisLog {
    /// The open generation, and whose turn it is at this boundary: one question.
    pub async fn management_opening(
        &self,
        boundary: Option<OrganisationId>,
    ) -> Result<Opening, LogError> {
        let keys = [
            Plane::Management.generation_key().to_owned(),
            keys::turn(&boundary_field(boundary)),
        ];
        let (generation, turn): (Option<u64>, Option<String>) =
            self.connection.clone().mget(&keys).await?;
        Ok(Opening {
            generation,
            turn: turn.and_then(|turn| turn.parse().ok()),
        })
    }

    /// Asks for the next turn; whoever asked first has it until `expires`.
    pub async fn take_turn(
        &self,
        boundary: Option<OrganisationId>,
        command: CommandId,
        expires: Duration,
    ) -> Result<(), LogError> {
        let _taken: Option<String> = redis::cmd("SET")
            .arg(keys::turn(&boundary_field(boundary)))
            .arg(command.to_string())
            .arg("NX")
            .arg("PX")
            .arg(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX))
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(())
    }

    /// The turn is over before it expires.
    pub async fn end_turn(&self, boundary: Option<OrganisationId>) -> Result<(), LogError> {
        let () = self
            .connection
            .clone()
            .del(keys::turn(&boundary_field(boundary)))
            .await?;
        Ok(())
    }
}
