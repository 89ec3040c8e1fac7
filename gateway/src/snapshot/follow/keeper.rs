//! Keeps the snapshot file: some time after a change, and when the gateway stops. Many changes make one file.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::snapshot::file::{self, FileError, Saved};

pub(super) async fn run(shared: &Arc<Shared>, stop: &CancellationToken) {
    let mut pause = SHORTEST_PAUSE;
    while stop
        .run_until_cancelled(shared.unsaved.notified())
        .await
        .is_some()
    {
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            break;
        }
        let begun = Instant::now();
        save(shared).await;
        // A large file under constant change takes a small share of the time.
        pause = SHORTEST_PAUSE.max(begun.elapsed() * PAUSES_FOR_EACH_SAVE);
    }
    save(shared).await;
}

async fn save(shared: &Arc<Shared>) {
    let saving = Arc::clone(shared);
    let saved = tokio::task::spawn_blocking(move || save_now(&saving)).await;
    if let Ok(Err(error)) = saved {
        let path = shared.parts.snapshot_file.display();
        tracing::warn!(%error, %path, "snapshot file could not be written");
    }
}

fn save_now(shared: &Shared) -> Result<(), FileError> {
    let parts = &shared.parts;
    if !parts.cell.is_loaded() {
        return Ok(());
    }
    let now = parts.clock.now();
    let saved = Saved {
        snapshot: parts.cell.load(),
        saved_at: now,
        heard_at: parts.cell.heard_at(),
        envelopes: parts.vault.envelopes(),
    };
    file::write(&parts.snapshot_file, &saved)
}

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const PAUSES_FOR_EACH_SAVE: u32 = 20;
