//! Commands: load at version V in one snapshot, decide by a pure rule, append with expected version V, wait until the
//! projector has said what became of it. [`run`] is called by every mutating route.

pub(crate) mod answer;
pub(crate) mod append;
pub(crate) mod queue;
pub(crate) mod snapshot;
pub(crate) mod stamp;
pub(crate) mod waiting;

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use odock_events::{
    envelope::Envelope,
    ids::{CommandId, OrganisationId},
    secret_key::SecretKey,
};
use serde_json::json;
use tokio::time::timeout;

use self::{
    answer::Answer,
    append::{Committed, Execution, Outcome},
    snapshot::Snapshot,
    stamp::Stamp,
};
use crate::{
    call::Call,
    error::ApiError,
    idempotency::{self, Claim},
    queries::private::PrivateRow,
    receipt::Wait,
    reply::{CONFIG_VERSION, POSITION, REPLAYED, Reply},
};

/// One change that somebody asks for. `decide` may be called again after a conflict, on newer state.
#[async_trait]
pub(crate) trait Command: Send + Sync {
    /// Loads what the rule needs and asks the rule.
    async fn decide(&self, at: &mut Snapshot<'_>) -> Result<Decision, ApiError>;

    /// Whether its answer lists many rows, also when it is told again from the log.
    fn is_batch(&self) -> bool {
        false
    }
}

/// What a rule decided.
pub(crate) struct Decision {
    /// None: all is as asked already.
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) answer: Answer,
    /// Rows of private tables, written before the append.
    pub(crate) private: Vec<PrivateRow>,
    /// Shown once.
    pub(crate) secret: Option<SecretKey>,
}

impl Decision {
    pub(crate) fn new(envelopes: Vec<Envelope>, answer: Answer) -> Self {
        Self {
            envelopes,
            answer,
            private: Vec::new(),
            secret: None,
        }
    }
}

/// Runs a command from its request to its answer. `boundary`: its organisation, `None` for the platform's.
pub(crate) async fn run(
    call: &Call,
    boundary: Option<OrganisationId>,
    command: &dyn Command,
) -> Result<Reply, ApiError> {
    let wait = Wait::read(call)?;
    let stamp = Stamp::read(call)?;
    let claim = timeout(STORE, idempotency::claim(call)).await;
    let claim = claim.map_err(ApiError::log_unavailable)??;
    let command_id = match &claim {
        Claim::Stored(reply) => return Ok(reply.clone().header(REPLAYED, "true")),
        Claim::None => CommandId::generate(),
        Claim::Ours(claimed) => claimed.command_id,
    };
    let execution = Execution {
        app: &call.app,
        boundary,
        command,
        stamp: stamp.of(command_id, boundary),
        shared: matches!(claim, Claim::Ours(_)),
    };
    let reply = match execution.run().await? {
        Outcome::Pending => pending(command_id),
        Outcome::Committed(committed) => {
            let told_again = committed.told_again;
            let shown = timeout(SHOW, committed_reply(call, *committed, wait)).await;
            match shown.unwrap_or_else(|elapsed| Err(ApiError::internal(elapsed))) {
                Ok(reply) if told_again => reply.header(REPLAYED, "true"),
                Ok(reply) => reply,
                // It is done, so that no answer may say that nothing was changed.
                Err(error) => {
                    let cause = error.cause;
                    tracing::warn!(cause, %command_id, "a done command could not be shown");
                    pending(command_id)
                }
            }
        }
    };
    if let Claim::Ours(claimed) = &claim {
        idempotency::keep(call, claimed, &reply).await;
    }
    Ok(reply)
}

async fn committed_reply(
    call: &Call,
    committed: Committed,
    wait: Option<Wait>,
) -> Result<Reply, ApiError> {
    let Committed {
        answer,
        secret,
        position,
        config_version,
        told_again: _,
    } = committed;
    let mut reply = answer
        .reply(call, secret)
        .await?
        .header(POSITION, &position.to_string())
        .header(CONFIG_VERSION, &config_version.to_string());
    if let Some(wait) = wait {
        let receipt = wait.receipt(&call.app, config_version).await?;
        if let Some(members) = reply.body.as_object_mut() {
            members.insert("receipt".to_owned(), receipt);
        }
    }
    Ok(reply)
}

fn pending(command_id: CommandId) -> Reply {
    let body = json!({
        "command_id": command_id,
        "status": "pending",
        "status_url": format!("/api/v1/commands/{command_id}"),
    });
    Reply::new(StatusCode::ACCEPTED, body)
}

/// How long Postgres may take to say what an idempotency key stands for.
const STORE: Duration = Duration::from_secs(3);
/// The longest wait for a receipt, and some time to read.
const SHOW: Duration = Duration::from_secs(35);
/// How long a request waits for its command before it is answered 202.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
