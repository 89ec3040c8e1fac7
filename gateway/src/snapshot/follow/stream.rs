//! The config stream: blocking reads on a connection of their own, resumed by version; each batch is in force within
//! a millisecond of its arrival. Whatever does not fit makes the follower load anew.

use std::{sync::Arc, time::Duration};

use odock_events::log::{ConfigEntry, LogError, keys::Plane, reader::StreamReader};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use super::{
    LoadedFrom, Shared,
    advance::{Refusal, advance},
    backoff::Backoff,
    secrets,
};

/// Why the stream cannot lead on from what is in force.
#[derive(Debug, thiserror::Error)]
enum Parting {
    #[error("generation {0} is in force")]
    Generation(u64),
    #[error(transparent)]
    Refusal(Refusal),
    #[error("version {0} was announced and is not in the stream")]
    Behind(u64),
}

/// Whether Postgres must be asked before the stream is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// There is no state that the stream leads on from.
    Must,
    /// What is in force came from the file: the stream may do as well.
    Should,
    No,
}

pub(super) async fn run(shared: &Arc<Shared>, stop: &CancellationToken) {
    let mut load = match shared.loaded_from.get() {
        Some(LoadedFrom::Postgres) => Load::No,
        Some(LoadedFrom::File) => Load::Should,
        Some(LoadedFrom::Nothing) | None => Load::Must,
    };
    let mut backoff = Backoff::new(Duration::from_secs(5));
    let mut parted_at = None;
    loop {
        if load == Load::Must {
            load_until_done(shared, stop).await;
            load = Load::No;
        }
        let follower = Following { shared, stop, load };
        let Some(parting) = stop.run_until_cancelled(follower.follow()).await else {
            return;
        };
        tracing::warn!(reason = %parting, "configuration is loaded anew");
        load = Load::Must;
        let current = shared.parts.cell.load();
        let parted_before = parted_at.replace((current.generation, current.version));
        if parted_before != parted_at {
            backoff.reset();
        } else if !backoff.pause(stop).await {
            // Loading did not get past it.
            return;
        }
    }
}

async fn load_until_done(shared: &Arc<Shared>, stop: &CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_secs(2));
    let mut told = false;
    while let Err(error) = shared.reload(stop).await {
        if !told {
            tracing::warn!(%error, "configuration cannot be loaded, trying again");
            told = true;
        }
        if !backoff.pause(stop).await {
            return;
        }
    }
}

struct Following<'a> {
    shared: &'a Arc<Shared>,
    stop: &'a CancellationToken,
    load: Load,
}

impl Following<'_> {
    /// Follows through lost connections until the stream does not do.
    async fn follow(mut self) -> Parting {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let mut connected = true;
        loop {
            self.load_if_better().await;
            let error = match self.read(&mut backoff, &mut connected).await {
                Ok(parting) => return parting,
                Err(error) => error,
            };
            if std::mem::take(&mut connected) {
                tracing::warn!(%error, "the config stream is away");
            }
            backoff.pause(self.stop).await;
        }
    }

    async fn load_if_better(&mut self) {
        if self.load == Load::Should {
            match self.shared.reload(self.stop).await {
                Ok(()) => self.load = Load::No,
                Err(error) => tracing::debug!(%error, "configuration stays as the file has it"),
            }
        }
    }

    async fn read(
        &mut self,
        backoff: &mut Backoff,
        connected: &mut bool,
    ) -> Result<Parting, LogError> {
        let shared = self.shared;
        let mut reader = StreamReader::connect(shared.parts.redis_url.expose_secret()).await?;
        let in_force = shared.parts.redis.generation(Plane::Config).await?;
        shared.hearing.generation_seen(in_force.unwrap_or(0));
        let mut generations = shared.hearing.newest_generation();
        backoff.reset();
        if !std::mem::replace(connected, true) {
            tracing::info!("the config stream is back");
        }
        loop {
            let current = shared.parts.cell.load();
            let (generation, version) = (current.generation, current.version);
            drop(current);
            let expected = shared.hearing.expected_version(generation);
            let entries = tokio::select! {
                newer = generations.wait_for(|newest| *newest > generation) => {
                    return Ok(Parting::Generation(newer.map_or(generation, |newer| *newer)));
                }
                entries = reader.config(generation, version, ENTRIES, BLOCK) => entries?,
            };
            if let Some(expected) = expected.filter(|_| entries.is_empty()) {
                return Ok(Parting::Behind(expected));
            }
            if let Err(refusal) = apply(shared, entries).await {
                return Ok(Parting::Refusal(refusal));
            }
            if in_force == Some(generation) {
                // The stream leads on from the file's version: the file was as good as Postgres.
                self.load = Load::No;
            }
        }
    }
}

async fn apply(shared: &Arc<Shared>, entries: Vec<ConfigEntry>) -> Result<(), Refusal> {
    let before = shared.parts.cell.load();
    let bytes: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
    let (advanced, refusal) = if bytes <= AT_ONCE {
        advance(&before, &entries)
    } else {
        let advancing = tokio::task::spawn_blocking(move || advance(&before, &entries));
        advancing.await.unwrap_or((None, None))
    };
    if let Some(advanced) = advanced {
        let snapshot = Arc::new(advanced.snapshot);
        if advanced.touches_provider_keys {
            secrets::fetch_for(shared, &snapshot).await;
        }
        shared.install(Arc::clone(&snapshot), &advanced.consequences);
        shared.unsaved.notify_one();
        if advanced.touches_provider_keys {
            shared.parts.vault.keep_only(&snapshot);
        }
    }
    refusal.map_or(Ok(()), Err)
}

const ENTRIES: usize = 64;
const BLOCK: Duration = Duration::from_secs(1);
/// So many bytes are decoded and applied in well under half a millisecond.
const AT_ONCE: usize = 16 * 1024;
