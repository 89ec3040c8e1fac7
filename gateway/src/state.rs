//! Everything that a request may need, made once by `startup` and shared by all of them.

use std::sync::Arc;

use odock_events::ids::GatewayId;
use tokio::sync::mpsc;

use crate::{
    http::{health::Dependencies, inbound::BodyLimits},
    pipeline::{
        accounts::Accounts,
        live::LiveCalls,
        open_call::{Books, Unfinished},
    },
    provider::{client::UpstreamClient, targets::Targets},
    shutdown::Shutdown,
    snapshot::{SnapshotCell, misses::Misses, vault::Vault},
};

pub struct Gateway {
    pub(crate) id: GatewayId,
    pub(crate) settings: RequestSettings,
    pub(crate) snapshot: Arc<SnapshotCell>,
    pub(crate) misses: Arc<Misses>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) books: Arc<Books>,
    pub(crate) accounts: Accounts,
    pub(crate) client: UpstreamClient,
    pub(crate) targets: Targets,
    pub(crate) live: Arc<LiveCalls>,
    pub(crate) closer: mpsc::Sender<Unfinished>,
    pub(crate) dependencies: Dependencies,
    pub(crate) shutdown: Shutdown,
}

/// What of the configuration a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestSettings {
    pub(crate) body: BodyLimits,
    pub(crate) journal_strict: bool,
    pub(crate) prometheus: bool,
}
