//! How much memory processes have, second by second.

use std::time::Duration;

use odock_tests::keeper;
use tokio::time::interval;

/// Resident memory in KiB of each process, a sample a second.
#[derive(Debug)]
pub(super) struct Memory {
    pids: Vec<u32>,
    samples: Vec<Vec<u64>>,
}

impl Memory {
    pub(super) fn of(pids: &[u32]) -> Self {
        Self {
            pids: pids.to_vec(),
            samples: vec![Vec::new(); pids.len()],
        }
    }

    /// Samples for so long.
    pub(super) async fn watch(&mut self, length: Duration) -> anyhow::Result<()> {
        let mut seconds = interval(Duration::from_secs(1));
        for _ in 0..=length.as_secs() {
            seconds.tick().await;
            for (pid, samples) in self.pids.iter().zip(&mut self.samples) {
                samples.push(keeper::resident_kib(*pid)?);
            }
        }
        Ok(())
    }

    /// Fails when the last third of the time needs more than the first: what waits for a store that is away waits on
    /// disk. Says the most there was in both.
    pub(super) fn assert_flat(&self) -> anyhow::Result<Vec<(u64, u64)>> {
        let most = |samples: Option<&[u64]>| samples.and_then(|some| some.iter().copied().max());
        let mut seen = Vec::new();
        for samples in &self.samples {
            let third = samples.len() / 3;
            let first = most(samples.get(..third)).unwrap_or_default();
            let last = most(samples.get(samples.len() - third..)).unwrap_or_default();
            let allowed = (first + first / 5 + SLACK_KIB).min(CEILING_KIB);
            anyhow::ensure!(last <= allowed, "from {first} to {last} KiB: {self:?}");
            seen.push((first, last));
        }
        Ok(seen)
    }
}

/// Blocks of the journal that are read back come and go.
const SLACK_KIB: u64 = 8 * 1024;
/// Of a build that is hardly optimised.
const CEILING_KIB: u64 = 128 * 1024;
