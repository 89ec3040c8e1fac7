//! Table `ledger_entry`: what moved on each account and because of what. Only ever added to.

use odock_events::ledger::books::Line;
use sqlx::PgConnection;

use crate::copy::CopyRows;

const COLUMNS: i16 = 9;

/// Writes lines, which come in the order of their positions; their ordinals count within a position.
pub(super) async fn write(
    connection: &mut PgConnection,
    lines: impl Iterator<Item = (i64, &Line)>,
) -> Result<(), sqlx::Error> {
    let mut rows = CopyRows::new(COLUMNS);
    let (mut current, mut ordinal) = (0, 0);
    for (position, line) in lines {
        ordinal = if position == current { ordinal + 1 } else { 0 };
        current = position;
        rows.row();
        rows.bigint(position);
        rows.integer(ordinal);
        rows.uuid(line.account.rule.uuid());
        rows.uuid(line.account.subject);
        rows.time(line.account.window_start);
        rows.optional(line.gateway, |rows, gateway| rows.uuid(gateway.0));
        rows.text(line.kind.name());
        rows.bigint(line.amount);
        rows.uuid(line.reference);
    }
    rows.send(
        connection,
        "COPY ledger_entry (position, ordinal, rule_id, subject, window_start, gateway_id, kind, amount,
             reference)
         FROM STDIN (FORMAT binary)",
    )
    .await?;
    Ok(())
}
