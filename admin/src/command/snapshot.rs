//! The state that a rule decides on: one REPEATABLE READ snapshot, and the version of the boundary in it.

use odock_events::{
    ids::{CommandId, OrganisationId},
    state::Row,
};
use sqlx::{Connection as _, PgConnection};

use super::{Command, Decision, stamp::Stamp};
use crate::{
    app::AppState,
    error::ApiError,
    queries::{
        boundary, command as commands,
        entity::{self, Stored},
    },
};

/// What a command sees while it decides.
pub(crate) struct Snapshot<'a> {
    pub(crate) connection: &'a mut PgConnection,
    pub(crate) stamp: &'a Stamp,
    pub(crate) app: &'a AppState,
}

/// What came of looking and deciding in one snapshot.
pub(crate) enum Seen {
    /// The command has an outcome already.
    Known(commands::CommandRow),
    Decided {
        version: u64,
        decision: Decision,
    },
}

/// Decides in a snapshot. With `look_first`, an outcome of the same command in the same snapshot comes first: a rule
/// must not judge a state that the command itself has made.
pub(crate) async fn decide(
    app: &AppState,
    boundary: Option<OrganisationId>,
    stamp: &Stamp,
    command: &dyn Command,
    look_first: Option<CommandId>,
) -> Result<Seen, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let mut transaction = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .await?;
    if let Some(id) = look_first
        && let Some(row) = commands::find(&mut transaction, id).await?
    {
        return Ok(Seen::Known(row));
    }
    let head = boundary::head(&mut transaction, boundary).await?;
    let Some(version) = head.version else {
        return Err(ApiError::not_found("organisation"));
    };
    let stamp = Stamp {
        config_version: Some(head.config_version),
        ..stamp.clone()
    };
    let mut snapshot = Snapshot {
        connection: &mut transaction,
        stamp: &stamp,
        app,
    };
    let decision = command.decide(&mut snapshot).await?;
    transaction.commit().await?;
    Ok(Seen::Decided { version, decision })
}

impl Snapshot<'_> {
    /// The organisation that the command is about.
    pub(crate) fn organisation(&self) -> Result<OrganisationId, ApiError> {
        self.stamp.organisation_id.ok_or_else(|| {
            ApiError::internal("a command on the platform asked for its organisation")
        })
    }

    /// A row of this organisation.
    pub(crate) async fn find<B: Stored>(
        &mut self,
        id: B::Id,
    ) -> Result<Option<Row<B::Id, B>>, ApiError> {
        let organisation = self.organisation()?;
        entity::find::<B>(self.connection, organisation, id).await
    }

    /// Whether this organisation has it.
    pub(crate) async fn has<B: Stored>(&mut self, id: B::Id) -> Result<bool, ApiError> {
        Ok(self.find::<B>(id).await?.is_some())
    }
}
