//! Table `usage_batch`: the gateways' events as they came, some hundred a row, compressed. Append-only.

use odock_events::{clock::Timestamp, ids::GatewayId, units::Sha256Digest};
use sqlx::PgConnection;

use crate::copy::CopyRows;

const COLUMNS: i16 = 7;
/// The fastest level: the bodies are small and many.
const LEVEL: i32 = 1;
/// More than the events of one transaction can be.
const LONGEST_BODY: usize = 256 << 20;

/// One row before it is compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchRow<'a> {
    pub(crate) position: i64,
    pub(crate) gateway_id: GatewayId,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) compressed: &'a [u8],
}

pub(crate) fn compress(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(packed, LEVEL)
}

pub(crate) fn decompress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let length = zstd::zstd_safe::get_frame_content_size(body)
        .ok()
        .flatten()
        .unwrap_or(0);
    let length = usize::try_from(length)
        .unwrap_or(LONGEST_BODY)
        .min(LONGEST_BODY);
    zstd::bulk::decompress(body, length)
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    batches: &[BatchRow<'_>],
    recorded_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let mut rows = CopyRows::new(COLUMNS);
    for batch in batches {
        rows.row();
        rows.bigint(batch.position);
        rows.uuid(batch.gateway_id.0);
        rows.bigint(batch.first as i64);
        rows.bigint(batch.last as i64);
        rows.time(recorded_at);
        rows.bytes(batch.compressed);
        rows.bytes(&Sha256Digest::of(batch.compressed).0);
    }
    rows.send(
        connection,
        "COPY usage_batch (position, gateway_id, first_seq, last_seq, recorded_at, body, sha256)
         FROM STDIN (FORMAT binary)",
    )
    .await?;
    Ok(())
}
