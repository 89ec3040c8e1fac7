//! Loading anew from Postgres, on a thread where reading 100,000 rows holds nobody up.

use std::{collections::HashSet, sync::Arc};

use odock_events::ids::KeyId;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Shared, secrets};
use crate::snapshot::{
    Consequences, Snapshot,
    load::{self, LoadError, WantedKeys, missing::dead_among},
};

/// Why nothing changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A replica, or a copy restored before the projector has raised the generation.
    #[error(
        "postgres has version {found} of generation {found_generation}, \
         older than {current} of generation {generation}"
    )]
    Older {
        found: u64,
        found_generation: u64,
        current: u64,
        generation: u64,
    },
    #[error("the load was cut off")]
    CutOff,
}

impl Shared {
    /// Puts Postgres' state in force, unless what is in force is newer.
    pub(super) async fn reload(
        self: &Arc<Self>,
        stop: &CancellationToken,
    ) -> Result<(), ReloadError> {
        let (shared, runtime) = (Arc::clone(self), Handle::current());
        // The load ends with whoever waits for it.
        let stop = stop.child_token();
        let _stop_when_dropped = stop.clone().drop_guard();
        let loading = tokio::task::spawn_blocking(move || {
            let loading = stop.run_until_cancelled(shared.load_and_install());
            runtime
                .block_on(loading)
                .unwrap_or(Err(ReloadError::Load(LoadError::Stopped)))
        });
        loading.await.unwrap_or(Err(ReloadError::CutOff))
    }

    async fn load_and_install(&self) -> Result<(), ReloadError> {
        let begun_at = self.parts.clock.now();
        let before = self.parts.cell.load();
        let wanted = WantedKeys {
            cap: self.parts.key_cap,
            else_only: before.key_ids().collect(),
        };
        let loaded = load::load(&self.parts.pool, &wanted).await?;
        self.check_newer(&loaded, &before)?;
        secrets::fetch_for(self, &loaded).await;
        let mut consequences = if self.parts.cell.is_loaded() {
            loaded.consequences_after(&before)
        } else {
            Consequences::default()
        };
        let (version, generation) = (loaded.version, loaded.generation);
        let keys = loaded.key_count();
        let loaded = Arc::new(loaded);
        // What Postgres has is what the projector would tell of now.
        self.parts.cell.heard(begun_at);
        self.replace(&before, &loaded, &mut consequences).await?;
        self.unsaved.notify_one();
        self.parts.vault.keep_only(&loaded);
        tracing::info!(
            version,
            generation,
            keys,
            "configuration loaded from postgres"
        );
        Ok(())
    }

    /// Puts what was loaded in force. Of keys that were looked up while it was loaded it says nothing: they are asked for,
    /// so that the calls of those that were revoked meanwhile end.
    async fn replace(
        &self,
        before: &Snapshot,
        loaded: &Arc<Snapshot>,
        consequences: &mut Consequences,
    ) -> Result<(), ReloadError> {
        let mut asked = HashSet::new();
        loop {
            let is_known = |id: &KeyId| {
                loaded.is_complete()
                    || before.has_key(*id)
                    || loaded.has_key(*id)
                    || asked.contains(id)
            };
            let install = || self.put_in_force(Arc::clone(loaded), consequences);
            let unknown = self.parts.misses.replace(loaded.version, is_known, install);
            if unknown.is_empty() {
                return Ok(());
            }
            let dead = dead_among(&self.parts.pool, &unknown).await?;
            consequences.dead_keys.extend(dead);
            asked.extend(unknown);
        }
    }

    fn check_newer(&self, loaded: &Snapshot, before: &Snapshot) -> Result<(), ReloadError> {
        let known_generation = *self.hearing.newest_generation().borrow();
        let found = (loaded.generation, loaded.version);
        let goes_back = self.parts.cell.is_loaded() && found < (before.generation, before.version);
        if goes_back || loaded.generation < known_generation {
            return Err(ReloadError::Older {
                found: loaded.version,
                found_generation: loaded.generation,
                current: before.version,
                generation: known_generation.max(before.generation),
            });
        }
        Ok(())
    }
}
