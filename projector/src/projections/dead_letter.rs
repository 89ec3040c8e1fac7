//! Table `dead_letter`: events of gateways that no known rule could read or apply. Their place in the log is kept and
//! their money stays held until an operator has looked.

use odock_events::ids::GatewayId;
use sqlx::PgConnection;

use crate::copy::CopyRows;

const COLUMNS: i16 = 6;

/// One event that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) position: i64,
    pub(crate) ordinal: usize,
    pub(crate) gateway_id: GatewayId,
    pub(crate) seq: u64,
    pub(crate) reason: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) async fn write(
    connection: &mut PgConnection,
    letters: &[DeadLetter],
) -> Result<(), sqlx::Error> {
    let mut rows = CopyRows::new(COLUMNS);
    for letter in letters {
        rows.row();
        rows.bigint(letter.position);
        rows.integer(letter.ordinal as i32);
        rows.uuid(letter.gateway_id.0);
        rows.bigint(letter.seq as i64);
        rows.text(&letter.reason);
        rows.bytes(&letter.body);
    }
    rows.send(
        connection,
        "COPY dead_letter (position, ordinal, gateway_id, seq, reason, body)
         FROM STDIN (FORMAT binary)",
    )
    .await?;
    Ok(())
}
