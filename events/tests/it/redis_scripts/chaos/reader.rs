//! A reader of the usage streams. On each new connection it looks whether Redis is still the one it knew, and raises
//! the generation when it is not. Two of them run at once: the checkpoint decides.

use std::{sync::atomic::Ordering, time::Duration};

use odock_events::{
    codec,
    ids::GatewayId,
    log::{LogError, UsageEntry, keys::Plane, reader::StreamReader, redis::RedisLog},
};

use super::Run;

const BLOCK: Duration = Duration::from_millis(20);
/// A new try after an error.
const PAUSE: Duration = Duration::from_millis(10);

/// Reads until the run is over; how often it committed.
pub(super) async fn read(run: std::sync::Arc<Run>) -> u64 {
    let log = RedisLog::connect(&run.url).await.unwrap();
    let mut commits = 0;
    while !run.over.load(Ordering::Relaxed) {
        // The connection first: whatever happens to Redis after the look ends it.
        let Ok(mut reader) = StreamReader::connect(&run.url).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if establish(&log, &run).await.is_err() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        while !run.over.load(Ordering::Relaxed) {
            match turn(&mut reader, &log, &run).await {
                Ok(committed) => commits += committed,
                Err(_) => break,
            }
        }
    }
    commits
}

/// Raises the generation if Redis is not what was left there.
async fn establish(log: &RedisLog, run: &Run) -> Result<(), LogError> {
    let known = run.database.known();
    let identity = log.identity().await?;
    let mut highest = 0;
    let mut open = true;
    for plane in Plane::ALL {
        let generation = log.generation(plane).await?;
        open &= generation == Some(known.generation);
        highest = highest.max(generation.unwrap_or(0));
    }
    let same = identity.run_id == known.redis_run_id && identity.checkpoint.is_some();
    if open && same {
        // They may have been lost with the connection.
        return log.set_watermarks(known.generation, &cursors(run)).await;
    }
    if let Some(seed) = run.database.raise(&known, highest, &identity.run_id) {
        log.raise_generation(&seed).await?;
        log.put_checkpoint(&run.database.known().checkpoint).await?;
    }
    Ok(())
}

async fn turn(reader: &mut StreamReader, log: &RedisLog, run: &Run) -> Result<u64, LogError> {
    let known = run.database.known();
    let generation = log.generation(Plane::Usage).await?;
    if generation != Some(known.generation) || known.redis_run_id.is_empty() {
        return Err(LogError::Answer("another generation".into()));
    }
    let cursors = cursors(run);
    let entries = reader.usage(known.generation, &cursors, 8, BLOCK).await?;
    let mut committed = 0;
    for (gateway, cursor) in cursors {
        let records = above(cursor, entries.iter().filter(|it| it.gateway_id == gateway));
        if records.is_empty() {
            continue;
        }
        let commit = run
            .database
            .commit(known.generation, gateway, cursor, &records);
        let Some(number) = commit else { continue };
        committed += 1;
        let watermark = cursor + records.len() as u64;
        log.put_checkpoint(&number.to_string()).await?;
        log.set_watermarks(known.generation, &[(gateway, watermark)])
            .await?;
        log.trim_usage(known.generation, gateway, watermark).await?;
    }
    Ok(committed)
}

fn cursors(run: &Run) -> Vec<(GatewayId, u64)> {
    let gateways = run.gateways.iter();
    gateways
        .map(|gateway| (*gateway, run.database.cursor(*gateway)))
        .collect()
}

/// The records above the cursor, up to the first hole.
fn above<'a>(cursor: u64, entries: impl Iterator<Item = &'a UsageEntry>) -> Vec<u64> {
    let mut records: Vec<u64> = Vec::new();
    for entry in entries {
        let next = cursor + records.len() as u64 + 1;
        if entry.first > next {
            break;
        }
        let events = codec::unpack_batch(&entry.bytes).unwrap();
        let new = events.iter().skip((next - entry.first) as usize);
        records.extend(new.map(|bytes| u64::from_le_bytes(bytes.as_slice().try_into().unwrap())));
    }
    records
}
